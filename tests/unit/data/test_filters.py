"""Filters against loops that do one thing at a time."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forethought.data.filters import drop_duplicates, k_core, minimum_rating
from forethought.data.interactions import Interactions
from forethought.data.reading import read
from forethought.errors import DataError

Row = tuple[int, int, int]
rows = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 4)), min_size=1, max_size=60)


def interactions(rows: list[Row]) -> Interactions:
    return read(pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"))


def as_rows(data: Interactions) -> list[Row]:
    """What is left, as ids, in order of users and time."""
    assert data.histories.times is not None
    owners = [user for user, length in enumerate(data.histories.lengths) for _ in range(length)]
    items = data.items.id_list(data.histories.items)
    return list(zip(data.users.id_list(owners), items, data.histories.times.tolist(), strict=True))


def in_order(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row[0], row[2]))


def naive_core(rows: list[Row], users: int, items: int) -> list[Row]:
    while True:
        by_user, by_item = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
        poor = [row for row in rows if by_user[row[0]] < users or by_item[row[1]] < items]
        if not poor:
            return rows
        rows = [row for row in rows if row[0] != poor[0][0] or by_user[row[0]] >= users]
        rows = [row for row in rows if row[1] != poor[0][1] or by_item[row[1]] >= items]


@given(rows, st.integers(1, 5), st.integers(1, 5))
def test_k_core_is_that_of_a_naive_loop(rows: list[Row], users: int, items: int) -> None:
    expected = naive_core(in_order(rows), users, items)
    if not expected:
        with pytest.raises(DataError, match="Nothing is left"):
            k_core(interactions(rows), users, items)
        return
    data = k_core(interactions(rows), users, items)
    assert as_rows(data) == expected
    assert data.item_table["item_id"].to_list() == data.items.id_list(range(data.n_items))
    assert data.n_users == len({row[0] for row in expected})
    assert data.n_items == len({row[1] for row in expected})


def test_a_table_that_is_its_own_core_is_left_alone() -> None:
    data = interactions([(1, 1, 1), (1, 1, 2)])
    assert k_core(data, 2, 2) is data


@given(rows)
def test_duplicates_of_the_same_time_are_dropped(rows: list[Row]) -> None:
    assert as_rows(drop_duplicates(interactions(rows))) == list(dict.fromkeys(in_order(rows)))


@given(rows)
def test_of_repeats_the_first_is_kept(rows: list[Row]) -> None:
    first: dict[tuple[int, int], Row] = {}
    for row in in_order(rows):
        first.setdefault(row[:2], row)
    data = drop_duplicates(interactions(rows), repeats=True)
    assert as_rows(data) == list(first.values())
    assert not data.repeats


@given(rows)
def test_repeats_are_seen(rows: list[Row]) -> None:
    assert interactions(rows).repeats == (len({row[:2] for row in rows}) < len(rows))


def test_duplicates_without_times_are_refused_in_words() -> None:
    data = read(pl.DataFrame({"user_id": [1, 1], "item_id": [1, 1]}))
    with pytest.raises(DataError, match="cannot be told from a true repeat"):
        drop_duplicates(data)
    assert len(drop_duplicates(data, repeats=True)) == 1


def test_minimum_rating() -> None:
    table = pl.LazyFrame({"rating": [1.0, 3.0, None, float("nan"), 5.0]})
    assert minimum_rating(table, 3).collect()["rating"].to_list() == [3.0, 5.0]
    assert minimum_rating(pl.LazyFrame({"stars": [1, 5]}), 3, "stars").collect()["stars"].to_list() == [5]
    with pytest.raises(DataError, match=r"no 'rating'.*Did you mean 'ratings'"):
        minimum_rating(pl.LazyFrame({"ratings": [1]}), 3)
