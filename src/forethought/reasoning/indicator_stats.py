"""The softmax that halting reads: of all items, of prototypes that stand for them, or of how items spread around these.

Shapes: S steps, P positions, D width of what is compared.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.moments import moments
from forethought.reasoning.halting import SoftmaxStats, softmax_stats
from forethought.reasoning.prototypes import Prototypes
from forethought.reasoning.spread import Spread


@dataclass(frozen=True)
class IndicatorStats:
    """What makes them of scaled states.

    Attributes:
        prototypes, level: those that stand for the items; with `exact` nothing does.
        spread: how items spread around them; None: all lie where their prototype does.
    """

    prototypes: Prototypes
    level: int
    spread: Spread | None
    exact: bool

    def __call__(self, r_PD: Tensor, last_P: Tensor, catalogue: Catalogue) -> SoftmaxStats:
        """For scaled states whose histories end with these items; two products over what is looked at."""
        if self.exact:
            return softmax_stats(r_PD, catalogue)
        if self.spread is not None:
            return self.spread.stats(r_PD, last_P, catalogue)
        centres, sizes = self.prototypes.level(self.level)
        return softmax_stats(r_PD, Catalogue(centres.to(r_PD.dtype)), sizes)

    def of_steps(
        self, r_SPD: Tensor, last_P: Tensor, catalogue: Catalogue, *, gradients: bool
    ) -> tuple[list[SoftmaxStats], Tensor | None]:
        """Of every step, and the lse of every state [S, P] where exact ones have made it for all.

        Args:
            gradients: whether that lse has them; the stats have none.
        """
        if not self.exact:
            return [self(r.detach(), last_P, catalogue) for r in r_SPD], None
        with nullcontext() if gradients else torch.no_grad():
            of = moments(r_SPD.flatten(0, 1), catalogue)
        lse_SP = of.lse_P.view(r_SPD.shape[:2])
        parts = (part.detach() for part in (r_SPD, lse_SP, of.mean_PD.view_as(r_SPD)))
        return [SoftmaxStats(*each) for each in zip(*parts, strict=True)], lse_SP
