"""The leakage report, counted again by loops."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import assume, given
from hypothesis import strategies as st

from forethought.data.leakage import leakage
from forethought.data.reading import read
from forethought.data.splits import Split, leave_last_out, temporal
from forethought.errors import DataError

DAY = 86_400
rows = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 8), st.integers(0, 6).map(lambda half: half * DAY // 2)),
    min_size=3,
    max_size=50,
)


def check(split: Split) -> None:
    report, histories = leakage(split), split.train.histories
    assert histories.times is not None
    times, items = histories.times, histories.items
    train_times = [t for a, b in zip(split.train.starts, split.train.ends, strict=True) for t in times[a:b]]
    trained = {i for row in range(len(split.train)) for i in split.train[row].tolist()}
    assert report.train_interactions == len(train_times)
    for part, cases in ((report.valid, split.valid), (report.test, split.test)):
        history = cases.history
        moments = times[history.ends]
        assert part.future is not None
        assert part.future.tolist() == [sum(t > moment for t in train_times) for moment in moments]
        late = [times[b - 1] >= moment for b, moment in zip(history.ends, moments, strict=True)]
        assert part.not_earlier == sum(late)
        assert part.cold_items == sum(target not in trained for target in cases.targets.tolist())
        assert part.cold_users == sum(split.train.lengths[user] == 0 for user in history.users)
        assert part.repeats == sum(cases.targets[row] in history[row] for row in range(len(cases)))
    per_user = [times[a:b] for a, b in zip(histories.starts, histories.ends, strict=True)]
    gaps = np.concatenate([np.diff(each) for each in per_user])
    assert report.same_second == ((gaps == 0).mean() if len(gaps) else 0)
    days = [each[-1] // DAY == each[-2] // DAY for each in per_user if len(each) > 1]
    assert report.last_two_same_day == np.mean(days)
    assert len(items) == len(times)


@given(rows)
def test_leave_last_out_is_counted_right(rows: list[tuple[int, int, int]]) -> None:
    data = read(pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"))
    assume((data.histories.lengths >= 3).any())
    for ties in ("file", "shuffle"):
        check(leave_last_out(data, ties=ties))


@given(rows, st.sampled_from(["first", "last", "all"]))
def test_temporal_has_no_future_and_no_ties(rows: list[tuple[int, int, int]], targets: str) -> None:
    data = read(pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"))
    try:
        split = temporal(data, valid_from=DAY, test_from=2 * DAY, targets=targets)  # pyright: ignore[reportArgumentType]
    except DataError:
        assume(False)
        return
    check(split)
    report = leakage(split)
    for part in (report.valid, report.test):
        assert part.future is not None
        assert part.future.sum() == 0
        assert part.not_earlier == 0
    assert report.sentences()[0].startswith("Zero of")


def test_the_report_in_words() -> None:
    table = pl.DataFrame(
        {"user_id": [1, 1, 1, 2, 2, 2], "item_id": [1, 2, 1, 1, 2, 3], "timestamp": [0, DAY, DAY, 0, 5 * DAY, 9 * DAY]}
    )
    said = " ".join(leakage(leave_last_out(read(table))).sentences())
    assert "Zero of 2 training interactions" in said
    assert "25.0% of adjacent interactions share their time, and 50.0% of users" in said
    assert "Of 2 test cases 0 are of users and 1 of items that training never saw, and 1 repeat" in said
    late = pl.concat([table, pl.DataFrame({"user_id": [3], "item_id": [1], "timestamp": [7 * DAY]})])
    said = leakage(leave_last_out(read(late))).sentences()[0]
    assert said.startswith("Leakage: for 50.0% of test cases training holds interactions later than the target")


def test_without_times_it_says_so() -> None:
    report = leakage(leave_last_out(read(pl.DataFrame({"user_id": [1] * 3, "item_id": [1, 2, 1]}))))
    assert report.test.future is None
    assert report.test.future_share is None
    assert report.test.repeats == 1
    assert report.sentences()[0].startswith("Without times nobody can say")
