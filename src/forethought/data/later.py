"""What happened after a moment as test cases, read with items that are known already: a split without a training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from forethought.data.histories import Cases, Histories, Spans
from forethought.data.interactions import Interactions
from forethought.data.periods import Targets, cases, first_since, places
from forethought.data.splits import Split
from forethought.data.times import iso
from forethought.data.vocabulary import UNKNOWN, Vocabulary
from forethought.errors import DataError

LATER = "later"


def later_cases(data: Interactions, items: Vocabulary, item_table: pl.DataFrame, begin: int, targets: Targets) -> Split:
    """What happened from a moment on is to be found; what its user did before the target's second is the history.

    Args:
        data: with times, histories included.
        items, item_table: those that count, in the order of their rows; interactions with others are left out.
        begin: Unix seconds.
        targets: of each user, find the "first" item since then, the "last" or "all".

    Returns:
        A split with test cases alone; its training part are the histories before that moment. Its protocol counts
        interactions since then with unknown items, and targets without a history.

    Raises:
        DataError: there is no case.
    """
    rows = items.index_of(data.items.ids)[data.histories.items]
    known = rows != UNKNOWN
    unknown = int((~known & (data.histories.dated() >= begin)).sum())
    kept = _with_items(data, rows, known, items, item_table)
    histories = kept.histories
    before = Spans(histories, np.arange(len(histories)), histories.starts, first_since(histories, begin))
    at = places(histories, begin, None, targets)
    test, counted = cases(before, histories, at, drop_users=False, drop_items=False)
    if not len(test):
        times = data.histories.dated()
        if begin > times.max():
            raise DataError(f"There is no case since {iso(begin)}: the data ends at {iso(times.max())}.")
        raise DataError(
            f"There is no case since {iso(begin)}: {unknown:,} interactions from then on are with unknown items, "
            f"{counted['without_history']:,} known ones have no history before them; the data runs from "
            f"{iso(times.min())} to {iso(times.max())}."
        )
    told = {"cases": counted["cases"], "without_history": counted["without_history"], "unknown_items": unknown}
    protocol: dict[str, Any] = {"split": LATER, "ties": "file", "seed": None}
    protocol |= {"since": iso(begin), "targets": targets, "test": told}
    nobody = Cases(before.take(np.zeros(0, np.int64)), np.zeros(0, np.int32))
    return Split(kept, before, nobody, test, protocol)


def is_later(split: Split) -> bool:
    """Whether its cases are of what came after a training."""
    return split.protocol.get("split") == LATER


def seen_until(split: Split) -> str | None:
    """The time of the last interaction that training or validation sees; None where there are no times."""
    histories = split.data.histories
    if histories.times is None:
        return None
    trained = split.train.ends[split.train.lengths > 0] - 1
    at = np.concatenate([trained, split.valid.history.ends])  # where the history of a case ends stands its target
    at = at[at < len(histories.times)]
    return iso(int(histories.times[at].max())) if len(at) else None


def _with_items(
    data: Interactions, rows: np.ndarray, known: np.ndarray, items: Vocabulary, item_table: pl.DataFrame
) -> Interactions:
    """The known interactions, with these items and their rows; users without any go.

    Raises:
        DataError: none is known.
    """
    if not known.any():
        raise DataError(f"None of the {data.n_items:,} items of {data.name} is known: give data of the same items.")
    kept = replace(data, parts=None, sessions=None).where(known)
    histories = Histories(rows[known].astype(np.int32), kept.histories.offsets, kept.histories.times)
    return replace(kept, histories=histories, items=items, item_table=item_table, texts=None, table_rows=None)
