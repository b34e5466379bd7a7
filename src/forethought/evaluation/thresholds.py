"""A halting threshold that the validation part chooses: as few steps as keep the quality of all of them.

    delta = argmin_d mean steps(d)   such that   NDCG@10(d) >= (1 - tolerance) NDCG@10(all steps)

over quantiles of what the rule compares on that part, and a threshold at which nobody stops early. One threshold serves
all rows; what it saves has to be measured on other cases than those that chose it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from forethought.data.batches import history_batch
from forethought.data.histories import Cases
from forethought.errors import ConfigError, DataError
from forethought.evaluation.metrics import ndcg
from forethought.evaluation.ranking import rank_cases
from forethought.methods.interface import Method, dense_states
from forethought.reasoning.halting import ABOVE, INDICATORS, READS, Halting, Trace
from forethought.settings import ShareBelowOne, check

TRACED = 5000  # cases whose indicators are kept at once
CANDIDATES = 16  # thresholds that are tried


@dataclass(frozen=True)
class FittedThreshold:
    """What the validation part chose, and by what.

    Attributes:
        halting: the rule with its threshold.
        steps, ndcg: mean steps and NDCG@10 with it.
        all_steps, all_ndcg: with all steps.
        tolerance: share of NDCG@10 that was allowed to be lost.
    """

    halting: Halting
    steps: float
    ndcg: float
    all_steps: float
    all_ndcg: float
    tolerance: float

    def __str__(self) -> str:
        return (
            f"On the validation part {self.halting.rule} needs {self.steps:.2f} steps of {self.all_steps:.0f} at the "
            f"threshold {self.halting.threshold:.4g} to keep NDCG@10 within {self.tolerance:.1%} of all steps' "
            f"({self.ndcg:.4f} against {self.all_ndcg:.4f})."
        )


def fit_threshold(
    method: Method,
    cases: Cases,
    *,
    exclude_history: bool,
    halting: Halting | None = None,
    tolerance: float = 0.01,
    batch: int = 1024,
) -> FittedThreshold:
    """The threshold of a rule at which these cases take the fewest steps and lose no more than a share of NDCG@10.

    Args:
        cases: of the validation part.
        halting: the rule, its depth and what else it is set to; None: as the method is configured.
        tolerance: the share, from 0 up to below 1.

    Raises:
        ConfigError: the method does not reason, or the rule compares nothing with a threshold.
        DataError: there are no cases.
    """
    check(tolerance, ShareBelowOne, "tolerance")
    asked = method.resolve_halting(halting if halting is not None or method.reasoning is not None else Halting())
    assert asked is not None  # else it was refused
    if asked.rule != "arh" and asked.rule not in READS:
        raise ConfigError(
            f"The rule {asked.rule} compares nothing with a threshold that could be fitted: choose arh or an indicator."
        )
    if not len(cases):
        raise DataError("There is no validation case to fit a threshold to: split the data so that there are some.")

    def measured(way: Halting) -> tuple[float, float]:
        ranked = rank_cases(method, cases, exclude_history=exclude_history, halting=way, batch=batch)
        return float(ranked.steps.mean()), float(ndcg(ranked.ranks, 10).mean())

    all_steps, all_ndcg = measured(replace(asked, rule="fixed"))
    best = FittedThreshold(
        replace(asked, threshold=never(asked.rule)), all_steps, all_ndcg, all_steps, all_ndcg, tolerance
    )
    for threshold in thresholds(compared(traced(method, cases, asked), asked.rule)):
        steps, quality = measured(way := replace(asked, threshold=threshold))
        if quality >= (1 - tolerance) * all_ndcg and steps < best.steps:
            best = replace(best, halting=way, steps=steps, ndcg=quality)
    return best


def traced(method: Method, cases: Cases, halting: Halting | None = None) -> Trace:
    """Indicators and halting probabilities of all steps, of at most 5,000 cases, evenly taken."""
    rows = np.arange(0, len(cases), max(1, -(-len(cases) // TRACED)))
    with torch.inference_mode():
        batch = history_batch(cases.history.take(rows), method.window).to(method.device)
        trace = dense_states(method.user_states(batch, halting, trace=True), "Tracing when to halt").trace
    if trace is None:  # no step, nothing to stop at
        nothing = torch.zeros(len(rows), 0)
        return Trace(torch.zeros(len(rows), 1, 0), torch.zeros(len(rows), 0, len(INDICATORS)), nothing)
    return Trace(*(part.cpu() for part in trace))


def compared(trace: Trace, rule: str) -> torch.Tensor:
    """What a rule compares with its threshold after each step, [P, T]."""
    return trace.halts_PT if rule == "arh" else trace.indicators_PT3[..., INDICATORS.index(READS[rule])]


def exits(values_PT: torch.Tensor, threshold: float, rule: str, first: int = 1) -> torch.Tensor:
    """The step at which each row stops, [P]: the first whose value is over the threshold, or below it, or the last."""
    stops_PT = values_PT > threshold if rule in ABOVE else values_PT < threshold
    stops_PT = torch.cat([stops_PT[:, :-1], torch.ones_like(stops_PT[:, :1])], dim=1)
    return stops_PT.int().argmax(1) + first


def thresholds(values_PT: torch.Tensor) -> list[float]:
    """Quantiles of what is compared where there is a choice, each once."""
    flat = values_PT[:, :-1].flatten().double()
    flat = flat[flat.isfinite()]
    if not len(flat):
        return []
    shares = torch.linspace(0, 1, CANDIDATES, dtype=torch.float64)
    return sorted({float(q) for q in torch.quantile(flat, shares)})


def never(rule: str) -> float:
    """A threshold at which nobody stops early."""
    return {"arh": 1.0, "doubt": 2.0}.get(rule, -1.0)  # entropies are shares of ln N
