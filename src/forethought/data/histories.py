"""Histories: one flat array of items and the offsets where each user begins. Windows are views, never copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from forethought.errors import DataError


@dataclass(frozen=True)
class Histories:
    """Every user's items in order of time.

    Attributes:
        items: int32 [n], item rows of all users, one after the other; memory-mapped when large.
        offsets: int64 [U+1]; user u owns items[offsets[u]:offsets[u+1]].
        times: int64 [n], Unix seconds, or None where the source has only an order.
    """

    items: np.ndarray
    offsets: np.ndarray
    times: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, user: int) -> np.ndarray:
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def starts(self) -> np.ndarray:
        return self.offsets[:-1]

    @property
    def ends(self) -> np.ndarray:
        return self.offsets[1:]

    def dated(self) -> np.ndarray:
        """The times, where one cannot do without them.

        Raises:
            DataError: the source has only an order.
        """
        if self.times is None:
            raise DataError("This data has an order but no times: read it with a time column, or do without.")
        return self.times

    def blocks(self, size: int = 8_000_000) -> Iterator[slice]:
        """Runs of users of about `size` interactions together, so that work on all of them needs little memory."""
        first = 0
        while first < len(self):
            last = int(np.searchsorted(self.offsets, self.offsets[first] + size, side="right")) - 1
            last = max(last, first + 1)
            yield slice(first, last)
            first = last

    def rows(self, users: slice) -> slice:
        """Where the interactions of a run of users stand in the flat arrays."""
        return slice(int(self.offsets[users.start]), int(self.offsets[users.stop]))

    def owners(self, users: slice) -> np.ndarray:
        """The user row of each interaction of a run of users, int64."""
        return np.repeat(np.arange(users.start, users.stop), self.lengths[users])

    @classmethod
    def from_lists(cls, lists: list[list[int]] | list[np.ndarray]) -> Histories:
        """Flatten a list of item-row lists."""
        lengths = np.fromiter((len(row) for row in lists), np.int64, len(lists))
        items = np.concatenate([np.asarray(row, np.int32) for row in lists]) if len(lists) else np.zeros(0)
        return cls(items.astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def all(self) -> Spans:
        """Every user's whole history."""
        return Spans(self, np.arange(len(self)), self.starts, self.ends)


@dataclass(frozen=True)
class Spans:
    """Stretches of histories: row i is histories.items[starts[i]:ends[i]] of user users[i]."""

    histories: Histories
    users: np.ndarray  # int [n], user rows
    starts: np.ndarray  # int64 [n]
    ends: np.ndarray  # int64 [n], exclusive

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.histories.items[self.starts[row] : self.ends[row]]

    @property
    def lengths(self) -> np.ndarray:
        return self.ends - self.starts

    def take(self, rows: np.ndarray) -> Spans:
        return Spans(self.histories, self.users[rows], self.starts[rows], self.ends[rows])

    def last(self, window: int) -> Spans:
        """The same rows, cut to their last `window` items."""
        return Spans(self.histories, self.users, np.maximum(self.starts, self.ends - window), self.ends)

    def inside(self) -> np.ndarray:
        """Which interactions of the flat arrays these rows hold, bool [n] (rows must not overlap)."""
        marks = np.zeros(len(self.histories.items) + 1, np.int32)
        np.add.at(marks, self.starts, 1)
        np.add.at(marks, self.ends, -1)
        return np.cumsum(marks[:-1], dtype=np.int32) > 0

    def item_counts(self, n_items: int) -> np.ndarray:
        """How often each item occurs in these rows, int64 [N] (rows must not overlap)."""
        return np.bincount(self.histories.items[self.inside()], minlength=n_items)


@dataclass(frozen=True)
class Cases:
    """Evaluation cases: what was known of a user, and the item that came next.

    Attributes:
        history: row i is the history of case i (for a test case it includes the validation item); what stands
            just behind its end happened at the time of the target.
        targets: int32 [n], the item rows to be found.
        clean: [n], where the history was disturbed by noise: what it was before.
    """

    history: Spans
    targets: np.ndarray
    clean: Spans | None = None

    @property
    def met(self) -> Spans:
        """What the users really met, hence what may be excluded from the candidates; noise is no part of it."""
        return self.history if self.clean is None else self.clean

    def __len__(self) -> int:
        return len(self.targets)

    def of_unknown_users(self) -> Cases:
        """The same histories as if nobody knew whose they are: user rows of -1."""
        return replace(self, history=replace(self.history, users=np.full(len(self), -1)))

    def take(self, rows: np.ndarray) -> Cases:
        clean = None if self.clean is None else self.clean.take(rows)
        return Cases(self.history.take(rows), self.targets[rows], clean)
