"""Group-relative policy optimisation (GRPO): several rollouts of one history are held against each other.

    A = (R - mean over the group) * scale                            advantages
    L = -mean [ min(rho A, clip(rho, 1 - e_low, 1 + e_high) A) - beta KL(pi || ref) ],   rho = pi / pi_old

The group's mean holds a rollout's own reward too, which shortens the gradient of the expected reward to (G - 1) / G of
itself; times G / (G - 1) it is held against the mean of the others (leave one out), and exact. Divided by the group's
standard deviation it is another one: histories whose rollouts differ little count for more. KL is a sum over all that
could be chosen, where that can be listed as tokens of a codebook can, and estimated from what was chosen elsewhere.

Formulas after arXiv 2402.03300 (GRPO) and 2503.20783 (its biases).
Shapes: G rollouts of one history, B histories, T steps of a rollout, C choices at a step.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Reward = Literal["recall", "ndcg"]
Scale = Literal["none", "group", "batch"]
KL = Literal["exact", "k1", "k3"]
STEADY = 1e-4  # beside the deviation: a group of equal rewards has no advantages


def reward_of(ranks: Tensor, kind: Reward, top: int) -> Tensor:
    """1 (recall) or 1 / log2(rank + 1) (ndcg) within the first `top`, else 0; rank 1 is best."""
    gain = torch.ones_like(ranks) if kind == "recall" else 1 / (ranks + 1).log2()
    return torch.where(ranks <= top, gain, 0.0)


def advantages(rewards_GB: Tensor, scale: Scale = "group", *, leave_one_out: bool = False) -> Tensor:
    """A of each rollout; G, the first axis, is 2 at least. Further axes, such as steps, stand for themselves.

    Args:
        scale: what is divided by: nothing, the standard deviation of each group, or that of the whole batch, + 1e-4.
        leave_one_out: hold each rollout against the others alone.
    """
    G = len(rewards_GB)
    apart_GB = rewards_GB - rewards_GB.mean(0)
    if leave_one_out:
        apart_GB = apart_GB * (G / (G - 1))
    if scale == "none":
        return apart_GB
    if scale == "batch":
        return apart_GB / (rewards_GB.std() + STEADY)
    std_B = ((rewards_GB - rewards_GB.mean(0)).square().sum(0) / (G - 1)).sqrt()
    return apart_GB / (std_B + STEADY)


class Clipped(NamedTuple):
    """The objective of each choice, and whether the clip left it without a gradient."""

    gain: Tensor
    clipped: Tensor


def clipped_gain(logp: Tensor, old: Tensor, advantage: Tensor, low: float, high: float) -> Clipped:
    """min(rho A, clip(rho, 1 - low, 1 + high) A), and where the bound is what counts; all of one shape."""
    ratio = (logp - old).exp()
    free, bound = ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage
    return Clipped(torch.minimum(free, bound), (bound < free).detach())


def exact_kl(log_probs_XC: Tensor, reference_XC: Tensor) -> Tensor:
    """sum_c pi (ln pi - ln ref), [X]; a choice that is impossible in both counts for nothing."""
    apart_XC = (log_probs_XC - reference_XC).masked_fill(log_probs_XC == -torch.inf, 0.0)
    return (log_probs_XC.exp() * apart_XC).sum(-1)


def estimated_kl(logp: Tensor, reference: Tensor, kind: KL) -> Tensor:
    """KL of the choices that were made: k1, ln pi - ln ref; k3, exp(d) - d - 1 with d = ln ref - ln pi.

    On average over pi both are KL(pi || ref). The gradient of k3 is that of KL(ref || pi) instead.
    """
    if kind == "k1":
        return logp - reference
    ahead = reference - logp
    return ahead.exp() - ahead - 1


def grpo(logp_TB: Tensor, reference_TB: Tensor, advantage_B: Tensor, kl_weight: float) -> tuple[Tensor, Tensor]:
    """-mean_t [ratio A - beta KL], ratio = exp(l - sg l), KL = k3; and mean_t KL, [B].

    The ratio is 1 with the gradient of l: one update a rollout, so that nothing needs clipping.
    """
    ratio_TB = torch.exp(logp_TB - logp_TB.detach())
    kl_TB = estimated_kl(logp_TB, reference_TB, "k3")
    return -(ratio_TB * advantage_B - kl_weight * kl_TB).mean(0), kl_TB.detach().mean(0)
