"""Time columns of every kind become whole ticks since 1970, and a sentence says what was assumed.

Rows are sorted by ticks at the source's own resolution; histories keep whole Unix seconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl

from forethought.errors import DataError

# A count of seconds beyond the year 5138 is one of milliseconds, and so on.
UNITS = (
    (1e11, 1, "seconds"),
    (1e14, 10**3, "milliseconds"),
    (1e17, 10**6, "microseconds"),
    (float("inf"), 10**9, "nanoseconds"),
)
YEAR_1990, YEAR_2100 = 631_152_000, 4_102_444_800  # between them a number is a date in one unit at most
PER_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}
ISO = re.compile(r"\d{4}-\d\d-\d\d(?P<time>[T ]\d\d:\d\d(?P<seconds>:\d\d(\.\d+)?)?(?P<zone>Z|[+-]\d\d:?\d\d)?)?")
KINDS = "give Unix seconds, ISO dates or a datetime column"
MEND = f"{KINDS}, or say time=None (on the command line --time none) to go by the order of the rows"


@dataclass(frozen=True)
class Clock:
    """How to read one time column.

    Attributes:
        ticks: an int64 expression; null where the value cannot be read.
        per_second: ticks in a second.
        note: what was assumed, in words.
    """

    ticks: pl.Expr
    per_second: int
    note: str


def clock(frame: pl.LazyFrame, column: str, mend: str = MEND) -> Clock:
    """Decide how the values of a time column are to be read.

    Args:
        mend: what messages advise.

    Raises:
        DataError: the column has a type that is no time, or numbers in several units.
    """
    dtype, value = frame.collect_schema()[column], pl.col(column)
    if isinstance(dtype, pl.Datetime):
        zone = "" if dtype.time_zone else ", without a zone, taken as UTC"
        return Clock(value.to_physical().cast(pl.Int64), PER_SECOND[dtype.time_unit], f"times are datetimes{zone}")
    if dtype == pl.Date:
        return Clock(value.to_physical().cast(pl.Int64) * 86_400, 1, "times are dates: whole days, UTC")
    if dtype.is_integer() or dtype.is_float():
        return _number(frame, column, dtype, mend)
    if dtype == pl.String:
        return _text(frame, column, mend)
    raise DataError(f"The time column {column!r} has type {dtype}, which is no time: {mend}.")


def _number(frame: pl.LazyFrame, column: str, dtype: pl.DataType, mend: str) -> Clock:
    value = pl.col(column)
    finite = (value.filter(value.is_finite()) if dtype.is_float() else value.drop_nulls()).cast(pl.Float64)
    dates = {unit: _is_date(finite, per_second).sum() for _, per_second, unit in UNITS}
    looks = frame.select(finite.abs().max().alias("largest"), finite.len().alias("all"), **dates)
    extremes = looks.collect(engine="streaming").row(0, named=True)
    per_second, unit = next((n, name) for limit, n, name in UNITS if (extremes["largest"] or 0) < limit)
    others = [name for name in dates if name != unit and extremes[name]]
    # Dates in another unit than the largest number's, and more of them than numbers that are no date in any: as times
    # that begin at 0 a column may have some, but then it has more in between.
    if sum(extremes[name] for name in others) > extremes["all"] - sum(extremes[name] for name in dates):
        raise DataError(_mixed(frame, column, unit, others[0]) + f", or {mend}.")
    note = f"times are numbers taken as Unix {unit}"
    if dtype.is_float():  # microseconds are what a float64 still counts exactly
        whole = (pl.when(value.is_finite()).then(value.cast(pl.Float64)) * (1e6 / per_second)).floor()
        return Clock(whole.cast(pl.Int64, strict=False), 10**6, note)
    return Clock(value.cast(pl.Int64, strict=False), per_second, note)


def _is_date(value: pl.Expr, per_second: int) -> pl.Expr:
    return value.is_between(YEAR_1990 * per_second, YEAR_2100 * per_second, closed="left")


def _mixed(frame: pl.LazyFrame, column: str, unit: str, other: str) -> str:
    """What to say of a column whose largest number is in one unit, and others in another."""
    value = pl.col(column).cast(pl.Float64)
    per_second = next(n for _, n, name in UNITS if name == other)
    is_largest = value.abs() == value.filter(value.is_finite()).abs().max()
    rows = frame.select(column).with_row_index("which row")
    asked = (_is_date(value, per_second), is_largest)
    (at, one), (odd_at, odd) = (rows.filter(which).head(1).collect().row(0) for which in asked)
    return (
        f"The time column {column!r} mixes units: row {at} holds {one}, which is a date as Unix {other}, and row "
        f"{odd_at} holds {odd}, which could only be Unix {unit} (counted from 0): bring all to one unit"
    )


def _text(frame: pl.LazyFrame, column: str, mend: str) -> Clock:
    """The first value decides how all are written; a value written otherwise becomes null and is reported."""
    first = frame.select(pl.col(column).drop_nulls().first()).collect().item() or ""
    shape = ISO.fullmatch(first)
    if shape is None:
        raise DataError(f"The time column {column!r} holds text such as {first!r}, which is no ISO date: {mend}.")
    form = "%Y-%m-%d"
    if shape["time"]:
        form += shape["time"][0] + ("%H:%M:%S%.f" if shape["seconds"] else "%H:%M") + ("%#z" if shape["zone"] else "")
    parsed = pl.col(column).str.to_datetime(form, time_unit="us", strict=False)
    zone = "" if shape["zone"] else ", taken as UTC"
    return Clock(parsed.to_physical().cast(pl.Int64), 10**6, f"times are ISO text such as {first!r}{zone}")


def doubts(times: np.ndarray | None) -> tuple[str, ...]:
    """What is odd about times in Unix seconds as they were read, in words."""
    if times is None or len(times) == 0 or (earliest := int(times.min())) >= YEAR_1990:
        return ()
    early = int(np.count_nonzero(times < YEAR_1990))
    return (
        f"{early:,} of {len(times):,} times lie before 1990 (the earliest: {iso(earliest)}), so they may count from "
        "another origin or in another unit, and their order may be wrong",
    )


def moment(value: Any, name: str) -> int:
    """A point in time as Unix seconds, from an integer, an ISO text, a date or a datetime (UTC where no zone is said).

    Raises:
        DataError: anything else.

    Example:
        >>> moment("1970-01-02", "valid_from")
        86400
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise DataError(
                f"{name}={value!r} is no ISO date: write it like '2014-01-31' or '2014-01-31T12'."
            ) from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime):
        return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() // 1)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise DataError(f"{name}={value!r} is no time: give an ISO date, Unix seconds or a share such as 0.9.")
    return int(value)


def iso(seconds: int) -> str:
    """Unix seconds as an ISO date, with the time of day where there is one; beyond the calendar, the number."""
    try:
        moment = datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return str(int(seconds))
    return f"{moment:%Y-%m-%d}" if seconds % 86_400 == 0 else f"{moment:%Y-%m-%dT%H:%M:%SZ}"
