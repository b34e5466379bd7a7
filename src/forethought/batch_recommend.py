"""Recommendations for a whole table of histories, table to table, a few thousand at a time."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from forethought.data.columns import Columns, missing_column
from forethought.data.reading import empty_cells
from forethought.data.sinks import TableKind, check_own, kind_of, sink
from forethought.data.sources import open_table, readable
from forethought.data.stored import recorded_columns
from forethought.data.times import KINDS, clock
from forethought.data.vocabulary import IdKind
from forethought.errors import ConfigError, DataError, HistoryError
from forethought.files import refuse_special, replace_file
from forethought.item_lists import known_items
from forethought.recommender import Recommendation, Recommender, Unknown
from forethought.settings import check

CHUNK = 4096
HISTORY, TIMES, TICKS = "history", "times", "tick"
ADDED = ("items", "scores", "dropped")
ROLES = ("user", "item", "time", "position")


def recommend_table(
    model: Recommender,
    source: str | Path,
    out: str | Path,
    k: int = 10,
    *,
    report: Callable[[int, int], None] | None = None,
    unknown: Unknown = "drop",
    allow: Iterable[Any] | None = None,
    deny: Iterable[Any] | None = None,
    strict_lists: bool = False,
    columns: Mapping[str, str | None] | None = None,
    **choices: Any,
) -> dict[str, Any]:
    """Recommend for every row of a table with a list column `history`, or for every user of an interaction table.

    Memory does not grow with the number of histories. The output repeats the other columns and adds `items` and
    `scores` (lists), and `dropped`, how many ids of the history the model does not know; rows without any known item
    get empty lists.

    Args:
        source: a table with list columns `history` and, for models that read times, `times` (Unix seconds); or rows
            with the columns that the run was trained on (else user_id, item_id and, where known, timestamp and
            position), which are gathered into histories first.
        out: a file ending in .parquet, .csv (where lists stand as JSON) or .jsonl, written whole or not at all; an
            earlier one of ours is replaced, any other file refused.
        unknown: one unknown id among many histories is left out and counted; `error` names the first row that has one.
        columns: what `user`, `item`, `time` and `position` are called in rows, where not as above; None for a time or a
            position: go without.
        allow, deny, strict_lists, choices: as in `Recommender.recommend`.

    Returns:
        How many histories, how many of their items the model does not know (and which share of all that is), how many
        histories got no list for want of any known item, and notes: how many items of `allow` and `deny` it does not
        know, and for how many histories nothing was left to recommend.
    """
    kind = _check_out(source, Path(out))
    named, notes = _known_lists(model, allow, deny, strict_lists)
    choices |= named
    frame, schema, total = histories_in(source, model, ADDED, columns)
    as_bytes = model.items.kind == "uuid" and schema[HISTORY] == pl.List(pl.Binary)
    item_type = pl.Binary() if as_bytes else model.items.ids.dtype
    counts = {"items": 0, "unknown": 0, "empty": 0, "left": 0, "done": 0}
    added = dict(zip(ADDED, (pl.List(item_type), pl.List(pl.Float32), pl.UInt32()), strict=True))
    out_schema = pl.Schema(dict(schema) | added)

    def score(chunk: pl.DataFrame) -> pl.DataFrame:
        histories = ids_of(chunk[HISTORY], as_bytes)
        if model.method.inputs.times:
            choices["times"] = chunk[TIMES].to_list()
        lists = _recommend(model, histories, counts["done"], k=k, unknown=unknown, **choices)
        counts["items"] += sum(len(history or ()) for history in histories)
        counts["unknown"] += sum(len(one.dropped) for one in lists)
        counts["empty"] += sum(len(one.dropped) == len(one.history) for one in lists)
        counts["left"] += sum(not one.items and len(one.dropped) < len(one.history) for one in lists)
        counts["done"] += len(chunk)
        if report is not None:
            report(counts["done"], total)
        as_held = [_as_held(one.items, model.items.kind, as_bytes) for one in lists]
        return chunk.with_columns(
            pl.Series("items", as_held, pl.List(item_type)),
            pl.Series("scores", [one.scores for one in lists], pl.List(pl.Float32)),
            pl.Series("dropped", [len(one.dropped) for one in lists], pl.UInt32()),
        )

    def chunks() -> Iterator[pl.DataFrame]:
        with readable(source):
            for chunk in frame.collect_batches(chunk_size=CHUNK, maintain_order=True):
                yield from map(score, chunk.iter_slices(CHUNK))

    replace_file(Path(out), lambda part: sink(chunks, out_schema, part, kind))
    return {
        "histories": total,
        "unknown_items": counts["unknown"],
        "unknown_share": counts["unknown"] / max(counts["items"], 1),
        "empty_lists": counts["empty"],
        "notes": [*notes, *filter(None, [nothing_left(counts["left"])])],
    }


def nothing_left(histories: int) -> str:
    """What to say of so many histories with an empty list although the model knows items of theirs; nothing of none."""
    if not histories:
        return ""
    return (
        f"Nothing is left to recommend for {histories:,} of the histories, so with an empty list: no item that may be "
        "recommended stands outside of them (exclude_history=False, on the command line --exclude-history no, takes "
        "those inside, too)."
    )


def _known_lists(
    model: Recommender, allow: Iterable[Any] | None, deny: Iterable[Any] | None, strict: bool
) -> tuple[dict[str, list[Any] | None], list[str]]:
    """What the model knows of the lists, and what is said of the rest, once for the whole table."""
    check(strict, bool, "strict_lists")
    listed = {
        "allow": known_items(model.items, allow, "allow", strict=strict),
        "deny": known_items(model.items, deny, "deny", strict=strict),
    }
    named = {name: None if of.rows is None else model.items.id_list(of.rows) for name, of in listed.items()}
    return named, [of.note for of in listed.values() if of.note is not None]


def _check_out(source: str | Path, out: Path) -> TableKind:
    """What the file is to be; refuse to write over what is not ours, and a name that no table has."""
    if os.path.exists(source) and os.path.exists(out) and os.path.samefile(source, out):
        raise DataError(f"{out} is the table of histories itself, which is not overwritten: choose another file.")
    refuse_special(out)
    kind = kind_of(out)
    check_own(out, kind, ADDED)
    return kind


def ids_of(histories: pl.Series, as_bytes: bool) -> list[Any]:
    """A column of lists of ids as Python has them."""
    rows = histories.to_list()
    return (
        [row and [uuid.UUID(bytes=i) if i and len(i) == 16 else i for i in row] for row in rows] if as_bytes else rows
    )


def _as_held(items: list[Any], kind: IdKind, as_bytes: bool) -> list[Any]:
    """Recommended ids as the table holds its own: UUIDs as 16 bytes or as text."""
    if kind != "uuid":
        return items
    return [i.bytes if as_bytes else str(i) for i in items]


def _recommend(
    model: Recommender, histories: list[Any], before: int, *, unknown: Unknown, **choices: Any
) -> list[Recommendation]:
    """As `recommend`; but an empty row is no error with `unknown="drop"`, and rows are counted from the table's top."""
    filled = [n for n, history in enumerate(histories) if history]
    if len(filled) < len(histories) and unknown == "error":
        empty = next(n for n, history in enumerate(histories) if not history)
        raise DataError(
            f"Row {before + empty} has an empty history: drop such rows, or use unknown='drop' (on the command line "
            "--unknown drop)."
        )
    if "times" in choices:
        choices["times"] = [choices["times"][n] or [] for n in filled]
    try:
        lists = model.recommend([histories[n] for n in filled], unknown=unknown, **choices) if filled else []
    except HistoryError as error:
        raise error.about(f"Row {before + filled[error.row]}") from None
    by_row = dict(zip(filled, lists, strict=True))
    return [by_row.get(n, Recommendation([], [], [], [])) for n in range(len(histories))]


def histories_in(
    source: str | Path,
    model: Recommender,
    added: Iterable[str] = (),
    columns: Mapping[str, str | None] | None = None,
) -> tuple[pl.LazyFrame, pl.Schema, int]:
    """The histories of a table, its columns, and how many histories there are.

    Args:
        added: columns that it must not have, because they are going to be added.
        columns: what is called otherwise than the run recorded, as in `recommend_table`.

    Raises:
        DataError: it is no table of histories, or has such a column.
    """
    with readable(source):
        frame = _histories(open_table(str(source)).frame, source, model, columns or {})
        schema = frame.collect_schema()
        total = int(frame.select(pl.len()).collect().item())
    if taken := [name for name in added if name in schema]:
        raise DataError(f"{source} has a column {taken[0]!r} already, which is to be added: rename it.")
    return frame, schema, total


def _histories(
    frame: pl.LazyFrame, source: str | Path, model: Recommender, asked: Mapping[str, str | None]
) -> pl.LazyFrame:
    """The frame with a list column `history`, and `times` if they are needed, gathered from rows if need be."""
    schema, with_times = frame.collect_schema(), model.method.inputs.times
    if HISTORY not in schema:
        columns = _columns_of(schema.names(), source, model.about, asked)
        return _gathered(frame, source, columns.resolve(frame, source), with_times=with_times)
    if asked:
        raise ConfigError(
            f"{source} has a column {HISTORY!r} with whole histories, so {' and '.join(asked)} would change nothing: "
            "leave that out, or rename the column."
        )
    for name in (HISTORY, TIMES) if with_times else (HISTORY,):
        if name not in schema:
            raise DataError(f"{source} needs a list column {name!r} with Unix seconds beside 'history' for this model.")
        if not isinstance(schema[name], pl.List):
            raise DataError(f"The column {name!r} of {source} has type {schema[name]}, but must be a list.")
    return frame


def _columns_of(
    names: list[str], source: str | Path, about: Mapping[str, Any], asked: Mapping[str, str | None]
) -> Columns:
    """Which columns mean what: as asked, else as the run recorded, or as they are called by default."""
    if unknown := [role for role in asked if role not in ROLES]:
        raise ConfigError(f"columns has {unknown[0]!r}, but a table of rows has {', '.join(ROLES)}.")
    recorded = Columns(**{role: name for role, name in recorded_columns(about).items() if role in ROLES})
    either = [replace(each, **asked) for each in (recorded, Columns())]
    for columns in either:
        if columns.user in names and columns.item in names:
            return columns
    for role, name in asked.items():
        if name is not None and name not in names:
            raise missing_column(role, name, names, source)
    pairs = (dict.fromkeys(getattr(each, role) for each in either) for role in ("user", "item"))
    wanted = " or ".join(f"{user} and {item}" for user, item in zip(*pairs, strict=False))
    raise DataError(f"{source} needs a list column 'history', or the columns {wanted}, but it has {', '.join(names)}.")


def _gathered(frame: pl.LazyFrame, source: str | Path, columns: Columns, *, with_times: bool) -> pl.LazyFrame:
    """One row a user, in order of time."""
    if with_times and columns.time is None:
        raise DataError(f"{source} needs a column timestamp for this model, which reads the time of each interaction.")
    order_columns = {} if columns.time is None else {TICKS: clock(frame, columns.time, KINDS)}
    rows = frame.with_columns(**{name: each.ticks for name, each in order_columns.items()})
    own = {columns.user: columns.user, TICKS: columns.time, columns.position: columns.position}
    _refuse_empty(rows, frame, {name: column for name, column in own.items() if name and column})
    order = [*order_columns, *([columns.position] if columns.position else [])]
    rows = rows.sort(columns.user, *order, maintain_order=True) if order else rows
    lists = [pl.col(columns.item).alias(HISTORY)]
    lists += [(pl.col(TICKS) // order_columns[TICKS].per_second).alias(TIMES)] if with_times else []
    return rows.group_by(columns.user, maintain_order=True).agg(lists)


def _refuse_empty(rows: pl.LazyFrame, frame: pl.LazyFrame, columns: dict[str, str]) -> None:
    """Refuse rows without a user, or without what says where in a history they belong: they would come first.

    Args:
        columns: by name in `rows`, its name in `frame`.
    """
    counts = rows.select(pl.len().alias("all rows"), pl.col(*columns).null_count()).collect(engine="streaming")
    for name, column in columns.items():
        if empty := counts[name].item():
            raise empty_cells(rows, frame, name, column, f"{empty:,} of {counts['all rows'].item():,} rows", mend=KINDS)
