"""Learned position vectors, counted from a row's start or from its end."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

CountFrom = Literal["start", "end"]


class Positions(nn.Module):
    """One vector for each slot of the window.

    Counted from the end, a row's last item always has the same slot, as in codes that pad on the left: the slot
    says how recent an item is, short rows train the same slots that long ones are tested on, and on Beauty NDCG@10
    is about 6% higher. Counted from the start, a position does not know how long its row is, so a state behind
    position i is that of the prefix alone, bit for bit what a row per prefix would give.
    """

    def __init__(self, window: int, width: int, count_from: CountFrom) -> None:
        super().__init__()
        self.count_from = count_from
        self.weight = nn.Parameter(torch.empty(window, width).normal_(std=0.02))

    def forward(self, lengths_B: Tensor, length: int) -> Tensor:
        """Vectors of the first `length` slots of each row, [L, D] or [B, L, D]; padding gets any."""
        if self.count_from == "start":
            return self.weight[:length]
        window = self.weight.shape[0]
        steps = torch.arange(length, device=lengths_B.device)
        return nn.functional.embedding((window - lengths_B[:, None] + steps).clamp_max(window - 1), self.weight)
