"""Read a table of interactions: any columns, any order, any size.

What a reader must know is kept in `Interactions.notes`: which columns were used, what the times were taken for,
and what was left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from forethought.data.columns import AUTO, Columns
from forethought.data.encoding import encode
from forethought.data.filters import minimum_rating as rated_at_least
from forethought.data.interactions import Interactions
from forethought.data.names import check_name
from forethought.data.origin import Origin
from forethought.data.parts import WORDS
from forethought.data.sources import OpenTable, describe, open_table, readable
from forethought.data.texts import VECTORS
from forethought.data.times import MEND, Clock, clock, doubts, iso
from forethought.data.vocabulary import IdKind, Vocabulary, id_column
from forethought.errors import DataError, shown, some


def read(
    source: Any,
    *,
    user: str = "user_id",
    item: str = "item_id",
    time: str | None = AUTO,
    position: str | None = AUTO,
    rating: str = "rating",
    split: str | None = None,
    session: str | None = None,
    minimum_rating: float | None = None,
    items: Any = None,
    name: str | None = None,
    cache: str | Path | None = None,
) -> Interactions:
    """Read interactions into histories.

    Rows are sorted by user, then time, then position, then their own order; so where times or positions tell
    rows apart, their order in the source does not matter. Times are kept as whole Unix seconds.

    Args:
        source: whatever `open_table` opens; a folder in the uniform layout brings its `items.parquet` along,
            and `x.inter` of RecBole the `x.item` beside it.
        user, item, time, position, rating, split, session: names of columns, see `Columns`.
        minimum_rating: rows rated lower, or not rated, are left out.
        items: the item table, one row an item: whatever `open_table` opens, with an id column called like `item` or
            `item_id`. Its order becomes the order of items; those nobody met are left out.
        name: what reports call this data, and part of the names of files; by default that of the file or folder.
        cache: folder on a disk with room, where arrays of more than 20 million values are memory-mapped.

    Raises:
        DataError: no rows, missing or wrong columns, empty ids, times that cannot be read, a name with slashes.

    Example:
        >>> data = read(pl.DataFrame({"user_id": [1, 1, 2], "item_id": ["a", "b", "a"]}))
        >>> data.n_users, data.n_items, len(data)
        (2, 2, 3)
    """
    if name:
        check_name(name)
    asked = Columns(user=user, item=item, time=time, position=position, rating=rating, split=split, session=session)
    origin = None if minimum_rating is not None else Origin.of(source, asked, items)
    with readable(source):
        source = open_table(source)
        frame = source.frame
        columns = asked.resolve(frame, source)
        frame = rated_at_least(frame, minimum_rating, rating) if minimum_rating is not None else frame
        rows, kinds, unit = _plain_rows(frame, columns)
        unread = _unread(frame, columns) if asked.time == AUTO else []
        n, user_ids, item_ids = _survey(rows, frame, columns, source)
        users = Vocabulary(user_ids.sort(), kinds[0])
        own = None if items is not None else _beside(source, "items.parquet") or source.items
        texts = None if own is None else _beside(source, VECTORS)  # whose rows are those of this table
        items = own if items is None else items
        if items is None:
            vocabulary = Vocabulary(item_ids.sort(), kinds[1])
            table, table_rows, extra = pl.DataFrame({"item_id": vocabulary.ids}), None, ()
        else:
            table, table_rows, extra = _item_table(items, item, item_ids, kinds[1])
            vocabulary = Vocabulary(table["item_id"], kinds[1])
        per_second = unit.per_second if unit else 1
        sessions = _sessions(rows) if columns.session else None
        encoded = encode(rows, n, users, vocabulary, per_second=per_second, sessions=sessions, cache=cache)
        histories, carried = encoded
    notes = (*_order_notes(columns, unit, histories.times, unread), *doubts(histories.times), *extra)
    known = name or source.name or "interactions"
    marks = {"parts": carried.get("part"), "sessions": carried.get("session")}
    return Interactions(histories, users, vocabulary, table, known, notes, texts, table_rows, origin, **marks)


def _plain_rows(frame: pl.LazyFrame, columns: Columns) -> tuple[pl.LazyFrame, tuple[IdKind, IdKind], Clock | None]:
    """The columns we need under our own names, with ids as text or integers and times as ticks."""
    user, user_kind = id_column(frame, columns.user)
    item, item_kind = id_column(frame, columns.item)
    unit = clock(frame, columns.time) if columns.time else None
    chosen = [user.alias("user"), item.alias("item")]
    if unit:
        chosen.append(unit.ticks.alias("tick"))
    if columns.position:
        chosen.append(pl.col(columns.position).cast(pl.Int64).alias("position"))
    if columns.split:
        words = pl.col(columns.split).cast(pl.String).str.strip_chars().str.to_lowercase()
        chosen.append(words.replace_strict(WORDS, default=None, return_dtype=pl.UInt8).alias("part"))
    if columns.session:
        chosen.append(id_column(frame, columns.session)[0].alias("session"))
    return frame.select(chosen), (user_kind, item_kind), unit


def _survey(
    rows: pl.LazyFrame, frame: pl.LazyFrame, columns: Columns, source: OpenTable
) -> tuple[int, pl.Series, pl.Series]:
    """One streamed look at all rows: how many, which ids, and whether any cell is empty."""
    names = rows.collect_schema().names()
    looks = [rows.select(pl.len(), pl.col(names).null_count().name.prefix("empty_"))]
    looks += [rows.select(pl.col(name).unique()) for name in ("user", "item")]
    counts, users, items = pl.collect_all(looks, engine="streaming")
    n = counts["len"].item()
    if n == 0:
        raise DataError(f"There are no rows in {describe(source)}: at least one interaction is needed.")
    own = {"user": columns.user, "item": columns.item, "tick": columns.time, "position": columns.position}
    own |= {"part": columns.split, "session": columns.session}
    for name in names:
        if empty := counts[f"empty_{name}"].item():
            raise empty_cells(rows, frame, name, own[name] or name, f"{empty:,} of {n:,} rows")
    return n, users.to_series(), items.to_series()


def _sessions(rows: pl.LazyFrame) -> pl.Series:
    """The ids of all sessions; of two users they may be the same."""
    return rows.select(pl.col("session").unique()).collect(engine="streaming").to_series()


def empty_cells(
    rows: pl.LazyFrame, frame: pl.LazyFrame, name: str, column: str, share: str, mend: str = MEND
) -> DataError:
    """What to say of cells that are empty or cannot be read: where, and what stands in the first.

    Args:
        rows: with a column `name` that is null there.
        frame: the table itself, in whose `column` this is.
        share: how many they are, in words.
    """
    at = rows.with_row_index("row").filter(pl.col(name).is_null()).select("row").head(3).collect()["row"].to_list()
    where = f"{share} (first: {', '.join(map(str, at))}; counted from 0)"
    if name == "part":
        value = frame.select(pl.col(column)).slice(at[0], 1).collect().item()
        return DataError(
            f"The split column {column!r} holds {value!r} in {where}, but must say train, valid or test of every row: "
            "drop those rows or mend them."
        )
    if name != "tick":
        return DataError(f"The column {column!r} is empty in {where}: drop those rows or fill them in.")
    value = frame.select(pl.col(column)).slice(at[0], 1).collect().item()
    return DataError(f"The time column {column!r} cannot be read in {where}, where it holds {value!r}: {mend}.")


def _beside(source: OpenTable, file: str) -> Path | None:
    """What a folder in the uniform layout has beside its interactions: the item table, text vectors."""
    folder = source.folder
    if folder is None or not (folder / "interactions.parquet").exists():
        return None
    return folder / file if (folder / file).exists() else None


def _item_table(source: Any, item: str, met: pl.Series, kind: IdKind) -> tuple[pl.DataFrame, int, tuple[str, ...]]:
    """The rows of the item table that somebody met, in its order; items it lacks follow, with nothing known.

    With it come the height of the whole table, and notes.
    """
    with readable(source):
        frame = open_table(source).frame
        names = frame.collect_schema().names()
        column = item if item in names else "item_id"
        if column not in names:
            called = dict.fromkeys([shown(item), shown("item_id")])
            raise DataError(
                f"There is no item column {' or '.join(called)} in the item table, {describe(source)}, which has "
                f"{some(names, 100) or 'none'}: call its column of item ids as the interactions do."
            )
        ids, own_kind = id_column(frame, column)
        if own_kind != kind:
            raise DataError(
                f"The ids of the item table are of kind {own_kind}, but those of the interactions of kind {kind}: "
                f"cast the column {column!r} of one of them."
            )
        read_ids = ids.cast(met.dtype).alias("item_id")
        known_of = pl.exclude(column, "item_id", "source_row")
        table = frame.select(read_ids, known_of).with_row_index("source_row").collect()
    Vocabulary.from_series(table["item_id"])
    table = table.select(pl.exclude("source_row"), pl.col("source_row").cast(pl.Int64))
    known = table.join(met.rename("item_id").to_frame(), on="item_id", how="semi", maintain_order="left")
    unknown = met.rename("item_id").to_frame().join(table, on="item_id", how="anti").sort("item_id")
    notes = []
    if known.height < table.height:
        notes.append(f"{table.height - known.height:,} items of the item table occur in no interaction; left out")
    if unknown.height:
        notes.append(f"{unknown.height:,} items are not in the item table; they stand behind the others")
    return pl.concat([known, unknown], how="diagonal"), table.height, tuple(notes)


def _unread(frame: pl.LazyFrame, columns: Columns) -> list[str]:
    """Columns of the table that have no part in what is read."""
    return [name for name in frame.collect_schema().names() if name not in asdict(columns).values()]


def _order_notes(columns: Columns, unit: Clock | None, times: Any, unread: Sequence[str]) -> tuple[str, ...]:
    """What the order of histories is.

    Args:
        unread: columns that may hold the times, under names that nobody looks for.
    """
    by = f"column {columns.position!r}" if columns.position else "order of the rows"
    if unit is None:
        named = f"; if one of {some(unread, 5)} holds them, name it with time=... (--time)" if unread else ""
        return (f"there are no times: each history follows the {by}{named}",)
    span = f"from {iso(times.min())} to {iso(times.max())}"
    return (f"{unit.note} (column {columns.time!r}, {span}); equal times follow the {by}",)
