"""Rows of a table become histories: streamed in batches, encoded, then sorted a block of users at a time.

A hundred million interactions pass through in a few gigabytes, because no step holds more than the flat arrays
it fills and one block.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from forethought.data.arrays import allocate
from forethought.data.histories import Histories
from forethought.data.vocabulary import Vocabulary

CARRIED = {"part": np.uint8, "session": np.int32}
"""What goes along with the interactions."""
BATCH = 2_000_000  # rows; enough that building the look-up table for each batch costs little


def encode(
    rows: pl.LazyFrame,
    n: int,
    users: Vocabulary,
    items: Vocabulary,
    *,
    per_second: int,
    sessions: pl.Series | None = None,
    cache: str | Path | None = None,
) -> tuple[Histories, dict[str, np.ndarray]]:
    """Histories of a table, each in order of time, then position, then the table's own order; and what else it says.

    Args:
        rows: columns `user` and `item` (ids), `tick` and `position` (int64), `part` (uint8) and `session` (ids) where
            they are known.
        n: number of rows.
        users, items, sessions: hold every id of the table.
        per_second: ticks in a second.
        cache: folder for memory-mapped arrays.

    Returns:
        With the histories `part` (uint8 [n]) and `session` (int32 [n], rows of `sessions`) in their order, where known.
    """
    names = rows.collect_schema().names()
    columns = {"user": allocate(n, np.int32, cache), "item": allocate(n, np.int32, cache)}
    columns |= {name: allocate(n, np.int64, cache) for name in ("tick", "position") if name in names}
    columns |= {name: allocate(n, kind, cache) for name, kind in CARRIED.items() if name in names}
    tables = {"user": _table(users.ids), "item": _table(items.ids)}
    tables |= {} if sessions is None else {"session": _table(sessions)}
    lengths = np.zeros(len(users), np.int64)
    at = 0
    for batch in rows.collect_batches(chunk_size=BATCH, maintain_order=True):
        part = slice(at, at + batch.height)
        for name, array in columns.items():
            array[part] = _rows_of(batch[name], tables[name]) if name in tables else batch[name].to_numpy()
        lengths += np.bincount(columns["user"][part], minlength=len(users))
        at += batch.height
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return _sort(columns, offsets, per_second, cache)


def _table(ids: pl.Series) -> pl.DataFrame:
    return pl.DataFrame({"id": ids, "row": np.arange(len(ids), dtype=np.int32)})


def _rows_of(ids: pl.Series, table: pl.DataFrame) -> np.ndarray:
    return ids.rename("id").to_frame().join(table, on="id", how="left", maintain_order="left")["row"].to_numpy()


def _sort(
    columns: dict[str, np.ndarray], offsets: np.ndarray, per_second: int, cache: str | Path | None
) -> tuple[Histories, dict[str, np.ndarray]]:
    users, ticks = columns["user"], columns.get("tick")
    items = allocate(len(users), np.int32, cache)
    times = None if ticks is None else allocate(len(users), np.int64, cache)
    histories = Histories(items, offsets, times)
    carried = {name: allocate(len(users), kind, cache) for name, kind in CARRIED.items() if name in columns}
    for block in histories.blocks():
        rows = np.flatnonzero((users >= block.start) & (users < block.stop))
        keys = [columns[name][rows] for name in ("position", "tick", "user") if name in columns]
        rows = rows[np.lexsort(keys)]
        out = histories.rows(block)
        items[out] = columns["item"][rows]
        if times is not None and ticks is not None:
            times[out] = ticks[rows] // per_second
        for name, array in carried.items():
            array[out] = columns[name][rows]
    return histories, carried
