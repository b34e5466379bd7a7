"""Popularity: counts of the last weeks, and the list that they make."""

from __future__ import annotations

import math

import numpy as np
import pytest

from forethought.data.histories import Histories, Spans
from forethought.data.popularity import DAY, counts, popular
from forethought.errors import DataError

ITEMS = [[0, 1, 2], [0, 1, 3], [0, 4]]
DAYS = [[0, 40, 50], [30, 45, 60], [59, 20]]


def train(*, dated: bool = True) -> Spans:
    rows = Histories.from_lists(ITEMS)
    times = np.concatenate([np.array(row) * DAY for row in DAYS]) if dated else None
    return Histories(rows.items, rows.offsets, times).all()


def test_the_last_days_are_counted_or_all() -> None:
    assert counts(train(), 5).tolist() == [3, 2, 1, 1, 1]
    by_hand = np.zeros(5, int)
    for items, days in zip(ITEMS, DAYS, strict=True):
        for item, day in zip(items, days, strict=True):
            by_hand[item] += day > 60 - 28
    assert counts(train(), 5, days=28).tolist() == by_hand.tolist() == [1, 2, 1, 1, 0]
    with pytest.raises(DataError, match="an order but no times"):
        counts(train(dated=False), 5, days=28)


def test_what_is_held_out_is_not_counted() -> None:
    whole = train()
    cut = Spans(whole.histories, whole.users, whole.starts, whole.ends - 1)
    assert counts(cut, 5, days=28).tolist() == [1, 2, 0, 0, 0]  # the last day of these is the 59th


def test_a_list_of_the_most_popular_by_the_logarithm_above_the_first_left_out() -> None:
    table = popular(train(dated=False), 5, most=2, weeks=4.0)
    assert table.items_NK[:, 0].tolist() == [0, 1, 0, 0, 0]
    expected = [1.0, math.log(3 / 2) / math.log(4 / 2), 0.0, 0.0, 0.0]
    np.testing.assert_allclose(table.values_NK[:, 0], expected, rtol=1e-6)
    assert table.pairs_NK is not None
    assert table.pairs_NK[:, 0].tolist() == [3, 2, 0, 0, 0]


def test_of_all_items_none_is_left_out() -> None:
    table = popular(train(), 5, most=100, weeks=4.0)
    assert table.items_NK[:, 0].tolist() == [1, 0, 2, 3, 0]
    np.testing.assert_allclose(table.values_NK[:4, 0], np.log([3, 2, 2, 2]) / math.log(3), rtol=1e-6)
    assert table.values_NK[4, 0] == 0


def test_where_all_are_alike_nothing_speaks() -> None:
    table = popular(Histories.from_lists([[0, 1, 2, 3]]).all(), 4, most=2, weeks=4.0)
    assert not table.values_NK.any()
