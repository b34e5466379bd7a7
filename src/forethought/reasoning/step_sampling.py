"""Which steps of which positions are trained: all of them, or one of each position.

A loss that sums over steps, L = sum_p sum_s w_sp l_sp, takes a walk over the catalogue for each step. One step a
position, drawn with probability w_sp / sum_s w_sp and counted by its inverse, gives the same loss and gradients on
average for a single walk.

Shapes: S steps, P positions, R pairs of both.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class SampledSteps(NamedTuple):
    """Pairs of a step and a position, and the factor that each counts by."""

    step_R: Tensor
    row_R: Tensor
    scale_R: Tensor


def sample_steps(weights_SP: Tensor, *, draw: bool) -> SampledSteps:
    """Every pair, step after step; or with `draw` one step of each position, drawn by its weight."""
    S, P = weights_SP.shape
    rows = torch.arange(P, device=weights_SP.device)
    if not draw:
        return SampledSteps(
            rows.new_tensor(range(S)).repeat_interleave(P), rows.repeat(S), torch.ones_like(weights_SP).flatten()
        )
    share_PS = (weights_SP / weights_SP.sum(0)).detach().T
    steps = torch.multinomial(share_PS, 1)[:, 0] if P else rows
    return SampledSteps(steps, rows, 1 / share_PS[rows, steps])
