"""The text format of S3-Rec (Zhou et al., CIKM 2020) and of many codes after it: a user a line, then their items."""

from __future__ import annotations

import json

import numpy as np
import polars as pl

from forethought.data.progress import Report, silent
from forethought.data.public.files import RawFile, RawKind, Source
from forethought.data.public.rows import decoded_lines
from forethought.data.public.tables import RawTables, in_order
from forethought.errors import DataError
from forethought.files import first_line

SEQUENCES = RawKind("S3-Rec sequences (user item item ...)", r".*\.txt", r"^\d+( \d+)+ *$")
ATTRIBUTES = RawKind("S3-Rec attributes (*_item2attributes.json)", r".*_item2attributes\.json")


def read_s3_rec(source: Source, *, report: Report = silent) -> RawTables:
    """Read one line a user: the user and their items, oldest first, all integers; there are no times.

    Where `*_item2attributes.json` is there, items get `attribute_ids`, the integers it lists (brands and categories,
    which this format does not name).

    Args:
        source: the file, a list of both files, or their folder or archive.
        report: not told of anything: this is read in an instant.

    Raises:
        DataError: a file is missing, damaged or has a wrong line, which is named.
    """
    file = SEQUENCES.only_in(source)
    users, lengths, flat = [], [], []
    for number, line in decoded_lines(file, "ascii"):
        try:
            user, *items = map(int, line.split())
            if not items:
                raise ValueError
        except ValueError:
            raise DataError(
                f"Line {number:,} of {file} reads {line[:80]!r}, where a user and at least one item were expected, all "
                "integers with spaces between: mend or delete that line."
            ) from None
        users.append(user)
        lengths.append(len(items))
        flat += items
    table = pl.DataFrame(
        {"user_id": np.repeat(np.array(users, np.int64), lengths), "item_id": np.array(flat, np.int64)}
    )
    attributes = ATTRIBUTES.maybe_in(source)
    return RawTables(in_order(table), _items(attributes) if attributes else None)


def _items(file: RawFile) -> pl.LazyFrame:
    schema = {"item_id": pl.Int64, "attribute_ids": pl.List(pl.Int64)}
    try:
        with file.open() as stream:
            attributes = json.load(stream)
        rows = [{"item_id": int(item), "attribute_ids": [int(i) for i in ids]} for item, ids in attributes.items()]
        return pl.DataFrame(rows, schema=schema).lazy()
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f'{file} should be a JSON object of items and their attributes, such as {{"1": [3, 7]}} '
            f"({first_line(error)}): get it again, or leave it out by giving the path of the sequences alone."
        ) from error
