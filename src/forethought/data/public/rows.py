"""Rows of raw text: JSON lines and separated values, read fast; slowly only to name the line that is wrong."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl

from forethought.data.progress import Report, silent
from forethought.data.public.files import RawFile
from forethought.errors import DataError
from forethought.files import first_line

CHUNK = 32 << 20  # bytes of JSON parsed at once

NUMBERS: dict[pl.DataType | type[pl.DataType], type] = {pl.Int64: int, pl.Float64: float}
Schema = dict[str, type[pl.DataType]]


def json_lines(file: RawFile, schema: Schema, report: Report = silent) -> pl.DataFrame:
    """The wanted keys of a file with one object a line, strict JSON or Python literals; no value may be missing.

    Raises:
        DataError: a line is no object or lacks a key; the text names file and line.
    """
    frames, done = [pl.DataFrame(schema=schema)], 0
    with file.open() as stream:
        while lines := stream.readlines(CHUNK):
            frames.append(_parsed(file, lines, done, schema))
            done += len(lines)
            report(f"reading {file.name}", done, None)
    return pl.concat(frames)


def _parsed(file: RawFile, lines: list[bytes], before: int, schema: Schema) -> pl.DataFrame:
    try:
        frame = pl.read_ndjson(b"".join(lines), schema=dict(schema))
        if not frame.null_count().sum_horizontal().item():
            return frame
    except pl.exceptions.PolarsError:
        pass  # something is odd in these lines: look at each of them
    rows = []
    for number, record in loose_lines(file, lines, before):
        try:
            rows.append({key: _value(record[key], dtype) for key, dtype in schema.items()})
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"Line {number:,} of {file} should have {', '.join(schema)}, but one is missing or wrong ({error!r}): "
                "mend or delete that line."
            ) from error
    return pl.DataFrame(rows, schema=dict(schema))


def _value(value: Any, dtype: type[pl.DataType]) -> Any:
    if value is None:
        raise ValueError("null")
    return NUMBERS.get(dtype, str)(value)


def loose_lines(file: RawFile, lines: Iterable[bytes], before: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each object with the number of its line, counted from 1 after `before`; empty lines are passed over.

    Python literals are read by `ast.literal_eval`, which runs no code.
    """
    for number, line in enumerate(lines, before + 1):
        if line.strip():
            yield number, loose_object(file, number, line)


def loose_object(file: RawFile, number: int, line: bytes) -> dict[str, Any]:
    """One object, written as JSON or as a Python literal.

    Raises:
        DataError: it is neither.
    """
    try:
        text = line.decode("utf-8").strip()
        record = json.loads(text) if text.startswith('{"') else ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        record = None
    if not isinstance(record, dict):
        start = line[:60].decode("utf-8", "replace").strip()
        raise DataError(
            f"Line {number:,} of {file} is neither a JSON object nor a Python dictionary (it begins {start!r}): "
            "the file is damaged or of another kind; get it again, or delete that line."
        )
    return record


def separated(
    file: RawFile, columns: dict[int, tuple[str, type[pl.DataType]]], separator: str, *, header: bool = False
) -> pl.DataFrame:
    """Columns of a table of separated values without quotes.

    Args:
        file: what to read.
        columns: place of each wanted column, counted from 0, with its new name and type.
        separator: a single character; "::" is read as ":", which leaves every second place empty.
        header: whether the first line holds names.

    Raises:
        DataError: a line has too few or too many values or one of another type; the text names file and line.
    """
    width = file.first_line().count(separator) + 1 if header else max(columns) + 1
    with file.on_disk() as path:
        try:
            frame = pl.scan_csv(
                path.absolute(),
                glob=False,
                separator=separator,
                has_header=False,
                skip_rows=int(header),
                quote_char=None,
                infer_schema=False,
                new_columns=[f"column {i}" for i in range(width)],
            )
            wanted = [pl.col(f"column {i}").cast(dtype).alias(name) for i, (name, dtype) in columns.items()]
            table = frame.select(wanted).collect(engine="streaming")
            if not table.null_count().sum_horizontal().item():
                return table
        except pl.exceptions.NoDataError:
            return pl.DataFrame(schema=dict(columns.values()))
        except pl.exceptions.PolarsError as error:
            _blame(file, columns, separator, header, width)
            raise DataError(f"{file} cannot be read ({first_line(error)}): get it again.") from error
    _blame(file, columns, separator, header, width)
    raise DataError(f"{file} has empty values in {', '.join(name for name, _ in columns.values())}.")


def _blame(
    file: RawFile, columns: dict[int, tuple[str, type[pl.DataType]]], separator: str, header: bool, width: int
) -> None:
    """Raise an error that names the first bad line, if there is one."""
    with file.open() as stream:
        for number, line in enumerate(stream, 1):
            values = line.decode("latin-1").rstrip("\r\n").split(separator)
            if values == [""] or (header and number == 1):
                continue
            try:
                if len(values) != width:
                    raise ValueError
                for place, (_, dtype) in columns.items():
                    NUMBERS.get(dtype, _filled)(values[place])
            except ValueError:
                names = ", ".join(name for name, _ in columns.values())
                shown = line[:80].decode("latin-1").rstrip("\r\n")
                raise DataError(
                    f"Line {number:,} of {file} reads {shown!r}, where {names} were expected: mend or delete that line."
                ) from None


def _filled(value: str) -> str:
    if not value:
        raise ValueError
    return value


def decoded_lines(file: RawFile, encoding: str) -> Iterator[tuple[int, str]]:
    """Each line that is not empty, with its number counted from 1.

    Raises:
        DataError: the text is not in this encoding.
    """
    with file.open() as stream:
        for number, line in enumerate(stream, 1):
            try:
                text = line.decode(encoding).rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"Line {number:,} of {file} is not {encoding} text: save the file as {encoding}."
                ) from error
            if text.strip():
                yield number, text
