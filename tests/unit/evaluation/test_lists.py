"""List metrics against naive loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forethought.data.histories import Histories
from forethought.evaluation import lists as of_lists

N_ITEMS = 12
POPULARITY = np.array([0, 1, 1, 2, 3, 3, 5, 8, 8, 13, 21, 34])


@pytest.fixture(scope="module")
def top() -> np.ndarray:
    random = np.random.default_rng(1)
    rows = np.array([random.permutation(N_ITEMS)[:10] for _ in range(9)])
    rows[2, 4:] = -1  # a list that ran out of items
    rows[5] = -1  # a list without any
    return rows


@given(arrays(np.int64, st.integers(1, 15), elements=st.integers(0, 50)))
def test_gini_equals_the_double_sum(shown):
    if shown.sum() == 0:
        assert math.isnan(of_lists.gini(shown))
        return
    pairs = sum(abs(int(a) - int(b)) for a in shown for b in shown)
    assert of_lists.gini(shown) == pytest.approx(pairs / (2 * len(shown) ** 2 * shown.mean()), abs=1e-12)


def test_gini_of_even_and_of_single_exposure():
    assert of_lists.gini(np.full(8, 3)) == pytest.approx(0)
    assert of_lists.gini(np.eye(8)[0]) == pytest.approx(7 / 8)


def test_every_list_metric_equals_a_loop(top):
    history = Histories.from_lists([[0, 11], [], [3], [4, 4, 5], [1], [2, 9], [7], [8, 10, 6], [5]]).all()
    found = of_lists.beyond_accuracy(top, history, POPULARITY, cuts=(3, 10))
    for k in (3, 10):
        rows = [[item for item in row[:k] if item >= 0] for row in top]
        rows = [row for row in rows if row]
        bits = [-math.log2((c + 1) / (POPULARITY.sum() + N_ITEMS)) for c in POPULARITY]
        average = np.mean([np.mean([POPULARITY[i] for i in row]) for row in rows])
        chosen = np.mean([np.mean(POPULARITY[history[u]]) for u in range(9) if len(history[u])])
        assert found[f"coverage@{k}"] == len({i for row in rows for i in row}) / N_ITEMS
        assert found[f"novelty@{k}"] == pytest.approx(np.mean([np.mean([bits[i] for i in row]) for row in rows]))
        assert found[f"arp@{k}"] == pytest.approx(average)
        assert found[f"popularity_lift@{k}"] == pytest.approx((average - chosen) / chosen)


def test_cuts_beyond_the_lists_are_left_out(top):
    history = Histories.from_lists([[1]] * len(top)).all()
    assert {name.rpartition("@")[2] for name in of_lists.beyond_accuracy(top, history, POPULARITY)} == {"5", "10"}


def test_nothing_listed_and_nothing_known_is_not_a_number():
    empty, history = np.full((2, 5), -1), Histories.from_lists([[0], [0]]).all()
    found = of_lists.beyond_accuracy(empty, history, np.zeros(3, int), cuts=(5,))
    assert found["coverage@5"] == 0
    assert all(math.isnan(found[name]) for name in found if name != "coverage@5")
