"""Group-relative policy optimisation: several thoughts about one history are held against each other.

Shapes: G rollouts of one history, B histories, T steps of a rollout.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Reward = Literal["recall", "ndcg"]
STEADY = 1e-4  # beside the deviation: a group of equal rewards has no advantages


def reward_of(ranks: Tensor, kind: Reward, top: int) -> Tensor:
    """1 (recall) or 1 / log2(rank + 1) (ndcg) within the first `top`, else 0; rank 1 is best."""
    gain = torch.ones_like(ranks) if kind == "recall" else 1 / (ranks + 1).log2()
    return torch.where(ranks <= top, gain, 0.0)


def advantages(rewards_GB: Tensor) -> Tensor:
    """A = (R - mean) / (std + 1e-4) over the rollouts of each history; G is 2 at least."""
    apart_GB = rewards_GB - rewards_GB.mean(0)
    std_B = (apart_GB.square().sum(0) / (len(rewards_GB) - 1)).sqrt()
    return apart_GB / (std_B + STEADY)


def grpo(logp_TB: Tensor, reference_TB: Tensor, advantage_B: Tensor, kl_weight: float) -> tuple[Tensor, Tensor]:
    """-mean_t [ratio A - beta KL], ratio = exp(l - sg l), KL = exp(l_ref - l) - (l_ref - l) - 1; and mean_t KL, [B].

    The ratio is 1 with the gradient of l: one update a rollout, so that nothing needs clipping.
    """
    ratio_TB = torch.exp(logp_TB - logp_TB.detach())
    ahead_TB = reference_TB - logp_TB
    kl_TB = ahead_TB.exp() - ahead_TB - 1
    return -(ratio_TB * advantage_B - kl_weight * kl_TB).mean(0), kl_TB.detach().mean(0)
