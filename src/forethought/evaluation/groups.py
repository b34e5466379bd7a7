"""Cases in groups: who has a long history, whose target is popular, or never was trained on. A mean hides these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forethought.data.histories import Cases
from forethought.data.leakage import met_before
from forethought.evaluation.statistics import Estimate

N_GROUPS = 5
CHANCE_CUT = 10
TARGET, WARM, COLD = "target", "warm", "cold"
REPEAT, NEW = "repeat", "new"


@dataclass(frozen=True)
class Group:
    """Some cases and how they fared.

    Attributes:
        cases: how many.
        range: smallest and largest value (history length, or target popularity) among them.
        metrics: means with 95% intervals.
        steps: mean reasoning steps; None where they were not noted.
        chance: recall@10 of a ranking drawn at random; None where it was not noted.
    """

    cases: int
    range: tuple[int, int]
    metrics: dict[str, Estimate]
    steps: float | None = None
    chance: float | None = None


def quantile_groups(values: np.ndarray, n_groups: int = N_GROUPS) -> np.ndarray:
    """Group names by quantile, [n]: `G1` has the smallest values, `G5` (of five) the largest.

    Equal values share a group: where an edge would cut through them, all go to the side on which their middle
    quantile (the share below them plus half their own share) lies. With many equal values some groups are empty.
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    twice_middle = 2 * np.cumsum(counts) - counts  # in integers, so that an edge is met exactly
    return np.array([f"G{group + 1}" for group in n_groups * twice_middle // (2 * len(values))])[inverse]


def warm_or_cold(popularity: np.ndarray) -> np.ndarray:
    """Group names by whether training met the target, [n]."""
    return np.where(popularity > 0, WARM, COLD)


def repeat_or_new(cases: Cases, n_items: int) -> np.ndarray | None:
    """Group names by whether a target stands in its own history, [n]; None where none does."""
    met = met_before(cases, n_items)
    return np.where(met, REPEAT, NEW) if met.any() else None


def chance_of_recall(cases: Cases, n_items: int, negatives: int | None, *, history_excluded: bool) -> np.ndarray:
    """recall@10 that a ranking drawn at random has in expectation, float64 [n].

    Args:
        negatives: how many a target is ranked among, where they are sampled; None: all candidates are ranked.
        history_excluded: whether items that a user has met are no candidates.
    """
    if negatives is not None:
        return np.full(len(cases), min(1.0, CHANCE_CUT / (negatives + 1)))
    met = cases.met
    distinct = np.array([len(np.unique(met[row])) for row in range(len(met))]) if history_excluded else 0
    return np.minimum(1.0, CHANCE_CUT / np.maximum(n_items - distinct, 1)) * np.ones(len(cases))


def membership(groups: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The names of the groups that have cases, ascending, and who is in them, bool [n, groups]."""
    present = np.unique(groups)
    return present.tolist(), groups[:, None] == present[None, :]
