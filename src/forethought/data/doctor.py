"""The doctor looks at a table and says in words what is wrong, what is odd, and how to mend it. It never raises."""

from __future__ import annotations

import time as clock_time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from forethought.data.columns import AUTO, Columns
from forethought.data.interactions import Interactions
from forethought.data.leakage import DAY, leakage
from forethought.data.reading import read
from forethought.data.sources import describe, open_table, readable
from forethought.data.splits import leave_last_out
from forethought.data.times import YEAR_1990, clock, doubts, iso
from forethought.errors import ForethoughtError

Level = Literal["problem", "warning", "note"]
NO_NAMES = ["", "nan", "NaN", "null", "NULL", "None", "none", "N/A", "<NA>"]


@dataclass(frozen=True)
class Finding:
    """One thing the doctor saw.

    Attributes:
        level: "problem" stops `read`, "warning" spoils results, "note" is good to know.
        text: what was found: which column, how many rows, which first.
        mend: what to do about it; empty where nothing need be done.
    """

    level: Level
    text: str
    mend: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All findings about one table, the worst first."""

    source: str
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether `read` will take the table."""
        return all(finding.level != "problem" for finding in self.findings)

    def sentences(self) -> list[str]:
        """The findings, a line each."""
        return [f"{each.level}: {each.text}{' ' + each.mend if each.mend else ''}" for each in self.findings]


def diagnose(
    source: Any,
    *,
    user: str = "user_id",
    item: str = "item_id",
    time: str | None = AUTO,
    position: str | None = AUTO,
    items: Any = None,
) -> Diagnosis:
    """Examine a table of interactions, however broken.

    Args:
        source, user, item, time, position, items: as in `read`.

    Example:
        >>> diagnose(pl.DataFrame({"user_id": [1, None], "item_id": [3, 4]})).healthy
        False
    """
    findings: list[Finding] = []
    try:
        with readable(source):
            source = open_table(source)
    except (ForethoughtError, *UNREADABLE) as error:
        return Diagnosis(describe(source), (Finding("problem", str(error)),))
    frame = source.frame
    try:
        with readable(source):
            names = frame.collect_schema().names()
            for column in dict.fromkeys((user, item)):
                if column in names:
                    findings += _ids(frame, column)
            columns = Columns(user=user, item=item, time=time, position=position).resolve(frame, source)
            if columns.time:
                findings += _times(frame, columns.time, columns.user)
            findings += _duplicates(frame, columns)
    except (ForethoughtError, *UNREADABLE) as error:
        findings.append(Finding("problem", str(error)))
    findings += _as_read(source, findings, user=user, item=item, time=time, position=position, items=items)
    order: list[Level] = ["problem", "warning", "note"]
    return Diagnosis(describe(source), tuple(sorted(dict.fromkeys(findings), key=lambda each: order.index(each.level))))


# A broken table can make polars fail in ways of its own, a Rust panic included, which is no Exception.
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, TypeError)


def _as_read(source: Any, findings: list[Finding], **columns: Any) -> list[Finding]:
    """What `read` makes of the table: its notes and the shape of the data, or why it refuses."""
    try:
        data = read(source, **columns)
        said = set(doubts(data.histories.times))  # which `_times` told already, with its rows
        return [*(Finding("note", f"read: {note}.") for note in data.notes if note not in said), *_shape(data)]
    except (ForethoughtError, *UNREADABLE) as error:
        problem = Finding("problem", str(error))
        return [] if any(each.level == "problem" for each in findings) else [problem]


def _rows(frame: pl.LazyFrame, marked: pl.Expr, n: int = 3) -> tuple[int, str]:
    """How many rows are marked, and the first of them in words (rows are counted from 0)."""
    rows = frame.select(marked.fill_null(False).alias("marked")).with_row_index("row").filter("marked").select("row")
    count, first = pl.collect_all([rows.select(pl.len()), rows.head(n)])
    numbers = ", ".join(map(str, first["row"].to_list()))
    return count.item(), f"{count.item():,} row{'s' * (count.item() > 1)} (first: {numbers})"


def _ids(frame: pl.LazyFrame, column: str) -> list[Finding]:
    dtype, value = frame.collect_schema()[column], pl.col(column)
    findings = []
    count, rows = _rows(frame, value.is_null() | (value.is_nan() if dtype.is_float() else pl.lit(False)))
    if count:
        findings.append(Finding("problem", f"the id column {column!r} is empty in {rows}.", "Drop those rows."))
    if dtype.is_float():
        fraction, where = _rows(frame, value.is_finite() & (value != value.floor()))
        if fraction:
            text, mend = f"the ids in {column!r} are floats with fractions in {where}.", "Name the column of ids."
        else:
            text, mend = f"the ids in {column!r} are whole numbers stored as floats.", "Cast them to integers."
        findings.append(Finding("problem", text, mend))
    if dtype == pl.String:
        count, rows = _rows(frame, value.is_in(NO_NAMES))
        if count:
            text = f"the id column {column!r} holds words such as 'nan' or '' that look like missing ids in {rows}."
            findings.append(Finding("warning", text, "If they are, drop those rows: all of them count as one id."))
        count, rows = _rows(frame, value != value.str.strip_chars())
        if count:
            text = f"ids in {column!r} begin or end with blanks in {rows}, which makes them different ids."
            findings.append(Finding("warning", text, "Strip them."))
    return findings


def _times(frame: pl.LazyFrame, column: str, user: str) -> list[Finding]:
    unit = clock(frame, column)
    ticks = frame.select(user=pl.col(user), tick=unit.ticks)
    count, rows = _rows(ticks, pl.col("tick").is_null())
    findings = []
    if count:
        text = f"the time column {column!r} is empty or unreadable in {rows}."
        findings.append(Finding("problem", text, "Mend or drop them."))
    seconds = ticks.drop_nulls("tick").select("user", second=pl.col("tick") // unit.per_second)
    early, rows = _rows(seconds, pl.col("second") < YEAR_1990)
    if early:
        text = f"times in {column!r} lie before 1990 in {rows}."
        findings.append(Finding("warning", text, "They may count from another origin or in another unit."))
    late, rows = _rows(seconds, pl.col("second") > int(clock_time.time()) + DAY)
    if late:
        findings.append(Finding("warning", f"times in {column!r} lie in the future in {rows}.", "Check the unit."))
    if unit.per_second > 1 and frame.collect_schema()[column].is_integer():
        findings.append(Finding("note", f"the integers in {column!r} are finer than seconds, which are kept."))
    looks = seconds.select(
        whole_days=(pl.len() > 0) & (pl.col("second") % DAY == 0).all(),
        backwards=(pl.col("second").diff().over("user") < 0).any(),
    ).collect()
    if looks["whole_days"].item():
        text = f"times in {column!r} are whole days, so the order within a day is not known."
        findings.append(Finding("warning", text, 'Report ties="shuffle" beside ties="file", or use a temporal split.'))
    if looks["backwards"].item():
        findings.append(Finding("note", "the rows of some users are not in order of time; read sorts them."))
    return findings


def _duplicates(frame: pl.LazyFrame, columns: Columns) -> list[Finding]:
    keys = [name for name in (columns.user, columns.item, columns.time) if name is not None]
    if columns.time is None:
        return []
    count, rows = _rows(frame.select(keys), ~pl.struct(keys).is_first_distinct())
    if not count:
        return []
    text = f"the same user, item and time stand again in {rows}."
    return [
        Finding(
            "warning",
            text,
            "Drop them with duplicates='same_time' (prepare --duplicates same_time) unless they are true repeats.",
        )
    ]


def _shape(data: Interactions) -> list[Finding]:
    """What the data looks like once read."""
    lengths = data.histories.lengths
    counts = np.bincount(data.histories.items, minlength=data.n_items)
    quantiles = ", ".join(f"{int(np.quantile(lengths, q))}" for q in (0, 0.25, 0.5, 0.75, 1))
    findings = [
        Finding(
            "note",
            f"{data.n_users:,} users, {data.n_items:,} items, {len(data):,} interactions, density "
            f"{len(data) / (data.n_users * data.n_items):.4%}; history lengths {quantiles} "
            "(least, quartiles, most).",
        )
    ]
    single, short = int((lengths == 1).sum()), int((lengths < 3).sum())
    if short:
        text = (
            f"users with fewer than three interactions, who can only train: {short:,}, with a single one: {single:,}."
        )
        findings.append(Finding("warning" if short > data.n_users / 2 else "note", text, "A k-core filter drops them."))
    once = int((counts == 1).sum())
    if once:
        text = f"{once:,} of {data.n_items:,} items occur once; held out, they were never seen in training."
        findings.append(Finding("note", text, "A k-core filter drops them."))
    if data.repeats:
        findings.append(Finding("note", "users meet items again, so histories stay among the candidates."))
    findings += _sessions(data)
    if (lengths >= 3).any():
        findings += [
            Finding("note", f"leave-last-out: {sentence}") for sentence in leakage(leave_last_out(data)).sentences()
        ]
    else:
        findings.append(Finding("warning", "no user has three interactions: leave-last-out is not possible."))
    return findings


def _sessions(data: Interactions) -> list[Finding]:
    """Whether a user looks like one visit: all within a day or, without times, few items each and very many users."""
    histories = data.histories
    several = histories.lengths >= 2
    if not several.any():
        return []
    if histories.times is None:
        median = float(np.median(histories.lengths))
        if median > 4 or data.n_users < 2 * data.n_items:
            return []
        text = f"histories are short (median {median:g}) and users many: these may be sessions rather than people."
        return [Finding("note", text, "Then Recall and MRR at 20 are what papers print.")]
    span = histories.times[histories.ends[several] - 1] - histories.times[histories.starts[several]]
    within_day = float((span < DAY).mean())
    if within_day < 0.9:
        return []
    spread = f"{iso(histories.times.min())} to {iso(histories.times.max())}"
    text = f"{within_day:.0%} of users stay within a day, while the data runs from {spread}: these look like sessions."
    return [Finding("note", text, "A temporal split suits them; no user returns.")]
