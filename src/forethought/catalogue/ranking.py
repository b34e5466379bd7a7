"""Exact ranking of the whole catalogue: the k best items, and the rank of a target, in constant memory.

States are comparable (`Catalogue.comparable`). Candidates can be narrowed: `excluded` rows (a user's history) never
count, `allowed` items alone do. A target's score is taken from the same product as its rivals', and equal scores count
half.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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


@torch.no_grad()
def rank_of(
    states_BD: Tensor,
    catalogue: Catalogue,
    targets_B: Tensor,
    excluded: FilteredItems | None = None,
    added: SparseScores | None = None,
) -> Tensor:
    """Mid-rank of each target among all candidates, float64 [B]; 1 is best.

    Infinity where the target is excluded or its score is not a number.
    rank = 1 + #(better) + #(equal, other than itself) / 2. One product; over several shards, one and a few shards.

    Args:
        added: to the logits of a few items of each row.
    """
    if catalogue.shard is not None:
        assert added is None, "evidence is read where all items are in one process"
        return _split_ranks(states_BD, catalogue, catalogue.shard, targets_B, excluded)
    if len(catalogue) <= SHARD:
        return _ranks(states_BD, catalogue, targets_B, excluded, added)
    order = torch.argsort(targets_B)  # the targets of a block of rows then lie in few shards
    ranks_B = torch.empty(len(order), dtype=torch.float64, device=order.device)
    excluded = None if excluded is None else excluded.take(order, len(order))
    added = None if added is None else added.take(order)
    ranks_B[order] = _ranks(states_BD[order], catalogue, targets_B[order], excluded, added)
    return ranks_B


def _ranks(
    states_BD: Tensor,
    catalogue: Catalogue,
    targets_B: Tensor,
    excluded: FilteredItems | None,
    added: SparseScores | None,
) -> Tensor:
    """A target's score comes out of the very product in which its rivals' do, so its shards are scored first."""
    ranks_B = torch.empty(len(targets_B), dtype=torch.float64, device=targets_B.device)
    shards = list(item_shards(len(catalogue), SHARD))
    room = block_room(states_BD, min(len(catalogue), SHARD))
    for rows in row_blocks(states_BD, min(len(catalogue), SHARD)):
        states, targets = states_BD[rows], targets_B[rows, None]
        own, home, scores = states.new_tensor(-torch.inf), -1, states
        for home in sorted(set((targets_B[rows] // SHARD).tolist())):
            scores = _candidates(catalogue, states, rows, shards[home], excluded, room, added)
            at = targets - shards[home].start
            inside = (at >= 0) & (at < scores.shape[1])
            own = torch.where(inside, scores.gather(1, at.clamp(0, scores.shape[1] - 1)), own)
        balance = _balance(scores, own)  # the last shard's scores are still at hand
        for shard in shards[:home] + shards[home + 1 :]:
            balance += _balance(_candidates(catalogue, states, rows, shard, excluded, room, added), own)
        ranks_B[rows] = torch.where(own[:, 0] > -torch.inf, (len(catalogue) + 1 + balance) / 2, torch.inf)
    return ranks_B


def _split_ranks(
    states_BD: Tensor, catalogue: Catalogue, shard: Shard, targets_B: Tensor, excluded: FilteredItems | None
) -> Tensor:
    """Two products: whoever holds a target tells its score, and each process then counts its own items against it."""
    own_B1 = states_BD.new_full((len(targets_B), 1), -torch.inf, dtype=accumulator(states_BD.dtype))
    local_B1 = targets_B[:, None] - shard.start
    for rows, items, scores in _blocks(states_BD, catalogue, excluded):
        at = local_B1[rows] - items.start
        inside = (at >= 0) & (at < scores.shape[1])
        own_B1[rows] = torch.where(inside, scores.gather(1, at.clamp(0, scores.shape[1] - 1)), own_B1[rows])
    shard.total_(own_B1.nan_to_num_(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf), largest=True)
    balance_B = torch.zeros(len(targets_B), dtype=torch.float64, device=targets_B.device)
    for rows, _, scores in _blocks(states_BD, catalogue, excluded):
        balance_B[rows] += _balance(scores, own_B1[rows])
    shard.total_(balance_B)
    return torch.where(own_B1[:, 0] > -torch.inf, (shard.n_items + 1 + balance_B) / 2, torch.inf)


def _blocks(
    states_BD: Tensor, catalogue: Catalogue, excluded: FilteredItems | None, added: SparseScores | None = None
) -> Iterator[tuple[slice, slice, Tensor]]:
    """All blocks of scores of the items here: which rows, which items, counted from the first one here, and scores."""
    n_items = len(catalogue.vectors_ND)
    if excluded is not None and catalogue.shard is not None:
        excluded = FilteredItems(excluded.rows, excluded.items - catalogue.shard.start)
    room = block_room(states_BD, min(n_items, SHARD))
    for rows in row_blocks(states_BD, min(n_items, SHARD)):
        for items in item_shards(n_items, SHARD):
            yield rows, items, _candidates(catalogue, states_BD[rows], rows, items, excluded, room, added)


def _candidates(
    catalogue: Catalogue,
    states: Tensor,
    rows: slice,
    shard: slice,
    excluded: FilteredItems | None,
    room: Tensor,
    added: SparseScores | None = None,
) -> Tensor:
    """A block of scores, -inf for what is excluded; it lives until the next one is written."""
    scores = catalogue.scores(states, shard, room)
    if added is not None:
        added.add_(scores, rows, shard, catalogue.temperature)
    if excluded is not None:
        scores[excluded.within(rows, shard)] = -torch.inf
    return scores


def _balance(scores_BN: Tensor, own_B1: Tensor) -> Tensor:
    """#(better) - #(worse), float64 [B]; the mid-rank among N is (N + 1 + balance) / 2. Overwrites the scores.

    Signs are summed as floats, in place: comparing into booleans and counting those takes as long as the product.
    """
    return scores_BN.sub_(own_B1).sign_().sum(-1).double()


@torch.no_grad()
def top_k(
    states_BD: Tensor,
    catalogue: Catalogue,
    k: int,
    excluded: FilteredItems | None = None,
    allowed_N: Tensor | None = None,
    added: SparseScores | None = None,
) -> tuple[Tensor, Tensor]:
    """The k best candidates of each row and their scores, [B, K], best first; rows that run out end in -1, -inf.

    One product.

    Args:
        allowed_N: True for the items that may be recommended; all when None.
        added: to the logits of a few items of each row.
    """
    shape = states_BD.shape[0], k
    best = torch.full(shape, -torch.inf, dtype=accumulator(states_BD.dtype), device=states_BD.device)
    chosen = torch.full(shape, -1, dtype=torch.int64, device=states_BD.device)
    first = 0 if catalogue.shard is None else catalogue.shard.start
    for rows, items, scores in _blocks(states_BD, catalogue, excluded, added):
        if allowed_N is not None:
            scores.masked_fill_(~allowed_N[first + items.start : first + items.stop], -torch.inf)
        top, at = scores.topk(min(k, scores.shape[1]), dim=-1)
        both = torch.cat([best[rows], top], dim=1)
        best[rows], order = both.topk(k, dim=-1)
        chosen[rows] = torch.cat([chosen[rows], at + first + items.start], dim=1).gather(1, order)
    if catalogue.shard is not None:
        best, order = torch.cat(catalogue.shard.gathered(best), dim=1).topk(k, dim=-1)
        chosen = torch.cat(catalogue.shard.gathered(chosen), dim=1).gather(1, order)
    return chosen.masked_fill_(best == -torch.inf, -1), best
