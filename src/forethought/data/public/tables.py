"""What every reader of a raw format hands on."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True)
class RawTables:
    """A raw data set in our words; nothing is filtered or sorted by user yet.

    Attributes:
        interactions: user_id, item_id, timestamp (int64 Unix seconds, absent where the source has none), rating
            (absent where the source has none) and position (the row's place in the source, which orders rows of
            equal time). Held in memory already, so it may be evaluated many times.
        items: item_id and what is known of title, brand, categories (list of strings) and price; None where the
            source has nothing on items, or nothing beside it was given.
    """

    interactions: pl.LazyFrame
    items: pl.LazyFrame | None = None


PRODUCT = {
    "item_id": pl.String,
    "title": pl.String,
    "brand": pl.String,
    "categories": pl.List(pl.String),
    "price": pl.Float64,
}
"""What is read of an item in a shop; the price is in the source's currency."""


def in_order(table: pl.DataFrame) -> pl.LazyFrame:
    """The columns every reader gives, in one order, with the rows numbered as `position`."""
    names = [name for name in ("user_id", "item_id", "timestamp", "rating") if name in table.columns]
    return table.select(*names, position=pl.int_range(pl.len(), dtype=pl.Int64)).lazy()
