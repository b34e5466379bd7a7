"""Bounds on adaptive depth, against every way of choosing depths."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from forethought.studies.oracle import hull_steps, in_words, learnt, least_steps, oracle


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
    seen = learnt(values_Dn, np.column_stack([telling, random.random(n)]), users, seed=0)
    best = max(seen, key=lambda point: point["ndcg@10"])
    assert best["ndcg@10"] == pytest.approx(values_Dn.max(0).mean(), abs=0.005)
    assert best["steps"] == pytest.approx(telling.mean(), abs=0.02)
    blind = learnt(values_Dn, random.random((n, 2)), users, seed=0)
    fixed = values_Dn.mean(1).max()
    assert max(point["ndcg@10"] for point in blind) < fixed + 0.02, "nothing is judged by what it was fitted on"
    said = in_words({"oracle": oracle(values_Dn, 1), "learnt": seen}, 1, float(values_Dn[1].mean()))
    assert "no rule can do with fewer" in said
