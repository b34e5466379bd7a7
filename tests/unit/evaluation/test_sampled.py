"""Sampled ranking: fair draws, mid-ranks, and a label that cannot be missed."""

from __future__ import annotations

import numpy as np
import pytest

from forethought.data.histories import Cases, Histories
from forethought.errors import ConfigError, DataError
from forethought.evaluation.sampled import Sample, draw_negatives, sampled_ranks

N_ITEMS = 60


@pytest.fixture(scope="module")
def cases() -> Cases:
    random = np.random.default_rng(0)
    rows = [random.permutation(N_ITEMS)[: random.integers(1, 15)] for _ in range(300)]
    return Cases(Histories.from_lists([row[:-1] for row in rows]).all(), np.array([row[-1] for row in rows]))


def draw(cases: Cases, weights: np.ndarray, excluded: bool = True) -> np.ndarray:
    return draw_negatives(cases, weights, 20, np.random.default_rng(0), history_excluded=excluded)


def test_negatives_differ_and_are_neither_target_nor_history(cases):
    for row, negatives in enumerate(draw(cases, np.arange(1.0, N_ITEMS + 1))):
        assert len(set(negatives)) == 20
        assert not set(negatives) & {cases.targets[row], *cases.history[row]}


def test_history_may_be_drawn_where_it_is_not_excluded(cases):
    negatives = draw(cases, np.ones(N_ITEMS), excluded=False)
    assert any(set(row) & set(cases.history[r]) for r, row in enumerate(negatives))
    assert all(cases.targets[r] not in row for r, row in enumerate(negatives))


def test_draws_follow_their_weights():
    n = 4000
    cases = Cases(Histories.from_lists([[]] * n).all(), np.zeros(n, int))
    weights = np.array([5.0, 1, 2, 3, 4, 0.5])
    drawn = draw_negatives(cases, weights, 1, np.random.default_rng(0), history_excluded=True)
    shares = np.bincount(drawn.ravel(), minlength=6) / n
    np.testing.assert_allclose(shares, [0, *weights[1:] / weights[1:].sum()], atol=0.03)


def test_ranks_equal_a_loop_and_ties_count_half(cases):
    scores, seen = np.random.default_rng(1).integers(0, 8, (len(cases), N_ITEMS)), {}

    def scores_of(rows, items):
        seen.update(zip(rows.tolist(), items, strict=True))
        return scores[rows[:, None], items]

    found = sampled_ranks(scores_of, cases, np.ones(N_ITEMS), Sample(20, "popularity"), history_excluded=True)
    for row, items in seen.items():
        target, *others = scores[row, items]
        assert items[0] == cases.targets[row]
        assert found[row] == 1 + sum(o > target for o in others) + sum(o == target for o in others) / 2


def test_too_few_items_and_bad_scores_are_refused(cases):
    def nothing(rows, items):
        return np.full(items.shape, np.nan)

    with pytest.raises(DataError, match="rank all items instead"):
        sampled_ranks(nothing, cases, np.ones(N_ITEMS), Sample(40), history_excluded=True)
    with pytest.raises(DataError, match="must be numbers"):
        sampled_ranks(nothing, cases, np.ones(N_ITEMS), Sample(5), history_excluded=True)


def test_a_sample_that_cannot_be_drawn_is_refused():
    with pytest.raises(ConfigError, match="negatives is 0, but must be a whole number from 1 to 10,000"):
        Sample(negatives=0)
    with pytest.raises(ConfigError, match="seed is -1"):
        Sample(seed=-1)
    with pytest.raises(ConfigError, match="'frequency'"):
        Sample(by="frequency")  # type: ignore[arg-type]


def test_sampled_metrics_carry_their_label(evaluate):
    evaluation = evaluate(sample=Sample(99, "popularity", seed=3).protocol())
    assert all(name.startswith("sampled99:") for name in evaluation.metrics)
    assert evaluation.protocol["candidates"] == "sampled"
    assert evaluation.protocol["negatives_by"] == "popularity"
