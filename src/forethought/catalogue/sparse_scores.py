"""Sparse scores: what is added to the logits of a few items of each row, while all items are walked.

    logit'(p, i) = logit(p, i) + v_pi        v is 0 for all but some hundred items of a row

On its support the softmax moves by exp(v), and the log-sum-exp by log1p(sum_i p_i (exp(v_i) - 1)); a walk that has the
scores of a block at hand adds v in place, which costs what its few entries cost, and no product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SparseScores:
    """Values of T pairs (row, item), each pair once, rows ascending.

    Attributes:
        rows_T, items_T: int64.
        values_T: in logits; gradients of walks reach them.
        n_rows: rows there are, with values or without.
    """

    rows_T: Tensor
    items_T: Tensor
    values_T: Tensor
    n_rows: int

    @cached_property
    def _offsets(self) -> list[int]:
        """Where the pairs of each row begin."""
        counts = torch.bincount(self.rows_T, minlength=self.n_rows)
        return [0, *counts.cumsum(0).tolist()]

    def within(self, rows: slice, items: slice) -> tuple[slice | Tensor, Tensor]:
        """The pairs that fall into a block: which they are, and where they stand in its scores, flattened."""
        first, last = (self._offsets[min(row, self.n_rows)] for row in (rows.start, rows.stop))  # beyond lies padding
        some = slice(first, last)
        row, column, width = self.rows_T[some] - rows.start, self.items_T[some] - items.start, items.stop - items.start
        if len(column) == 0 or (items.start == 0 and int(column.max()) < width):
            return some, row * width + column
        inside = ((column >= 0) & (column < width)).nonzero()[:, 0]
        return inside + some.start, (row * width + column)[inside]

    @torch.no_grad()
    def add_(self, scores_BN: Tensor, rows: slice, items: slice, scale: float = 1.0) -> None:
        """Add them to a block of scores, in place."""
        which, at = self.within(rows, items)
        values = self.values_T[which].to(scores_BN.dtype)
        scores_BN.view(-1).index_add_(0, at, values, alpha=scale)

    @torch.no_grad()
    def multiply_(self, exponentials_BN: Tensor, rows: slice, items: slice) -> None:
        """The same to a block of exp(score), in place."""
        which, at = self.within(rows, items)
        flat = exponentials_BN.view(-1)
        flat[at] = (flat[at].float() * self.values_T[which].exp()).to(flat.dtype)

    def of(self, items_B: Tensor) -> Tensor:
        """What one item of each row has, [B]."""
        hit = self.items_T == items_B[self.rows_T]
        return self.values_T.new_zeros(self.n_rows).index_add(0, self.rows_T[hit], self.values_T[hit])

    def of_each(self, items_BM: Tensor) -> Tensor:
        """What several items of each row have, [B, M]."""
        return torch.stack([self.of(items_B) for items_B in items_BM.T], dim=1)

    def sums(self) -> Tensor:
        """Over all items, [B]."""
        return self.values_T.new_zeros(self.n_rows).index_add(0, self.rows_T, self.values_T)

    def take(self, rows_M: Tensor) -> SparseScores:
        """Those of some rows, each once, in that order."""
        place = torch.full((self.n_rows,), -1, dtype=torch.int64, device=rows_M.device)
        place[rows_M] = torch.arange(len(rows_M), device=rows_M.device)
        rows_T = place[self.rows_T]
        order = torch.argsort(rows_T, stable=True)[int((rows_T < 0).sum()) :]
        return SparseScores(rows_T[order], self.items_T[order], self.values_T[order], len(rows_M))

    def repeated(self, times: int) -> SparseScores:
        """The same for every one of `times` copies of the only row."""
        rows_T = torch.arange(times, device=self.rows_T.device).repeat_interleave(len(self.rows_T))
        return SparseScores(rows_T, self.items_T.repeat(times), self.values_T.repeat(times), times)
