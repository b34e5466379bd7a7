"""Losses over drawn items, against their papers' formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.losses import cross_entropy
from forethought.catalogue.sampled import (
    Proposal,
    binary_cross_entropy,
    half_squares,
    pairwise_ranking,
    sampled_softmax,
)

P, N, M, D = 5, 12, 4, 3
RANDOM = torch.Generator().manual_seed(0)
STATES, ITEMS = (torch.randn(n, D, generator=RANDOM, dtype=torch.float64, requires_grad=True) for n in (P, N))
CATALOGUE = Catalogue(ITEMS)
SCORES = (STATES @ ITEMS.T).detach().numpy()
TARGETS = torch.tensor([0, 3, 3, 11, 7])
WEIGHTS = torch.linspace(0.2, 1.0, P, dtype=torch.float64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_sampled_softmax_with_log_q_and_an_accidental_hit() -> None:
    negatives = torch.tensor([3, 5, 5, 0, 9])
    log_q = torch.linspace(-4, -1, N, dtype=torch.float64)
    ours = sampled_softmax(STATES, CATALOGUE, TARGETS, negatives, log_q, WEIGHTS)
    expected, corrected = 0.0, SCORES - log_q.numpy()
    for row, target in enumerate(TARGETS.tolist()):
        rivals = [math.exp(corrected[row, n]) for n in negatives.tolist() if n != target]
        own = math.exp(corrected[row, target])
        expected -= WEIGHTS[row].item() * math.log(own / (own + sum(rivals)))
    assert ours.item() == pytest.approx(expected, rel=1e-12)


def test_every_item_drawn_once_is_the_full_softmax() -> None:
    uniform = torch.full((N,), -math.log(N), dtype=torch.float64)
    ours = sampled_softmax(STATES, CATALOGUE, TARGETS, torch.arange(N), uniform, WEIGHTS)
    assert ours.item() == pytest.approx(cross_entropy(STATES, CATALOGUE, TARGETS, WEIGHTS).item(), rel=1e-12)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_corrected_draws_estimate_the_whole_sum_without_bias(power: float) -> None:
    """E_q[exp(s - log q)] = sum_i exp(s_i): a correction that is not of the q really drawn from misses it by far."""
    proposal = Proposal(torch.arange(N) ** 2 + 1, power)
    drawn = proposal.draw((400_000,), torch.Generator().manual_seed(1)).numpy()
    terms = np.exp(SCORES[:, drawn] - proposal.log_q_N.numpy()[drawn])
    whole = np.exp(SCORES).sum(1)
    standard_error = terms.std(1) / math.sqrt(len(drawn))
    assert (abs(terms.mean(1) - whole) < 4 * standard_error).all()
    assert (standard_error < 0.01 * whole).all()


@pytest.mark.parametrize("proposal", ["uniform", "popularity", "other"])
def test_at_the_true_scores_the_expected_gradient_is_zero(proposal: str) -> None:
    """Targets from p, one negative from q: with the correction s = log p is where the loss is least, for any q."""
    p = torch.softmax(torch.linspace(-2, 1, N, dtype=torch.float64), dim=0)
    q = {"uniform": torch.full_like(p, 1 / N), "popularity": p, "other": p.flip(0)}[proposal]
    items = p.log()[:, None].requires_grad_()
    gradient = torch.zeros(N, 1, dtype=torch.float64)
    for target in range(N):
        for negative in range(N):
            one, chance = torch.ones(1, 1, dtype=torch.float64), p[target] * q[negative]
            drawn = torch.tensor([target]), torch.tensor([negative])
            gradient += torch.autograd.grad(
                sampled_softmax(one, Catalogue(items), *drawn, q.log(), chance[None]), items
            )[0]
    assert gradient.abs().max() < 1e-15


def test_only_accidental_hits_leave_a_loss_and_gradients_of_zero() -> None:
    ours = sampled_softmax(STATES[1:3], CATALOGUE, TARGETS[1:3], torch.tensor([3, 3]), torch.zeros(N), WEIGHTS[1:3])
    gradients = torch.autograd.grad(ours, (STATES, ITEMS))
    assert ours.item() == 0
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("calibration", [0.0, 0.75, 1.0])
def test_gbce(calibration: float) -> None:
    negatives = torch.randint(N, (P, M), generator=torch.Generator().manual_seed(1))
    ours = binary_cross_entropy(STATES, CATALOGUE, TARGETS, negatives, WEIGHTS, calibration=calibration)
    rate = M / (N - 1)
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    expected = 0.0
    for row, target in enumerate(TARGETS.tolist()):
        terms = [beta * math.log(sigmoid(SCORES[row, target]))]
        terms += [math.log(1 - sigmoid(SCORES[row, n])) for n in negatives[row].tolist()]
        expected -= WEIGHTS[row].item() * sum(terms) / (M + 1)
    assert ours.item() == pytest.approx(expected, rel=1e-12)


def test_gbce_survives_huge_scores_in_float32() -> None:
    states = torch.tensor([[300.0], [-300.0]], requires_grad=True)
    items = torch.ones(4, 1, requires_grad=True)
    every, ones = torch.tensor([[1, 2], [3, 1]]), torch.ones(2)
    loss = binary_cross_entropy(states, Catalogue(items), torch.tensor([0, 0]), every, ones, calibration=0.75)
    loss.backward()
    beta = 2 / 3 * (0.75 * (1 - 3 / 2) + 3 / 2)
    assert loss.item() == pytest.approx((600 + beta * 300) / 3, rel=1e-6)
    assert isinstance(states.grad, Tensor)
    assert states.grad.isfinite().all()


def test_bpr_holds_the_target_against_each_negative() -> None:
    """With a bias, at a temperature; a hit counts as any other pair: log 2, and no gradient."""
    bias = torch.linspace(-1, 1, N, dtype=torch.float64)
    of, negatives = Catalogue(ITEMS, bias, temperature=0.4), torch.tensor([[3, 1], [3, 9], [0, 0], [2, 4], [5, 6]])
    ours = pairwise_ranking(of.scaled(STATES), of, TARGETS, negatives, WEIGHTS)
    logits, expected = SCORES / 0.4 + bias.numpy(), 0.0
    for row, target in enumerate(TARGETS.tolist()):
        terms = [math.log(sigmoid(logits[row, target] - logits[row, n])) for n in negatives[row].tolist()]
        expected -= WEIGHTS[row].item() * sum(terms) / 2
    assert ours.item() == pytest.approx(expected, rel=1e-12)
    shifted = pairwise_ranking(of.scaled(STATES), Catalogue(ITEMS, bias + 9, 0.4), TARGETS, negatives, WEIGHTS)
    assert shifted.item() == pytest.approx(expected, rel=1e-12)


def test_squares_are_of_the_state_and_of_all_that_it_is_held_against() -> None:
    negatives = torch.tensor([[3, 1], [3, 9], [0, 0], [2, 4], [5, 6]])
    ours = half_squares(STATES, Catalogue(ITEMS, temperature=0.4), TARGETS, negatives, WEIGHTS)
    states, items, expected = STATES.tolist(), ITEMS.tolist(), 0.0
    for row, target in enumerate(TARGETS.tolist()):
        met = [states[row], items[target], *(items[n] for n in negatives[row].tolist())]
        expected += WEIGHTS[row].item() * sum(x * x for vector in met for x in vector) / 2
    assert ours.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_draws_follow_the_stated_chances(power: float) -> None:
    counts = torch.tensor([0, 1, 4, 20, 100, 3])
    sampler = Proposal(counts, power)
    weights = np.maximum(counts.numpy(), 1.0) ** power
    np.testing.assert_allclose(sampler.log_q_N.exp(), weights / weights.sum(), rtol=1e-6)
    drawn = sampler.draw((200, 300), torch.Generator().manual_seed(0))
    shares = np.bincount(drawn.flatten(), minlength=6) / drawn.numel()
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.005)
