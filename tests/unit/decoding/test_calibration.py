"""Theta is what ranks best on the validation part."""

from __future__ import annotations

import math

import pytest

from forethought.decoding.calibration import NEVER, calibrate_theta


def test_the_best_theta_wins_and_each_is_told() -> None:
    asked = []

    def ndcg(theta: float) -> float:
        asked.append(theta)
        return 1 - abs(theta - 0.05)

    calibration = calibrate_theta(ndcg, [0.02, 0.06, 0.1, 0.06])
    assert calibration.theta == 0.06
    assert asked == list(calibration.ndcgs) == [NEVER, 0.02, 0.1, 0.06]
    assert calibration.ndcgs[0.02] == pytest.approx(0.97)


def test_of_equals_the_one_that_prunes_least_wins() -> None:
    assert calibrate_theta(lambda theta: 0.5, [0.02, 0.06]).theta == NEVER
    assert calibrate_theta(lambda theta: float(theta < 0.1), [0.02, 0.06]).theta == 0.06


def test_where_the_strictest_changes_nothing_no_other_is_tried() -> None:
    asked = []
    assert calibrate_theta(lambda theta: asked.append(theta) or 0.5).theta == NEVER
    assert asked == [NEVER, 0.02]


def test_what_is_no_number_never_wins() -> None:
    assert calibrate_theta(lambda theta: math.nan if theta > 0.03 else 0.0, [0.02, 0.06]).theta == 0.02
    assert calibrate_theta(lambda theta: math.nan, [0.02]).theta == NEVER
