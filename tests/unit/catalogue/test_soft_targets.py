"""The moment of a soft target, against whole matrices."""

from __future__ import annotations

import torch

from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.losses import soft_cross_entropy
from forethought.catalogue.soft_targets import soft_target


def test_cross_entropy_with_soft_targets_is_that_of_whole_matrices() -> None:
    """Value, and gradients to states and items, q being constant and E not."""
    torch.manual_seed(0)
    centres, items, states = (torch.randn(n, 5, dtype=torch.float64) for n in (4, 33, 9))
    of, weights = torch.randint(4, (9,)), torch.rand(9, dtype=torch.float64)

    def wanted(r: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        q = torch.softmax(centres @ e.T, dim=-1).detach()[of]
        return -(weights[:, None] * q * torch.log_softmax(r @ e.T, dim=-1)).sum()

    def got(r: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        return soft_cross_entropy(r, Catalogue(e), soft_target(centres, Catalogue(e))[of], weights)

    told = []
    for loss in (got, wanted):
        r, e = states.clone().requires_grad_(), items.clone().requires_grad_()
        value = loss(r, e)
        value.backward()
        told.append((value, r.grad, e.grad))
    for a, b in zip(*told, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_autocast_narrows_nothing() -> None:
    centres, items = torch.randn(3, 4), torch.randn(7, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = soft_target(centres, Catalogue(items))
    assert torch.equal(narrow, soft_target(centres, Catalogue(items)))


def test_no_gradient_reaches_the_prototypes() -> None:
    centres, items = torch.randn(3, 4, requires_grad=True), torch.randn(7, 4, requires_grad=True)
    soft_target(centres, Catalogue(items)).sum().backward()
    assert centres.grad is None
    assert items.grad is not None
