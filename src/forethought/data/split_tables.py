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
    asked, frames, used = Columns(user=user, item=item, time=time, position=position), [], None
    for part, source in sources.items():
        with readable(source):
            table = open_table(source)
            columns = asked.resolve(table.frame, table)
            if used is not None and columns != used:
                raise DataError(f"The {part} table has other columns ({columns}) than the training table ({used}).")
            used = columns
            names = [each for each in (columns.user, columns.item, columns.time, columns.position) if each is not None]
            frames.append(table.frame.select(*dict.fromkeys(names), pl.lit(part).alias(PART)))
    try:
        whole = pl.concat(frames, how="vertical_relaxed").collect()
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"The tables do not fit together ({str(error).splitlines()[0]}): give them one type."
        ) from error
    chosen: dict[str, Any] = {"user": user, "item": item, "time": time, "position": position}
    known = name or open_table(train).name
    data = read(whole, **chosen, split=PART, items=items, name=known)
    return by_column(replace(data, origin=_origin(sources, asked, items)))


def _origin(sources: dict[str, Any], columns: Columns, items: Any) -> Origin | None:
    """Where the tables lie; None where one of them is in memory."""
    if not all(isinstance(source, str | Path) for source in sources.values()):
        return None
    of = Origin.of(sources["train"], columns, items)
    return None if of is None else replace(of, tables={part: absolute(source) for part, source in sources.items()})
