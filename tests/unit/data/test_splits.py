"""Splits against their definitions, written out case by case."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta, timezone
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from forethought.data.histories import Cases
from forethought.data.interactions import Interactions
from forethought.data.reading import read
from forethought.data.splits import SplitConfig, leave_last_out, make_split, temporal
from forethought.data.ties import shuffle_ties
from forethought.data.times import iso, moment
from forethought.errors import ConfigError, DataError

Row = tuple[int, int, int]
rows = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8), st.integers(0, 9)), min_size=3, max_size=60)


def interactions(rows: list[Row]) -> Interactions:
    return read(pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"))


def histories_of(data: Interactions) -> list[list[tuple[int, int]]]:
    """Of each user row its (item row, time) pairs."""
    h = data.histories
    assert h.times is not None
    return [
        list(zip(h.items[a:b].tolist(), h.times[a:b].tolist(), strict=True))
        for a, b in zip(h.starts, h.ends, strict=True)
    ]


def told(cases: Cases) -> list[tuple[int, list[int], int]]:
    """Cases as (user, history, target)."""
    users = cases.history.users.tolist()
    return [(users[row], cases.history[row].tolist(), int(cases.targets[row])) for row in range(len(cases))]


@given(rows)
def test_leave_last_out_partitions_each_history(rows: list[Row]) -> None:
    data = interactions(rows)
    histories = [[item for item, _ in history] for history in histories_of(data)]
    long = [user for user, history in enumerate(histories) if len(history) >= 3]
    if not long:
        with pytest.raises(DataError, match="at least one user with three"):
            leave_last_out(data)
        return
    split = leave_last_out(data)
    trained = [split.train[row].tolist() for row in range(len(split.train))]
    assert trained == [history[:-2] if len(history) >= 3 else history for history in histories]
    assert told(split.valid) == [(user, histories[user][:-2], histories[user][-2]) for user in long]
    assert told(split.test) == [(user, histories[user][:-1], histories[user][-1]) for user in long]
    assert split.protocol == {"split": "leave_last_out", "ties": "file", "seed": None}


def naive_temporal(data: Interactions, begin: int, end: float, targets: str) -> list[tuple[int, list[int], int]]:
    cases = []
    for user, history in enumerate(histories_of(data)):
        wanted = [(item, time) for item, time in history if begin <= time < end]
        wanted = {"first": wanted[:1], "last": wanted[-1:], "all": wanted}[targets]
        for target, when in wanted:
            known = [item for item, time in history if time < when]
            if known:
                cases.append((user, known, target))
    return cases


@given(rows, st.integers(1, 5), st.integers(1, 4), st.sampled_from(["first", "last", "all"]))
def test_temporal_is_its_definition(rows: list[Row], valid_from: int, gap: int, targets: Any) -> None:
    data = interactions(rows)
    test_from = valid_from + gap
    expected = {
        "valid": naive_temporal(data, valid_from, test_from, targets),
        "test": naive_temporal(data, test_from, 99, targets),
    }
    known = [[item for item, time in history if time < valid_from] for history in histories_of(data)]
    assume(any(known) and expected["valid"] and expected["test"])
    split = temporal(data, valid_from=valid_from, test_from=test_from, targets=targets)
    assert [split.train[row].tolist() for row in range(len(split.train))] == known
    trained = {item for history in known for item in history}
    for part, cases in (("valid", split.valid), ("test", split.test)):
        assert told(cases) == expected[part]
        assert split.protocol[part]["cases"] == len(expected[part])
        assert split.protocol[part]["cold_users"] == sum(not known[user] for user, _, _ in expected[part])
        assert split.protocol[part]["cold_items"] == sum(target not in trained for _, _, target in expected[part])
        # What stands behind a history happened at the time of the target, however many ties there are.
        assert data.histories.times is not None
        moments = data.histories.times[cases.history.ends]
        assert (moments >= valid_from).all()
    warm = [case for case in expected["test"] if known[case[0]] and case[2] in trained]
    warm_valid = [case for case in expected["valid"] if known[case[0]] and case[2] in trained]
    if warm and warm_valid:
        dropped = temporal(
            data, valid_from=valid_from, test_from=test_from, targets=targets, cold_users="drop", cold_items="drop"
        )
        assert told(dropped.test) == warm
        assert told(dropped.valid) == warm_valid


TABLE = pl.DataFrame({"user_id": [1] * 10, "item_id": range(10), "timestamp": [86_400 * day for day in range(10)]})


@pytest.mark.parametrize(
    "bounds",
    [
        ("1970-01-09", "1970-01-10"),
        (date(1970, 1, 9), date(1970, 1, 10)),
        (datetime(1970, 1, 9), datetime(1970, 1, 10, tzinfo=UTC)),
        ("1970-01-09T02:00:00+02:00", datetime(1970, 1, 9, 22, tzinfo=timezone(timedelta(hours=-2)))),
        (8 * 86_400, np.int64(9 * 86_400)),
        (0.8, 0.9),
    ],
    ids=repr,
)
def test_moments_may_be_written_in_many_ways(bounds: tuple[Any, Any]) -> None:
    split = temporal(read(TABLE), valid_from=bounds[0], test_from=bounds[1])
    assert split.train.lengths.tolist() == [8]
    assert split.test.history.lengths.tolist() == [9]
    assert (split.protocol["valid_from"], split.protocol["test_from"]) == ("1970-01-09", "1970-01-10")


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        (("soon", 9), "valid_from='soon' is no ISO date"),
        ((None, 9), "valid_from=None is no time"),
        ((True, 9), "valid_from=True is no time"),
        ((0.5, 1.5), "test_from=1.5 is a float, hence a share"),
        ((9, 9), "must come before"),
        ((0.0, 0.5), "not between 0 and 1"),
        ((-5, 86_400), "training part is empty.*runs from 1970-01-01 to 1970-01-10"),
        ((86_400 * 20, 86_400 * 30), "valid part is empty"),
        ((86_400 * 5, 86_400 * 30), "test part is empty"),
    ],
    ids=str,
)
def test_moments_that_cannot_split_are_refused_in_words(bounds: tuple[Any, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        temporal(read(TABLE), valid_from=bounds[0], test_from=bounds[1])


def test_without_times_there_is_no_temporal_split_and_no_ties() -> None:
    data = read(TABLE, time=None)
    with pytest.raises(DataError, match="no times, so it cannot be split by time: use leave_last_out"):
        temporal(data, valid_from=0.8, test_from=0.9)
    with pytest.raises(DataError, match='no ties to shuffle: use ties="file"'):
        leave_last_out(data, ties="shuffle")


@given(rows, st.integers(0, 3))
def test_shuffling_moves_items_within_ties_only_and_once(rows: list[Row], seed: int) -> None:
    data = interactions(rows)
    shuffled = shuffle_ties(data.histories, seed)
    before = histories_of(data)
    after = [
        list(zip(shuffled.items[a:b].tolist(), data.histories.times[a:b].tolist(), strict=True))
        for a, b in zip(shuffled.starts, shuffled.ends, strict=True)
        if data.histories.times is not None
    ]
    assert [sorted(history, key=lambda pair: pair[::-1]) for history in before] == [
        sorted(history, key=lambda pair: pair[::-1]) for history in after
    ]
    assert shuffle_ties(shuffled, seed).items.tolist() == shuffled.items.tolist()
    backwards = interactions(rows[::-1])
    assert shuffle_ties(backwards.histories, seed).items.tolist() == shuffled.items.tolist()


def test_every_order_of_a_tie_is_drawn_about_as_often() -> None:
    n = 6000
    table = pl.DataFrame({"user_id": np.repeat(np.arange(n), 3), "item_id": np.tile([0, 1, 2], n), "timestamp": 1})
    drawn = shuffle_ties(read(table).histories, 1).items.reshape(n, 3)
    counts = np.unique(drawn @ [9, 3, 1], return_counts=True)[1]
    assert len(counts) == 6
    assert abs(counts - n / 6).max() < 5 * (n / 6) ** 0.5


def test_shuffled_ties_decide_what_is_to_be_found() -> None:
    """Of 50 users with three items in one second each, after one long before: both splits read the drawn order."""
    users, items = np.repeat(np.arange(50), 4), np.tile(range(4), 50)
    table = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": np.tile([10, 500, 500, 500], 50)})
    data = read(table)
    drawn = shuffle_ties(data.histories, 1).items.reshape(50, 4)
    assert 20 < (drawn[:, 3] != 3).sum() < 50
    assert leave_last_out(data).test.targets.tolist() == [3] * 50
    split = leave_last_out(data, ties="shuffle", seed=1)
    assert split.test.targets.tolist() == drawn[:, 3].tolist()
    assert split.valid.targets.tolist() == drawn[:, 2].tolist()
    later = pl.concat([table, table.filter(pl.col("timestamp") == 500).with_columns(timestamp=pl.lit(900, pl.Int64))])
    both = shuffle_ties(read(later).histories, 1).items.reshape(50, 7)
    timed = temporal(read(later), valid_from=100, test_from=800, ties="shuffle", seed=1)
    assert timed.valid.targets.tolist() == both[:, 1].tolist()
    assert timed.test.targets.tolist() == both[:, 4].tolist()


@pytest.mark.parametrize(
    "config",
    [
        SplitConfig(),
        SplitConfig(ties="shuffle", seed=3),
        SplitConfig(kind="temporal", valid_from=0.7, test_from="1970-01-09", targets="all", cold_items="drop"),
        SplitConfig(kind="temporal", valid_from=86_400 * 7, test_from=0.9, ties="shuffle", cold_users="drop"),
    ],
)
def test_a_split_is_made_again_from_its_saved_configuration(config: SplitConfig) -> None:
    data = read(pl.concat([TABLE, TABLE.with_columns(item_id=pl.col("item_id") % 5)]))
    one, other = config.apply(data), make_split(data, json.loads(json.dumps(asdict(config))))
    assert one.protocol == other.protocol
    assert told(one.test) == told(other.test)
    assert told(one.valid) == told(other.valid)
    json.dumps(one.protocol)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"tie": "file"}, "no setting 'tie'.*Did you mean 'ties'"),
        ({"kind": "temporl"}, "Did you mean 'temporal'"),
        ({"kind": "temporal", "valid_from": 0.8}, "needs valid_from and test_from"),
        ({"valid_from": 0.8, "targets": "all"}, "valid_from, targets would change nothing.*leave_last_out"),
        ({"ties": "shuffle", "seed": -1}, "seed is -1, but must be a whole number from 0 to"),
        ({"ties": "random"}, "ties is 'random', but must be one of file, shuffle"),
        ({"targets": "some"}, "targets is 'some', but must be one of first, last, all"),
        ({"cold_items": "no"}, "cold_items is 'no', but must be one of keep, drop"),
    ],
)
def test_unknown_settings_are_refused_in_words(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_split(read(TABLE), config)


@given(st.integers(-(10**9), 10**11))
def test_moments_are_told_as_they_are_understood(seconds: int) -> None:
    assert moment(iso(seconds), "valid_from") == seconds


def test_item_counts_are_those_of_the_spans() -> None:
    data = interactions([(1, 1, 1), (1, 2, 2), (1, 1, 3), (1, 3, 4), (2, 1, 1)])
    split = leave_last_out(data)
    assert split.train.item_counts(3).tolist() == [2, 1, 0]


@pytest.mark.parametrize("split", [leave_last_out, partial(temporal, valid_from=0.5, test_from=0.8)])
def test_a_seed_that_draws_nothing_is_refused(split: Any) -> None:
    data = read(pl.DataFrame({"user_id": [1] * 5, "item_id": [1, 2, 3, 4, 5], "timestamp": [1, 2, 3, 4, 5]}))
    with pytest.raises(ConfigError, match="seed=3 would change nothing"):
        split(data, seed=3)
    split(data, ties="shuffle", seed=3)
