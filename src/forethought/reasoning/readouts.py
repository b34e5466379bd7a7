"""What recommends after a step of a chain: what is read after it, or the scores of all steps taken.

Shapes: P rows still under way, B rows, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from forethought.catalogue.catalogue import Catalogue

Readout = Literal["mean", "last", "weighted"]


@dataclass
class OwnStates:
    """What recommends after a step is what is read after it."""

    catalogue: Catalogue

    def begin(self, read_PD: Tensor) -> Tensor:
        return read_PD.clone()

    def after(self, step: int, read_PD: Tensor, halts_P: Tensor | None) -> Tensor:
        return read_PD

    def keep(self, rows: Tensor) -> None:
        """Of these rows alone."""

    def comparable(self, final_BD: Tensor) -> Tensor:
        return self.catalogue.comparable(final_BD)


@dataclass
class WeightedStates:
    """What recommends are the scores of all steps taken: sum_j w_j r_j / sum_j w_j, w of eq. 9."""

    catalogue: Catalogue
    last: int

    def begin(self, read_PD: Tensor) -> Tensor:
        first_PD = self.catalogue.comparable(read_PD)
        self.sum_PD, self.left_P = torch.zeros_like(first_PD), first_PD.new_ones(first_PD.shape[0])
        return first_PD.clone()

    def after(self, step: int, read_PD: Tensor, halts_P: Tensor | None) -> Tensor:
        """What is left goes to the last step."""
        w_P = self.left_P if step == self.last or halts_P is None else self.left_P * halts_P
        self.left_P = self.left_P - w_P
        self.sum_PD = self.sum_PD + w_P[:, None] * self.catalogue.comparable(read_PD)
        return self.sum_PD / (1 - self.left_P).clamp_min(torch.finfo(w_P.dtype).tiny)[:, None]

    def keep(self, rows: Tensor) -> None:
        self.sum_PD, self.left_P = self.sum_PD[rows], self.left_P[rows]

    def comparable(self, final_BD: Tensor) -> Tensor:
        return final_BD
