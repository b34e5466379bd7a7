"""Wrongly read indicators: what a halting rule meets where its instruments are noisy, shifted or of the wrong scale.

Everything is in units of each indicator's own standard deviation, so that rules that read different ones meet the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from forethought.settings import Number, Settings, Weight


@dataclass(frozen=True, kw_only=True)
class IndicatorNoise(Settings):
    """Errors in reading the indicators of halting: z' = (1 + scale) z + bias + std N(0, 1), z standardised."""

    std: Weight = 0.0
    """Standard deviation of Gaussian noise, drawn for each row, step and indicator."""
    bias: Number = 0.0
    """What is added to each."""
    scale: Number = 0.0
    """How much further from its mean each is read, as a share; -1: all are read as their means."""

    @property
    def silent(self) -> bool:
        """Whether everything is read as it is."""
        return self == IndicatorNoise()

    def applied(self, features: Tensor, mean_3: Tensor, deviation_3: Tensor) -> Tensor:
        """Indicators [..., 3] as they are read; what is unknown (NaN) stays so."""
        wrong = self.scale * (features - mean_3) + self.bias * deviation_3
        if self.std:
            wrong = wrong + self.std * deviation_3 * torch.randn_like(features)
        return features + wrong.to(features.dtype)
