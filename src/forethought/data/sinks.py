"""Tables written as they are made: Parquet, CSV or lines of JSON, as the name of the file says.

Lists and structures stand in a cell of a CSV file as JSON. Text has no bytes: a column of 16 bytes a value holds UUIDs
and is written as they are spelled, other bytes are refused.
"""

from __future__ import annotations

import csv
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl
from polars.io.plugins import register_io_source

from forethought.errors import DataError, ForethoughtError, shown
from forethought.files import check_replaceable, refuse_special
from forethought.version import MARK

TableKind = Literal["parquet", "csv", "jsonl"]
ENDINGS: dict[str, TableKind] = {
    **dict.fromkeys((".parquet", ".pq", ".parq"), "parquet"),
    ".csv": "csv",
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
}
HEAD = 1 << 20  # characters of a first line at most
UUID_BYTES = 16


def kind_of(path: Path) -> TableKind:
    """What a table of this name is written as; Parquet where it has no ending.

    Raises:
        DataError: the ending promises something else.
    """
    if not path.suffix:
        return "parquet"
    kind = ENDINGS.get(path.suffix.lower())
    if kind is None:
        raise DataError(
            f"{str(path)!r} ends in {path.suffix}, but a table is written as .parquet, .csv or .jsonl: call it "
            f"{path.with_suffix('.parquet').name!r}."
        )
    return kind


def check_own(path: Path, kind: TableKind, last: Sequence[str]) -> None:
    """Refuse to replace a table that we did not write.

    Args:
        last: columns that ours end in, by which text is known, as it has no room for a mark.

    Raises:
        RunError: something lies there that is not ours.
    """
    if kind == "parquet" or not _has_columns(path, kind, last):
        check_replaceable(path)


def _has_columns(path: Path, kind: TableKind, last: Sequence[str]) -> bool:
    refuse_special(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            line = file.readline(HEAD)
        names = next(csv.reader([line]), []) if kind == "csv" else [*json.loads(line)]
    except (OSError, ValueError, TypeError, RecursionError, csv.Error):
        return False
    return names[-len(last) :] == [*last]


def text_schema(schema: pl.Schema, kind: TableKind) -> pl.Schema:
    """The types of columns as `as_text` gives them."""
    if kind == "parquet":
        return schema
    types = {name: _spelled_type(of) for name, of in schema.items()}
    return pl.Schema({name: pl.String() if kind == "csv" and of.is_nested() else of for name, of in types.items()})


def as_text(frame: pl.DataFrame, kind: TableKind) -> pl.DataFrame:
    """The frame as this kind of file can hold it.

    Raises:
        DataError: a column holds bytes that are no UUIDs.
    """
    if kind == "parquet":
        return frame
    frame = frame.with_columns(_spelled(column) for column in frame if _holds_bytes(column.dtype))
    return frame.with_columns(_json(name) for name, of in frame.schema.items() if kind == "csv" and of.is_nested())


def sink(chunks: Callable[[], Iterator[pl.DataFrame]], schema: pl.Schema, path: Path, kind: TableKind) -> None:
    """Write frames to a file as they are made.

    Args:
        schema: of the chunks.
    """
    failed: list[ForethoughtError] = []

    def guarded(columns: list[str] | None, *_: Any) -> Iterator[pl.DataFrame]:
        try:
            for chunk in chunks():
                written = as_text(chunk, kind)
                yield written if columns is None else written.select(columns)
        except ForethoughtError as error:  # polars would wrap it: keep our sentence
            failed.append(error)
            raise

    rows = register_io_source(guarded, schema=text_schema(schema, kind), is_pure=True)
    try:
        if kind == "parquet":
            rows.sink_parquet(path, metadata={"made": MARK})
        elif kind == "csv":
            rows.sink_csv(path)
        else:
            rows.sink_ndjson(path)
    except Exception:
        if failed:
            raise failed[0] from None
        raise


def _holds_bytes(of: pl.DataType) -> bool:
    return of in (pl.Binary(), pl.List(pl.Binary))


def _spelled_type(of: pl.DataType) -> pl.DataType:
    if not _holds_bytes(of):
        return of
    return pl.List(pl.String) if of.is_nested() else pl.String()


def _spelled(column: pl.Series) -> pl.Series:
    """UUIDs of 16 bytes each as text."""
    rows = column.to_list() if column.dtype.is_nested() else [[value] for value in column.to_list()]
    odd = next((v for row in rows for v in row or () if v is not None and len(v) != UUID_BYTES), None)
    if odd is not None:
        raise DataError(
            f"The column {shown(column.name)} holds bytes that are no UUIDs, which text cannot hold: write Parquet, or "
            "leave the column out."
        )
    texts = [row and [v if v is None else str(uuid.UUID(bytes=v)) for v in row] for row in rows]
    found = texts if column.dtype.is_nested() else [row[0] for row in texts if row is not None]
    return pl.Series(column.name, found, _spelled_type(column.dtype))


def _json(name: str) -> pl.Expr:
    """A column of lists or structures as JSON; an empty cell stays one."""
    wrapped = pl.struct(pl.col(name).alias("_")).struct.json_encode()  # {"_":value}
    return pl.when(pl.col(name).is_not_null()).then(wrapped.str.slice(5).str.head(-1)).alias(name)
