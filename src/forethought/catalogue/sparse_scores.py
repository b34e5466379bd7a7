"""Sparse scores: what is added to the logits of a few items of each row, while all items are walked.

    logit'(p, i) = logit(p, i) + v_pi        v is 0 for all but some hundred items of a row

On its support the softmax moves by exp(v), and the log-sum-exp by log1p(sum_i p_i (exp(v_i) - 1)); a walk that has the
scores of a block at hand adds v in place, which costs what its few entries cost, and no product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SparseScores:
    """Values of T pairs (row, item), in one part or several that come one after the other.

    A part has rows ascending and each pair once; a pair in several parts has the sum of its values.

    Attributes:
        rows_T, items_T: int64.
        values_T: in logits; gradients of walks reach them.
        n_rows: rows there are, with values or without.
        sizes: pairs of each part; none: there is one.
    """

    rows_T: Tensor
    items_T: Tensor
    values_T: Tensor
    n_rows: int
    sizes: tuple[int, ...] = ()

    @cached_property
    def _seen(self) -> list[tuple[Any, list[tuple[slice | Tensor, Tensor]]]]:
        """The last block that was asked about, and its pairs."""
        return [(None, [])]

    @cached_property
    def _parts(self) -> list[tuple[int, list[int]]]:
        """Where each part begins, and in it the pairs of each row."""
        parts, start = [], 0
        for rows_T in self.rows_T.split(list(self.sizes or (len(self.rows_T),))):
            every_row = torch.arange(self.n_rows + 1, device=rows_T.device)
            parts.append((start, torch.searchsorted(rows_T.contiguous(), every_row).tolist()))
            start += len(rows_T)
        return parts

    @cached_property
    def _last_item(self) -> int:
        """The highest item that has a value; asked for once, because on a GPU asking means waiting."""
        return int(self.items_T.max()) if len(self.items_T) else -1

    def within(self, rows: slice, items: slice) -> list[tuple[slice | Tensor, Tensor]]:
        """The pairs of each part that fall into a block: which they are, and where they stand in it, flattened.

        Those of the last block that was asked about are kept: a walk adds to a block and then reads what became of it.
        """
        block = rows.start, rows.stop, items.start, items.stop
        seen = self._seen[0]
        if seen[0] != block:  # set at once, so that another thread finds the one or the other
            self._seen[0] = seen = block, list(self._within(rows, items))
        return seen[1]

    def _within(self, rows: slice, items: slice) -> Iterator[tuple[slice | Tensor, Tensor]]:
        width = items.stop - items.start
        for start, offsets in self._parts:
            first, last = (offsets[min(row, self.n_rows)] for row in (rows.start, rows.stop))  # beyond lies padding
            some = slice(start + first, start + last)
            row, column = self.rows_T[some] - rows.start, self.items_T[some] - items.start
            at = row * width + column
            if items.start == 0 and self._last_item < width:
                yield some, at
            else:
                inside = ((column >= 0) & (column < width)).nonzero()[:, 0]
                yield inside + some.start, at[inside]

    @torch.no_grad()
    def add_(self, scores_BN: Tensor, rows: slice, items: slice, scale: float = 1.0) -> None:
        """Add them to a block of scores, in place."""
        for which, at in self.within(rows, items):
            scores_BN.view(-1).index_add_(0, at, self.values_T[which].to(scores_BN.dtype), alpha=scale)

    @torch.no_grad()
    def multiply_(self, exponentials_BN: Tensor, rows: slice, items: slice) -> None:
        """The same to a block of exp(score), in place."""
        flat = exponentials_BN.view(-1)
        for which, at in self.within(rows, items):
            moved = flat.index_select(0, at).float().mul_(self.values_T[which].exp())
            flat.index_copy_(0, at, moved.to(flat.dtype))

    @torch.no_grad()
    def gather(self, block_BN: Tensor, rows: slice, items: slice, into_T: Tensor) -> None:
        """Of a block, what stands where they have a value, into their places."""
        for which, at in self.within(rows, items):
            into_T[which] = block_BN.view(-1).index_select(0, at).to(into_T.dtype)

    def of(self, items_B: Tensor) -> Tensor:
        """What one item of each row has, [B]."""
        hit = (self.items_T == items_B.index_select(0, self.rows_T)).nonzero()[:, 0]
        rows, values = self.rows_T.index_select(0, hit), self.values_T.index_select(0, hit)
        return self.values_T.new_zeros(self.n_rows).index_add(0, rows, values)

    def of_each(self, items_BM: Tensor) -> Tensor:
        """What several items of each row have, [B, M]."""
        return torch.stack([self.of(items_B) for items_B in items_BM.T], dim=1)

    @torch.no_grad()
    def add_each_(self, scores_BM: Tensor, items_BM: Tensor) -> Tensor:
        """Add them to the scores of several items of each row, in place; the numbers are those that `add_` comes to."""
        for start, offsets in self._parts:
            some = slice(start, start + offsets[-1])
            rows_T, values_T = self.rows_T[some], self.values_T[some].to(scores_BM.dtype)
            for column, items_B in enumerate(items_BM.T):
                hit = self.items_T[some] == items_B[rows_T]
                scores_BM[:, column].index_add_(0, rows_T[hit], values_T[hit])
        return scores_BM

    def sums(self) -> Tensor:
        """Over all items, [B]."""
        return self.values_T.new_zeros(self.n_rows).index_add(0, self.rows_T, self.values_T)

    def take(self, rows_M: Tensor) -> SparseScores:
        """Those of some rows, each once, in that order."""
        place = torch.full((self.n_rows,), -1, dtype=torch.int64, device=rows_M.device)
        place[rows_M] = torch.arange(len(rows_M), device=rows_M.device)
        orders = []
        for start, offsets in self._parts:
            rows_T = place[self.rows_T[start : start + offsets[-1]]]
            orders.append(start + torch.argsort(rows_T, stable=True)[int((rows_T < 0).sum()) :])
        order, sizes = torch.cat(orders), tuple(map(len, orders))
        return SparseScores(place[self.rows_T[order]], self.items_T[order], self.values_T[order], len(rows_M), sizes)

    def repeated(self, times: int) -> SparseScores:
        """The same for every one of `times` copies of the only row."""
        copies = torch.arange(times, device=self.rows_T.device)
        places = torch.arange(len(self.rows_T), device=self.rows_T.device)
        parts = places.split(list(self.sizes or (len(places),)))
        order = torch.cat([part.repeat(times) for part in parts])
        rows_T = torch.cat([copies.repeat_interleave(len(part)) for part in parts])
        sizes = tuple(len(part) * times for part in parts)
        return SparseScores(rows_T, self.items_T[order], self.values_T[order], times, sizes)
