"""The periods of a temporal split: where they begin, what is to be found in them, and what was known before."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from forethought.data.histories import Cases, Histories, Spans
from forethought.data.parts import Divided
from forethought.data.times import iso, moment
from forethought.errors import DataError

Targets = Literal["first", "last", "all"]


def bound(histories: Histories, name: str, value: Any) -> int:
    """A moment in Unix seconds; a share names the time of that interaction when all are put in order of time."""
    if not isinstance(value, float | np.floating):
        return moment(value, name)
    if not 0 < value < 1:
        raise DataError(f"{name}={value} is a float, hence a share of all interactions, but not between 0 and 1.")
    at = int(value * len(histories.items))
    return int(np.partition(histories.dated(), at)[at])


def first_since(histories: Histories, begin: int) -> np.ndarray:
    """Of each user the place of the first interaction at or after a moment, int64 [U]; the user's end if none."""
    earlier = np.concatenate([[0], np.cumsum(histories.dated() < begin)])
    return histories.starts + np.diff(earlier[histories.offsets])


def places(histories: Histories, begin: int, end: int | None, targets: Targets) -> np.ndarray:
    """Places of the interactions to be found between two moments, in order of users."""
    first = first_since(histories, begin)
    stop = histories.ends if end is None else first_since(histories, end)
    active = first < stop
    if targets == "first":
        return first[active]
    if targets == "last":
        return stop[active] - 1
    lengths = (stop - first)[active]
    return np.repeat(first[active] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())


def by_periods(
    train: Spans,
    histories: Histories,
    valid_at: int,
    test_at: int,
    targets: Targets,
    *,
    drop_users: bool,
    drop_items: bool,
) -> Divided:
    """The parts of a temporal split; the protocol counts the cases of each period, the cold ones and those left out.

    Args:
        train: what training sees, from before `valid_at`.
        histories: all of them.
        valid_at, test_at: where the periods begin, Unix seconds.
        drop_users, drop_items: leave out cases of users, or with targets, that training has not met.

    Raises:
        DataError: a part is left empty.
    """
    drop = {"drop_users": drop_users, "drop_items": drop_items}
    valid, of_valid = cases(train, histories, places(histories, valid_at, test_at, targets), **drop)
    test, of_test = cases(train, histories, places(histories, test_at, None, targets), **drop)
    sizes = {"training": train.lengths.sum(), "valid": len(valid), "test": len(test)}
    for part, size in sizes.items():
        if size == 0:
            times = train.histories.dated()
            raise DataError(
                f"The {part} part is empty when validation begins at {iso(valid_at)} and testing at {iso(test_at)}; "
                f"the data runs from {iso(times.min())} to {iso(times.max())}: choose moments within, or shares such "
                "as 0.8 and 0.9."
            )
    return Divided(train, valid, test, {"valid": of_valid, "test": of_test})


def cases(
    train: Spans, histories: Histories, at: np.ndarray, *, drop_users: bool, drop_items: bool
) -> tuple[Cases, dict[str, int]]:
    """Cases for the targets at these places, each with what its user did in earlier seconds, and their counts."""
    owner = np.searchsorted(histories.offsets, at, side="right") - 1
    starts, ends = histories.starts[owner], _starts_of_ties(histories)[at]
    has_history = ends > starts
    cold_user = has_history & (train.lengths[owner] == 0)
    counts_N = train.item_counts(int(histories.items.max()) + 1)
    cold_item = has_history & (counts_N == 0)[histories.items[at]]
    keep = has_history & ~(cold_user & drop_users) & ~(cold_item & drop_items)
    counts = {"cases": keep, "cold_users": cold_user, "cold_items": cold_item, "without_history": ~has_history}
    history = Spans(histories, owner, starts, ends).take(np.flatnonzero(keep))
    return Cases(history, histories.items[at[keep]]), {name: int(mark.sum()) for name, mark in counts.items()}


def _starts_of_ties(histories: Histories) -> np.ndarray:
    """Of each interaction the place of the first one of the same user and second, int64 [n]."""
    begins = np.ones(len(histories.items), bool)
    begins[1:] = np.diff(histories.dated()) != 0
    begins[histories.starts[histories.lengths > 0]] = True
    return np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))
