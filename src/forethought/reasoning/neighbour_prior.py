"""A prior of neighbours over what each latent step predicts (ManCAR, Yang et al., 2026, arXiv 2602.20093).

    q_t(c) ~ exp(-rank(c) / g_t)    on the item that follows (rank 0) and the K neighbours of the last item (1 .. K)
    g_t = spread (T + 1 - t)        t = 0 .. T: wide at first, and narrow at the last step

A loss that adds weight * mean_t KL(q_t || p_t) keeps the steps near what the crowd does after the same item, and lets
them close in on the answer. q_t is a soft target over few items, so the sum costs no product beyond the cross-entropy's
own: both are one cross-entropy with a mixed target, less the entropy of q_t, which is constant.

Ranks and g_t are as in the authors' code. It sums the divergences over steps, at a temperature of their own, where this
takes their mean at that of the cross-entropy. It counts neighbours by Swing, here they are those of
`data/neighbours.py`; it feeds neighbours in before the history too and rescales thoughts to the length of items,
neither of which is here: one pass reads all prefixes of a history, and `input_norm` scales what is fed in.

Shapes: R pairs of a step and a position, K neighbours, T steps, N items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from forethought.catalogue.losses import FewTargets
from forethought.errors import ConfigError
from forethought.settings import Between, Scale, Settings, Weight


@dataclass(frozen=True, kw_only=True)
class NeighbourPrior(Settings):
    """Configuration: how strongly the neighbours of a history's last item draw the steps to themselves."""

    weight: Weight = 0.0
    """Of the mean divergence over all steps, beside the last step's cross-entropy of weight 1; 0: no prior."""
    neighbours: Annotated[int, Between(1, 1_000)] = 10
    """K, items that users of the training part met near the last one, the nearest first."""
    spread: Scale = 1.0
    """g of the last step, in ranks; a step earlier it is as much more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.weight and (self.neighbours, self.spread) != (type(self).neighbours, type(self).spread):
            raise ConfigError(
                "The prior of neighbours weighs nothing, so its other settings would do nothing: give it a weight (on "
                "the command line --prior.weight), or leave them out."
            )


class PriorTargets:
    """The soft targets q_t of a training part."""

    def __init__(self, config: NeighbourPrior, items_NK: Tensor, values_NK: Tensor, steps: int) -> None:
        """
        Args:
            items_NK: the neighbours of each item, the nearest first; more than are asked for do no harm.
            values_NK: how near each is; 0 where there is none.
            steps: T.
        """
        self.spread, self.steps = config.spread, steps
        self.items_NK = items_NK[:, : config.neighbours].long()
        self.there_NK = values_NK[:, : config.neighbours] > 0

    def of(self, step_R: Tensor, last_R: Tensor, targets_R: Tensor, weight_R1: Tensor) -> FewTargets:
        """q_t of some steps t behind the items `last_R`, to be mixed with the items that follow by `weight_R1`."""
        there_RC = torch.cat([torch.ones_like(targets_R[:, None], dtype=torch.bool), self.there_NK[last_R]], dim=1)
        rank_C = torch.arange(there_RC.shape[1], dtype=weight_R1.dtype, device=there_RC.device)
        g_R1 = self.spread * (self.steps + 1 - step_R)[:, None]
        logits_RC = (-rank_C / g_R1).masked_fill(~there_RC, -torch.inf)
        items_RC = torch.cat([targets_R[:, None], self.items_NK[last_R]], dim=1)
        return FewTargets(items_RC, logits_RC.softmax(-1), weight_R1)
