"""What several unit tests check in the same way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

SameGradients = Callable[..., None]


@pytest.fixture
def same_gradients() -> SameGradients:
    """(model, loss, loss of another computation): both give the same value and reach every parameter alike."""

    def check(model: torch.nn.Module, *losses: Callable[[], torch.Tensor], within: float = 1e-8) -> None:
        told = []
        for loss in losses:
            model.zero_grad()
            value = loss()
            value.backward()
            told.append([value.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
        assert len(told[0]) == 1 + len(list(model.parameters()))
        for got, wanted in zip(*told, strict=True):
            torch.testing.assert_close(got, wanted, rtol=within, atol=within)

    return check
