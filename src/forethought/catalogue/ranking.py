"""Exact ranking of the whole catalogue: the k best items, and the rank of a target, in constant memory.

What is ranked by is a `Scorer`, which scores a block of rows against a slice of the items: a state's product with a
catalogue (`StateScorer`, of comparable states: `Catalogue.comparable`), or whatever else a method comes to. Candidates
can be narrowed: `excluded` rows (a user's history) never count, `allowed` items alone do. A target's score is taken
from the same block as its rivals', and equal scores count half.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from forethought.catalogue.blocks import accumulator, block_room, item_shards, row_blocks
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.sparse_scores import SparseScores
from forethought.catalogue.split import Shard

SHARD = 2**14  # items scored together: their vectors and a block of scores share the last-level cache


@dataclass(frozen=True)
class FilteredItems:
    """Items that are no candidates for a row: pairs (row, item), both int64 [n], rows ascending."""

    rows: Tensor
    items: Tensor

    @classmethod
    def from_histories(cls, items_BL: Tensor, lengths_B: Tensor) -> FilteredItems:
        """Everything in the given right-padded histories."""
        real_BL = torch.arange(items_BL.shape[1], device=items_BL.device) < lengths_B[:, None]
        rows = torch.arange(items_BL.shape[0], device=items_BL.device)[:, None].expand_as(items_BL)[real_BL]
        return cls(rows, items_BL[real_BL])

    @classmethod
    def alike(cls, items: np.ndarray, n_rows: int, device: torch.device) -> FilteredItems:
        """The same items for each row."""
        one = torch.from_numpy(items.astype(np.int64)).to(device)
        return cls(torch.arange(n_rows, device=device).repeat_interleave(len(one)), one.repeat(n_rows))

    def within(self, rows: slice, items: slice) -> tuple[Tensor, Tensor]:
        """The pairs that fall into a block, in the block's own coordinates."""
        bounds = torch.tensor([rows.start, rows.stop], device=self.rows.device)
        first, last = torch.searchsorted(self.rows, bounds).tolist()
        r, i = self.rows[first:last] - rows.start, self.items[first:last] - items.start
        inside = (i >= 0) & (i < items.stop - items.start)
        return r[inside], i[inside]

    def take(self, order: Tensor, n_rows: int) -> FilteredItems:
        """The pairs of some of the `n_rows` rows, renumbered as those stand in `order`."""
        place = torch.full((n_rows,), -1, device=order.device)
        place[order] = torch.arange(len(order), device=order.device)
        rows = place[self.rows]
        ascending = torch.argsort(rows)[int((rows < 0).sum()) :]
        return FilteredItems(rows[ascending], self.items[ascending])


class Scorer(Protocol):
    """Rows, each of a user, that can be held against all items: what ranking walks over, block by block."""

    @property
    def like_BX(self) -> Tensor:
        """A tensor with an entry a row, of the type and on the device of the scores."""
        ...

    @property
    def n_items(self) -> int:
        """Items here."""
        ...

    @property
    def shard(self) -> Shard | None:
        """Which of all items those are, where they are split over processes; None: they are all."""
        ...

    def take(self, rows: Tensor) -> Self:
        """Some rows, in this order."""
        ...

    def scores(self, rows: slice, items: slice, into: Tensor) -> Tensor:
        """The scores of some rows and a slice of the items here, [B, n], for the caller to write over.

        Args:
            into: room for them, as `block_room` makes it; a hint.
        """
        ...

    def scores_of(self, items_BM: Tensor) -> Tensor:
        """The scores of some items of each row, [B, M]."""
        ...


@dataclass(frozen=True, eq=False)
class StateScorer:
    """Comparable states, whose inner product with an item is the score.

    Attributes:
        added: to the logits of a few items of each row.
    """

    states_BD: Tensor
    catalogue: Catalogue
    added: SparseScores | None = None

    def __post_init__(self) -> None:
        assert self.added is None or self.shard is None, "evidence is read where all items are in one process"

    @property
    def like_BX(self) -> Tensor:
        return self.states_BD

    @property
    def n_items(self) -> int:
        return len(self.catalogue.vectors_ND)

    @property
    def shard(self) -> Shard | None:
        return self.catalogue.shard

    def take(self, rows: Tensor) -> StateScorer:
        added = None if self.added is None else self.added.take(rows)
        return replace(self, states_BD=self.states_BD[rows], added=added)

    def scores(self, rows: slice, items: slice, into: Tensor) -> Tensor:
        """One product."""
        scores_BN = self.catalogue.scores(self.states_BD[rows], items, into)
        if self.added is not None:
            self.added.add_(scores_BN, rows, items, self.catalogue.temperature)
        return scores_BN

    def scores_of(self, items_BM: Tensor) -> Tensor:
        scores_BM = self.catalogue.scores_of(self.states_BD, items_BM)
        if self.added is None:
            return scores_BM
        return scores_BM + self.catalogue.temperature * self.added.of_each(items_BM)


def rank_of(
    states_BD: Tensor,
    catalogue: Catalogue,
    targets_B: Tensor,
    excluded: FilteredItems | None = None,
    added: SparseScores | None = None,
) -> Tensor:
    """`ranks` of comparable states. One product; over several shards, one and a few shards."""
    return ranks(StateScorer(states_BD, catalogue, added), targets_B, excluded)


def top_k(
    states_BD: Tensor,
    catalogue: Catalogue,
    k: int,
    excluded: FilteredItems | None = None,
    allowed_N: Tensor | None = None,
    added: SparseScores | None = None,
) -> tuple[Tensor, Tensor]:
    """`best` of comparable states. One product."""
    return best(StateScorer(states_BD, catalogue, added), k, excluded, allowed_N)


@torch.no_grad()
def ranks(scorer: Scorer, targets_B: Tensor, excluded: FilteredItems | None = None) -> Tensor:
    """Mid-rank of each target among all candidates, float64 [B]; 1 is best.

    Infinity where the target is excluded or its score is not a number.
    rank = 1 + #(better) + #(equal, other than itself) / 2. All scores are made once; over several shards, those of a
    few shards twice.
    """
    if scorer.shard is not None:
        return _split_ranks(scorer, scorer.shard, targets_B, excluded)
    if scorer.n_items <= SHARD:
        return _ranks(scorer, targets_B, excluded)
    order = torch.argsort(targets_B)  # the targets of a block of rows then lie in few shards
    ranks_B = torch.empty(len(order), dtype=torch.float64, device=order.device)
    excluded = None if excluded is None else excluded.take(order, len(order))
    ranks_B[order] = _ranks(scorer.take(order), targets_B[order], excluded)
    return ranks_B


def _ranks(scorer: Scorer, targets_B: Tensor, excluded: FilteredItems | None) -> Tensor:
    """A target's score comes out of the very block in which its rivals' do, so its shards are scored first."""
    ranks_B = torch.empty(len(targets_B), dtype=torch.float64, device=targets_B.device)
    like_BX, n_items = scorer.like_BX, scorer.n_items
    shards = list(item_shards(n_items, SHARD))
    room = block_room(like_BX, min(n_items, SHARD))
    for rows in row_blocks(like_BX, min(n_items, SHARD)):
        targets = targets_B[rows, None]
        own, home, scores = like_BX.new_tensor(-torch.inf), -1, room
        for home in sorted(set((targets_B[rows] // SHARD).tolist())):
            scores = _candidates(scorer, rows, shards[home], excluded, room)
            at = targets - shards[home].start
            inside = (at >= 0) & (at < scores.shape[1])
            own = torch.where(inside, scores.gather(1, at.clamp(0, scores.shape[1] - 1)), own)
        balance = _balance(scores, own)  # the last shard's scores are still at hand
        for shard in shards[:home] + shards[home + 1 :]:
            balance += _balance(_candidates(scorer, rows, shard, excluded, room), own)
        ranks_B[rows] = torch.where(own[:, 0] > -torch.inf, (n_items + 1 + balance) / 2, torch.inf)
    return ranks_B


def _split_ranks(scorer: Scorer, shard: Shard, targets_B: Tensor, excluded: FilteredItems | None) -> Tensor:
    """All scores twice: whoever holds a target tells its score, then each process counts its own items against it."""
    like_BX = scorer.like_BX
    own_B1 = like_BX.new_full((len(targets_B), 1), -torch.inf, dtype=accumulator(like_BX.dtype))
    local_B1 = targets_B[:, None] - shard.start
    for rows, items, scores in _blocks(scorer, excluded):
        at = local_B1[rows] - items.start
        inside = (at >= 0) & (at < scores.shape[1])
        own_B1[rows] = torch.where(inside, scores.gather(1, at.clamp(0, scores.shape[1] - 1)), own_B1[rows])
    shard.total_(own_B1.nan_to_num_(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf), largest=True)
    balance_B = torch.zeros(len(targets_B), dtype=torch.float64, device=targets_B.device)
    for rows, _, scores in _blocks(scorer, excluded):
        balance_B[rows] += _balance(scores, own_B1[rows])
    shard.total_(balance_B)
    return torch.where(own_B1[:, 0] > -torch.inf, (shard.n_items + 1 + balance_B) / 2, torch.inf)


def _blocks(scorer: Scorer, excluded: FilteredItems | None) -> Iterator[tuple[slice, slice, Tensor]]:
    """All blocks of scores of the items here: which rows, which items, counted from the first one here, and scores."""
    like_BX, n_items = scorer.like_BX, scorer.n_items
    if excluded is not None and scorer.shard is not None:
        excluded = FilteredItems(excluded.rows, excluded.items - scorer.shard.start)
    room = block_room(like_BX, min(n_items, SHARD))
    for rows in row_blocks(like_BX, min(n_items, SHARD)):
        for items in item_shards(n_items, SHARD):
            yield rows, items, _candidates(scorer, rows, items, excluded, room)


def _candidates(scorer: Scorer, rows: slice, shard: slice, excluded: FilteredItems | None, room: Tensor) -> Tensor:
    """A block of scores, -inf for what is excluded; it lives until the next one is written."""
    scores = scorer.scores(rows, shard, room)
    if excluded is not None:
        scores[excluded.within(rows, shard)] = -torch.inf
    return scores


def _balance(scores_BN: Tensor, own_B1: Tensor) -> Tensor:
    """#(better) - #(worse), float64 [B]; the mid-rank among N is (N + 1 + balance) / 2. Overwrites the scores.

    Signs are summed as floats, in place: comparing into booleans and counting those takes as long as the product.
    """
    return scores_BN.sub_(own_B1).sign_().sum(-1).double()


@torch.no_grad()
def best(
    scorer: Scorer, k: int, excluded: FilteredItems | None = None, allowed_N: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The k best candidates of each row and their scores, [B, K], best first; rows that run out end in -1, -inf.

    All scores are made once. Of equal ones the item of the lower row comes first, so that a list depends on no block.

    Args:
        allowed_N: True for the items that may be recommended; all when None.
    """
    like_BX, shard = scorer.like_BX, scorer.shard
    shape = like_BX.shape[0], k
    best = torch.full(shape, -torch.inf, dtype=accumulator(like_BX.dtype), device=like_BX.device)
    chosen = torch.full(shape, -1, dtype=torch.int64, device=like_BX.device)
    first = 0 if shard is None else shard.start
    for rows, items, scores in _blocks(scorer, excluded):
        if allowed_N is not None:
            scores.masked_fill_(~allowed_N[first + items.start : first + items.stop], -torch.inf)
        top, at = _top(scores, k)
        best[rows], order = _k_largest(torch.cat([best[rows], top], dim=1), k)
        chosen[rows] = torch.cat([chosen[rows], at + first + items.start], dim=1).gather(1, order)
    if shard is not None:
        best, order = _k_largest(torch.cat(shard.gathered(best), dim=1), k)
        chosen = torch.cat(shard.gathered(chosen), dim=1).gather(1, order)
    return chosen.masked_fill_(best == -torch.inf, -1), best


def _top(scores_BN: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest scores of a block and their columns, the largest first, of equal ones the first."""
    n = scores_BN.shape[1]
    top_BK, at_BK = scores_BN.topk(min(k + 1, n), dim=-1)
    if n > k:
        last_B = top_BK[:, k - 1]
        rows = ((last_B == top_BK[:, k]) & (last_B > -torch.inf)).nonzero()[:, 0]
        top_BK, at_BK = top_BK[:, :k], at_BK[:, :k]
        if len(rows):  # whoever is last is one of several
            scores, last = scores_BN[rows], last_B[rows, None]
            better, equal = scores > last, scores == last
            equal &= equal.cumsum(1) <= k - better.sum(1, keepdim=True)
            at_BK[rows] = (better | equal).nonzero()[:, 1].view(-1, k)
            top_BK[rows] = scores.gather(1, at_BK[rows])
    at_BK, order_BK = at_BK.sort(dim=-1)
    top_BK, places_BK = _k_largest(top_BK.gather(1, order_BK), k)
    return top_BK, at_BK.gather(1, places_BK)


def _k_largest(scores_BM: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Of a few scores a row: the k largest and their places, of equal ones the first."""
    scores_BM, places_BM = scores_BM.sort(dim=-1, descending=True, stable=True)
    return scores_BM[:, :k], places_BM[:, :k]
