"""Beam search over unordered tokens: each path decides one book after the other, and keeps its whole row.

All rows and all paths are worked on together, and paths of equal length alone are compared. What is sought is no item
but rows of log-probabilities; all items are ranked by them afterwards (`token_scores.py`), so that one wrong token
costs an item its place and not its existence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor

from forethought.decoding.constraints import Constraints
from forethought.decoding.corp import Followed, Prunings, Slots, jensen_shannon, reflect
from forethought.decoding.crss import Children, Order, children, drawn_ranks, merge_equal_sets, token_keys
from forethought.decoding.decoder import TokenDecoder
from forethought.decoding.paths import Paths
from forethought.settings import Between, Seed, Settings

PAPERS_THETA = 0.06


@dataclass(frozen=True, kw_only=True)
class BeamSettings(Settings):
    """How paths over tokens are sought."""

    beams: Annotated[int, Between(1, 1_024)] = 8
    """Paths that are kept of each history."""
    order: Order = "confident"
    """The next codebook: the most confident one (CRSS), as they stand, random, or any of them (joint)."""
    merge_sets: bool = True
    """In joint order: paths that come to the same set of tokens count as one."""
    corp: bool = True
    """Prune tokens with which the belief in categories moves too far; without categories there is nothing to prune."""
    theta: Annotated[float, Between(0, 1)] | None = None
    """How far it may move: Jensen-Shannon divergence, in nats; log 2 is the most there is. None: as the validation part
    chooses when training is over, and until then the paper's .06."""
    rollbacks: Annotated[int, Between(0, 100)] = 3
    """How often the next best token is tried in place of a pruned one, before the path is given up."""
    seed: Seed = 0
    """Of the random order."""

    @classmethod
    def upgraded(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The paper's theta stood in every run before it was chosen, and is what is begun with."""
        return {**values, "theta": None} if values.get("theta") == PAPERS_THETA else values

    def unread(self) -> list[str]:
        """Settings other than by default that the others leave without effect."""
        names = [] if self.order == "random" else ["seed"]
        names += [] if self.order == "joint" else ["merge_sets"]
        names += [] if self.corp else ["theta", "rollbacks"]
        return [name for name in names if getattr(self, name) != getattr(type(self), name)]

    def plain(self) -> BeamSettings:
        """The same search, with defaults for what has no effect."""
        return replace(self, **{name: getattr(type(self), name) for name in self.unread()})


@torch.no_grad()
def search(
    decoder: TokenDecoder, rows: int, settings: BeamSettings, steps: int, constraints: Constraints | None = None
) -> Paths:
    """The best paths of each row; fewer where there are not as many.

    The decoder is asked for its books once a step, and once behind the last one where some are left; rounds of
    rollbacks ask it for categories alone.

    Args:
        steps: tokens on a path, one of each codebook at most; books that are left are read behind the last token.
    """
    steps = min(steps, decoder.codebooks)
    keys_MC, begun = None, _standing(decoder, decoder.begin(rows))
    beams = _Beams.start(begun, _said(decoder, begun, constraints))
    ranks_BM = drawn_ranks(beams.said_BPMC[:, 0], settings.seed)
    prunings, corp = Prunings(), settings.corp and begun.categories_BPG is not None
    theta = PAPERS_THETA if settings.theta is None else settings.theta
    width = settings.beams * (1 + settings.rollbacks * corp)  # so many siblings may be tried
    for step in range(steps):
        open_BPM = beams.tokens_BPM < 0
        ways = children(beams.said_BPMC, beams.log_probs_BP, open_BPM, settings.order, ranks_BM, width)
        if settings.order == "joint" and settings.merge_sets:
            keys_MC = token_keys(*beams.said_BPMC.shape[2:], open_BPM.device) if keys_MC is None else keys_MC
            ways = merge_equal_sets(ways, beams.keys(keys_MC), keys_MC)
        slots = _best(ways, settings.beams)
        some_left = step + 1 < decoder.codebooks
        after, follow = None, partial(_followed, decoder, ways, beams.now)
        if corp:
            slots, after = reflect(ways, slots, follow, beams.now, theta, settings.rollbacks, step, prunings)
        elif some_left:
            after = follow(slots)
        said_BPMC = _said(decoder, after, constraints) if after is not None and some_left else None
        beams = beams.grown(ways, slots, after, said_BPMC)
    return beams.paths(prunings if corp else None)


def _followed(decoder: TokenDecoder, ways: Children, before: Followed, slots: Slots) -> Followed:
    return _standing(decoder, decoder.advance(before.state.select(slots.parents_BS), *slots.chosen(ways)))


def _standing(decoder: TokenDecoder, state: Any) -> Followed:
    return Followed(state, decoder.category_log_probs(state))


def _said(decoder: TokenDecoder, at: Followed, constraints: Constraints | None) -> Tensor:
    """Log-probabilities of all tokens, of those alone that may be."""
    log_probs_BPMC = decoder.log_probs(at.state)
    return log_probs_BPMC if constraints is None else constraints.applied(log_probs_BPMC)


def _best(ways: Children, n: int) -> Slots:
    """The n best of all ways, or as many as there are."""
    K = ways.log_probs_BPK.shape[2]
    flat_BQ = ways.log_probs_BPK.flatten(1)
    best_BS, at_BS = flat_BQ.topk(min(n, flat_BQ.shape[1]), dim=1)
    return Slots(at_BS // K, at_BS % K, best_BS)


@dataclass(frozen=True, eq=False)
class _Decided:
    """One step of S paths: from which parents, what, and what was read there."""

    parents_BS: Tensor
    books_BS: Tensor
    tokens_BS: Tensor
    rows_BSC: Tensor
    categories_BSG: Tensor | None
    moved_BS: Tensor

    def of(self, paths_BS: Tensor) -> _Decided:
        """That of some of the paths."""
        categories = None if self.categories_BSG is None else taken(self.categories_BSG, paths_BS)
        parents, books, tokens = (taken(each, paths_BS) for each in (self.parents_BS, self.books_BS, self.tokens_BS))
        return _Decided(
            parents, books, tokens, taken(self.rows_BSC, paths_BS), categories, taken(self.moved_BS, paths_BS)
        )


@dataclass(frozen=True, eq=False)
class _Beams:
    """Paths on their way.

    Attributes:
        tokens_BPM: what each book was decided to be, -1 for open ones.
        now: where they stand; behind the last token, where nobody asks, one step earlier.
        said_BPMC: log-probabilities of all tokens there; where no book is left, one step earlier.
        decided: the steps so far, each for the paths that there were after it.
    """

    log_probs_BP: Tensor
    tokens_BPM: Tensor
    now: Followed
    said_BPMC: Tensor
    decided: tuple[_Decided, ...] = ()

    @classmethod
    def start(cls, now: Followed, said_BPMC: Tensor) -> _Beams:
        B, P, M, _ = said_BPMC.shape
        tokens_BPM = said_BPMC.new_full((B, P, M), -1, dtype=torch.int64)
        return cls(said_BPMC.new_zeros(B, P), tokens_BPM, now, said_BPMC)

    def keys(self, keys_MC: Tensor) -> Tensor:
        """What tells the sets of tokens of the paths apart, [B, P]."""
        books_M = torch.arange(keys_MC.shape[0], device=keys_MC.device)
        return torch.where(self.tokens_BPM < 0, 0, keys_MC[books_M, self.tokens_BPM.clamp(min=0)]).sum(-1)

    def grown(self, ways: Children, slots: Slots, after: Followed | None, said_BPMC: Tensor | None) -> _Beams:
        """With one more token each."""
        parents_BS = slots.parents_BS
        books_BS, tokens_BS = slots.chosen(ways)
        tokens_BSM = taken(self.tokens_BPM, parents_BS).scatter(2, books_BS[..., None], tokens_BS[..., None])
        rows_BSC = taken(self.said_BPMC.flatten(1, 2), parents_BS * self.tokens_BPM.shape[2] + books_BS)
        before_BSG, moved_BS = self.now.categories_BPG, torch.full_like(slots.log_probs_BS, torch.nan)
        if before_BSG is not None:
            before_BSG = taken(before_BSG, parents_BS)
            if after is not None and after.categories_BPG is not None:
                moved_BS = jensen_shannon(before_BSG, after.categories_BPG)
        step = _Decided(parents_BS, books_BS, tokens_BS, rows_BSC, before_BSG, moved_BS)
        now, said_BPMC = self.now if after is None else after, self.said_BPMC if said_BPMC is None else said_BPMC
        return _Beams(slots.log_probs_BS, tokens_BSM, now, said_BPMC, (*self.decided, step))

    def paths(self, prunings: Prunings | None) -> Paths:
        """All of it, followed back from the last step to the first."""
        log_probs_BP, order_BP = self.log_probs_BP.sort(dim=1, descending=True, stable=True)
        steps, at_BP = [], order_BP
        for decided in reversed(self.decided):
            steps.append(decided.of(at_BP))
            at_BP = steps[-1].parents_BS
        steps.reverse()
        books, tokens = ([getattr(step, name) for step in steps] for name in ("books_BS", "tokens_BS"))
        books_BPT, rows_BPTC = torch.stack(books, dim=2), torch.stack([step.rows_BSC for step in steps], dim=2)
        B, P, T, C = rows_BPTC.shape
        # a path that is dead may decide one book twice and another never, whose numbers must be some
        table_BPMC = rows_BPTC.new_zeros(B, P, self.tokens_BPM.shape[2], C)
        if table_BPMC.shape[2] > T:  # what is left open is read behind the last token
            table_BPMC = taken(self.said_BPMC, order_BP)
        table_BPMC.scatter_(2, books_BPT[..., None].expand_as(rows_BPTC), rows_BPTC)
        beliefs = [step.categories_BSG for step in steps if step.categories_BSG is not None]
        return Paths(
            books_BPT,
            torch.stack(tokens, dim=2),
            log_probs_BP,
            table_BPMC,
            rows_BPTC.amax(-1).exp(),
            torch.stack(beliefs, dim=1) if beliefs else None,
            torch.stack([step.moved_BS for step in steps], dim=2),
            None if prunings is None else prunings.gathered(log_probs_BP),
        )


def taken(values_BPX: Tensor, paths_BS: Tensor) -> Tensor:
    """Of each row the values of some of its paths."""
    rest = values_BPX.shape[2:]
    return values_BPX.gather(1, paths_BS.view(*paths_BS.shape, *(1 for _ in rest)).expand(*paths_BS.shape, *rest))
