"""The doctor names what was broken on purpose, and never raises."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.data.doctor import diagnose

DAY = 86_400


def table(**columns: Any) -> pl.DataFrame:
    base = {"user_id": [1, 1, 1, 2], "item_id": [5, 6, 7, 5], "timestamp": [10**9 + 7 * i for i in range(4)]}
    return pl.DataFrame(base | columns)


@pytest.mark.parametrize(
    ("frame", "level", "said"),
    [
        (table(user_id=[1, None, None, 2]), "problem", r"'user_id' is empty in 2 rows \(first: 1, 2\)"),
        (table(user_id=[1.0, float("nan"), 2.0, 3.0]), "problem", r"'user_id' is empty in 1 row \(first: 1\)"),
        (table(item_id=[1.0, 2.0, 2.0, 3.0]), "problem", "whole numbers stored as floats"),
        (table(item_id=[1.0, 2.5, 2.0, 3.0]), "problem", r"floats with fractions in 1 row \(first: 1\)"),
        (table(item_id=["a", "nan", "b", ""]), "warning", r"look like missing ids in 2 rows \(first: 1, 3\)"),
        (table(item_id=["a", "b ", "b", "c"]), "warning", "begin or end with blanks in 1 row"),
        (table(timestamp=["2020-01-01", "soon", None, "2020-01-02"]), "problem", "empty or unreadable in 2 rows"),
        (table(timestamp=[20140701, 10**9, 10**9, 10**9]), "warning", "before 1990 in 1 row"),
        (table(timestamp=[10**12, 10**9, 10**9, 10**9]), "problem", "mixes units: row 1 holds 1000000000"),
        (table(timestamp=[2 * 10**9 * 5] * 4), "warning", "in the future in 4 rows"),
        (table(timestamp=[10**12 + i for i in range(4)]), "note", "finer than seconds"),
        (table(timestamp=[DAY * 9000 + DAY * i for i in range(4)]), "warning", "whole days"),
        (table(timestamp=[10**9, 10**9 - 5, 10**9, 10**9]), "note", "not in order of time"),
        (table(item_id=[5, 5, 7, 5], timestamp=[10**9] * 4), "warning", r"stand again in 1 row \(first: 1\)"),
        (
            table(user_id=[1, 2, 3, 4]),
            "warning",
            "fewer than three interactions, who can only train: 4, with a single one: 4",
        ),
        (table(user_id=[1, 2, 3, 4]), "warning", "no user has three interactions"),
        (table(), "note", "2 of 3 items occur once"),
        (table(item_id=[5, 5, 5, 5]), "note", "users meet items again"),
        (table(), "note", "history lengths 1, 1, 2, 2, 3"),
        (table()[:0], "problem", "There are no rows"),
        (table().rename({"user_id": "userid"}), "problem", "Did you mean 'userid'"),
        (pl.DataFrame(), "problem", "no user column"),
        (table(user_id=[[1]] * 4), "problem", "'user_id' has type List"),
        (pl.DataFrame({"user_id": [object()], "item_id": [1]}), "problem", "Python objects"),
        (3, "problem", "table cannot be made"),
        ("nowhere.parquet", "problem", "no file or folder"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_finding(frame: Any, level: str, said: str) -> None:
    diagnosis = diagnose(frame)
    found = [each for each in diagnosis.findings if re.search(said, each.text)]
    assert [each.level for each in found] == [level], diagnosis.sentences()
    if level == "problem":
        assert not diagnosis.healthy
        assert diagnosis.findings[0].level == "problem"


def test_a_healthy_table_says_what_read_does() -> None:
    diagnosis = diagnose(table())
    assert diagnosis.healthy
    assert any("read: times are numbers taken as Unix seconds" in line for line in diagnosis.sentences())
    assert any("leave-last-out: " in line for line in diagnosis.sentences())


def test_sessions_are_recognised() -> None:
    sessions = np.repeat(np.arange(300), 3)
    stamps = 10**9 + sessions * DAY // 3 + np.tile([0, 60, 200], 300)
    frame = pl.DataFrame({"user_id": sessions, "item_id": np.arange(900) % 40, "timestamp": stamps})
    assert any("look like sessions" in each.text for each in diagnose(frame).findings)
    assert any("may be sessions" in each.text for each in diagnose(frame, time=None).findings)
    people = frame.with_columns(user_id=pl.col("user_id") % 20)
    assert not any("sessions" in each.text for each in diagnose(people).findings)


def test_broken_files_do_not_raise(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nothing here PAR1")
    (tmp_path / "t.csv").write_text("")
    for name in ("t.parquet", "t.csv"):
        assert not diagnose(tmp_path / name).healthy


cells = st.one_of(st.none(), st.integers(-3, 2**40), st.floats(), st.text(max_size=3), st.dates(), st.booleans())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(cells, cells, cells), max_size=6))
def test_it_never_raises(rows: list[tuple[Any, Any, Any]]) -> None:
    columns = {name: [row[at] for row in rows] for at, name in enumerate(("user_id", "item_id", "timestamp"))}
    frame = pl.DataFrame({name: pl.Series(values, strict=False) for name, values in columns.items()})
    diagnosis = diagnose(frame)
    assert diagnosis.findings
    assert all("\n" not in line for line in diagnosis.sentences())


def test_it_is_quick() -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "user_id": rng.integers(0, 2000, 100_000),
            "item_id": rng.integers(0, 999, 100_000),
            "timestamp": 10**9 + rng.integers(0, 10**8, 100_000),
        }
    )
    start = time.perf_counter()
    assert diagnose(frame).healthy
    assert time.perf_counter() - start < 5
