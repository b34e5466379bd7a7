"""Cases in five groups: who has a long history, whose target is popular. A mean hides what these show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forethought.evaluation.statistics import Estimate

N_GROUPS = 5


@dataclass(frozen=True)
class Group:
    """Some cases and how they fared.

    Attributes:
        cases: how many.
        range: smallest and largest value (history length, or target popularity) among them.
        metrics: means with 95% intervals.
        steps: mean reasoning steps; None where they were not noted.
    """

    cases: int
    range: tuple[int, int]
    metrics: dict[str, Estimate]
    steps: float | None = None


def quantile_groups(values: np.ndarray, n_groups: int = N_GROUPS) -> np.ndarray:
    """Group names by quantile, [n]: `G1` has the smallest values, `G5` (of five) the largest.

    Equal values share a group: where an edge would cut through them, all go to the side on which their middle
    quantile (the share below them plus half their own share) lies. With many equal values some groups are empty.
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    twice_middle = 2 * np.cumsum(counts) - counts  # in integers, so that an edge is met exactly
    return np.array([f"G{group + 1}" for group in n_groups * twice_middle // (2 * len(values))])[inverse]


def membership(groups: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The names of the groups that have cases, ascending, and who is in them, bool [n, groups]."""
    present = np.unique(groups)
    return present.tolist(), groups[:, None] == present[None, :]
