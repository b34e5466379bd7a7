"""Cases grouped by what somebody knows of their targets or users: any column of two tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from forethought.data.histories import Cases
from forethought.data.sources import describe, open_table, readable
from forethought.data.splits import Split
from forethought.data.vocabulary import UNKNOWN as UNKNOWN_ID
from forethought.errors import ConfigError, DataError, nearest
from forethought.evaluation.groups import N_GROUPS, quantile_groups

MOST = 20  # values of a column that are shown apart
OTHER, UNKNOWN = "(other)", "(unknown)"
NEVER = ("item_id", "user_id", "source_row")


def own_groups(
    names: Sequence[str], cases: Cases, split: Split, users: Any = None, *, user: str = "user_id"
) -> dict[str, np.ndarray]:
    """Of each column the group of each case, str [n]: numbers in fifths, other values as they are, the commonest apart.

    Args:
        names: columns of the item table, which are those of the target, or else of `users`.
        users: a table with one row a user, whatever `open_table` opens.
        user: its column of ids.

    Raises:
        ConfigError: there is no such column.
        DataError: a column of lists, or a table of users with an id twice.
    """
    items = split.data.item_table
    of_users = None if users is None or not names else _user_table(users, split, user)
    groups = {}
    for name in names:
        if name in items.columns and name not in NEVER:
            values = items[name].gather(cases.targets)
        elif of_users is not None and name in of_users.columns and name not in NEVER:
            values = of_users[name].gather(cases.history.users)
        else:
            known = [c for c in (*items.columns, *([] if of_users is None else of_users.columns)) if c not in NEVER]
            raise ConfigError(
                f"There is no column {name!r} to group by; there are {', '.join(known) or 'none'}."
                f"{nearest(name, known)}{'' if users is not None else ' Columns of users need a table of users.'}"
            )
        groups[name] = _labels(values, name)
    return groups


def _user_table(source: Any, split: Split, user: str) -> pl.DataFrame:
    """The table in the order of the users' rows; what it lacks is null."""
    with readable(source):
        frame = open_table(source).frame.collect()
    if user not in frame.columns:
        raise DataError(f"{describe(source)} has no column {user!r} of user ids, but {', '.join(frame.columns)}.")
    if frame[user].is_duplicated().any():
        raise DataError(f"{describe(source)} names a user twice: a table of users has one row a user.")
    rows = pl.Series("row", split.data.users.index_of(frame[user]))
    if not (rows != UNKNOWN_ID).any():
        raise DataError(f"{describe(source)} has none of the users of the data: give it ids of the same kind.")
    everyone = pl.DataFrame({"row": np.arange(split.data.n_users, dtype=np.int64)})
    return everyone.join(frame.with_columns(rows), on="row", how="left", maintain_order="left").drop("row")


def _labels(values: pl.Series, name: str) -> np.ndarray:
    if values.dtype.is_nested():
        raise DataError(f"The column {name!r} holds lists, and a case can be in one group only: make a column of it.")
    known = values.is_not_null().to_numpy()
    labels = np.full(len(values), UNKNOWN, object)
    if values.dtype.is_numeric() and values.n_unique() > N_GROUPS:
        numbers = values.cast(pl.Float64).to_numpy()[known]
        labels[known] = _fifths(numbers)
    else:
        text = values.cast(pl.String)
        common = set(text.drop_nulls().value_counts(sort=True).head(MOST)[values.name].to_list())
        labels[known] = [each if each in common else OTHER for each in text.drop_nulls().to_list()]
    return labels.astype(str)


def _fifths(numbers: np.ndarray) -> np.ndarray:
    """`G1: 3 to 7.5` and so on, of ascending values."""
    groups = quantile_groups(numbers)
    ranges = {name: numbers[groups == name] for name in np.unique(groups)}
    names = {name: f"{name}: {of.min():g} to {of.max():g}" for name, of in ranges.items()}
    return np.array([names[each] for each in groups], object)
