"""Popularity of items: how often each was met in the training part, perhaps in its last weeks alone.

v_i = log((1 + n_i) / (1 + n_r)) / log((1 + n_1) / (1 + n_r))     n_1: the most popular item's count, n_r: that of
                                                                 the first item that is left out, 0 if none is
"""

from __future__ import annotations

import numpy as np
import polars as pl

from forethought.data.histories import Spans
from forethought.data.neighbours import Neighbours
from forethought.data.splits import Split

DAY = 86_400  # seconds
TRAIN_COUNT = "train_count"  # in the table of items of a run: how often training met each
RECENT_COUNT, RECENT_DAYS = "recent_count", 28  # likewise, in the last days of training alone


def counts(train: Spans, n_items: int, *, days: float | None = None) -> np.ndarray:
    """How often each item occurs in these rows, int64 [N].

    Args:
        days: count only the last so many days of them.

    Raises:
        DataError: the data has no times, and days are asked for.
    """
    counted = train.inside()
    if days is not None:
        times = train.histories.dated()
        counted &= times > times[counted].max(initial=0) - days * DAY
    return np.bincount(train.histories.items[counted], minlength=n_items)


def training_counts(split: Split) -> np.ndarray:
    """How often training met each item of a split, int64 [N]."""
    return split.train.item_counts(split.data.n_items) if split.met is None else split.met


def with_counts(items: pl.DataFrame, train: Spans) -> pl.DataFrame:
    """The table of items as a run keeps it: how often training met each, and lately where the data has times."""
    columns = [pl.Series(TRAIN_COUNT, train.item_counts(len(items)))]
    if train.histories.times is not None:
        columns.append(pl.Series(RECENT_COUNT, counts(train, len(items), days=RECENT_DAYS)))
    return items.drop("source_row", strict=False).with_columns(*columns)


def popular(train: Spans, n_items: int, *, most: int, weeks: float) -> Neighbours:
    """The most popular items of the last weeks, or of all training where the data has no times.

    A list that stands in a column: row r holds the item of rank r, its v and its count, and below the list stand zeros.

    Args:
        most: items that the list has.
    """
    days = None if train.histories.times is None else 7 * weeks
    counts_N = counts(train, n_items, days=days)
    order_N = np.argsort(-counts_N, kind="stable")
    sorted_N = counts_N[order_N]
    beyond = np.log1p(sorted_N[most]) if most < n_items else 0.0
    above_N = np.maximum(np.log1p(sorted_N) - beyond, 0.0)
    values_N = np.where(np.arange(n_items) < most, above_N / max(above_N[0], 1e-12), 0.0).astype(np.float32)
    heard_N1 = values_N[:, None] > 0
    columns = (np.where(heard_N1, each[:, None], 0).astype(np.int32) for each in (order_N, sorted_N))
    items_N1, counts_N1 = columns
    return Neighbours(items_N1, values_N[:, None], counts_N1)
