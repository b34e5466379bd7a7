"""Exact ranking of the whole catalogue: the k best items, and the rank of a target, in constant memory.

Candidates can be narrowed: `excluded` rows (a user's history) never count, `allowed` items alone do.
A target's score is taken from the same product as its rivals', and equal scores count half.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from forethought.catalogue.blocks import MAX_ITEMS, item_shards, row_blocks


@dataclass(frozen=True)
class Items:
    """The item side of the final product: score = state . vectors^T (+ bias)."""

    vectors_ND: Tensor
    bias_N: Tensor | None = None

    def __len__(self) -> int:
        return self.vectors_ND.shape[0]

    def scores(self, states_BD: Tensor, shard: slice = slice(None)) -> Tensor:
        scores_BN = states_BD @ self.vectors_ND[shard].T
        return scores_BN if self.bias_N is None else scores_BN.add_(self.bias_N[shard])


@dataclass(frozen=True)
class Excluded:
    """Items that are no candidates for a row: pairs (row, item), both int64 [n], rows ascending, no pair twice."""

    rows: Tensor
    items: Tensor

    @classmethod
    def from_histories(cls, items_BL: Tensor, lengths_B: Tensor) -> Excluded:
        """Everything in the given right-padded histories."""
        real_BL = torch.arange(items_BL.shape[1], device=items_BL.device) < lengths_B[:, None]
        rows = torch.arange(items_BL.shape[0], device=items_BL.device)[:, None].expand_as(items_BL)[real_BL]
        pairs = torch.unique(torch.stack([rows, items_BL[real_BL]]), dim=1)
        return cls(pairs[0], pairs[1])

    def within(self, rows: slice, items: slice) -> tuple[Tensor, Tensor]:
        """The pairs that fall into a block, in the block's own coordinates."""
        bounds = torch.tensor([rows.start, rows.stop], device=self.rows.device)
        first, last = torch.searchsorted(self.rows, bounds).tolist()
        r, i = self.rows[first:last] - rows.start, self.items[first:last] - items.start
        inside = (i >= 0) & (i < items.stop - items.start)
        return r[inside], i[inside]


def rank_of(states_BD: Tensor, items: Items, targets_B: Tensor, excluded: Excluded | None = None) -> Tensor:
    """Mid-rank of each target among all candidates, float64 [B]; 1 is best, infinity where the target is excluded.

    rank = 1 + #(better) + #(equal, other than itself) / 2. One product where the catalogue fits a shard, else two.
    """
    ranks_B = torch.empty(states_BD.shape[0], dtype=torch.float64, device=states_BD.device)
    shards = list(item_shards(len(items)))
    for rows in row_blocks(states_BD, min(len(items), MAX_ITEMS)):
        states, targets = states_BD[rows], targets_B[rows, None]
        if len(shards) == 1:
            scores = _candidates(items, states, rows, shards[0], excluded)
            own = scores.gather(1, targets)
            better, equal = _count(scores, own)
        else:
            own = _scores_of_targets(items, states, rows, targets, shards, excluded)
            better = equal = torch.zeros(len(targets), dtype=torch.float64, device=targets.device)
            for shard in shards:
                b, e = _count(_candidates(items, states, rows, shard, excluded), own)
                better, equal = better + b, equal + e
        rank = 1 + better + (equal - 1) / 2
        ranks_B[rows] = torch.where(own[:, 0] == -torch.inf, torch.inf, rank)
    return ranks_B


def _candidates(items: Items, states: Tensor, rows: slice, shard: slice, excluded: Excluded | None) -> Tensor:
    """A block of scores, -inf for what is excluded."""
    scores = items.scores(states, shard)
    if excluded is not None:
        scores[excluded.within(rows, shard)] = -torch.inf
    return scores


def _count(scores_BN: Tensor, own_B1: Tensor) -> tuple[Tensor, Tensor]:
    """How many scores of each row are above its own, and how many are equal."""
    better = torch.count_nonzero(scores_BN > own_B1, dim=-1)
    not_worse = torch.count_nonzero(scores_BN >= own_B1, dim=-1)
    return better.double(), (not_worse - better).double()


def _scores_of_targets(
    items: Items, states: Tensor, rows: slice, targets_B1: Tensor, shards: list[slice], excluded: Excluded | None
) -> Tensor:
    """Each target's score, out of the very product in which it will be compared."""
    own = states.new_empty(targets_B1.shape)
    for shard in shards:
        inside = (targets_B1[:, 0] >= shard.start) & (targets_B1[:, 0] < shard.stop)
        if inside.any():
            scores = _candidates(items, states, rows, shard, excluded)
            own[inside] = scores[inside].gather(1, targets_B1[inside] - shard.start)
    return own


def top_k(
    states_BD: Tensor, items: Items, k: int, excluded: Excluded | None = None, allowed_N: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The k best candidates of each row and their scores, [B, K], best first; rows that run out end in -1, -inf.

    Args:
        allowed_N: True for the items that may be recommended; all when None.
    """
    shape = states_BD.shape[0], k
    best = states_BD.new_full(shape, -torch.inf)
    chosen = torch.full(shape, -1, dtype=torch.int64, device=states_BD.device)
    shards = list(item_shards(len(items)))
    for rows in row_blocks(states_BD, min(len(items), MAX_ITEMS)):
        for shard in shards:
            scores = _candidates(items, states_BD[rows], rows, shard, excluded)
            if allowed_N is not None:
                scores.masked_fill_(~allowed_N[shard], -torch.inf)
            top, at = scores.topk(min(k, scores.shape[1]), dim=-1)
            both = torch.cat([best[rows], top], dim=1)
            best[rows], order = both.topk(k, dim=-1)
            chosen[rows] = torch.cat([chosen[rows], at + shard.start], dim=1).gather(1, order)
    return chosen.masked_fill_(best == -torch.inf, -1), best
