"""Evaluations and comparisons as data frames: one row a number, with its 95% interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from forethought.evaluation.groups import Group
from forethought.evaluation.statistics import Estimate
from forethought.evaluation.summary import Difference, MethodSummary

INTERVAL = {"mean": pl.Float64, "low": pl.Float64, "high": pl.Float64}
EVALUATION = {"by": pl.String, "group": pl.String, "cases": pl.Int64, "metric": pl.String, **INTERVAL}
COMPARISON = {
    **{"metric": pl.String, "method": pl.String, "seeds": pl.Int64, **INTERVAL, "seed_std": pl.Float64},
    **{"against": pl.String, "difference": pl.Float64, "difference_low": pl.Float64, "difference_high": pl.Float64},
    **{"relative": pl.Float64, "relative_low": pl.Float64, "relative_high": pl.Float64},
    **{"p": pl.Float64, "p_holm": pl.Float64},
}


def evaluation_frame(
    metrics: Mapping[str, Estimate], groups: Mapping[str, Mapping[str, Group]], cases: int
) -> pl.DataFrame:
    """All cases first (`by` and `group` are null), then every group of every grouping."""
    rows = [(None, None, cases, metric, *_interval(estimate)) for metric, estimate in metrics.items()]
    rows += [
        (by, name, group.cases, metric, *_interval(estimate))
        for by, each in groups.items()
        for name, group in each.items()
        for metric, estimate in group.metrics.items()
    ]
    return pl.DataFrame(rows, schema=EVALUATION, orient="row")


def comparison_frame(methods: Mapping[str, MethodSummary], differences: Sequence[Difference]) -> pl.DataFrame:
    """A row for each difference, and one without (`against` is null) for each number of what is only held against."""
    rows: list[tuple[Any, ...]] = []
    subtracted = {gain.method for gain in differences}
    for name, method in methods.items():
        if name not in subtracted:
            rows += [(*_own(metric, name, method), *[None] * 9) for metric in method.metrics]
    for gain in differences:
        own = _own(gain.metric, gain.method, methods[gain.method])
        rows.append((*own, gain.against, *_interval(gain.absolute), *_interval(gain.relative), gain.p, gain.p_holm))
    return pl.DataFrame(rows, schema=COMPARISON, orient="row")


def _own(metric: str, name: str, method: MethodSummary) -> tuple[Any, ...]:
    return metric, name, method.seeds, *_interval(method.metrics[metric]), method.seed_std[metric]


def _interval(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.mean, *estimate.ci95
