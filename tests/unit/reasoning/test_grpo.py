"""Rewards, advantages and the objective against loops."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch

import reference
from forethought.reasoning.grpo import advantages, grpo, reward_of


def test_rewards() -> None:
    ranks = torch.tensor([1.0, 2.0, 2.5, 9.5, 10.0, 10.5, 100.0, math.inf], dtype=torch.float64)
    assert reward_of(ranks, "recall", 10).tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    wanted = [reference.metric("ndcg", rank, 9.5) for rank in ranks.tolist()]
    assert reward_of(ranks, "ndcg", 9.5).tolist() == pytest.approx(wanted)  # type: ignore[arg-type]
    assert reward_of(ranks, "ndcg", 10)[0] == 1.0  # 1 / log2(0 + 2), counted from 0


def test_advantages() -> None:
    rewards = [[1.0, 0.0], [0.0, 0.0], [0.5, 0.0], [1.0, 0.0]]
    got = advantages(torch.tensor(rewards, dtype=torch.float64))
    for column, history in enumerate(zip(*rewards, strict=True)):
        mean, std = statistics.mean(history), statistics.stdev(history)
        assert got[:, column].tolist() == pytest.approx([(r - mean) / (std + 1e-4) for r in history])
    assert got[:, 1].tolist() == [0, 0, 0, 0]  # rollouts that did equally well teach nothing
    assert advantages(torch.zeros(4, 0)).shape == (4, 0)


def test_value_and_gradient() -> None:
    """The ratio is 1 in value; its gradient is A, that of KL is 1 - exp(ref - l)."""
    rng = np.random.default_rng(0)
    logp, reference, advantage = rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), rng.normal(size=4)
    l_TB = torch.tensor(logp, requires_grad=True)
    loss_B, kl_B = grpo(l_TB, torch.tensor(reference), torch.tensor(advantage), 0.3)
    for b in range(4):
        ahead = [reference[t, b] - logp[t, b] for t in range(3)]
        kl = [math.exp(a) - a - 1 for a in ahead]
        assert loss_B[b].item() == pytest.approx(-statistics.mean(1.0 * advantage[b] - 0.3 * each for each in kl))
        assert kl_B[b].item() == pytest.approx(statistics.mean(kl))
    loss_B.sum().backward()
    assert l_TB.grad is not None
    wanted = -(advantage - 0.3 * (1 - np.exp(reference - logp))) / 3
    np.testing.assert_allclose(l_TB.grad.numpy(), wanted, rtol=1e-12)


def test_a_policy_that_is_the_reference_diverges_by_nothing() -> None:
    l_TB = torch.randn(2, 5, requires_grad=True)
    loss_B, kl_B = grpo(l_TB, l_TB.detach(), torch.zeros(5), 1.0)
    assert kl_B.tolist() == loss_B.tolist() == [0.0] * 5
    loss_B.sum().backward()
    assert l_TB.grad is not None
    assert l_TB.grad.abs().sum() == 0
