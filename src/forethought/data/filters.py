"""Filters: which interactions are kept, before they are split.

Ratings are filtered on the lazy table, where the column still is; the others on histories, where users and
items are small integers.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from forethought.data.interactions import Interactions
from forethought.errors import DataError, nearest
from forethought.settings import Count, check_all


def minimum_rating(frame: pl.LazyFrame, at_least: float, rating: str = "rating") -> pl.LazyFrame:
    """Rows rated `at_least` or better; unrated rows go.

    Raises:
        DataError: no such column, or it holds no numbers.
    """
    schema = frame.collect_schema()
    if rating not in schema:
        hint = nearest(rating, schema.names())
        raise DataError(
            f"A minimum rating needs a rating column, but there is no {rating!r}: say which it is with rating=... (on "
            f"the command line --rating).{hint}"
        )
    if not schema[rating].is_numeric():
        raise DataError(f"The rating column {rating!r} has type {schema[rating]}, but ratings are numbers: cast it.")
    return frame.filter(pl.col(rating).is_not_nan() & (pl.col(rating) >= at_least))


def k_core(data: Interactions, users: int = 5, items: int = 5) -> Interactions:
    """The largest part in which every user has `users` interactions and every item `items`, repeats counted.

    Raises:
        DataError: nothing is left.
        ConfigError: fewer than 1 is asked for.
    """
    check_all(users=(users, Count), items=(items, Count))
    histories = data.histories
    keep = np.ones(len(data), bool)
    owner = np.repeat(np.arange(data.n_users, dtype=np.int32), histories.lengths)
    while True:
        rich = np.bincount(owner[keep], minlength=data.n_users) >= users
        known = np.bincount(histories.items[keep], minlength=data.n_items) >= items
        stay = keep & rich[owner] & known[histories.items]
        if stay.sum() == keep.sum():
            break
        keep = stay
    if not keep.any():
        raise DataError(
            f"Nothing is left of {data.name} when every user must have {users} interactions and every item {items}: "
            "ask for fewer."
        )
    return data if keep.all() else data.where(keep)


def drop_duplicates(data: Interactions, *, repeats: bool = False) -> Interactions:
    """Keep the first of interactions that say the same thing.

    Args:
        data: histories in order.
        repeats: False drops rows with the same user, item and time; True keeps only a user's first meeting with
            an item, whenever the others were.

    Raises:
        DataError: no times and `repeats=False`: a row written twice then looks like a true repeat.
    """
    times = data.histories.times
    if times is None and not repeats:
        raise DataError(
            "This data has no times, so a row written twice cannot be told from a true repeat: "
            "keep both, or drop every repeat of an item."
        )
    keep = np.ones(len(data), bool)
    for users in data.histories.blocks():
        part = data.histories.rows(users)
        pairs = data.pairs(users)
        order = np.lexsort([pairs] if repeats or times is None else [times[part], pairs])
        same = pairs[order][1:] == pairs[order][:-1]
        if times is not None and not repeats:
            same &= np.diff(times[part][order]) == 0
        keep[part][order[1:][same]] = False
    return data if keep.all() else data.where(keep)
