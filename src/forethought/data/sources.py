"""Tables from anywhere become one lazy polars frame; nothing is read before it is asked for.

In a frame a UUID is 16 bytes, because that is what Parquet, Arrow and pandas make of it; `vocabulary` turns
it back. Text files are typed by all their values, never by a sample, and a column is integer only where every
value is written as we would write it back: the id 007 stays 007.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from forethought.data.sql import relation_frame, sql
from forethought.errors import DataError, MissingExtraError

KINDS = "Parquet, CSV or TSV (file, glob or folder; .gz too), 'sql: SELECT ...', or a polars, pandas or Arrow table"
FRACTION = r"\.|[eE][+-]|(?i:nan|inf)"
TEXT_ENDINGS = (".csv", ".tsv", ".tab", ".txt")


def scan(source: Any) -> pl.LazyFrame:
    """Open a table of any known kind.

    Args:
        source: a path to Parquet, CSV or TSV (a file, a glob or a folder of Parquet files; a folder that holds
            `interactions.parquet` stands for that file), `"sql: SELECT ..."` for DuckDB, a DuckDB relation, a
            polars frame (lazy or not), a pandas frame or a pyarrow table.

    Returns:
        A lazy frame. It may be evaluated more than once, so a costly lazy frame is better collected first.

    Raises:
        DataError: no such file, or a kind that is not known.
        MissingExtraError: DuckDB or pyarrow is needed and missing.

    Example:
        >>> scan(pl.DataFrame({"user_id": [1], "item_id": ["a"]})).collect().height
        1
    """
    if isinstance(source, pl.LazyFrame):
        return source
    if _is_query(source):
        return sql(source.lstrip()[4:])
    if isinstance(source, str | Path):
        return _scan_path(str(source))
    return _from_memory(source).lazy()


def describe(source: Any) -> str:
    """What messages call this source."""
    if isinstance(source, str | Path):
        return f"{str(source)!r}"
    return f"the {type(source).__module__.partition('.')[0]} {type(source).__name__}"


def folder_of(source: Any) -> Path | None:
    """The source as a folder, if it is one."""
    return Path(source) if isinstance(source, str | Path) and not _is_query(source) and Path(source).is_dir() else None


def _is_query(source: Any) -> bool:
    return isinstance(source, str) and source.lstrip().lower().startswith("sql:")


def stem(source: Any) -> str | None:
    """A short name for the data: the last part of its path without endings, or None for a table in memory."""
    if not isinstance(source, str | Path) or _is_query(source):
        return None
    path = Path(source)
    return path.parent.name if path.name == "interactions.parquet" else path.name.partition(".")[0]


@contextmanager
def readable(source: Any) -> Iterator[None]:
    """Turn what polars and the file system say into one sentence about the source."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, UnicodeDecodeError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"Reading {describe(source)} failed ({said[0].rstrip('.')}): check that the table is whole and of the kind "
            "its name says."
        ) from error


def _scan_path(path: str) -> pl.LazyFrame:
    remote, glob = "://" in path, any(mark in path for mark in "*?[")
    at = Path(path)
    if not remote and at.is_dir():
        return _scan_folder(at)
    if not remote and not glob and not at.exists():
        raise DataError(f"There is no file or folder {path!r}: give a path to {KINDS}.")
    plain = path.lower().removesuffix(".gz").removesuffix(".zst")
    if plain.endswith(TEXT_ENDINGS):
        with readable(path):
            return _typed(pl.scan_csv(path, separator=_separator(path, plain), infer_schema=False))
    if plain.endswith((".parquet", ".pq", ".parq")):
        return pl.scan_parquet(path)
    raise DataError(f"The ending of {path!r} is not known: give a path to {KINDS}.")


def _scan_folder(folder: Path) -> pl.LazyFrame:
    if (folder / "interactions.parquet").exists():
        return pl.scan_parquet(folder / "interactions.parquet")
    if not any(folder.glob("*.parquet")):
        raise DataError(f"The folder {str(folder)!r} holds no Parquet files: expected interactions.parquet or others.")
    return pl.scan_parquet(folder / "*.parquet")


def _separator(path: str, plain: str) -> str:
    """A tab where the ending says so, else whatever stands most often in the header line."""
    if plain.endswith((".tsv", ".tab")):
        return "\t"
    header = pl.scan_csv(path, has_header=False, separator="\x1f", quote_char=None, infer_schema=False, n_rows=1)
    line = header.collect().item(0, 0) or ""
    return max(",\t;|", key=line.count)


def _typed(text: pl.LazyFrame) -> pl.LazyFrame:
    """Give a frame of strings its types; one streamed pass over all values."""
    names = text.collect_schema().names()
    looks: dict[str, pl.Expr] = {}
    for name in names:
        value = pl.col(name)
        is_whole = value.cast(pl.Int64, strict=False).cast(pl.String).eq_missing(value)
        # A number must look like one: 007 and 20 digits in a row are names, though they could be cast.
        is_number = value.cast(pl.Float64, strict=False).is_not_null() & value.str.contains(FRACTION)
        looks |= {f"whole {name}": is_whole.all(), f"number {name}": (is_whole | is_number).all()}
    told = text.select(**looks).collect(engine="streaming").row(0, named=True)
    types = {name: pl.Int64 if told[f"whole {name}"] else pl.Float64 for name in names if told[f"number {name}"]}
    return text.cast(types) if types else text  # pyright: ignore[reportArgumentType]


def _from_memory(source: Any) -> pl.DataFrame:
    home = type(source).__module__.partition(".")[0]
    try:
        if isinstance(source, pl.DataFrame):
            frame = source
        elif home == "pandas":
            frame = pl.from_pandas(source)
        elif home in ("duckdb", "_duckdb") and hasattr(source, "columns"):
            frame = relation_frame(source)
        elif home == "pyarrow":
            frame = pl.DataFrame(source)
        else:
            raise DataError(f"A table cannot be made of {describe(source)}: give {KINDS}.")
    except ImportError as error:
        raise MissingExtraError("pyarrow", "data", f"Reading {describe(source)}") from error
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise DataError(
            f"Reading {describe(source)} failed ({str(error).splitlines()[0]}): give every column one type."
        ) from error
    return frame.with_columns(_bytes_of(column) for column in frame if column.dtype == pl.Object)


def _bytes_of(column: pl.Series) -> pl.Series:
    """Python UUIDs as 16 bytes; polars keeps them as opaque objects."""
    values = column.to_list()
    if not all(value is None or isinstance(value, uuid.UUID) for value in values):
        raise DataError(
            f"The column {column.name!r} holds Python objects of several types: give it one type, for example strings."
        )
    return pl.Series(column.name, [value and value.bytes for value in values], dtype=pl.Binary)
