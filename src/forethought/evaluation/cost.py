"""What an answer costs, in three columns that need not agree: reasoning steps, FLOPs and wall clock.

A step saved may save few FLOPs, where deciding to halt needs a look at the catalogue, and no time, where the batch
waits for its slowest row. So the three are measured apart: steps of every case, FLOPs by `evaluation/flops.py`,
milliseconds by `evaluation/timing.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from forethought.settings import Between, fits

QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}

# The figures that methods are compared by, and where an evaluation's cost has them.
COMPARED = {
    "parameters": ("parameters",),
    "steps": ("steps",),
    "flops": ("flops_per_history", "encode"),
    "ms": ("ms_per_history", "encode"),
    "rank_flops": ("flops_per_history", "rank"),
    "rank_ms": ("ms_per_history", "rank"),
    "states_per_second": ("states_per_second",),
    "epochs": ("training", "epochs"),
    "train_s_per_epoch": ("training", "s_per_epoch"),
    "train_flops_per_epoch": ("training", "flops_per_epoch"),
}


def of_ranking(steps: np.ndarray, seconds: Mapping[str, float], most: int | None) -> dict[str, Any]:
    """Steps and seconds of ranked cases.

    Args:
        steps: [n], reasoning steps used by each case.
        seconds: wall clock by stage; "lists" is no part of ranking.
        most: steps that a case could have used; None for a method that does not reason.
    """
    n, ranking = len(steps), sum(value for stage, value in seconds.items() if stage != "lists")
    thought = {} if not most else {"steps_saved": 1 - float(np.mean(steps)) / most}
    return {
        "steps": float(np.mean(steps)),
        "steps_quantiles": {name: float(np.quantile(steps, q)) for name, q in QUANTILES.items()},
        **thought,
        "seconds": {stage: float(value) for stage, value in seconds.items()},
        "ms_per_history": {stage: 1000 * float(value) / n for stage, value in seconds.items()},
        "states_per_second": n / ranking if ranking > 0 else float("nan"),
    }


def averaged(costs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The figures of `COMPARED`, each a mean over the evaluations (seeds) that have it."""
    means = {
        name: [value for cost in costs if (value := _at(cost, path)) is not None] for name, path in COMPARED.items()
    }
    return {name: float(np.mean(values)) for name, values in means.items() if values}


def _at(cost: Mapping[str, Any], path: Sequence[str]) -> float | None:
    value: Any = cost
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if fits(value, Annotated[float, Between(-1e300, 1e300)]) else None
