"""RecBole's atomic files: tables whose header says the type of every column, as in `user_id:token`.

Interactions stand in `NAME.inter`, what is known of items in `NAME.item` beside it, and of users in `NAME.user`.
Fields are separated by tabs and nothing is quoted; a sequence is separated by spaces inside its field.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from forethought.errors import DataError, shown

ENDINGS = (".inter", ".item", ".user")
KINDS = ("token", "token_seq", "float", "float_seq")
AUGMENTED = "_list"  # what RecBole's ready-made prefixes are called: item_id_list
WORDS = re.compile(r"title|name|text|description|review", re.I)
"""Columns of tokens that are the words of a sentence, and not a set of tags."""


def item_file(path: Path) -> Path | None:
    """The item table that belongs to a file of interactions, where it lies beside it."""
    beside = path.with_suffix(".item")
    return beside if path.suffix.lower() == ".inter" and beside.is_file() else None


def only_interactions(folder: Path) -> Path | None:
    """The one file of interactions of a folder; None if there is none, or more."""
    files = [file for file in folder.glob("*.inter") if file.is_file()]
    return files[0] if len(files) == 1 else None


def scan_atomic(files: Sequence[Path]) -> tuple[pl.LazyFrame, dict[str, str]]:
    """The rows of atomic files as text under the names of their columns, and the kind of each column.

    Raises:
        DataError: a column says no type, two have one name, or the rows are prefixes that were made for a model.
    """
    text = pl.scan_csv(list(files), separator="\t", quote_char=None, infer_schema=False, glob=False)
    headers = text.collect_schema().names()
    fields = [(name, kind) for name, _, kind in (header.rpartition(":") for header in headers)]
    for header, (name, kind) in zip(headers, fields, strict=True):
        if not name or kind not in KINDS:
            raise DataError(
                f"The column {shown(header)} of {files[0].name!r} says no type: an atomic file has headers such as "
                f"user_id:token, with one of {', '.join(KINDS)}."
            )
        if files[0].suffix.lower() == ".inter" and kind == "token_seq" and name.endswith(AUGMENTED):
            raise DataError(
                f"{files[0].name!r} holds prefixes made for a model (column {shown(name)}): give the file of plain "
                "interactions, with one row for each; the split is made here."
            )
    kinds = dict(fields)
    if len(kinds) < len(fields):
        raise DataError(f"Two columns of {files[0].name!r} have one name without their types: rename one of them.")
    return text.rename(dict(zip(headers, kinds, strict=True))), kinds


def sequences(frame: pl.LazyFrame, kinds: dict[str, str]) -> pl.LazyFrame:
    """The same with sequences as lists, and titles and the like as the text that they are."""
    lists = {name: pl.col(name).str.split(" ") for name, kind in kinds.items() if kind.endswith("_seq")}
    numbers = [each.cast(pl.List(pl.Float64)) for name, each in lists.items() if kinds[name] == "float_seq"]
    tags = [each for name, each in lists.items() if kinds[name] == "token_seq" and not WORDS.search(name)]
    return frame.with_columns(numbers + tags)
