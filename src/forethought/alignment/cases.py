"""The cases of a batch of rows: histories that choices are made for, and what followed them."""

from __future__ import annotations

import torch
from torch import Tensor

from forethought.data.batches import Batch
from forethought.reasoning.policy import Future


def drawn_cases(batch: Batch, horizon: int, *, last: bool) -> tuple[Batch, Future, Tensor]:
    """A random prefix of each row, or all of it; the items that follow inside the row; the row's share of positions."""
    assert batch.targets_BL is not None
    device = batch.lengths_B.device
    drawn_B = (
        torch.ones(len(batch.lengths_B), device=device) if last else torch.rand(len(batch.lengths_B), device=device)
    )
    last_B = (drawn_B * batch.lengths_B).long().clamp_max(batch.lengths_B - 1)
    at_BH = last_B[:, None] + torch.arange(horizon, device=device)
    real_BH = at_BH < batch.lengths_B[:, None]
    at_BH = torch.where(real_BH, at_BH, last_B[:, None])
    case = Batch(batch.items_BL, last_B + 1, times_BL=batch.times_BL, users_B=batch.users_B)
    return case, Future(batch.targets_BL.gather(1, at_BH), real_BH), batch.lengths_B / batch.weight
