"""A sparse table of items, and mixtures of its rows: what the few items of a history say of all others."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)  # nobody else can do a thing


@dataclass(frozen=True, eq=False)
class SparseTable:
    """[2N, N]: N rows with some items each, and below them N rows that take 1 off the item of their number.

    With the lower half, what is mixed and what is to be taken off the mixture are one product of sparse matrices.
    """

    offsets: Tensor
    items: Tensor
    values: Tensor
    n_items: int

    @classmethod
    def of(cls, items_NK: Tensor, values_NK: Tensor) -> SparseTable:
        """From rows of at most K items; those of value 0 fill up."""
        n, device = len(items_NK), items_NK.device
        real_NK = values_NK > 0
        own = torch.arange(n, device=device)
        counts = torch.cat([real_NK.sum(1), torch.ones_like(own)])
        return cls(
            torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
            torch.cat([items_NK[real_NK].long(), own]),
            torch.cat([values_NK[real_NK], values_NK.new_full((n,), -1.0)]),
            n,
        )

    @cached_property
    def for_scipy(self) -> sparse.csr_array:
        """The same, made once: its indices are checked and narrowed."""
        parts = [tensor.numpy() for tensor in (self.values, self.items, self.offsets)]
        return sparse.csr_array(tuple(parts), shape=(2 * self.n_items, self.n_items))

    @cached_property
    def for_torch(self) -> Tensor:
        """The same as a sparse tensor."""
        parts = self.offsets, self.items, self.values
        return torch.sparse_csr_tensor(*parts, size=(2 * self.n_items, self.n_items), check_invariants=False)

    def __deepcopy__(self, memo: object) -> SparseTable:
        """Itself: nothing in it changes, and PyTorch cannot copy a sparse tensor that was made of it on a GPU."""
        return self

    def mixed(self, rows_PA: Tensor, weights_PA: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """sum_a weight_pa row_a for each p: rows p ascending, items, and values, each pair once."""
        real_PA = weights_PA != 0
        counts = real_PA.sum(1)
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        multiply = _on_gpu if rows_PA.is_cuda else _on_cpu
        return multiply(self, offsets, rows_PA[real_PA], weights_PA[real_PA])


def _on_cpu(table: SparseTable, offsets: Tensor, rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """By SciPy: PyTorch's product of sparse matrices needs a library that not all processors have."""
    n, p = table.n_items, len(offsets) - 1
    mixing = sparse.csr_array((weights.numpy(), rows.numpy(), offsets.numpy()), shape=(p, 2 * n))
    mixture = sparse.csr_array(mixing @ table.for_scipy)
    counts = torch.from_numpy(np.diff(mixture.indptr).astype(np.int64))
    places = torch.arange(p).repeat_interleave(counts)
    return places, torch.from_numpy(mixture.indices.astype(np.int64)), torch.from_numpy(mixture.data)


def _on_gpu(table: SparseTable, offsets: Tensor, rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n, p = table.n_items, len(offsets) - 1
    mixing = torch.sparse_csr_tensor(offsets, rows, weights, size=(p, 2 * n), check_invariants=False)
    mixture = mixing @ table.for_torch
    places = torch.arange(p, device=rows.device).repeat_interleave(mixture.crow_indices().diff())
    return places, mixture.col_indices(), mixture.values()
