"""One category an item: the last label of its path that enough items have."""

from __future__ import annotations

import re

import numpy as np
import polars as pl

COLUMNS = ("categories", "category", "category_path", "genres", "genre")
BETWEEN = r"[>›»|;]"  # levels of a path written as text
LEAST = 30  # items; rarer labels give way to what stands before them
UNKNOWN = -1


def leaf_categories(table: pl.DataFrame, least: int = LEAST) -> tuple[np.ndarray, list[str]] | None:
    """The number of each item's category, int64 [N], -1 where there is none, and their names.

    Of the first column of the item table that holds words or lists of words; None where there is no such column, or no
    label that so many items have.
    """
    for name in (column for wanted in COLUMNS for column in table.columns if column.lower() == wanted):
        paths = _paths(table[name])
        if paths is None:
            continue
        counts = pl.Series([label for path in paths for label in dict.fromkeys(path)], dtype=pl.String).value_counts()
        common = set(counts.filter(pl.col("count") >= least).to_series(0).to_list())
        labels = [next((label for label in reversed(path) if label in common), None) for path in paths]
        names = sorted({label for label in labels if label is not None})
        if names:
            row_of = {label: row for row, label in enumerate(names)}
            return np.array([UNKNOWN if each is None else row_of[each] for each in labels]), names
    return None


def _paths(column: pl.Series) -> list[list[str]] | None:
    """The labels of each item, in order; None where the column holds no words."""
    inner = column.dtype.inner if isinstance(column.dtype, pl.List | pl.Array) else column.dtype
    if inner not in (pl.String, pl.Categorical, pl.Enum):
        return None
    cells = [[cell] if isinstance(cell, str) else list(cell or ()) for cell in column.to_list()]
    levels = [[re.split(BETWEEN, str(label)) for label in cell if label] for cell in cells]
    return [[word.strip() for path in cell for word in path if word.strip()] for cell in levels]
