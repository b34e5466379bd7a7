"""What happened after a moment as cases, against a walk over the rows one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from forethought.data.interactions import Interactions
from forethought.data.later import is_later, later_cases, seen_until
from forethought.data.periods import Targets
from forethought.data.reading import read
from forethought.data.splits import leave_last_out, temporal
from forethought.data.times import iso
from forethought.data.vocabulary import Vocabulary
from forethought.errors import DataError

ITEMS = [f"i{n}" for n in range(9, -1, -1)]  # known items, in an order of their own; the data has two more
BEGIN = 60


@pytest.fixture
def frame() -> pl.DataFrame:
    draw = np.random.default_rng(4)
    n = 300
    return pl.DataFrame(
        {
            "user_id": [f"u{u}" for u in draw.integers(0, 25, n)],
            "item_id": [f"i{i}" for i in draw.integers(0, 12, n)],
            "timestamp": 1_700_000_000 + draw.integers(0, 100, n),  # many at the same second
        }
    )


@pytest.fixture
def data(frame: pl.DataFrame) -> Interactions:
    return read(frame)


@pytest.mark.parametrize("targets", ["first", "last", "all"])
def test_what_is_known_comes_before_and_what_is_to_be_found_comes_after(
    data: Interactions, frame: pl.DataFrame, targets: Targets
) -> None:
    begin = 1_700_000_000 + BEGIN
    table = pl.DataFrame({"item_id": ITEMS})
    split = later_cases(data, Vocabulary.from_series(pl.Series(ITEMS)), table, begin, targets)
    expected, alone = [], 0
    for user in sorted(frame["user_id"].unique()):
        rows = [
            (at, item) for u, item, at in sorted(frame.rows(), key=lambda row: row[2]) if u == user and item in ITEMS
        ]
        late = [(at, item) for at, item in rows if at >= begin]
        late = {"first": late[:1], "last": late[-1:], "all": late}[targets]
        for at, item in late:
            history = sorted((when, ITEMS.index(what)) for when, what in rows if when < at)
            alone += not history
            if history:
                expected.append((user, ITEMS.index(item), history))
    found = []
    histories = split.data.histories
    assert histories.times is not None
    for row, target in enumerate(split.test.targets.tolist()):
        span = slice(split.test.history.starts[row], split.test.history.ends[row])
        history = sorted(zip(histories.times[span].tolist(), histories.items[span].tolist(), strict=True))
        found.append((split.data.users.ids[int(split.test.history.users[row])], target, history))
    assert sorted(found) == sorted(expected)
    late_others = frame.filter((pl.col("timestamp") >= begin) & ~pl.col("item_id").is_in(ITEMS))
    told = {"cases": len(expected), "without_history": alone, "unknown_items": len(late_others)}
    assert split.protocol["test"] == told
    assert split.protocol["since"] == iso(begin)
    assert is_later(split)
    assert not len(split.valid)
    before = frame.filter((pl.col("timestamp") < begin) & pl.col("item_id").is_in(ITEMS))
    counts = [before.filter(pl.col("item_id") == item).height for item in ITEMS]
    assert split.train.item_counts(len(ITEMS)).tolist() == counts
    assert split.data.items.ids.to_list() == ITEMS


def test_where_nothing_is_to_be_found_it_says_why(data: Interactions) -> None:
    known = Vocabulary.from_series(pl.Series(ITEMS))
    table = pl.DataFrame({"item_id": ITEMS})
    with pytest.raises(DataError, match="no case since 2024-01-01: the data ends at 2023-11-14"):
        later_cases(data, known, table, 1_704_067_200, "first")
    alone = data.where(np.arange(len(data)) == data.histories.ends[0] - 1)
    with pytest.raises(DataError, match=r"0 interactions .* unknown items, 1 known ones have no history"):
        later_cases(alone, known, table, 1_700_000_000, "first")
    with pytest.raises(DataError, match="None of the 12 items"):
        later_cases(data, Vocabulary.from_series(pl.Series(["x"])), pl.DataFrame({"item_id": ["x"]}), 0, "first")


def test_what_a_training_has_seen_ends_before_what_it_is_tested_on(frame: pl.DataFrame) -> None:
    frame = frame.with_columns(timestamp=1_700_000_000 + pl.int_range(pl.len()))  # no ties
    data = read(frame)
    left_out = frame.filter(pl.col("timestamp") == pl.col("timestamp").max().over("user_id"))
    seen = frame.join(left_out, on=["user_id", "timestamp"], how="anti").filter(pl.len().over("user_id") >= 2)
    assert seen_until(leave_last_out(data)) == iso(int(seen["timestamp"].max()))  # type: ignore[arg-type]
    split = temporal(data, valid_from=1_700_000_150, test_from=1_700_000_220)
    tested = set(split.test.history.users.tolist())
    assert tested
    first = frame.filter(pl.col("timestamp").is_between(1_700_000_150, 1_700_000_219))
    first = first.filter(pl.col("timestamp") == pl.col("timestamp").min().over("user_id"))
    assert seen_until(split) == iso(int(first["timestamp"].max()))  # type: ignore[arg-type]
    untimed = replace(data, histories=replace(data.histories, times=None))
    assert seen_until(leave_last_out(untimed)) is None
