"""What items are called, however the table holds it: text, numbers, bytes, lists, records, or nothing at all."""

from __future__ import annotations

from typing import Any

import polars as pl

COLUMN = "title"


def titles(table: pl.DataFrame) -> list[str | None] | None:
    """The title of each row, None where it has none; None for all of them where the table has no such column."""
    if COLUMN not in table.columns:
        return None
    column = table[COLUMN]
    if column.dtype == pl.String:
        return column.to_list()
    return [_words(value) for value in column.to_list()]


def _words(value: Any) -> str | None:
    """Parts of lists and records with commas between, those without a word left out."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    elif isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        value = ", ".join(word for part in value if (word := _words(part))) or None
    return None if value is None else str(value)
