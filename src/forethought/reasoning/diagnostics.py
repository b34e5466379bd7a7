"""Signs that thinking has gone wrong, told while a model trains (failure signatures of DTRec, ReaRec and IGR-SR)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.catalogue import losses
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.moments import moments
from forethought.reasoning.halting import Halting
from forethought.reasoning.halting_head import QUANTILES
from forethought.reasoning.prototypes import Prototypes

FLAT = 0.99  # mean cosine of first and last thought from which a trajectory goes nowhere
COLLAPSED = 0.9  # mean cosine of the coarsest prototypes from which they are one
EDGE = 0.05  # soft steps from either end that count as no choice at all
SAME = 0.95  # of the cases, from which they all stop at one step
SLACK = 1.02  # entropies of targets may rise by 2% from level to level without a word

DIFFUSE = 0.99  # entropy of attention over intents, as a share of ln m, from which all of them weigh alike
COPIED = 0.98  # mean cosine of intents and the encoder's own state from which they say nothing new
ALIKE = 0.95  # mean cosine of two users' states from which users are one
ONE = 0.95  # mean squared cosine of two intents, their means taken off, from which there is but one
UNLEARNED = 0.98  # of the nats of knowing nothing, from which nothing was learned
FIRST = "first_"  # before the name of a figure of a guarded stage: as it was when that began, or after its first epoch
STILL = 1e-3  # way of the prefix, as a share of its length at first, below which it has not been trained


@dataclass
class Diagnostics:
    """What an epoch came to beside its losses: figures for the log, and a sentence for each thing that looks wrong."""

    figures: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@torch.no_grad()
def mean_cosine(first_PD: Tensor, last_PD: Tensor) -> Tensor:
    """Sum over rows of the cosine of two states; near 1 each, nothing was thought between them."""
    return F.cosine_similarity(first_PD, last_PD, dim=-1).sum()


def of_trajectory(mean_cosine: float) -> Diagnostics:
    """Whether the thoughts of an epoch went anywhere, from their mean `mean_cosine`."""
    if mean_cosine < FLAT:
        return Diagnostics()
    return Diagnostics(
        warnings=[
            f"First and last thought are nearly the same (mean cosine {mean_cosine:.3f}): the steps add nothing; "
            "supervise the steps themselves (prototype_weight, temperature_scale or divergence_weight above 0)."
        ]
    )


def of_tokens(first_nats: float, size: int) -> Diagnostics:
    """Whether the heads have learned anything of tokens, from the mean cross-entropy before the first of them."""
    if first_nats < UNLEARNED * math.log(size):
        return Diagnostics()
    return Diagnostics(
        warnings=[
            f"Tokens are guessed no better than by chance ({first_nats:.2f} of ln {size:,} = {math.log(size):.2f} "
            "nats): train longer or faster, and see what forethought tokenize says of the tokens."
        ]
    )


def of_categories(nats: float, frequencies_nats: float) -> Diagnostics:
    """Whether the belief in categories tells more than how frequent they are; what is pruned by it hangs on that."""
    if nats < UNLEARNED * frequencies_nats:
        return Diagnostics()
    return Diagnostics(
        warnings=[
            f"The belief in categories is no better than their frequencies ({nats:.2f} against {frequencies_nats:.2f} "
            "nats), so that paths are pruned by nothing that is known (CORP): raise category_weight, or leave pruning "
            "out (decoding.corp=False; on the command line --decoding.no-corp)."
        ]
    )


def steps_taken(halting: Halting | None, steps_n: np.ndarray) -> dict[str, float]:
    """Figures of the steps that rows took: mean, quantiles, and the share that took as many as most; none where all do.

    Args:
        halting: how they halted; None: by a method that does not reason.
        steps_n: of n > 0 rows.
    """
    if halting is None or halting.rule in ("fixed", "soft"):
        return {}
    quantiles = np.quantile(steps_n, list(QUANTILES.values()), method="inverted_cdf")  # steps that somebody took
    named = {f"valid_steps_{name}": float(value) for name, value in zip(QUANTILES, quantiles, strict=True)}
    alike = np.unique(steps_n, return_counts=True)[1].max() / len(steps_n)
    return {"valid_steps": float(steps_n.mean()), **named, "valid_steps_alike": float(alike)}


def of_halting(figures: Mapping[str, float], halting: Halting, trained: int) -> Diagnostics:
    """Whether depth adapts to anybody: by the rule as it is set, on the validation part, or under the soft weights.

    Args:
        figures: `steps_taken` of the validation part, as the rule and its threshold have it; of a rule that takes all
            steps (soft) the mean `soft_steps` of training.
        halting: as the method is configured.
        trained: steps that it was trained to take.
    """
    first, most = halting.min_steps, halting.steps(trained)
    if most <= first or halting.rule in ("fixed", "random"):
        return Diagnostics()
    soft = figures["soft_steps"]
    edge = soft > trained - EDGE or soft < first + EDGE
    weighed = f"give ponder_weight a value above 0, as the weights of training choose nothing ({soft:.2f} soft steps)"
    if halting.rule == "soft":
        told = f"All of the weight lies on one step, so that depth adapts to nobody: {weighed}."
        return Diagnostics(warnings=[told] if edge else [])
    alike, steps = figures.get("valid_steps_alike", 0.0), figures.get("valid_steps_p50", 0.0)
    if alike < SAME:
        return Diagnostics()
    when = "before the first step" if not steps else f"after step {steps:.0f}{' (the last)' * (steps == most)}"
    ways = ["have validation choose a threshold (forethought evaluate --delta-within 0.01)"]
    if halting.rule == "arh":
        ways += ["train the halting net on what stopping is worth (forethought align)"] * (first > 0 and most > 1)
        ways += [weighed] * edge
    return Diagnostics(
        warnings=[
            f"{alike:.0%} of the validation cases stop {when} of {most} at the threshold {halting.threshold:g}, so "
            f"that depth adapts to nobody: {', or '.join(ways)}."
        ]
    )


@torch.no_grad()
def of_prototypes(
    prototypes: Prototypes, catalogue: Catalogue, temperature_scale: float = 1.0, levels: int | None = None
) -> Diagnostics:
    """Whether prototypes differ, and whether their predictions sharpen from level to level.

    Args:
        temperature_scale: as in `Prototypes.as_states`.
        levels: how many of them supervise, from the first; None: all.
    """
    diagnostics, before = Diagnostics(), float("inf")
    for t in range(len(prototypes.counts) if levels is None else levels):
        centres, sizes = prototypes.level(t)
        unit = F.normalize(centres[sizes > 0], dim=-1)
        n = len(unit)
        alike = float((unit.sum(0).square().sum() - n) / max(n * (n - 1), 1))  # mean cosine of all pairs
        states = prototypes.as_states(t, catalogue, temperature_scale)
        entropies = losses.entropy(states, moments(states, catalogue))
        entropy = float((entropies * sizes).sum() / sizes.sum().clamp_min(1))
        diagnostics.figures |= {f"prototype_cosine_{t + 1}": alike, f"target_entropy_{t + 1}": entropy}
        if t == 0 and alike > COLLAPSED:
            diagnostics.warnings.append(
                f"The {n} prototypes of step 1 are nearly one (mean cosine {alike:.2f}): item vectors have not spread "
                "yet; lengthen warmup_epochs."
            )
        if entropy > before * SLACK:
            diagnostics.warnings.append(
                f"The prototypes of step {t + 1} say less than those of step {t} (entropy {entropy:.2f} after "
                f"{before:.2f}): the way is not from coarse to fine; lower prototype_temperature."
            )
        before = entropy
    return diagnostics


def of_intents(figures: Mapping[str, float], prefix_moved: float | None) -> Diagnostics:
    """Whether intents are chosen among, say something of their own, and leave users apart.

    Args:
        figures: means over the epoch of `attention_entropy` (over intents, as a share of ln m; 0 where m is 1),
            `users_alike` (cosine of two users' states), `intent_redundancy` (squared cosine of what two intents tell
            users apart by; 0 where m is 1) and, where intents come from an encoder, `copied` (cosine of intents and
            the encoder's own state).
        prefix_moved: how far the prefix has gone since the beginning, as a share of its length then.
    """
    diagnostics = Diagnostics()
    if figures["attention_entropy"] > DIFFUSE:
        diagnostics.warnings.append(
            f"Attention over intents is nearly uniform ({figures['attention_entropy']:.3f} of ln m), as at first: "
            "no item chooses among them; if that lasts, use fewer slots or a lower mask_share."
        )
    if figures["users_alike"] > ALIKE:
        diagnostics.warnings.append(
            f"The states of users are nearly one (mean cosine {figures['users_alike']:.3f}): the contrast has "
            "collapsed; lower the consistency's mask_share or weight."
        )
    if figures["intent_redundancy"] > ONE:
        diagnostics.warnings.append(
            f"The intents of a history tell users apart by one and the same thing (mean squared cosine "
            f"{figures['intent_redundancy']:.2f}): use fewer slots, or keep them apart with a weight of distinct."
        )
    if figures.get("copied", 0.0) > COPIED:
        diagnostics.warnings.append(
            f"Intents are nearly copies of the encoder's own state (mean cosine {figures['copied']:.3f}): they add "
            "nothing to it; train longer, or try another number of prefix vectors and slots."
        )
    if prefix_moved is not None:
        diagnostics.figures["prefix_moved"] = prefix_moved
        if prefix_moved < STILL:
            diagnostics.warnings.append(
                f"The prefix has hardly moved (by {prefix_moved:.1e} of its length): it steers nothing; raise the "
                "learning_rate, or leave the prefix out."
            )
    return diagnostics


def together(*parts: Diagnostics) -> Diagnostics:
    """All figures and all sentences."""
    diagnostics = Diagnostics()
    for part in parts:
        diagnostics.figures |= part.figures
        diagnostics.warnings += part.warnings
    return diagnostics
