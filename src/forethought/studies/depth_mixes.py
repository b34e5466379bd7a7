"""What mean steps are worth to who reads nothing: one of two fixed depths, dealt to the cases by chance.

    v_i = (1 - p) v_i(a) + p v_i(b)    with mean steps (1 - p) a + p b

A halting rule adapts where it is better than this with no more steps. Depths and share are those that the validation
part holds best; the deeper of them is taken as often as the steps allow, or never.

Shapes: D depths (0 .. T), n cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np


class DepthMix(NamedTuple):
    """The shallower and the deeper depth, and the share of the cases that get the deeper one."""

    shallow: int
    deep: int
    share: float

    def quality(self, values_D: np.ndarray) -> np.ndarray:
        """What it is worth on average, [...], of what each depth is worth, [D, ...]."""
        return (1 - self.share) * values_D[self.shallow] + self.share * values_D[self.deep]


def best_mix(valid_D: Sequence[float], steps: float) -> DepthMix:
    """The mix with at most so many mean steps that is worth most on validation.

    Args:
        valid_D: mean quality of each fixed depth there.
    """
    known_D, mixes = np.asarray(valid_D), []
    for shallow, deep in combinations_with_replacement(range(len(valid_D)), 2):
        if shallow <= steps:
            share = 0.0 if deep == shallow else min(1.0, (steps - shallow) / (deep - shallow))
            mixes.append(DepthMix(shallow, deep, share))
    return max(mixes, key=lambda mix: float(mix.quality(known_D)))
