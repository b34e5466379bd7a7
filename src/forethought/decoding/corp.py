"""CORP: a token with which the belief in categories moves too far is taken back, and the next best one tried.

    moved = JS(p, q) = (KL(p, m) + KL(q, m)) / 2,   m = (p + q) / 2        p without the token, q with it; nats

Beyond theta the token is pruned, and its path goes on with its parent's next best one that nobody has tried, so many
times; then it is given up. Where none of a row is left, its most probable token is kept: everybody always has a path.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from forethought.decoding.crss import Children
from forethought.decoding.paths import Pruned


@dataclass(frozen=True, eq=False)
class Slots:
    """Which ways are followed: S of each row.

    Attributes:
        parents_BS, places_BS: where they stand among the children.
        log_probs_BS: -inf where a slot is empty.
    """

    parents_BS: Tensor
    places_BS: Tensor
    log_probs_BS: Tensor

    def chosen(self, ways: Children) -> tuple[Tensor, Tensor]:
        """Books and tokens, [B, S] each."""
        flat_BS = self.parents_BS * ways.books_BPK.shape[2] + self.places_BS
        return ways.books_BPK.flatten(1).gather(1, flat_BS), ways.tokens_BPK.flatten(1).gather(1, flat_BS)


@dataclass(frozen=True, eq=False)
class Followed:
    """Where paths stand, and what the decoder believes of the category there."""

    state: Any
    categories_BPG: Tensor | None


def jensen_shannon(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Of distributions along the last axis, in nats: from 0 to log 2."""
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    parts = [torch.where(log_x > -torch.inf, log_x.exp() * (log_x - log_m), 0.0) for log_x in (log_p, log_q)]
    return (parts[0] + parts[1]).sum(-1).div(2).clamp(min=0)


@dataclass(frozen=True)
class Prunings:
    """What is pruned, while paths are sought."""

    parts: list[Pruned] = field(default_factory=list)

    def note(self, which_BS: Tensor, step: int, decided: tuple[Tensor, Tensor], moved: _Moved, *, kept: bool) -> None:
        rows_E, slots_E = which_BS.nonzero(as_tuple=True)
        if len(rows_E):
            books_BS, tokens_BS = decided
            told = books_BS, tokens_BS, moved.by_BS, moved.before_BS, moved.after_BS
            books, tokens, by, before, after = (each[rows_E, slots_E] for each in told)
            steps, kept_E = torch.full_like(rows_E, step), torch.full_like(rows_E, kept, dtype=torch.bool)
            self.parts.append(Pruned(rows_E, steps, books, tokens, by, before, after, kept_E))

    def gathered(self, like: Tensor) -> Pruned:
        """All of it; where there is nothing, of the type and on the device of log-probabilities."""
        if not self.parts:
            none, number = like.new_empty(0, dtype=torch.int64), like.new_empty(0)
            return Pruned(none, none, none, none, number, none, none, none.bool())
        names = Pruned.__dataclass_fields__
        return Pruned(*(torch.cat([getattr(part, name) for part in self.parts]) for name in names))


@dataclass(frozen=True, eq=False)
class _Moved:
    """How far the belief moved, and from which category to which."""

    by_BS: Tensor
    before_BS: Tensor
    after_BS: Tensor

    @classmethod
    def between(cls, slots: Slots, before: Followed, after: Followed) -> _Moved:
        assert before.categories_BPG is not None
        assert after.categories_BPG is not None
        G = before.categories_BPG.shape[2]
        before_BSG = before.categories_BPG.gather(1, slots.parents_BS[..., None].expand(-1, -1, G))
        by_BS = jensen_shannon(before_BSG, after.categories_BPG)
        return cls(by_BS, before_BSG.argmax(-1), after.categories_BPG.argmax(-1))


def reflect(
    ways: Children,
    slots: Slots,
    follow: Callable[[Slots], Followed],
    before: Followed,
    theta: float,
    rollbacks: int,
    step: int,
    prunings: Prunings,
) -> tuple[Slots, Followed]:
    """Follow the ways, take back those with which the belief moves further than theta, and note them."""
    first, after = slots, follow(slots)
    moved = _Moved.between(slots, before, after)
    failing_BS = (slots.log_probs_BS > -torch.inf) & (moved.by_BS > theta)
    tried_BPK = torch.zeros_like(ways.books_BPK, dtype=torch.bool)
    tried_BPK = _marked(tried_BPK, slots, torch.ones_like(failing_BS))
    for _ in range(rollbacks):
        if not bool(failing_BS.any()):
            break
        prunings.note(failing_BS, step, slots.chosen(ways), moved, kept=False)
        slots, replaced_BS = _next_best(ways, slots, failing_BS, tried_BPK)
        if not bool(replaced_BS.any()):
            failing_BS = replaced_BS
            break
        tried_BPK = _marked(tried_BPK, slots, replaced_BS)
        after = follow(slots)
        moved = _Moved.between(slots, before, after)
        failing_BS = replaced_BS & (moved.by_BS > theta)
    prunings.note(failing_BS, step, slots.chosen(ways), moved, kept=False)
    slots = replace(slots, log_probs_BS=slots.log_probs_BS.masked_fill(failing_BS, -torch.inf))
    lost_B1 = (slots.log_probs_BS == -torch.inf).all(1, keepdim=True) & (first.log_probs_BS[:, :1] > -torch.inf)
    if bool(lost_B1.any()):  # the first slot is the most probable one
        kept_BS = lost_B1 & (torch.arange(first.log_probs_BS.shape[1], device=lost_B1.device) == 0)
        pairs = [(getattr(first, name), getattr(slots, name)) for name in Slots.__dataclass_fields__]
        slots = Slots(*(torch.where(kept_BS, old, new) for old, new in pairs))
        after = follow(slots)
        prunings.note(kept_BS, step, slots.chosen(ways), _Moved.between(slots, before, after), kept=True)
    return slots, after


def _marked(tried_BPK: Tensor, slots: Slots, which_BS: Tensor) -> Tensor:
    """With the ways of some slots marked as tried."""
    flat_BS = slots.parents_BS * tried_BPK.shape[2] + slots.places_BS
    times_BQ = torch.zeros_like(tried_BPK.flatten(1), dtype=torch.int64).scatter_add(1, flat_BS, which_BS.long())
    return tried_BPK | (times_BQ > 0).view_as(tried_BPK)


def _next_best(ways: Children, slots: Slots, failing_BS: Tensor, tried_BPK: Tensor) -> tuple[Slots, Tensor]:
    """In place of each failing slot its parent's best way that nobody tried, the second for the second of a parent.

    Slots for which there is none are empty from now on; the others are told, bool [B, S].
    """
    K = tried_BPK.shape[2]
    same_BSS = slots.parents_BS[:, :, None] == slots.parents_BS[:, None, :]
    earlier_BS = (same_BSS & failing_BS[:, None, :]).tril(-1).sum(-1)  # of the same parent, before this one
    left_BPK = (~tried_BPK) & (ways.log_probs_BPK > -torch.inf)
    # what is left of each parent comes first, best first, because children are sorted
    order_BPK = (~left_BPK).byte().argsort(dim=-1, stable=True)
    n_left_BS = left_BPK.sum(-1).gather(1, slots.parents_BS)
    replaced_BS = failing_BS & (earlier_BS < n_left_BS)
    flat_BS = slots.parents_BS * K + earlier_BS.clamp(max=K - 1)
    places_BS = torch.where(replaced_BS, order_BPK.flatten(1).gather(1, flat_BS), slots.places_BS)
    new_BS = ways.log_probs_BPK.flatten(1).gather(1, slots.parents_BS * K + places_BS)
    log_probs_BS = torch.where(replaced_BS, new_BS, slots.log_probs_BS.masked_fill(failing_BS, -torch.inf))
    return Slots(slots.parents_BS, places_BS, log_probs_BS), replaced_BS
