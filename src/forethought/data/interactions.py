"""A table of interactions, read once: histories in rows, and the vocabularies that lead back to ids."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from forethought.data.histories import Histories
from forethought.data.origin import Origin
from forethought.data.vocabulary import Vocabulary


class DataSizes(NamedTuple):
    """How many items and users a model is built for; without users it can keep nothing of any of them."""

    n_items: int
    n_users: int = 0


@dataclass(frozen=True)
class Interactions:
    """Who did what, in order.

    Attributes:
        histories: one row a user, items in order of time (ties in the order of the source).
        users, items: vocabularies; row numbers of `histories` refer to them.
        item_table: one row an item, in vocabulary order: `item_id` and whatever is known (title, brand, categories);
            `source_row` is its row in the item table it came from, to align arrays such as text vectors.
        name: what reports call this data.
        notes: what was assumed when it was read, in words.
        texts: the file of text vectors that lay beside it, a row for each row of the item table it came from.
        table_rows: of that item table, items that nobody met included; None where there was none.
        origin: what to read to have this very data again; None where that cannot be said.
        parts: uint8 [n], the part of a split that each interaction belongs to (0 train, 1 valid, 2 test), in order of
            `histories`; None where nothing says so.
        sessions: int32 [n], likewise the number of the session that each interaction belongs to, the same for no two
            sessions of a user.
    """

    histories: Histories
    users: Vocabulary
    items: Vocabulary
    item_table: pl.DataFrame
    name: str = "interactions"
    notes: tuple[str, ...] = ()
    texts: Path | None = None
    table_rows: int | None = None
    origin: Origin | None = None
    parts: np.ndarray | None = None
    sessions: np.ndarray | None = None

    @property
    def n_users(self) -> int:
        return len(self.users)

    @property
    def n_items(self) -> int:
        return len(self.items)

    @property
    def sizes(self) -> DataSizes:
        return DataSizes(self.n_items, self.n_users)

    def __len__(self) -> int:
        return len(self.histories.items)

    def __repr__(self) -> str:
        return f"<Interactions {self.name}: {self.n_users:,} users, {self.n_items:,} items, {len(self):,} interactions>"

    @cached_property
    def repeats(self) -> bool:
        """Whether any user meets an item twice; then histories must stay among the candidates."""
        return any(
            len(np.unique(keys)) != len(keys) for keys in (self.pairs(users) for users in self.histories.blocks())
        )

    def pairs(self, users: slice) -> np.ndarray:
        """One int64 key for each (user, item) of a run of users, in order of `histories`."""
        histories = self.histories
        return histories.owners(users) * np.int64(self.n_items) + histories.items[histories.rows(users)]

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 over ids, order and times, 16 hex digits: the same table has the same hash everywhere.

        Each part is preceded by what it is and how long, and ids by their lengths, so that no other table has the
        same bytes.
        """
        digest = hashlib.sha256()
        for name, vocabulary in (("users", self.users), ("items", self.items)):
            ids = vocabulary.ids.cast(pl.String)
            digest.update(f"{name} {vocabulary.kind} {len(ids)}\n".encode())
            digest.update(ids.str.len_bytes().cast(pl.UInt32).to_numpy().data)
            digest.update("".join(ids.to_list()).encode())
        histories = self.histories
        for name, array in (("items", histories.items), ("offsets", histories.offsets), ("times", histories.times)):
            digest.update(f"{name} {'none' if array is None else len(array)}\n".encode())
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]

    def where(self, keep: np.ndarray) -> Interactions:
        """The interactions marked in a bool [n]; users and items that are left without any go too."""
        histories = self.histories
        kept_before = np.concatenate([[0], np.cumsum(keep)])
        lengths = np.diff(kept_before[histories.offsets])
        users = np.flatnonzero(lengths)
        items = histories.items[keep]
        counts = np.bincount(items, minlength=self.n_items)
        kept_items = np.flatnonzero(counts)
        row_of = np.cumsum(counts > 0, dtype=np.int32) - 1
        times = None if histories.times is None else histories.times[keep]
        offsets = np.concatenate([[0], np.cumsum(lengths[users])]).astype(np.int64)
        return replace(
            self,
            histories=Histories(row_of[items], offsets, times),
            users=replace(self.users, ids=self.users.ids.gather(users)),
            items=replace(self.items, ids=self.items.ids.gather(kept_items)),
            item_table=self.item_table[kept_items],
            origin=None,
            parts=None if self.parts is None else self.parts[keep],
            sessions=None if self.sessions is None else self.sessions[keep],
        )
