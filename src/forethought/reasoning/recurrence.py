"""Recurrent depth: one block of layers, applied again and again to the states of all tokens (LARES, arXiv 2505.16865).

    T_0 = omega z        T_i = C(LN(f(T_{i-1}, H)))        i = 1..k

H is what a history was read into, once; the core C has the same weights at every step. A causal core keeps every
position's state that of its prefix, so that all positions of a history think at once.

Shapes: B rows, L history, D width, T steps.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from forethought.nn.transformer import NORM_EPSILON, Transformer

Combine = Literal["add", "concat", "linear"]
StateInit = Literal["normal_zero", "normal"]

SPREAD = 0.5  # of the log-normal rate of the depth
CUT = 3.0  # of z, in standard deviations; and of the depth, in mean recurrences


def draw_depth(mean_recurrence: int) -> int:
    """k = min(1 + Poisson(lambda), 3 m), lambda ~ LogNormal(ln m - 0.125, 0.5), whose mean is m (eq. 7)."""
    rate = torch.exp(math.log(mean_recurrence) - SPREAD**2 / 2 + SPREAD * torch.randn(()))
    return min(1 + int(torch.poisson(rate)), int(CUT) * mean_recurrence)


def draw_start(like: Tensor, scale: float, sigma: float) -> Tensor:
    """T_0 = omega z, z ~ N(0, sigma^2) cut at 3 sigma (eq. 1), of the shape and type of `like`."""
    z = nn.init.trunc_normal_(torch.empty_like(like, requires_grad=False), std=sigma, a=-CUT * sigma, b=CUT * sigma)
    return scale * z


class Recurrence(nn.Module):
    """A step T -> C(LN(f(T, H))), the same at every depth (eq. 2)."""

    def __init__(self, core: Transformer, width: int, combine: Combine, *, norm_epsilon: float = NORM_EPSILON) -> None:
        super().__init__()
        self.combine: Combine = combine
        self.core, self.norm = core, nn.LayerNorm(width, eps=norm_epsilon)
        self.join = nn.Linear(2 * width, width) if combine == "concat" else None
        self.gate = nn.Parameter(torch.zeros(())) if combine == "linear" else None

    def forward(self, T_BLD: Tensor, H_BLD: Tensor, lengths_B: Tensor, *, last_only: bool = False) -> Tensor:
        """T_i from T_{i-1}; with `last_only` [B, 1, D], behind each row's last position."""
        mixed = self.norm(self._mix(T_BLD, H_BLD))
        return self.core(mixed, lengths_B, last_only=last_only)[0]

    def _mix(self, T: Tensor, H: Tensor) -> Tensor:
        """f: (T + H) / 2, W [T; H] + b, or g T + (1 - g) H."""
        if self.join is not None:
            return self.join(torch.cat([T, H], dim=-1))
        if self.gate is not None:
            return torch.lerp(H, T, self.gate.sigmoid())
        return (T + H) / 2

    def trajectory(self, T_BLD: Tensor, H_BLD: Tensor, lengths_B: Tensor, steps: int) -> list[Tensor]:
        """T_0 .. T_k, [B, L, D] each."""
        states = [T_BLD]
        for _ in range(steps):
            states.append(self(states[-1], H_BLD, lengths_B))
        return states
