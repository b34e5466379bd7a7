"""Splits that say of every interaction, or of every session, which part it belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from forethought.data.histories import Cases, Histories, Spans
from forethought.data.interactions import Interactions
from forethought.errors import DataError, shown

PARTS = ("train", "valid", "test")
WORDS = {"train": 0, "training": 0, "valid": 1, "validation": 1, "val": 1, "dev": 1, "test": 2, "testing": 2}
"""What a split column may say, in any case, and the number of the part."""
Order = Literal["auto", "time", "drawn"]
SessionTargets = Literal["first", "last", "all"]


@dataclass(frozen=True)
class Divided:
    """The parts of a split, and what its protocol says of them."""

    train: Spans
    valid: Cases
    test: Cases
    protocol: dict[str, Any]


def part_numbers(values: Sequence[Any] | pl.Series | np.ndarray, n: int) -> np.ndarray:
    """Words (train, valid, test) as numbers, uint8 [n].

    Raises:
        DataError: another number of them, or other words.
    """
    if isinstance(values, str) or not isinstance(values, Sequence | pl.Series | np.ndarray):
        raise DataError(
            f"A split needs a part (one of {', '.join(PARTS)}) for each interaction, as a list or a column, but got "
            f"{shown(values)}."
        )
    words = pl.Series("part", values, strict=False).cast(pl.String)
    if len(words) != n:
        raise DataError(f"A split of {n:,} interactions needs a part for each, but got {len(words):,}.")
    numbers = words.str.strip_chars().str.to_lowercase().replace_strict(WORDS, default=None, return_dtype=pl.UInt8)
    if numbers.null_count():
        first = int(numbers.is_null().arg_true()[0])
        raise DataError(
            f"Row {first} belongs to the part {words[first]!r}, but there are {', '.join(PARTS)}: name one of them."
        )
    return numbers.to_numpy()


def interactions_frame(data: Interactions) -> pl.DataFrame:
    """A row an interaction, in the order of the data: user, item, time where known, position in the history."""
    histories = data.histories
    owners = np.repeat(np.arange(len(histories)), histories.lengths)
    columns = {"user_id": data.users.ids.gather(owners), "item_id": data.items.ids.gather(histories.items)}
    times = {} if histories.times is None else {"timestamp": histories.times}
    return pl.DataFrame({**columns, **times, "position": np.arange(len(owners)) - histories.starts[owners]})


def by_parts(data: Interactions, parts: np.ndarray) -> Divided:
    """What is marked train trains; every other interaction is to be found from all that its user did before it.

    Where nothing is marked valid, the last training interaction of each user with three of them is.

    Args:
        parts: uint8 [n], 0 train, 1 valid, 2 test.

    Raises:
        DataError: a part is left empty.
    """
    histories = data.histories
    protocol: dict[str, Any] = {"split": "column", "ties": "file", "seed": None, "parts": _digest(parts)}
    if not (parts == 1).any():
        parts, protocol["valid_from"] = _last_of_training(histories, parts), "the last of training"
    valid, protocol["valid"] = _cases(histories, np.flatnonzero(parts == 1))
    test, protocol["test"] = _cases(histories, np.flatnonzero(parts == 2))
    divided = Divided(_marked(histories, parts == 0), valid, test, protocol)
    _refuse_empty(divided, "say of more interactions that they belong to it")
    return divided


def session_parts(
    histories: Histories, *, valid_share: float, test_share: float, order: Order, seed: int
) -> np.ndarray:
    """Of each session its part, uint8 [U]: the last ones by their first moment, or drawn evenly.

    Raises:
        DataError: an order by time where there are no times.
    """
    n = len(histories)
    if resolved(order, histories) == "time":
        ranked = np.argsort(histories.dated()[histories.starts], kind="stable")
    else:
        ranked = np.random.default_rng(seed).permutation(n)
    n_test, n_valid = max(1, round(test_share * n)), max(1, round(valid_share * n))
    if n_test + n_valid >= n:
        raise DataError(f"Of {n} sessions {n_valid} would validate and {n_test} test, which leaves none to train on.")
    part = np.zeros(n, np.uint8)
    part[ranked[n - n_test - n_valid :]] = 1
    part[ranked[n - n_test :]] = 2
    return part


def resolved(order: Order, histories: Histories) -> Literal["time", "drawn"]:
    """`auto` is by time where there are times."""
    if order == "auto":
        return "drawn" if histories.times is None else "time"
    return order


def by_session(data: Interactions, part: np.ndarray, targets: SessionTargets) -> Divided:
    """Whole sessions train, validate or test; of those held out, items after the first are to be found.

    Args:
        part: uint8 [U], from `session_parts`.
        targets: find of each session its second item ("first"), its last one, or all after the first.
    """
    histories = data.histories
    ends = np.where(part == 0, histories.ends, histories.starts)
    train = Spans(histories, np.arange(len(histories)), histories.starts, ends)
    held = [_cases(histories, _session_targets(histories, part == number, targets)) for number in (1, 2)]
    divided = Divided(train, held[0][0], held[1][0], {"valid": held[0][1], "test": held[1][1]})
    _refuse_empty(divided, "hold out a larger share of the sessions")
    return divided


def last_session_parts(data: Interactions) -> np.ndarray:
    """Of each interaction its part, uint8 [n]: of a user with three sessions the last tests, the one before validates.

    Raises:
        DataError: nobody has three, or some session goes on after another one of its user.
    """
    histories, sessions = data.histories, data.sessions
    assert sessions is not None
    begins = np.ones(len(sessions), bool)
    begins[1:] = np.diff(sessions) != 0
    begins[histories.starts[histories.lengths > 0]] = True
    first = np.flatnonzero(begins)  # one for each session from here on
    owner = np.searchsorted(histories.offsets, first, side="right") - 1
    keys = owner * (np.int64(sessions.max()) + 1) + sessions[first]
    if len(kept := np.unique(keys, return_index=True)[1]) < len(keys):
        again = owner[np.setdiff1d(np.arange(len(keys)), kept)]
        user = data.users.id_list(again[:1])[0]
        raise DataError(
            f"Sessions of {len(np.unique(again)):,} users go on after another session has begun (first: user "
            f"{user!r}), so that none is the last: give each visit a session of its own, or mend the times."
        )
    counts_U = np.bincount(owner, minlength=len(histories))
    back = np.cumsum(counts_U)[owner] - np.arange(len(first))  # 1 is the last one
    part = np.where((counts_U[owner] >= 3) & (back <= 2), 3 - back, 0).astype(np.uint8)
    if not part.any():
        raise DataError("Leaving the last session out needs a user with three sessions, but no user here has them.")
    return np.repeat(part, np.diff(first, append=len(sessions)))


def by_last_session(data: Interactions, parts: np.ndarray) -> Divided:
    """All sessions but the last two train; each item of these is to be found from the sessions before its own.

    Args:
        parts: uint8 [n], from `last_session_parts`.
    """
    histories, ends, held = data.histories, data.histories.ends.copy(), []
    for number in (2, 1):
        at = np.flatnonzero(parts == number)
        owner = np.searchsorted(histories.offsets, at, side="right") - 1
        users, first, of_case = np.unique(owner, return_index=True, return_inverse=True)
        ends[users] = at[first]
        once = np.sort(np.unique(owner * np.int64(data.n_items) + histories.items[at], return_index=True)[1])
        owner, before = owner[once], at[first][of_case[once]]
        history = Spans(histories, owner, histories.starts[owner], before)
        held.append(Cases(history, histories.items[at[once]]))
    train = Spans(histories, np.arange(len(histories)), histories.starts, ends)
    return Divided(train, held[1], held[0], {"parts": _digest(parts)})


def _digest(parts: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(parts, np.uint8).data).hexdigest()[:16]


def _session_targets(histories: Histories, held: np.ndarray, targets: SessionTargets) -> np.ndarray:
    """Places of what is to be found in sessions of two items or more."""
    rows = np.flatnonzero(held & (histories.lengths >= 2))
    starts, ends = histories.starts[rows], histories.ends[rows]
    if targets != "all":
        return starts + 1 if targets == "first" else ends - 1
    return np.concatenate([np.arange(start + 1, end) for start, end in zip(starts, ends, strict=True)] or [starts])


def _last_of_training(histories: Histories, parts: np.ndarray) -> np.ndarray:
    """The parts with the last training interaction of each user with three of them made valid."""
    parts, places = parts.copy(), np.flatnonzero(parts == 0)
    owners = np.searchsorted(histories.offsets, places, side="right") - 1
    counts = np.bincount(owners, minlength=len(histories))
    last = places[np.flatnonzero(np.diff(owners, append=-1))]
    parts[last[counts[counts > 0] >= 3]] = 1
    return parts


def _marked(histories: Histories, keep: np.ndarray) -> Spans:
    """The marked interactions, one row a user; what stands between them goes."""
    before = np.concatenate([[0], np.cumsum(keep)])
    counts = np.diff(before[histories.offsets])
    first = histories.starts + counts
    if (before[first] - before[histories.starts] == counts).all():  # each user's first ones: the histories as they are
        return Spans(histories, np.arange(len(histories)), histories.starts, first)
    times = None if histories.times is None else histories.times[keep]
    return Histories(histories.items[keep], before[histories.offsets].astype(np.int64), times).all()


def _cases(histories: Histories, at: np.ndarray) -> tuple[Cases, dict[str, int]]:
    """Cases for the interactions at these places that have a history, and their counts."""
    owner = np.searchsorted(histories.offsets, at, side="right") - 1
    starts = histories.starts[owner]
    kept = at > starts
    history = Spans(histories, owner[kept], starts[kept], at[kept])
    return Cases(history, histories.items[at[kept]]), {"cases": int(kept.sum()), "without_history": int((~kept).sum())}


def _refuse_empty(divided: Divided, mend: str) -> None:
    sizes = {"training": divided.train.lengths.sum(), "valid": len(divided.valid), "test": len(divided.test)}
    for part, size in sizes.items():
        if size == 0:
            what = "has no interactions" if part == "training" else "has no interaction with a history before it"
            raise DataError(f"The {part} part {what}: {mend}.")
