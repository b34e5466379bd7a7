"""Expectations of constant scores, against whole matrices."""

from __future__ import annotations

import pytest
import torch

from forethought.catalogue import blocks, expectation, moments
from forethought.catalogue.catalogue import Catalogue


@pytest.mark.parametrize("shard", [7, 1000])
def test_value_and_gradients(shard: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (blocks, expectation, moments):
        monkeypatch.setattr(module, "MAX_ITEMS", shard)
    monkeypatch.setattr(blocks.item_shards, "__defaults__", (shard,))
    monkeypatch.setattr(blocks, "CPU_BLOCK_BYTES", 1)
    monkeypatch.setattr(blocks, "MIN_ROWS", 4)
    torch.manual_seed(0)
    states, items, readers = (torch.randn(n, 5, dtype=torch.float64) for n in (11, 33, 11))
    told = []
    for run in (
        lambda r, e: expectation.expectation(r, Catalogue(e), readers),
        lambda r, e: (torch.softmax(r @ e.T, -1) * (readers @ e.detach().T)).sum(),
    ):
        r, e = states.clone().requires_grad_(), items.clone().requires_grad_()
        value = run(r, e)
        (3 * value).backward()
        told.append((value, r.grad, e.grad))
    for got, wanted in zip(*told, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)
