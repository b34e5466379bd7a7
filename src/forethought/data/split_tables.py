"""A split whose parts are tables of their own, as many data sets are published."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from forethought.data.columns import AUTO, Columns
from forethought.data.origin import Origin, absolute
from forethought.data.reading import read
from forethought.data.sources import open_table, readable
from forethought.data.splits import Split, by_column
from forethought.errors import DataError

PART = "part of the split"  # a name that no table has


def split_of_tables(
    train: Any,
    test: Any,
    valid: Any = None,
    *,
    user: str = "user_id",
    item: str = "item_id",
    time: str | None = AUTO,
    position: str | None = AUTO,
    items: Any = None,
    name: str | None = None,
) -> Split:
    """The split of two or three tables. Rows of `test` (and `valid`) are to be found, from what its user did before.

    Without `valid` the last training interaction of each user with three of them validates. Where there are no times, a
    user's rows in `train` come before those in `valid`, and these before those in `test`.

    Args:
        train, test, valid: tables with a row an interaction, whatever `read` takes.
        user, item, time, position, items, name: as in `read`; columns are called the same in all tables.

    Raises:
        DataError: a table lacks a column that another has, ids of another kind, or as `read` and `by_column`.
    """
    sources = {"train": train, "valid": valid, "test": test}
    sources = {part: source for part, source in sources.items() if source is not None}
    asked, frames, used, known = Columns(user=user, item=item, time=time, position=position), [], None, name
    for part, source in sources.items():
        with readable(source):
            table = open_table(source)
            columns = asked.resolve(table.frame, table)
            used, known = used or columns, known or table.name
            _check_alike(part, columns, used)
            names = [each for each in (columns.user, columns.item, columns.time, columns.position) if each is not None]
            frames.append(table.frame.select(*dict.fromkeys(names), pl.lit(part).alias(PART)))
    try:
        whole = pl.concat(frames, how="vertical_relaxed").collect()
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"The tables do not fit together ({str(error).splitlines()[0]}): give them one type."
        ) from error
    chosen: dict[str, Any] = {"user": user, "item": item, "time": time, "position": position}
    notes = [note for part in sources if part != "train" and (note := _repeated(whole, part, used))]
    data = read(whole, **chosen, split=PART, items=items, name=known)
    return by_column(replace(data, notes=(*data.notes, *notes), origin=_origin(sources, asked, items)))


def _check_alike(part: str, columns: Columns, of_train: Columns) -> None:
    """Refuse a table whose columns are not those of the training table."""
    names = {role: (getattr(columns, role), getattr(of_train, role)) for role in ("user", "item", "time", "position")}
    differing = [
        f"{role} is {_column(own)} there and {_column(other)} in the training table"
        for role, (own, other) in names.items()
        if own != other
    ]
    if differing:
        raise DataError(f"The {part} table has other columns: {', '.join(differing)}. Give both the same ones.")


def _column(name: str | None) -> str:
    return "no column" if name is None else repr(name)


def _repeated(whole: pl.DataFrame, part: str, columns: Columns | None) -> str | None:
    """What is said where some rows of a part are training rows too.

    Raises:
        DataError: all of them are, so that what is to be found was learnt from.
    """
    assert columns is not None
    keys = [name for name in (columns.user, columns.item, columns.time) if name is not None]
    trained, rows = (whole.filter(pl.col(PART) == each).select(keys) for each in ("train", part))
    if columns.time is None:  # without a time the same row may be another meeting
        n_repeated = rows.height if rows.equals(trained) else 0
    else:
        n_repeated = rows.join(trained.unique(), on=keys, how="semi").height
    if n_repeated and n_repeated == rows.height:
        raise DataError(f"Every row of the {part} table stands in the training table too: give tables that differ.")
    if not n_repeated:
        return None
    return f"{n_repeated:,} of {rows.height:,} rows of the {part} table stand in the training table too."


def _origin(sources: dict[str, Any], columns: Columns, items: Any) -> Origin | None:
    """Where the tables lie; None where one of them is in memory."""
    if not all(isinstance(source, str | Path) for source in sources.values()):
        return None
    of = Origin.of(sources["train"], columns, items)
    return None if of is None else replace(of, tables={part: absolute(source) for part, source in sources.items()})
