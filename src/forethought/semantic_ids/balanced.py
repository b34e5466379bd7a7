"""Principal components dealt out to blocks, so that each block holds about the same variance."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def balanced_blocks(variances_P: Tensor, blocks: int) -> Tensor:
    """Which components each block holds, int64 [M, ceil(P / M)]; -1 fills up a block.

    From the largest variance on, each goes to the block whose product of variances is the least so far (the allocation
    of optimised product quantisation, Ge et al. 2013).
    """
    room = math.ceil(len(variances_P) / blocks)
    held: list[list[int]] = [[] for _ in range(blocks)]
    weight = [0.0] * blocks
    least = float(variances_P.max()) * 1e-9 or 1.0
    logs = (variances_P.double() / least).clamp_min(1.0).log()
    for component in torch.argsort(variances_P, descending=True, stable=True).tolist():
        block = min((b for b in range(blocks) if len(held[b]) < room), key=lambda b: (weight[b], b))
        held[block].append(component)
        weight[block] += float(logs[component])
    return torch.tensor([each + [-1] * (room - len(each)) for each in held])
