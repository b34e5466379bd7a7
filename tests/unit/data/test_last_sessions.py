"""The last session of each user held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import forethought as ft
from forethought.data.splits import make_split
from forethought.data.stored import open_again
from forethought.errors import ConfigError, DataError

Visits = list[list[list[int]]]
"""Of each user the items of each session."""

THREE: Visits = [[[0, 1], [2], [3, 4, 3]], [[5], [6, 0]], [[1], [1, 2], [2, 0], [4, 5]], [[6]]]


def table(visits: Visits, *, shared: bool = True, times: bool = True) -> pl.DataFrame:
    """Sessions of two users have the same names, or none do; with times the rows are shuffled."""
    rows: list[dict[str, Any]] = []
    for user, sessions in enumerate(visits):
        for number, items in enumerate(sessions):
            name = f"s{number * 7 % 5}-{number}" if shared else f"{user}/{number}"
            rows += [{"user_id": user, "item_id": item, "session": name} for item in items]
    frame = pl.DataFrame(rows).with_columns(timestamp=1000 + pl.int_range(pl.len()))
    return frame.sample(fraction=1.0, shuffle=True, seed=1) if times else frame.drop("timestamp")


def cases(split: ft.Split, part: str) -> list[tuple[int, list[int], int]]:
    """User, history and target of each case, in ids."""
    of, items, users = getattr(split, part), split.data.items.ids, split.data.users.ids
    found = zip(of.history.users, range(len(of)), of.targets, strict=True)
    return [(users[int(u)], items.gather(of.history[n]).to_list(), items[int(t)]) for u, n, t in found]


def wanted(visits: Visits, back: int) -> list[tuple[int, list[int], int]]:
    return [
        (user, [item for session in sessions[:-back] for item in session], target)
        for user, sessions in enumerate(visits)
        if len(sessions) >= 3
        for target in dict.fromkeys(sessions[-back])
    ]


def trained(split: ft.Split) -> list[list[int]]:
    return [split.data.items.ids.gather(split.train[n]).to_list() for n in range(len(split.train))]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("times", [True, False])
@given(
    visits=st.lists(
        st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=4), min_size=1, max_size=5), min_size=1, max_size=6
    )
)
def test_it_is_its_definition(visits: Visits, shared: bool, times: bool) -> None:
    visits = [*visits, [[0], [1], [2]]]
    split = ft.leave_last_session_out(ft.read(table(visits, shared=shared, times=times), session="session"))
    assert cases(split, "valid") == wanted(visits, 2)
    assert cases(split, "test") == wanted(visits, 1)
    left = [sessions[:-2] if len(sessions) >= 3 else sessions for sessions in visits]
    assert trained(split) == [[item for session in sessions for item in session] for sessions in left]


def test_what_leaks_is_counted_from_the_beginning_of_a_session() -> None:
    split = ft.leave_last_session_out(ft.read(table(THREE), session="session"))
    assert (len(split.valid), len(split.test)) == (3, 4)
    report = ft.leakage(split)
    assert report.test.future is not None
    begins, stamps = [1003, 1003, 1014, 1014], table(THREE).sort("timestamp")
    inside = [1000, 1001, 1006, 1007, 1008, 1009, 1010, 1011, 1016]
    assert stamps.height == 17
    assert report.test.future.tolist() == [sum(moment > begin for moment in inside) for begin in begins]


def test_the_protocol_knows_the_sessions(tmp_path: Path) -> None:
    data = ft.read(table(THREE), session="session")
    split = ft.leave_last_session_out(data)
    again = make_split(data, split.config)
    assert again.protocol == split.protocol
    assert split.protocol["split"] == split.config.kind == "leave_last_session_out"
    others = table(THREE).with_columns(
        session=pl.when(pl.col("timestamp") == 1003).then(pl.lit("x")).otherwise("session")
    )
    moved = ft.leave_last_session_out(ft.read(others, session="session"))
    assert moved.data.data_hash == data.data_hash
    assert moved.protocol != split.protocol


def test_it_is_prepared_and_opened_again(tmp_path: Path) -> None:
    table(THREE).rename({"session": "visit"}).write_parquet(tmp_path / "t.parquet")
    config = ft.PrepareConfig(columns=ft.Columns(session="visit"), split=ft.SplitConfig(kind="leave_last_session_out"))
    made = ft.prepare(tmp_path / "t.parquet", tmp_path / "p", config)
    opened = ft.open_prepared(tmp_path / "p")
    assert opened.protocol == made.protocol
    for part in ("valid", "test"):
        assert cases(opened, part) == cases(made, part) == wanted(THREE, 2 if part == "valid" else 1)
    written = pl.read_parquet(tmp_path / "p" / "interactions.parquet")
    assert written.columns == ["user_id", "item_id", "timestamp", "session", "position", "split"]
    marks = written.filter(pl.col("user_id") == 0)["split"].to_list()
    assert marks == ["train", "train", "valid", "test", "test", "test"]
    changed = written.with_columns(session=pl.int_range(pl.len(), dtype=pl.Int32))
    changed.write_parquet(tmp_path / "p" / "interactions.parquet")
    with pytest.raises(DataError, match="as its column session has changed since"):
        ft.open_prepared(tmp_path / "p")


def test_filters_take_the_sessions_along(tmp_path: Path) -> None:
    visits: Visits = [[[0, 9, 1], [8], [2, 0], [1, 2]], [[0, 1], [7, 2], [0]]]
    data = ft.read(table(visits), session="session")
    table(visits).write_parquet(tmp_path / "t.parquet")
    config = ft.PrepareConfig(
        columns=ft.Columns(session="session"),
        split=ft.SplitConfig(kind="leave_last_session_out"),
        keep=ft.Filters(k_core=(1, 2)),
    )
    made = ft.prepare(tmp_path / "t.parquet", tmp_path / "p", config)
    left: Visits = [[[0, 1], [2, 0], [1, 2]], [[0, 1], [2], [0]]]
    assert len(data) == 13
    assert cases(made, "test") == wanted(left, 1)
    assert cases(made, "valid") == wanted(left, 2)


def test_the_data_of_a_run_is_read_with_its_sessions(tmp_path: Path) -> None:
    table(THREE).write_parquet(tmp_path / "t.parquet")
    split = ft.leave_last_session_out(ft.read(tmp_path / "t.parquet", session="session"))
    assert split.data.origin is not None
    about = {**split.data.origin.noted(), "data_hash": split.data.data_hash}
    assert open_again(about, split.config).protocol == split.protocol


def test_what_cannot_be_held_out_is_told() -> None:
    with pytest.raises(DataError, match=r"read the table with session=COLUMN \(on the command line --session-column\)"):
        ft.leave_last_session_out(ft.read(table(THREE)))
    with pytest.raises(DataError, match="needs a user with three sessions, but no user here has them"):
        ft.leave_last_session_out(ft.read(table([[[0], [1]], [[2]]]), session="session"))
    returns = pl.DataFrame({"user_id": [3, 3, 3, 4, 4, 4], "item_id": [0, 1, 2, 0, 1, 2], "session": list("abcded")})
    with pytest.raises(DataError, match=r"Sessions of 1 users go on after another .*first: user 4.*: give each visit"):
        ft.leave_last_session_out(ft.read(returns, session="session"))
    with pytest.raises(DataError, match="There is no session column 'visit'"):
        ft.read(table(THREE), session="visit")
    with pytest.raises(DataError, match="The column 'session' is empty in 1 of 6 rows"):
        ft.read(returns.with_columns(session=pl.col("session").replace("a", None)), session="session")
    with pytest.raises(ConfigError, match="ties would change nothing, because the split is leave_last_session_out"):
        make_split(ft.read(table(THREE), session="session"), {"kind": "leave_last_session_out", "ties": "shuffle"})


def test_sessions_are_numbers_in_the_order_of_histories() -> None:
    data = ft.read(table(THREE), session="session")
    assert data.sessions is not None
    first = data.sessions[: data.histories.lengths[0]]
    assert np.flatnonzero(np.diff(first)).tolist() == [1, 2]
    assert ft.read(table(THREE)).sessions is None
