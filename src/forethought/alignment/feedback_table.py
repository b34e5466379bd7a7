"""Feedback as people hand it in: a plain table, checked row by row.

user_id or history   whose it is (may be called as in the run's own data), or the item ids it is of, oldest first (a
                     list, or text with commas)
kind                 token, path or category
value                3:17 (book and token), 3:17 0:5 (the tokens of a path), or a category by its name
accepted             true or false
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
import torch

from forethought.alignment.feedback import Feedback, JudgedPaths, Signs
from forethought.data.histories import Histories, Spans
from forethought.data.sources import describe, open_table, readable
from forethought.data.splits import Split
from forethought.data.vocabulary import UNKNOWN
from forethought.errors import ConfigError, DataError, shown, some
from forethought.methods.interface import Method
from forethought.methods.path_policy import PathPolicy

OWNERS, JUDGED = ("user_id", "history"), ("kind", "value", "accepted")
KINDS = ("token", "path", "category")
SAID = {"true": 1, "1": 1, "false": -1, "0": -1}


def read_feedback(source: Any, method: Method, split: Split) -> Feedback:
    """The feedback of a table.

    Args:
        source: a file or a table in memory, as `open_table` takes it.
        method: that decided what was judged.
        split: whose training histories users have.

    Raises:
        ConfigError: the method has no paths.
        DataError: a row is not what it must be, two contradict each other, or there is none.
    """
    policy = method.rl_policy()
    if not isinstance(policy, PathPolicy):
        raise ConfigError("Feedback is of paths over tokens, and this method has none: leave feedback out.")
    told = f"The feedback in {describe(source)}"
    with readable(source):
        table = open_table(source).frame.collect()
    table, owner = _with_owner(table, split, told)
    if not len(table):
        raise DataError(f"{told} has no rows: give at least one that accepts or rejects something.")
    rows, row_of = _histories(table[owner], owner, method, split, told)
    reader = _Reader(policy, told)
    columns = (table[name].to_list() for name in JUDGED)
    for n, (of, kind, value, accepted) in enumerate(zip(row_of.tolist(), *columns, strict=True), start=1):
        reader.read(n, of, kind, value, accepted)
    return reader.feedback(rows, method.window)


def _with_owner(table: pl.DataFrame, split: Split, told: str) -> tuple[pl.DataFrame, str]:
    """The table, with the column that says whose a row is under one of two names."""
    origin = split.data.origin
    usual = "user_id" if origin is None else origin.columns.user
    if usual in table.columns and usual not in (*OWNERS, *JUDGED) and "user_id" not in table.columns:
        table = table.rename({usual: "user_id"})
    owners = [name for name in OWNERS if name in table.columns]
    missing = [name for name in JUDGED if name not in table.columns]
    if missing or len(owners) != 1:
        raise DataError(
            f"{told} has the columns {some(table.columns, 8)}, but needs kind, value, accepted and either user_id or "
            "history: rename its columns so."
        )
    return table, owners[0]


def _histories(column: pl.Series, owner: str, method: Method, split: Split, told: str) -> tuple[Spans, np.ndarray]:
    """Each history once, and which one every row is of."""
    if owner == "user_id":
        users = split.data.users.index_of(column)
        at = np.full(split.data.n_users, UNKNOWN)
        at[split.train.users[split.train.lengths > 0]] = np.flatnonzero(split.train.lengths > 0)
        found = np.where(users == UNKNOWN, UNKNOWN, at[users])
        if (found == UNKNOWN).any():
            missing = [column[n] for n in np.flatnonzero(found == UNKNOWN).tolist()]
            raise DataError(
                f"{told} has users without a history in the training part: {some(list(dict.fromkeys(missing)), 5)}; "
                f"ids look like {split.data.users.id_list([0])[0]!r}. Leave them out, or give a column history instead."
            )
        distinct, row_of = np.unique(found, return_inverse=True)
        return split.train.take(distinct), row_of
    if method.inputs.times:
        raise DataError(f"{told} has histories without times, which this model reads: give user_id instead.")
    ids = [_ids(cell, split.data.items.kind == "integer") for cell in column.to_list()]
    lists = [split.data.items.index_of(each) for each in ids]
    for n, (each, row) in enumerate(zip(ids, lists, strict=True), start=1):
        if not len(row) or (row == UNKNOWN).any():
            missing = [name for name, at in zip(each, row, strict=True) if at == UNKNOWN]
            what = f"has items that the run does not know: {some(missing, 5)}" if missing else "is empty"
            raise DataError(f"{told}, row {n}: the history {what}; give ids of its items, oldest first.")
    distinct = list(dict.fromkeys(tuple(row.tolist()) for row in lists))
    number = {history: n for n, history in enumerate(distinct)}
    rows = Histories.from_lists([np.array(history) for history in distinct]).all()
    rows = replace(rows, users=np.full(len(distinct), UNKNOWN))  # nobody that is known
    return rows, np.array([number[tuple(row.tolist())] for row in lists])


def _ids(cell: Any, numbers: bool) -> list[Any]:
    if cell is None or isinstance(cell, list):
        return list(cell or ())
    words = [word.strip() for word in str(cell).split(",") if word.strip()]
    return [int(word) if numbers and word.isascii() and word.isdigit() else word for word in words]


@dataclass
class _Reader:
    """Rows one after the other; what was said before of the same thing is looked up."""

    policy: PathPolicy
    told: str
    said: dict[tuple[int, str, Any], int] = field(default_factory=dict)

    def read(self, n: int, of: int, kind: Any, value: Any, accepted: Any) -> None:
        told = f"{self.told}, row {n}"
        if kind not in KINDS:
            raise DataError(f"{told}: kind is {shown(kind)}, but must be token, path or category.")
        if (sign := SAID.get(str(accepted).strip().lower())) is None:
            raise DataError(f"{told}: accepted is {shown(accepted)}, but must be true or false.")
        read: dict[str, Callable[[str, str], Any]]
        read = {"token": self._token, "path": self._path, "category": self._category}
        key = (of, kind, read[kind]("" if value is None else str(value).strip(), told))
        if self.said.setdefault(key, sign) != sign:
            raise DataError(
                f"{told}: {kind} {shown(value)} is both accepted and rejected for one history: keep what holds."
            )

    def feedback(self, rows: Spans, window: int) -> Feedback:
        M, C = self.policy.tokens.codebooks, self.policy.tokens.size
        categories = len(self._labels)
        paths = [(of, key, sign) for (of, kind, key), sign in self.said.items() if kind == "path"]
        codes_JM = torch.full((len(paths), M), -1)
        for row, (_, path, _) in enumerate(paths):
            for book, token in path:
                codes_JM[row, book] = token
        owners, signs = [of for of, _, _ in paths], [sign for _, _, sign in paths]
        histories = [rows[row].tolist() for row in range(len(rows))]
        canonical = json.dumps([histories, sorted((list(key), sign) for key, sign in self.said.items())])
        return Feedback(
            rows=rows,
            window=window,
            tokens=self._signs("token", lambda of, token: (of * M + token[0]) * C + token[1]),
            categories=self._signs("category", lambda of, category: of * categories + category),
            paths=JudgedPaths(
                torch.tensor(owners, dtype=torch.int64), codes_JM, torch.tensor(signs, dtype=torch.int64)
            ),
            checksum=hashlib.sha256(canonical.encode()).hexdigest(),
        )

    def _signs(self, kind: str, key: Callable[[int, Any], int]) -> Signs:
        return Signs.of({key(of, value): sign for (of, each, value), sign in self.said.items() if each == kind})

    @property
    def _labels(self) -> tuple[str, ...]:
        tokens = self.policy.tokens
        return () if tokens.categories is None or tokens.shape is None else tokens.shape.categories

    def _token(self, word: str, told: str) -> tuple[int, int]:
        if not re.fullmatch(r"[0-9]{1,9}:[0-9]{1,9}", word):
            raise DataError(f"{told}: {shown(word)} is no token: write codebook and token with a colon, such as 3:17.")
        book, token = (int(part) for part in word.split(":"))
        if book >= self.policy.tokens.codebooks or token >= self.policy.tokens.size:
            raise DataError(
                f"{told}: there is no token {word}: codebooks go from 0 to {self.policy.tokens.codebooks - 1}, tokens "
                f"from 0 to {self.policy.tokens.size - 1}."
            )
        return book, token

    def _path(self, words: str, told: str) -> tuple[tuple[int, int], ...]:
        path = tuple(sorted(self._token(word, told) for word in words.split()))
        most = min(self.policy.steps, self.policy.tokens.codebooks)
        if not 1 <= len(path) <= most or len({book for book, _ in path}) < len(path):
            raise DataError(
                f"{told}: {shown(words)} is no path of this run: write 1 to {most} tokens of different codebooks, such "
                "as 3:17 0:5."
            )
        return path

    def _category(self, word: str, told: str) -> int:
        if word not in self._labels:
            known = f"it names {some(list(self._labels), 5)}" if self._labels else "it names none"
            raise DataError(f"{told}: the run names no category {shown(word)}: {known}.")
        return self._labels.index(word)
