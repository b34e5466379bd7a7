"""Histories of ids as they come from outside, checked and made rows of items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Literal

import numpy as np

from forethought.data.vocabulary import UNKNOWN, Vocabulary
from forethought.errors import DataError, HistoryError, some
from forethought.settings import Second, check, fits

Unknown = Literal["error", "drop"]


def history_lists(histories: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """One list of ids a user.

    Raises:
        DataError: they are no lists of lists, or have no order.
    """
    listed = isinstance(histories, Iterable) and not isinstance(histories, str | bytes)
    if isinstance(histories, Set | Mapping):
        listed = False
    rows = list(histories) if listed else []
    for n, history in enumerate(rows):
        if isinstance(history, Set | Mapping):
            raise HistoryError(n, f"{{}} is a {type(history).__name__}, which has no order: give a list, oldest first.")
    if not listed or any(isinstance(h, str | bytes) or not isinstance(h, Iterable) for h in rows):
        raise DataError('Histories are a list of lists of item ids, such as [["i1", "i2"]], one inner list a user.')
    return [list(history) for history in rows]


def history_rows(items: Vocabulary, histories: Sequence[Sequence[Any]], unknown: Unknown) -> list[np.ndarray]:
    """The item rows of each history, -1 for ids that are not known.

    Raises:
        DataError: an empty history; with `error` an unknown id.
    """
    check(unknown, Unknown, "unknown")
    rows = [items.index_of(history) for history in histories]
    for n, (history, row) in enumerate(zip(histories, rows, strict=True)):
        if len(row) == 0:
            raise HistoryError(n, "{} is empty: give at least one item.")
        if unknown == "error" and (row == UNKNOWN).any():
            missing = [history[i] for i in np.flatnonzero(row == UNKNOWN).tolist()]
            example = items.id_list([0])[0]
            raise HistoryError(
                n,
                f"{{}} has items that the model does not know: {some(missing, 5)}; ids look like {example!r} "
                '(and 7 is not "7"). Correct them, or use unknown="drop" (on the command line --unknown drop).',
            )
    return rows


def history_times(times: Sequence[Sequence[int]] | None, rows: list[np.ndarray]) -> list[np.ndarray]:
    """Of each row the times of its known items.

    Raises:
        DataError: there are none, or not one an item.
    """
    if times is None:
        raise DataError(
            "This model reads the time of each interaction: give Unix seconds beside each item, times=... "
            "(on the command line --times, or a column of the table)."
        )
    if not _is_list(times) or not all(map(_is_list, times)):
        raise DataError("Times are a list of lists of Unix seconds, one inner list a history.")
    times = [list(seconds) for seconds in times]
    if len(times) != len(rows):
        raise DataError(f"There are {len(rows)} histories but {len(times)} lists of times: give one for each.")
    for n, (seconds, row) in enumerate(zip(times, rows, strict=True)):
        if len(seconds) != len(row):
            raise HistoryError(n, f"{{}} has {len(row)} items but {len(seconds)} times: give one time an item.")
        if not all(hasattr(second, "__index__") and fits(int(second), Second) for second in seconds):
            raise HistoryError(n, "{} has times that are no whole numbers, or too large: give Unix seconds.")
    return [np.array(seconds, np.int64)[row != UNKNOWN] for seconds, row in zip(times, rows, strict=True)]


def _is_list(value: object) -> bool:
    """Whether several values stand in it, and no text."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes)
