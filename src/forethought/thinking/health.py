"""Signs that thinking has gone wrong, told while a model trains (the failure signatures of DTRec and ReaRec)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.catalogue.moments import moments
from forethought.thinking.prototypes import Prototypes

FLAT = 0.99  # mean cosine of first and last thought from which a trajectory goes nowhere
COLLAPSED = 0.9  # mean cosine of the coarsest prototypes from which they are one
EDGE = 0.05  # steps from either end that count as no choice at all
SLACK = 1.02  # entropies of targets may rise by 2% from level to level without a word


@dataclass
class Health:
    """What an epoch came to beside its losses: figures for the log, and a sentence for each thing that looks wrong."""

    figures: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@torch.no_grad()
def likeness(first_PD: Tensor, last_PD: Tensor) -> Tensor:
    """Sum over rows of the cosine of two states; near 1 each, nothing was thought between them."""
    return F.cosine_similarity(first_PD, last_PD, dim=-1).sum()


def of_trajectory(likeness: float) -> Health:
    """Whether the thoughts of an epoch went anywhere, from their mean `likeness`."""
    if likeness < FLAT:
        return Health()
    return Health(
        warnings=[
            f"First and last thought are nearly the same (mean cosine {likeness:.3f}): the steps add nothing; "
            "give the steps supervision of their own (prototype_weight, warmth or divergence_weight above 0)."
        ]
    )


def of_steps(soft_steps: float, max_steps: int) -> Health:
    """Whether the halting net chooses at all, from the mean number of steps under its weights."""
    if max_steps < 2:
        return Health()
    if soft_steps > max_steps - EDGE:
        return Health(
            warnings=[
                f"Nothing halts before the last of {max_steps} steps: lower the threshold, or give ponder_weight "
                "a value above 0."
            ]
        )
    if soft_steps < 1 + EDGE:
        return Health(
            warnings=[
                "Everything halts after the first step, so that depth adapts to nobody: later steps are no better to "
                "the halting net; raise base_weight or give ponder_weight a value above 0."
            ]
        )
    return Health()


@torch.no_grad()
def of_prototypes(prototypes: Prototypes, items_ND: Tensor, scale: float, *, bias: bool = False) -> Health:
    """Whether prototypes differ, and whether their predictions sharpen from level to level.

    Args:
        items_ND: as `ItemTable.scaled_items` has them.
        scale, bias: as in `Prototypes.as_states`.
    """
    health, before = Health(), float("inf")
    for t in range(len(prototypes.counts)):
        centres, sizes = prototypes.level(t)
        unit = F.normalize(centres[sizes > 0], dim=-1)
        n = len(unit)
        alike = float((unit.sum(0).square().sum() - n) / max(n * (n - 1), 1))  # mean cosine of all pairs
        states = prototypes.as_states(t, scale, bias=bias).to(items_ND.dtype)
        of = moments(states, items_ND)
        entropies = of.lse_P - (states * of.mean_PD).sum(-1)
        entropy = float((entropies * sizes).sum() / sizes.sum().clamp_min(1))
        health.figures |= {f"prototype_cosine_{t + 1}": alike, f"target_entropy_{t + 1}": entropy}
        if t == 0 and alike > COLLAPSED:
            health.warnings.append(
                f"The {n} prototypes of step 1 are nearly one (mean cosine {alike:.2f}): item vectors have not spread "
                "yet; lengthen warmup_epochs."
            )
        if entropy > before * SLACK:
            health.warnings.append(
                f"The prototypes of step {t + 1} say less than those of step {t} (entropy {entropy:.2f} after "
                f"{before:.2f}): the way is not from coarse to fine; lower prototype_temperature."
            )
        before = entropy
    return health


def together(*parts: Health) -> Health:
    """All figures and all sentences."""
    health = Health()
    for part in parts:
        health.figures |= part.figures
        health.warnings += part.warnings
    return health
