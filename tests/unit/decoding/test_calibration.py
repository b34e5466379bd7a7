"""Theta is what ranks best on the validation part."""

from __future__ import annotations

import math

import pytest
import torch

from forethought.decoding.calibration import NEVER, calibrate_theta, thetas_of


def test_the_best_theta_wins_and_each_is_told() -> None:
    asked = []

    def ndcg(theta: float) -> float:
        asked.append(theta)
        return 1 - abs(theta - 0.05)

    calibration = calibrate_theta(ndcg, [0.02, 0.06, 0.1, 0.06])
    assert calibration.theta == 0.06
    assert asked == list(calibration.ndcgs) == [NEVER, 0.1, 0.06, 0.02]
    assert calibration.ndcgs[0.02] == pytest.approx(0.97)


def test_of_equals_the_one_that_prunes_least_wins() -> None:
    assert calibrate_theta(lambda theta: 0.5, [0.02, 0.06]).theta == NEVER
    assert calibrate_theta(lambda theta: float(theta < 0.1), [0.02, 0.06]).theta == 0.06


def test_what_is_no_number_never_wins() -> None:
    assert calibrate_theta(lambda theta: math.nan if theta > 0.03 else 0.0, [0.02, 0.06]).theta == 0.02
    assert calibrate_theta(lambda theta: math.nan, [0.02]).theta == NEVER


def test_thetas_to_try_are_quantiles_of_true_paths() -> None:
    moved = torch.cat([torch.arange(100) / 200, torch.tensor([math.nan])])
    assert thetas_of(moved) == pytest.approx([0.25, 0.375, 0.45, 0.475, 0.495])
    assert thetas_of(torch.tensor([math.nan])) == []
    assert thetas_of(torch.tensor([0.1])) == pytest.approx([0.1])
