"""Tables from anywhere become one lazy polars frame; nothing is read before it is asked for.

A source is opened once and passed on as an `OpenTable`: a query must not run twice. A path that exists is that path,
whatever signs it has; only what does not exist may be a pattern. polars gets whole paths and expands nothing itself.

In a frame a UUID is 16 bytes, because that is what Parquet, Arrow and pandas make of it; `vocabulary` turns
it back. Text files are typed by all their values, never by a sample, and a column is integer only where every
value is written as we would write it back: the id 007 stays 007.
"""

from __future__ import annotations

import glob
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from forethought.data.atomic import ENDINGS as ATOMIC_ENDINGS
from forethought.data.atomic import item_file, only_interactions, scan_atomic, sequences
from forethought.data.names import as_name
from forethought.data.sql import relation_frame, sql
from forethought.errors import DataError, MissingExtraError, shown
from forethought.files import check_ordinary, check_path

KINDS = (
    "Parquet, CSV or TSV (file, glob or folder; .gz too), RecBole's .inter, 'sql: SELECT ...', or a polars, pandas or "
    "Arrow table"
)
FRACTION = r"\.|[eE][+-]|(?i:nan|inf)"
TEXT_ENDINGS = (".csv", ".tsv", ".tab", ".txt")
REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True)
class OpenTable:
    """A source that has been opened; whatever takes a source takes this as well.

    Attributes:
        frame: its rows. It may be evaluated more than once.
        told: what messages call it.
        name: a short name for the data: the last part of its path without endings; None for a table in memory.
        folder: the folder it is, None where it is none.
        items: the table of its items that belongs to it, where its format has one beside it (RecBole's `.item`).
    """

    frame: pl.LazyFrame
    told: str
    name: str | None = None
    folder: Path | None = None
    items: Path | None = None


def open_table(source: Any) -> OpenTable:
    """Open a table of any known kind, once.

    Args:
        source: a path to Parquet, CSV or TSV (a file, a folder of Parquet files or, where there is no such file, a
            glob; a folder that holds `interactions.parquet` stands for that file), `"sql: SELECT ..."` for DuckDB, a
            DuckDB relation, a polars frame (lazy or not), a pandas frame, a pyarrow table, a RecBole atomic file
            (`.inter`, or a folder with one) or the `Dataset` or `Interactions` of RecTools.

    Raises:
        DataError: no such file, or a kind that is not known.
        MissingExtraError: DuckDB or pyarrow is needed and missing.
    """
    if isinstance(source, OpenTable):
        return source
    if isinstance(source, pl.LazyFrame):
        frame = source
    elif is_query(source):
        frame = sql(source.lstrip()[4:])
    elif isinstance(source, str | Path):
        return OpenTable(_scan_path(source), describe(source), stem(source), folder_of(source), _items_beside(source))
    else:
        frame = _from_memory(source).lazy()
    return OpenTable(frame, describe(source), stem(source), folder_of(source))


def scan(source: Any) -> pl.LazyFrame:
    """The rows of a table of any known kind; `open_table` says which.

    Returns:
        A lazy frame. It may be evaluated more than once, so a costly lazy frame is better collected first.

    Example:
        >>> scan(pl.DataFrame({"user_id": [1], "item_id": ["a"]})).collect().height
        1
    """
    return open_table(source).frame


def read_parquet(file: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """This very file; polars would take brackets in its path for a pattern, and ~ for the home folder."""
    check_ordinary(file)
    return pl.read_parquet(file.absolute(), columns=columns, glob=False)


def describe(source: Any) -> str:
    """What messages call this source."""
    if isinstance(source, OpenTable):
        return source.told
    if isinstance(source, str | Path):
        return f"{str(source)!r}"
    return f"the {type(source).__module__.partition('.')[0]} {type(source).__name__}"


def folder_of(source: Any) -> Path | None:
    """The source as a folder, if it is one."""
    if isinstance(source, OpenTable):
        return source.folder
    return Path(source) if isinstance(source, str | Path) and not is_query(source) and os.path.isdir(source) else None


def is_query(source: Any) -> bool:
    return isinstance(source, str) and source.lstrip().lower().startswith("sql:")


def is_remote(source: Any) -> bool:
    return isinstance(source, str) and REMOTE.match(source) is not None


def stem(source: Any) -> str | None:
    """A short name for the data: the last part of its path without endings, or None for a table in memory."""
    if not isinstance(source, str | Path) or is_query(source):
        return None
    path = Path(source)
    return as_name(path.parent.name if path.name == "interactions.parquet" else path.name.partition(".")[0])


@contextmanager
def readable(source: Any) -> Iterator[None]:
    """Turn what polars and the file system say into one sentence about the source."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, UnicodeDecodeError) as error:
        if "KeyboardInterrupt" in str(error):  # pressed while polars was at work, which takes it for a fault
            raise KeyboardInterrupt from error
        said = str(error).strip().splitlines() or [type(error).__name__]
        mend = "check that the table is whole and of the kind its name says"
        if isinstance(error, UnicodeDecodeError) or "utf-8" in said[0].lower():
            mend = "save it as UTF-8, or check that it is of the kind its name says"
        raise DataError(f"Reading {describe(source)} failed ({said[0].rstrip('.')}): {mend}.") from error


def _scan_path(path: str | Path) -> pl.LazyFrame:
    remote = is_remote(path)  # there the store itself lists what fits a pattern
    files = str(path) if remote else _files(path)
    first = files if isinstance(files, str) else files[0]
    plain = str(first).lower().removesuffix(".gz").removesuffix(".zst")
    if plain.endswith(TEXT_ENDINGS):
        with readable(path):
            separator = _separator(first, plain, remote)
            _refuse_double_names(first, separator, remote)
            return _typed(pl.scan_csv(files, separator=separator, infer_schema=False, glob=remote))
    if plain.endswith(ATOMIC_ENDINGS) and not isinstance(files, str):
        with readable(path):
            text, kinds = scan_atomic(files)
            return sequences(_typed(text, kinds), kinds)
    if plain.endswith((".parquet", ".pq", ".parq")):
        return pl.scan_parquet(files, glob=remote)
    raise DataError(f"The ending of {str(path)!r} is not known: give a path to {KINDS}.")


def _items_beside(path: str | Path) -> Path | None:
    if is_remote(path):
        return None
    files = _files(path)
    return item_file(files[0]) if len(files) == 1 else None


def _files(path: str | Path) -> list[Path]:
    """The file of this name, the tables in the folder, or else the files that fit a pattern, in order of names."""
    check_path(Path(path))
    if os.path.isdir(path):
        return _in_folder(Path(path).absolute())
    if os.path.isfile(path):
        return [Path(path).absolute()]
    if os.path.exists(path):
        raise DataError(f"{str(path)!r} is neither a file nor a folder: give a path to {KINDS}.")
    is_pattern = any(mark in str(path) for mark in "*?[")
    fitting = glob.glob(os.path.expanduser(path), recursive=True) if is_pattern else []
    if not (files := [Path(each).absolute() for each in sorted(fitting) if os.path.isfile(each)]):
        raise DataError(f"There is no file or folder {str(path)!r}: give a path to {KINDS}.")
    return files


def _in_folder(folder: Path) -> list[Path]:
    if (folder / "interactions.parquet").is_file():
        return [folder / "interactions.parquet"]
    if (atomic := only_interactions(folder)) is not None:
        return [atomic]
    if not (files := sorted(file for file in folder.glob("*.parquet") if file.is_file())):
        raise DataError(f"The folder {str(folder)!r} holds no Parquet files: expected interactions.parquet or others.")
    return files


def _separator(path: str | Path, plain: str, remote: bool) -> str:
    """A tab where the ending says so, else whatever stands most often in the header line."""
    if plain.endswith((".tsv", ".tab")):
        return "\t"
    header = pl.scan_csv(
        path, has_header=False, separator="\x1f", quote_char=None, infer_schema=False, n_rows=1, glob=remote
    )
    line = header.collect().item(0, 0) or ""
    return max(",\t;|", key=line.count)


def _refuse_double_names(path: str | Path, separator: str, remote: bool) -> None:
    """polars would call the second of two columns otherwise, and nobody say which of them was read."""
    header = pl.scan_csv(path, has_header=False, separator=separator, infer_schema=False, n_rows=1, glob=remote)
    names = [name for name in header.collect().row(0) if name]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"{describe(path)} has two columns called {shown(twice)}: rename one of them.")


def _typed(text: pl.LazyFrame, kinds: Mapping[str, str] | None = None) -> pl.LazyFrame:
    """Give a frame of strings its types; one streamed pass over all values.

    Where `kinds` are known, a `token` is no number with a fraction, a `float` is a number, and all else stays text.
    """
    names = [name for name in text.collect_schema().names() if kinds is None or kinds[name] in ("token", "float")]
    looks: dict[str, pl.Expr] = {}
    for name in names:
        value = pl.col(name)
        is_whole = value.cast(pl.Int64, strict=False).cast(pl.String).eq_missing(value)
        # A number must look like one: 007 and 20 digits in a row are names, though they could be cast.
        is_number = value.cast(pl.Float64, strict=False).is_not_null() & value.str.contains(FRACTION)
        takes_fractions = kinds is None or kinds[name] == "float"
        looks |= {f"whole {name}": is_whole.all(), f"number {name}": (is_whole | (is_number & takes_fractions)).all()}
    if not looks:
        return text
    counts = text.select(**looks).collect(engine="streaming").row(0, named=True)
    types = {name: pl.Int64 if counts[f"whole {name}"] else pl.Float64 for name in names if counts[f"number {name}"]}
    types |= {name: pl.Float64 for name in names if kinds is not None and kinds[name] == "float" and name not in types}
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
        elif home == "rectools" and (raw := _rectools_frame(source)) is not None:
            frame = pl.from_pandas(raw)
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


def _rectools_frame(source: Any) -> Any:
    """The pandas frame of a RecTools `Dataset` under the ids of its user, or of `Interactions`; None of all else."""
    raw = getattr(source, "get_raw_interactions", None)
    return raw() if raw is not None else getattr(source, "df", None)


def _bytes_of(column: pl.Series) -> pl.Series:
    """Python UUIDs as 16 bytes; polars keeps them as opaque objects."""
    values = column.to_list()
    if not all(value is None or isinstance(value, uuid.UUID) for value in values):
        raise DataError(
            f"The column {column.name!r} holds Python objects of several types: give it one type, for example strings."
        )
    return pl.Series(column.name, [value and value.bytes for value in values], dtype=pl.Binary)
