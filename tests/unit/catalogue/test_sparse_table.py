"""`SparseTable` beside SciPy's product of sparse matrices."""

from __future__ import annotations

import copy

import torch

from forethought.catalogue.sparse_table import SparseTable


def test_a_method_with_a_table_can_be_copied_after_it_was_used_on_a_gpu() -> None:
    table = SparseTable.of(torch.tensor([[1, 2], [0, 2], [0, 1]]), torch.tensor([[0.5, 0.0], [0.5, 0.2], [0.0, 0.1]]))
    assert table.for_torch.to_dense()[:3].tolist() == table.for_scipy.toarray()[:3].tolist()  # what a GPU multiplies by
    assert copy.deepcopy({"evidence": table})["evidence"] is table
