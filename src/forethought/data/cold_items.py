"""Data as it was before some of its items came: none of their interactions, no row of theirs, no case to find them.

`hold_out` leaves such items in the catalogue, where training and tokenizers still see that they are there. Here nothing
of them is left, so that they may join a trained run as items do that are really new.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from forethought.data.histories import Cases, Histories, Spans
from forethought.data.hold_out import held_protocol, hold_out
from forethought.data.splits import Split
from forethought.errors import DataError


def without_items(split: Split, gone_N: np.ndarray) -> Split:
    """The same split without some items; the others keep their order, and users who have none left stay as rows.

    Cases that were to find such an item go, and so do those whose history held nothing else.

    Args:
        gone_N: bool [N], the items that go.

    Raises:
        DataError: nothing is left to train on, or no case of a part.
    """
    data = split.data
    row_of_N = np.cumsum(~gone_N, dtype=np.int32) - 1
    histories = data.histories.all()
    left = replace(
        data,
        histories=_left(histories, gone_N, row_of_N).histories,
        items=replace(data.items, ids=data.items.ids.filter(~gone_N)),
        item_table=data.item_table.filter(~gone_N),
        origin=None,
        parts=None,
        sessions=None,
    )
    train = _left(split.train, gone_N, row_of_N)
    valid, test = (_cases_left(part, gone_N, row_of_N) for part in (split.valid, split.test))
    if not train.lengths.any() or not len(valid) or not len(test):
        raise DataError(
            f"Without {gone_N.sum():,} of {data.n_items:,} items a part of the split is empty: leave fewer out."
        )
    return replace(split, data=left, train=train, valid=valid, test=test)


def holding_out(split: Split, share: float, seed: int) -> Split:
    """The same split with a share of the items held out of its training, as `hold_out_items` does; they stay in the
    catalogue and in the cases."""
    return replace(
        split,
        train=hold_out(split.data, split.train, share, seed),
        protocol=split.protocol | held_protocol(share, seed),
        config=replace(split.config, hold_out_items=share, hold_out_seed=seed),
    )


def moved(cases: Cases, row_of_N: np.ndarray) -> Cases:
    """The same cases, their items under other rows.

    Args:
        row_of_N: the row of each item, as int [N].
    """
    spans = replace(cases.history, histories=_renamed(cases.history.histories, row_of_N))
    clean = None if cases.clean is None else replace(cases.clean, histories=_renamed(cases.clean.histories, row_of_N))
    return Cases(spans, row_of_N[cases.targets].astype(np.int32), clean)


def _renamed(histories: Histories, row_of_N: np.ndarray) -> Histories:
    return replace(histories, items=row_of_N[histories.items].astype(np.int32))


def _cases_left(cases: Cases, gone_N: np.ndarray, row_of_N: np.ndarray) -> Cases:
    history = _left(cases.history, gone_N, row_of_N)
    clean = None if cases.clean is None else _left(cases.clean, gone_N, row_of_N)
    at = np.flatnonzero(~gone_N[cases.targets] & (history.lengths > 0))
    return Cases(history, row_of_N[cases.targets], clean).take(at)


def _left(spans: Spans, gone_N: np.ndarray, row_of_N: np.ndarray) -> Spans:
    """The same rows without the interactions of some items, over histories without them."""
    whole = spans.histories
    keep = ~gone_N[whole.items]
    before = np.concatenate([[0], np.cumsum(keep)]).astype(np.int64)
    times = None if whole.times is None else whole.times[keep]
    left = Histories(row_of_N[whole.items[keep]], before[whole.offsets], times)
    return Spans(left, spans.users, before[spans.starts], before[spans.ends])
