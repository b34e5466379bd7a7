"""The user's own ids and the rows we compute with: the only door between the two.

`*_id` is the user's value (string, integer or UUID), `*_idx` a row from 0 to N-1. Ids leave exactly as they
came in: integers stay integers, UUIDs come back as `uuid.UUID`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl

from forethought.errors import DataError

IdKind = Literal["string", "integer", "uuid"]
UNKNOWN = -1


@dataclass(frozen=True)
class Vocabulary:
    """Distinct ids in row order.

    Attributes:
        ids: unique, non-null; dtype String or an integer type (UUIDs are held as their canonical text).
        kind: how ids appear to the user.
    """

    ids: pl.Series
    kind: IdKind

    @classmethod
    def from_series(cls, ids: pl.Series, kind: IdKind | None = None) -> Vocabulary:
        """Wrap unique ids, row i holding id i.

        Raises:
            DataError: ids of a type that cannot name anything (floats, lists), nulls or duplicates.
        """
        read, detected = id_column(ids.to_frame().lazy(), ids.name)
        ids = ids.to_frame().select(read).to_series()
        if ids.null_count():
            raise DataError(f"The column {ids.name!r} has {ids.null_count()} empty ids: drop those rows first.")
        if ids.n_unique() != len(ids):
            raise DataError(f"The column {ids.name!r} lists some ids more than once: keep one row for each.")
        return cls(ids, kind or detected)

    def __len__(self) -> int:
        return len(self.ids)

    def index_of(self, ids: Sequence[Any] | pl.Series | np.ndarray) -> np.ndarray:
        """Rows of the given ids, int64; `UNKNOWN` (-1) where an id is not in the vocabulary."""
        if isinstance(ids, pl.Series):
            return self._join(ids)
        if isinstance(ids, np.ndarray) and ids.dtype.kind in "iu" and len(ids) > 10_000:
            return self._join(pl.Series(ids))
        row_of, text = self._row_of, self.kind != "integer"
        return np.fromiter((row_of.get(_key(i, text), UNKNOWN) for i in ids), np.int64, len(ids))

    def _join(self, series: pl.Series) -> np.ndarray:
        if series.dtype.is_integer() != self.ids.dtype.is_integer():
            return np.full(len(series), UNKNOWN, np.int64)
        asked = series.rename("id").to_frame()
        if not series.dtype.is_integer():
            asked = asked.select(id_column(asked.lazy(), "id")[0])
        # Ids above the signed range exist only where the vocabulary is unsigned; others there cannot match.
        dtype = self.ids.dtype if self.ids.dtype in (pl.String, pl.UInt64) else pl.Int64
        table = pl.DataFrame({"id": self.ids.cast(dtype), "row": np.arange(len(self), dtype=np.int64)})
        joined = asked.cast(dtype, strict=False).join(table, on="id", how="left", maintain_order="left")
        return joined["row"].fill_null(UNKNOWN).to_numpy()

    def id_list(self, idx: np.ndarray | Sequence[int]) -> list[Any]:
        """The user's ids of the given rows, as Python values of the kind that came in."""
        rows = np.asarray(idx)
        values = self._values
        return [values[i] for i in rows.tolist()]

    @cached_property
    def _values(self) -> list[Any]:
        values = self.ids.to_list()
        return [uuid.UUID(v) for v in values] if self.kind == "uuid" else values

    @cached_property
    def _row_of(self) -> dict[Any, int]:
        return {value: row for row, value in enumerate(self.ids.to_list())}


def _key(value: Any, text: bool) -> Any:
    """The look-up key of an id: numpy scalars and UUIDs compare like the plain values they stand for."""
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    fits = isinstance(value, str) if text else isinstance(value, int) and not isinstance(value, bool)
    return value if fits else None  # 7, "7" and 7.0 are different ids; None is never one


def id_column(frame: pl.LazyFrame, column: str) -> tuple[pl.Expr, IdKind]:
    """How to read a column of ids: an expression of type String or integer, and how its ids appear to the user.

    Raises:
        DataError: the column's type cannot name anything.
    """
    dtype, value = frame.collect_schema()[column], pl.col(column)
    if dtype.is_integer():
        return value, "integer"
    if dtype == pl.String or dtype in (pl.Categorical, pl.Enum):
        return value.cast(pl.String), "string"
    if dtype == pl.Binary:
        head = frame.select(value.drop_nulls().head(1000)).collect().to_series()
        if _are_uuids(head):
            return uuid_text(value).alias(column), "uuid"
        return value.cast(pl.String), "string"  # text whose writer did not mark it as text
    if dtype.is_float():
        raise DataError(
            f"The column {column!r} holds floats ({dtype}), but ids are strings, integers or UUIDs. Whole numbers turn "
            f'into floats where ids are missing: drop those rows and cast, pl.col("{column}").cast(pl.Int64).'
        )
    raise DataError(f"The column {column!r} has type {dtype}, but ids are strings, integers or UUIDs: cast it to one.")


def _are_uuids(values: pl.Series) -> bool:
    """Whether bytes are UUIDs and not text of 16 letters, all of which can be printed."""
    if not len(values) or not (values.bin.size() == 16).all():
        return False
    return not all(value.decode(errors="replace").replace("\ufffd", "\0").isprintable() for value in values.to_list())


def uuid_text(value: pl.Expr) -> pl.Expr:
    """The canonical text of 16 bytes."""
    digits = value.bin.encode("hex")
    parts = (digits.str.slice(start, length) for start, length in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12)))
    return pl.concat_str(list(parts), separator="-")


def uuid_bytes(text: pl.Expr) -> pl.Expr:
    """The 16 bytes of a canonical text: how UUIDs are written to Parquet."""
    return text.str.replace_all("-", "").str.decode("hex")
