"""Scores that are sums over a history: what each of its items says for a candidate, weighted.

    score(u, i) = sum_l w_ul S[h_ul, i]

The items of a block of rows are walked from first to last, and each adds its row of S to the scores: no tensor of
[rows, positions, items] exists, and nothing is multiplied with the zeros that a history is of. All candidates are added
up in the same order by the same operations, so that equal sums are equal numbers, wherever their items stand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor


class Similarities(Protocol):
    """What each item says for each: S, [N, N], of which rows are read a slice at a time."""

    @property
    def n_items(self) -> int: ...

    def add(self, scores_RN: Tensor, items_R: Tensor, weights_R: Tensor, columns: slice) -> None:
        """scores += weights * S[items, columns], in place."""
        ...

    def of(self, items_BL: Tensor, candidates_BM: Tensor) -> Tensor:
        """S of each row's items and candidates, [B, L, M]."""
        ...


@dataclass(frozen=True, eq=False)
class DenseSimilarities:
    """All of S."""

    weights_NN: Tensor

    @property
    def n_items(self) -> int:
        return len(self.weights_NN)

    def add(self, scores_RN: Tensor, items_R: Tensor, weights_R: Tensor, columns: slice) -> None:
        said_RN = self.weights_NN[:, columns].index_select(0, items_R)
        scores_RN.add_(said_RN.mul_(weights_R[:, None]))

    def of(self, items_BL: Tensor, candidates_BM: Tensor) -> Tensor:
        return self.weights_NN[items_BL[:, :, None], candidates_BM[:, None, :]]


@dataclass(frozen=True, eq=False)
class SparseSimilarities:
    """The few entries of each row that are not 0.

    Attributes:
        items_NK: which, any integers; each once, and what fills up a row has the value 0.
        values_NK: their values.
    """

    items_NK: Tensor
    values_NK: Tensor

    @property
    def n_items(self) -> int:
        return len(self.items_NK)

    def add(self, scores_RN: Tensor, items_R: Tensor, weights_R: Tensor, columns: slice) -> None:
        said_RK = self.values_NK[items_R] * weights_R[:, None]
        at_RK = self.items_NK[items_R].long() - columns.start
        inside_RK = (at_RK >= 0) & (at_RK < scores_RN.shape[1])
        scores_RN.scatter_add_(1, torch.where(inside_RK, at_RK, 0), torch.where(inside_RK, said_RK, 0.0))

    def of(self, items_BL: Tensor, candidates_BM: Tensor) -> Tensor:
        N, real_NK = self.n_items, self.values_NK != 0
        rows_NK = torch.arange(N, device=self.items_NK.device)[:, None].expand_as(self.items_NK)
        keys, order = (rows_NK[real_NK] * N + self.items_NK[real_NK]).sort()
        values = self.values_NK[real_NK][order]
        if not len(keys):
            return self.values_NK.new_zeros(*items_BL.shape, candidates_BM.shape[1])
        asked_BLM = items_BL[:, :, None] * N + candidates_BM[:, None, :]
        at_BLM = torch.searchsorted(keys, asked_BLM).clamp(max=len(keys) - 1)
        return torch.where(keys[at_BLM] == asked_BLM, values[at_BLM], 0.0)


@dataclass(frozen=True, eq=False)
class HistoryScorer:
    """Histories as `ranking.Scorer` wants them.

    Attributes:
        items_BL, weights_BL: of each history, weight 0 for what does not count, such as padding.
    """

    items_BL: Tensor
    weights_BL: Tensor
    similarities: Similarities
    shard = None

    @property
    def like_BX(self) -> Tensor:
        return self.weights_BL

    @property
    def n_items(self) -> int:
        return self.similarities.n_items

    def take(self, rows: Tensor) -> HistoryScorer:
        return replace(self, items_BL=self.items_BL[rows], weights_BL=self.weights_BL[rows])

    def scores(self, rows: slice, items: slice, into: Tensor) -> Tensor:
        """One row of S an item of a history."""
        items_RL, weights_RL = self.items_BL[rows], self.weights_BL[rows]
        n_rows, n_items = len(items_RL), items.stop - items.start
        scores_RN = into[: n_rows * n_items].view(n_rows, n_items).zero_()
        lengths_R = (weights_RL != 0).sum(1)
        # what counts comes first, in order, and the longest rows: then each place is that of the first few rows
        first_RL = torch.argsort((weights_RL == 0).byte(), dim=1, stable=True)
        order_R = torch.argsort(lengths_R, descending=True, stable=True)
        items_RL, weights_RL = (each.gather(1, first_RL)[order_R] for each in (items_RL, weights_RL))
        reached = (lengths_R[:, None] > torch.arange(items_RL.shape[1], device=lengths_R.device)).sum(0).tolist()
        for place, n in enumerate(reached):
            if n:
                self.similarities.add(scores_RN[:n], items_RL[:n, place], weights_RL[:n, place], items)
        return scores_RN[torch.argsort(order_R)]

    def scores_of(self, items_BM: Tensor) -> Tensor:
        return (self.weights_BL[:, :, None] * self.similarities.of(self.items_BL, items_BM)).sum(1)

    def contributions(self, items_K: Tensor) -> Tensor:
        """What each position of the first row adds to the scores of some items, [K, L]."""
        said_LK = self.similarities.of(self.items_BL[:1], items_K[None])[0]
        return (self.weights_BL[0, :, None] * said_LK).T


def latest_weights(items_BL: Tensor, lengths_B: Tensor, decay: float, dtype: torch.dtype) -> Tensor:
    """decay^p for an item whose latest occurrence is p places before the row's end, 0 for earlier ones and padding."""
    L = items_BL.shape[1]
    places_BL = lengths_B[:, None] - 1 - torch.arange(L, device=items_BL.device)
    real_BL = places_BL >= 0
    sorted_BL, order_BL = torch.where(real_BL, items_BL, -1).sort(dim=1, stable=True)
    last_BL = torch.ones_like(real_BL)
    last_BL[:, :-1] = sorted_BL[:, 1:] != sorted_BL[:, :-1]
    latest_BL = torch.zeros_like(real_BL).scatter(1, order_BL, last_BL) & real_BL
    weights_BL = torch.pow(torch.tensor(decay, dtype=dtype, device=items_BL.device), places_BL.clamp(min=0))
    return torch.where(latest_BL, weights_BL, 0.0)
