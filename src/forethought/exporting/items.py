"""The items of a run as files beside an export: which row is which id, and what it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from forethought.data.titles import titles
from forethought.recommender import Recommender

IDS_FILE, TABLE_FILE = "items.json", "items.parquet"


def item_frame(run: Recommender) -> pl.DataFrame:
    """Row, id and, where any is known, title of each item, in the order of rows."""
    frame = pl.DataFrame({"row": pl.int_range(len(run.items), dtype=pl.Int64, eager=True), "item_id": run.items.ids})
    known = titles(run.item_table)
    return frame if known is None else frame.with_columns(title=pl.Series(known, dtype=pl.String))


def plain_ids(run: Recommender) -> list[Any]:
    """The ids as JSON has them: integers and texts."""
    return run.items.ids.to_list()


def write_items(run: Recommender, folder: Path) -> None:
    """The table, and the ids alone for programs that read no Parquet."""
    item_frame(run).write_parquet(folder / TABLE_FILE)
    (folder / IDS_FILE).write_text(json.dumps(plain_ids(run), ensure_ascii=False), encoding="utf-8")
