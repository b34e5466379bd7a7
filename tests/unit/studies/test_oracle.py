"""Bounds on adaptive depth, against every way of choosing depths."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from forethought.studies.oracle import beside, hull_steps, learnt, least_steps, oracle


def test_no_choice_of_depths_is_above_the_hull():
    random = np.random.default_rng(0)
    values_Dn = random.random((3, 5)).round(1)
    steps, quality = hull_steps(values_Dn)
    reached = {}
    for depths in itertools.product(range(3), repeat=5):
        spent = sum(depths) / 5
        reached[spent] = max(reached.get(spent, 0.0), values_Dn[list(depths), range(5)].mean())
    for spent, best in reached.items():
        assert best <= np.interp(spent, steps, quality) + 1e-12
    for spent, corner in zip(steps, quality, strict=True):
        nearest = min(reached, key=lambda each: abs(each - spent))
        assert reached[nearest] == pytest.approx(corner), "every corner is a choice that somebody could make"
    assert quality[-1] == pytest.approx(values_Dn.max(0).mean())


def test_steps_are_not_spent_where_they_do_not_pay():
    values_Dn = np.array([[0.5, 0.0, 0.9], [0.5, 0.0, 0.2], [0.4, 1.0, 0.1]])
    known = oracle(values_Dn, best_fixed=2)
    assert known["steps"] == pytest.approx(2 / 3), "the second case alone, and both of its steps"
    assert known["ndcg@10"] == pytest.approx((0.5 + 1.0 + 0.9) / 3)
    # 0.5 is wanted, 1.4/3 is there, and the one gain is a slope of 0.5 a step
    assert known["steps_at_no_loss"] == pytest.approx((0.5 - 1.4 / 3) * 3 / 0.5 / 3)


def test_a_quality_that_is_never_reached_has_no_steps():
    assert least_steps(np.array([0.0, 1.0]), np.array([0.1, 0.2]), 0.3) is None
    assert least_steps(np.array([0.0, 1.0]), np.array([0.1, 0.2]), 0.05) == 0.0


def test_what_a_feature_tells_is_learnt_and_noise_is_not():
    random = np.random.default_rng(1)
    n = 3000
    telling, users = random.random(n) < 0.3, np.arange(n) // 2
    values_Dn = np.stack([np.full(n, 0.2), np.where(telling, 0.6, 0.1)]) + 0.01 * random.random((2, n))

    def reached(features_nF: np.ndarray) -> tuple[float, float]:
        """The best quality at any price, and its steps."""
        depths = [depth_n for _, depth_n in learnt(values_Dn, features_nF, users, seed=0)]
        return max((values_Dn[depth_n, np.arange(n)].mean(), depth_n.mean()) for depth_n in depths)

    quality, steps = reached(np.column_stack([telling, random.random(n)]))
    assert quality == pytest.approx(values_Dn.max(0).mean(), abs=0.005)
    assert steps == pytest.approx(telling.mean(), abs=0.02)
    blind, _ = reached(random.random((n, 2)))
    assert blind < values_Dn.mean(1).max() + 0.02, "nothing is judged by what it was fitted on"


def test_dearer_steps_are_taken_less():
    random = np.random.default_rng(2)
    values_Dn = random.random((3, 500)).cumsum(0) * 0.01
    chosen = learnt(values_Dn, random.random((500, 1)), np.arange(500), seed=0)
    steps = [depth_n.mean() for _, depth_n in sorted(chosen, key=lambda each: each[0])]
    assert steps == sorted(steps, reverse=True)
    assert steps[0] == 2, "each step adds, and costs next to nothing"
    assert steps[-1] == 0, "each costs more than it adds"


def test_an_oracle_beside_a_rule_takes_the_steps_that_the_rule_must():
    """Against all ways of giving two cases one step or more, by hand."""
    values_Dn = np.array([[0.9, 0.0], [0.2, 0.1], [0.3, 0.5]])
    # from one step each, .15 on average: the second case gains .4 for its second step, the first .1
    got = beside(values_Dn, 1, steps=1.25, quality=0.25)
    assert got["ndcg@10"] == pytest.approx(0.15 + 0.25 / 0.5 * 0.2)
    assert got["steps"] == pytest.approx(1 + 0.5 * 0.1 / 0.2)
    free = beside(values_Dn, 0, steps=1.0, quality=0.7)
    assert free["ndcg@10"] == pytest.approx((0.9 + 0.5) / 2), "both steps for the second case"
    assert free["steps"] == pytest.approx(1.0)
    assert beside(values_Dn, 1, steps=2.0, quality=0.41)["steps"] is None, "nobody reaches it"
