"""Rewards, advantages and the objective against loops."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
import torch

import reference
from forethought.reasoning.grpo import advantages, clipped_gain, estimated_kl, exact_kl, grpo, reward_of


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


# ---- GRPO on problems that can be enumerated

REWARDS_C = torch.tensor([1.0, 0.2, 0.0, 0.6], dtype=torch.float64)
LOGITS_C = torch.tensor([0.3, -0.4, 0.9, 0.1], dtype=torch.float64)


def bandit_gradient(G: int, **how: object) -> torch.Tensor:
    """The expected gradient of the objective over all groups of G choices of a bandit."""
    logits_C = LOGITS_C.clone().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for choices in itertools.product(range(4), repeat=G):
        at_G = torch.tensor(choices)
        log_p_C = logits_C.log_softmax(0)
        chance = log_p_C.detach()[at_G].sum().exp()
        apart_G = advantages(REWARDS_C[at_G][:, None], **how)[:, 0]  # type: ignore[arg-type]
        gain = clipped_gain(log_p_C[at_G], log_p_C.detach()[at_G], apart_G, 0.2, 0.28).gain
        total = total + chance * gain.mean()
    return torch.autograd.grad(total, logits_C)[0]


def policy_gradient() -> torch.Tensor:
    logits_C = LOGITS_C.clone().requires_grad_()
    return torch.autograd.grad((logits_C.softmax(0) * REWARDS_C).sum(), logits_C)[0]


def test_the_group_mean_shortens_the_gradient_and_leaving_oneself_out_does_not() -> None:
    exact, G = policy_gradient(), 3
    torch.testing.assert_close(bandit_gradient(G, scale="none"), exact * (G - 1) / G, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(bandit_gradient(G, scale="none", leave_one_out=True), exact, rtol=1e-12, atol=1e-14)


def test_dividing_by_a_group_s_deviation_is_another_gradient() -> None:
    cosine = torch.cosine_similarity(bandit_gradient(3, scale="group"), policy_gradient(), dim=0)
    assert 0.9 < cosine < 0.9999


def test_scales() -> None:
    rewards_GB = torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    apart_GB = rewards_GB - rewards_GB.mean(0)
    torch.testing.assert_close(advantages(rewards_GB, "none"), apart_GB)
    torch.testing.assert_close(advantages(rewards_GB, "batch"), apart_GB / (rewards_GB.std() + 1e-4))
    torch.testing.assert_close(advantages(rewards_GB, "group"), apart_GB / (rewards_GB.std(0) + 1e-4))
    for scale in ("none", "batch", "group"):
        others_GB = advantages(rewards_GB, scale, leave_one_out=True)  # type: ignore[arg-type]
        torch.testing.assert_close(others_GB, advantages(rewards_GB, scale) * 1.5)  # type: ignore[arg-type]
        mixed_GB = advantages(rewards_GB[[2, 0, 1]], scale)  # type: ignore[arg-type]
        torch.testing.assert_close(mixed_GB, advantages(rewards_GB, scale)[[2, 0, 1]])  # type: ignore[arg-type]
    left_out = rewards_GB[0, 0] - rewards_GB[1:, 0].mean()
    assert float(advantages(rewards_GB, "none", leave_one_out=True)[0, 0]) == pytest.approx(float(left_out))


def test_the_clip_takes_the_gradient_beyond_its_bounds_and_nowhere_else() -> None:
    for ratio, advantage, kept in [(1.3, 1.0, 0), (0.7, -1.0, 0), (1.3, -1.0, 1), (0.7, 1.0, 1), (0.9, 1.0, 1)]:
        logp = torch.tensor(math.log(ratio), dtype=torch.float64, requires_grad=True)
        made = clipped_gain(logp, torch.zeros((), dtype=torch.float64), torch.tensor(advantage), 0.2, 0.28)
        (gradient,) = torch.autograd.grad(made.gain, logp)
        assert float(gradient) == pytest.approx(ratio * advantage * kept), (ratio, advantage)
        assert bool(made.clipped) == (not kept)
    inside = torch.tensor(math.log(1.25), dtype=torch.float64, requires_grad=True)  # the upper bound is a wider one
    assert not clipped_gain(inside, torch.zeros((), dtype=torch.float64), torch.tensor(1.0), 0.2, 0.28).clipped


def test_estimates_of_kl_are_right_on_average_and_k3_pulls_elsewhere() -> None:
    logits_C = LOGITS_C.clone().requires_grad_()
    reference_C = torch.tensor([0.5, 0.2, -1.0, 0.4], dtype=torch.float64).log_softmax(0)
    log_p_C = logits_C.log_softmax(0)
    exact = exact_kl(log_p_C[None], reference_C[None])[0]
    pairs = zip(log_p_C.exp().tolist(), reference_C.tolist(), strict=True)
    assert float(exact.detach()) == pytest.approx(sum(p * (math.log(p) - q) for p, q in pairs))
    for kind in ("k1", "k3"):
        mean = (log_p_C.exp() * estimated_kl(log_p_C, reference_C, kind)).sum()  # type: ignore[arg-type]
        assert float(mean.detach()) == pytest.approx(float(exact.detach()))
    fixed_C = log_p_C.detach().exp()  # as an average over what was drawn sees it
    (pull,) = torch.autograd.grad((fixed_C * estimated_kl(log_p_C, reference_C, "k3")).sum(), logits_C)
    again_C = LOGITS_C.clone().requires_grad_()
    reverse = exact_kl(reference_C[None], again_C.log_softmax(0)[None])[0]
    torch.testing.assert_close(pull, torch.autograd.grad(reverse, again_C)[0])


def test_choices_that_are_impossible_in_both_count_for_nothing() -> None:
    log_p = torch.tensor([[0.0, -1.0, -torch.inf]]).log_softmax(-1)
    reference = torch.tensor([[0.5, -1.0, -torch.inf]]).log_softmax(-1)
    assert float(exact_kl(log_p, log_p)) == 0.0
    assert float(exact_kl(log_p, reference)) == pytest.approx(float(exact_kl(log_p[:, :2], reference[:, :2])))


def test_the_fixed_point_is_the_reference_times_exp_of_the_reward() -> None:
    """At ref * exp(r / beta) the expected gradient is nil, with leave-one-out and the exact KL, and only there."""
    beta, G = 0.5, 3
    reference_C = LOGITS_C.log_softmax(0)
    gibbs_C = (reference_C + REWARDS_C / beta).log_softmax(0)

    def gradient(start_C: torch.Tensor) -> torch.Tensor:
        logits_C = start_C.clone().requires_grad_()
        total = torch.zeros((), dtype=torch.float64)
        for choices in itertools.product(range(4), repeat=G):
            at_G = torch.tensor(choices)
            log_p_C = logits_C.log_softmax(0)
            apart_G = advantages(REWARDS_C[at_G][:, None], "none", leave_one_out=True)[:, 0]
            gain = clipped_gain(log_p_C[at_G], log_p_C.detach()[at_G], apart_G, 0.2, 0.28).gain
            total = total + log_p_C.detach()[at_G].sum().exp() * gain.mean()
        total = total - beta * exact_kl(logits_C.log_softmax(0)[None], reference_C[None])[0]
        return torch.autograd.grad(total, logits_C)[0]

    assert gradient(gibbs_C).abs().max() < 1e-14
    assert gradient(reference_C).abs().max() > 0.01


def test_two_steps_with_what_is_to_come() -> None:
    """Reward to go per step is the policy gradient of a process of two choices, enumerated."""
    first_C, second_CC = torch.tensor([0.2, -0.1]), torch.tensor([[0.5, 0.0], [-0.3, 0.4]])
    first_C, second_CC = first_C.double().requires_grad_(), second_CC.double().requires_grad_()
    early_C, late_CC = torch.tensor([0.3, 0.0]).double(), torch.tensor([[0.0, 1.0], [0.2, 0.6]]).double()
    paths = list(itertools.product(range(2), repeat=2))

    def logs(a: int, b: int) -> torch.Tensor:
        return torch.stack([first_C.log_softmax(0)[a], second_CC.log_softmax(1)[a, b]])

    exact = sum(logs(a, b).sum().exp() * (early_C[a] + late_CC[a, b]) for a, b in paths)
    wanted = torch.autograd.grad(exact, (first_C, second_CC))  # type: ignore[arg-type]
    total = torch.zeros((), dtype=torch.float64)
    for pair in itertools.product(paths, repeat=2):  # groups of two
        now_GT = torch.stack([logs(*path) for path in pair])
        rewards_GT = torch.tensor([[float(early_C[a]), float(late_CC[a, b])] for a, b in pair]).double()
        go_GT = rewards_GT.flip(1).cumsum(1).flip(1)
        apart_GT = advantages(go_GT, "none", leave_one_out=True)
        gain = clipped_gain(now_GT, now_GT.detach(), apart_GT, 0.2, 0.28).gain.sum(1).mean()
        total = total + now_GT.detach().sum().exp() * gain
    for got, want in zip(torch.autograd.grad(total, (first_C, second_CC)), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-14)
