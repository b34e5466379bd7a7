"""Which items of a row are hidden while a backbone that looks both ways learns to name them (BERT4Rec)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class MaskSampler(NamedTuple):
    """Some items anywhere in a row, or in a share of rows its last item alone, as it is when one recommends."""

    mask_share: float = 0.4
    last_item_share: float = 0.2

    def draw(self, lengths_B: Tensor, slots: int) -> Tensor:
        """[B, N]: True where an item is hidden."""
        at_N = torch.arange(slots, device=lengths_B.device)
        draws_BN = torch.rand(len(lengths_B), slots, device=lengths_B.device)
        draws_BN = draws_BN.masked_fill(at_N >= lengths_B[:, None], 2.0)  # padding is drawn last
        anywhere_BN = draws_BN.argsort(dim=1).argsort(dim=1) < self._masks(lengths_B)[:, None]
        only_last_B = torch.rand(len(lengths_B), device=lengths_B.device) < self.last_item_share
        return torch.where(only_last_B[:, None], at_N == lengths_B[:, None] - 1, anywhere_BN)

    def expected(self, lengths_B: Tensor) -> Tensor:
        """Hidden items of each row on average."""
        return (1 - self.last_item_share) * self._masks(lengths_B) + self.last_item_share

    def _masks(self, lengths_B: Tensor) -> Tensor:
        """max(1, round(rho n)): the same number in every drawing, and never none."""
        return (self.mask_share * lengths_B.double()).round().clamp_min(1)
