"""What methods gain over several bars in several places, and what is decided of that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from forethought.evaluation.report import Evaluation
from forethought.evaluation.statistics import holm
from forethought.run_files import METRICS_FILE
from forethought.studies import results
from forethought.studies.differences import paired
from forethought.studies.results import DatasetKey

METRIC, ALPHA, SIGMAS = "ndcg@10", 0.05, 1.959964  # of a 95% interval
Verdict = Literal["ahead", "behind", "not decided"]


@dataclass(frozen=True)
class Gain:
    """A relative difference of NDCG@10 with its 95% interval, and its p, after Holm once a family is known."""

    mean: float
    low: float
    high: float
    p: float
    seeds: int

    def verdict(self) -> Verdict:
        """What stands once p is corrected; the interval alone knows nothing of how much was looked at."""
        if self.p >= ALPHA:
            return "not decided"
        return "ahead" if self.mean > 0 else "behind"

    def __str__(self) -> str:
        return f"{self.mean:+.1%} [{self.low:+.1%}, {self.high:+.1%}], p {self.p:.3f}"


Gains = Mapping[tuple[str, str], Gain]
"""By the name of the data and the variant."""


def against_bars(folders: Mapping[str, Sequence[Path]], bars: Sequence[str]) -> dict[str, Any]:
    """Every variant that is no bar held against each bar, as `paired` does, and how long test histories are.

    Args:
        bars: the first one is that of the study, whose differences every study keeps by itself.
    """
    evaluations = {variant: _by_seed(of) for variant, of in folders.items()}
    whole = {variant: e for variant, e in evaluations.items() if e and len(e) == len(folders[variant])}
    others = {variant: e for variant, e in whole.items() if variant not in bars}
    pairs = {bar: paired({bar: whole[bar], **others}) for bar in bars[1:] if bar in whole}
    lengths = next((e.cases["history_length"].mean() for of in whole.values() for e in of.values()), None)
    if not whole:
        return {}
    return {"against": {bar: pair for bar, pair in pairs.items() if pair}, "history_length": lengths}


def _by_seed(folders: Sequence[Path]) -> dict[int, Evaluation]:
    # folders are called by `results.run_name`, seeds at the end
    return {int(f.name.rpartition("-")[2]): Evaluation.read(f) for f in folders if (f / METRICS_FILE).is_file()}


def over_first(folder: Path, study: str, places: Sequence[DatasetKey]) -> Gains:
    """Every variant against the first one in every place, corrected for all of them together."""
    return _corrected({place: list(results.differences(folder, study, place).values()) for place in places})


def over_bars(folder: Path, study: str, places: Sequence[DatasetKey], bars: Sequence[str]) -> dict[str, Gains]:
    """What is gained over each bar in every place; every bar is a family of its own.

    Over the first one it is also what the other bars gain.
    """
    kept = {place: results.aggregated(folder, study, place).get("against", {}) for place in places}
    over = {bars[0]: over_first(folder, study, places)}
    for bar in bars[1:]:
        over[bar] = _corrected({place: of[bar]["differences"] for place, of in kept.items() if bar in of})
    return over


def _corrected(differences: Mapping[DatasetKey, Sequence[Mapping[str, Any]]]) -> Gains:
    gains: dict[tuple[str, str], Gain] = {}
    for place, of in differences.items():
        for each in of:
            if each["metric"] == METRIC:
                relative = each["relative"]
                low, high = relative["ci95"]
                gains[place.data, each["method"]] = Gain(relative["mean"], low, high, each["p"], len(each["seeds"]))
    return dict(zip(gains, with_holm(list(gains.values())), strict=True))


def with_holm(family: Sequence[Gain]) -> list[Gain]:
    adjusted = holm(np.array([gain.p for gain in family], dtype=float)).tolist()
    return [replace(gain, p=p) for gain, p in zip(family, adjusted, strict=True)]


def change(low: Gain, high: Gain) -> Gain:
    """How much more is gained in one place than in another whose users are others: variances add up.

    Intervals of the bootstrap are taken for those of a normal distribution, as they nearly are with as many users.
    """
    spread = math.hypot(high.high - high.low, low.high - low.low) / (2 * SIGMAS)
    mean = high.mean - low.mean
    p = math.erfc(abs(mean) / spread / math.sqrt(2)) if spread > 0 else 1.0
    return Gain(mean, mean - SIGMAS * spread, mean + SIGMAS * spread, p, min(low.seeds, high.seeds))
