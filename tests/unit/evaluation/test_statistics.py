"""Intervals, tests and corrections against scipy, against enumeration, and on simulated data."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from forethought.errors import ConfigError
from forethought.evaluation import statistics as ours


def test_cluster_sums_equal_a_loop():
    random = np.random.default_rng(0)
    values, clusters = random.normal(size=(40, 3)), random.integers(0, 9, 40)
    sums = ours.cluster_sums(values, clusters)
    for row, cluster in zip(sums, np.unique(clusters), strict=True):
        mine = values[clusters == cluster]
        np.testing.assert_allclose(row, [*mine.sum(axis=0), len(mine)])


def test_interval_of_a_mean_equals_scipys_bootstrap():
    values = np.random.default_rng(0).exponential(size=300)
    [[mine]] = ours.estimate_means(values[:, None], np.arange(300), resamples=8000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=8000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert mine.mean == pytest.approx(values.mean())
    assert mine.ci95 == pytest.approx((theirs.low, theirs.high), abs=0.1 * (theirs.high - theirs.low) / 2)


def test_interval_over_clustered_cases_equals_resampling_users_one_by_one():
    random = np.random.default_rng(0)
    clusters = np.repeat(np.arange(60), random.integers(1, 8, 60))
    values = random.normal(size=60)[clusters] + 0.1 * random.normal(size=len(clusters))
    [[mine]] = ours.estimate_means(values[:, None], clusters, resamples=4000)
    means = []
    for _ in range(4000):
        drawn = random.integers(0, 60, 60)
        cases = np.concatenate([values[clusters == user] for user in drawn])
        means.append(cases.mean())
    width = mine.ci95[1] - mine.ci95[0]
    np.testing.assert_allclose(mine.ci95, np.quantile(means, [0.025, 0.975]), atol=0.06 * width)
    [[naive]] = ours.estimate_means(values[:, None], np.arange(len(values)), resamples=1000)
    assert width > 1.5 * (naive.ci95[1] - naive.ci95[0])  # cases of one user are not independent


def test_strata_are_averaged_apart():
    random = np.random.default_rng(0)
    values, members = random.normal(size=(50, 2)), random.random((50, 3)) < 0.5
    rows = ours.estimate_means(values, np.arange(50), strata=members, resamples=50)
    for stratum, row in enumerate(rows):
        assert [e.mean for e in row] == pytest.approx(values[members[:, stratum]].mean(axis=0))
        assert all(e.ci95[0] < e.mean < e.ci95[1] for e in row)


def test_a_stratum_of_one_user_has_an_interval_of_one_point():
    members = np.eye(10, dtype=bool)[:, :1]
    [[only]] = ours.estimate_means(np.arange(10.0)[:, None] + 3, np.arange(10), strata=members, resamples=50)
    assert (only.mean, *only.ci95) == (3, 3, 3)


def test_the_same_seed_draws_the_same_users_whatever_the_block(monkeypatch):
    sums = np.random.default_rng(0).normal(size=(100, 2))
    whole = ours.bootstrap_sums(sums, resamples=37, seed=5)
    monkeypatch.setattr(ours, "BLOCK_NUMBERS", 700)
    np.testing.assert_allclose(ours.bootstrap_sums(sums, resamples=37, seed=5), whole, rtol=1e-12)
    assert not np.allclose(ours.bootstrap_sums(sums, resamples=37, seed=6), whole)


@pytest.mark.parametrize(("wrong", "said"), [({"resamples": 0}, "from 2 to 100,000"), ({"seed": -1}, "seed is -1")])
def test_draws_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        ours.estimate_means(np.ones((3, 1)), np.arange(3), **wrong)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    random, hits, rounds = np.random.default_rng(0), 0, 300
    for seed in range(rounds):
        draws = (random.random(400) < 0.1).astype(float)
        [[found]] = ours.estimate_means(draws[:, None], np.arange(400), resamples=300, seed=seed)
        hits += found.ci95[0] <= 0.1 <= found.ci95[1]
    assert 0.90 <= hits / rounds <= 0.98


def test_sign_flips_equal_all_labellings():
    differences = np.random.default_rng(0).normal(0.4, 1, size=(10, 2))
    flips = np.array(list(itertools.product([-1, 1], repeat=10)))
    exact = (np.abs(flips @ differences) >= np.abs(differences.sum(axis=0)) - 1e-12).mean(axis=0)
    found = ours.sign_flip_test(differences, resamples=40_000)
    np.testing.assert_allclose(found, exact, atol=0.01)


def test_sign_flips_equal_scipys_permutation_test():
    random = np.random.default_rng(3)
    first, second = random.normal(loc=[[0.25], [0.0]], size=(2, 80))
    theirs = stats.permutation_test(
        (first, second), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=9999, rng=random
    )
    [mine] = ours.sign_flip_test((first - second)[:, None], resamples=10_000)
    assert mine == pytest.approx(theirs.pvalue, abs=0.015)


def test_equal_methods_have_p_1_and_no_p_is_0():
    differences = np.column_stack([np.zeros(30), np.ones(30)])
    same, apart = ours.sign_flip_test(differences, resamples=999)
    assert same == 1
    assert apart == pytest.approx(1 / 1000)
    assert ours.sign_flip_test(np.zeros((30, 1)), resamples=99).tolist() == [1]


def test_sums_in_another_order_still_count_as_equal():
    # Of the 16 signs of four equal tenths, two reach the observed sum: p is 1/8 though 0.1 is not exact.
    [found] = ours.sign_flip_test(np.full((4, 1), 0.1), resamples=40_000)
    assert found == pytest.approx(1 / 8, abs=0.01)


def test_p_values_are_uniform_where_nothing_differs():
    differences = np.random.default_rng(0).normal(size=(60, 400))
    found = ours.sign_flip_test(differences, resamples=999)
    assert stats.kstest(found, "uniform").pvalue > 0.001


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_its_definition(p_values):
    """The adjusted p is the largest (m - j) p_(j) among the j smaller ones and itself, cut at 1."""
    m, ranked = len(p_values), sorted(range(len(p_values)), key=lambda i: p_values[i])
    expected = [0.0] * m
    for place, i in enumerate(ranked):
        expected[i] = min(1.0, max((m - j) * p_values[ranked[j]] for j in range(place + 1)))
    np.testing.assert_allclose(ours.holm(np.array(p_values)), expected)


def test_holm_of_nothing_is_nothing():
    assert len(ours.holm(np.array([]))) == 0
