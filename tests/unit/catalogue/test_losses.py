"""Losses over the whole catalogue, each recomputed in numpy from the N scores that the code never holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

import reference
from forethought.catalogue import losses
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.moments import moments

P, N, D = 6, 13, 4


def draw(seed: int, *shape: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=random, dtype=torch.float64, requires_grad=True)


STATES, OTHERS, ITEMS = draw(0, P, D), draw(1, P, D), draw(2, N, D)
CATALOGUE = Catalogue(ITEMS)
TARGETS = torch.tensor([0, 5, 5, 12, 3, 0])
WEIGHTS = torch.linspace(0.1, 1.0, P, dtype=torch.float64)


def log_softmax(states: Tensor, items: Tensor = ITEMS) -> np.ndarray:
    return reference.log_softmax(states.detach().numpy() @ items.detach().numpy().T)


def test_cross_entropy() -> None:
    expected = -(WEIGHTS.numpy() * log_softmax(STATES)[np.arange(P), TARGETS]).sum()
    assert losses.cross_entropy(STATES, CATALOGUE, TARGETS, WEIGHTS).item() == pytest.approx(expected, rel=1e-12)


def test_cross_entropy_has_torchs_gradients_with_temperature_bias_and_cosine() -> None:
    bias = draw(3, N)
    inputs = STATES, ITEMS, bias
    unit = torch.nn.functional.normalize
    catalogue = Catalogue(ITEMS, bias, temperature=0.1, cosine=True)
    ours = losses.cross_entropy(catalogue.scaled(STATES), catalogue, TARGETS, WEIGHTS)
    scores = unit(STATES) @ unit(ITEMS).T / 0.1 + bias
    theirs = (torch.nn.functional.cross_entropy(scores, TARGETS, reduction="none") * WEIGHTS).sum()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    pairs = zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(theirs, inputs), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_label_smoothing_spreads_its_share_over_all_items() -> None:
    q = np.full((P, N), 0.1 / N)
    q[np.arange(P), TARGETS] += 0.9
    expected = -(WEIGHTS.numpy()[:, None] * q * log_softmax(STATES)).sum()
    ours = losses.cross_entropy(STATES, CATALOGUE, TARGETS, WEIGHTS, smoothing=0.1)
    theirs = torch.nn.functional.cross_entropy(STATES @ ITEMS.T, TARGETS, reduction="none", label_smoothing=0.1)
    assert ours.item() == pytest.approx(expected, rel=1e-12)
    both = zip(*(torch.autograd.grad(loss, (STATES, ITEMS)) for loss in (ours, (theirs * WEIGHTS).sum())), strict=True)
    for one, other in both:
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_soft_cross_entropy_and_its_gradient_through_the_targets_moment() -> None:
    q = torch.softmax(draw(4, P, N).detach(), dim=-1)
    ours = losses.soft_cross_entropy(STATES, CATALOGUE, q @ ITEMS, WEIGHTS)
    expected = -(WEIGHTS.numpy()[:, None] * q.numpy() * log_softmax(STATES)).sum()
    assert ours.item() == pytest.approx(expected, rel=1e-12)
    whole = -(WEIGHTS[:, None] * q * (STATES @ ITEMS.T).log_softmax(-1)).sum()
    for one, other in zip(*(torch.autograd.grad(x, (STATES, ITEMS)) for x in (ours, whole)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_entropy() -> None:
    ours = losses.entropy(STATES, moments(STATES, CATALOGUE))
    np.testing.assert_allclose(ours.detach(), reference.entropy(log_softmax(STATES)), rtol=1e-10)
    assert losses.entropy(0 * STATES, moments(0 * STATES, CATALOGUE)).tolist() == pytest.approx([np.log(N)] * P)


@pytest.mark.parametrize(("first", "second"), [(STATES, OTHERS), (OTHERS, STATES), (STATES, STATES)])
def test_kl(first: Tensor, second: Tensor) -> None:
    wanted = reference.kl(log_softmax(first), log_softmax(second))
    ours = losses.kl(first, moments(first, CATALOGUE), second, moments(second, CATALOGUE))
    np.testing.assert_allclose(ours.detach(), wanted, rtol=1e-10, atol=1e-12)


def test_gradcheck_of_entropy_and_of_kl_to_all_its_arguments() -> None:
    def both(states: Tensor, others: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        first, second = (moments(r, Catalogue(items)) for r in (states, others))
        return losses.entropy(states, first), losses.kl(states, first, others, second)

    assert gradcheck(both, (STATES, OTHERS, ITEMS))


def test_per_position() -> None:
    ours = losses.per_position(STATES, CATALOGUE, TARGETS)
    assert not ours.requires_grad
    np.testing.assert_allclose(ours, -log_softmax(STATES)[np.arange(P), TARGETS], rtol=1e-12)
