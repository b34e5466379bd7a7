"""The data of a run, opened again from what its folder says of it.

A run folder may come from anybody. Of what it names, files and folders of this machine are read as tables, and nothing
else is done: SQL is not executed, an address not fetched, a pattern not tried, unless whoever asks names it himself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from forethought.data.columns import Columns, MissingColumnError
from forethought.data.interactions import Interactions
from forethought.data.parts import PARTS
from forethought.data.prepare import open_prepared, prepared_folder
from forethought.data.reading import read
from forethought.data.sources import describe, is_query, is_remote
from forethought.data.split_tables import split_of_tables
from forethought.data.splits import Split, SplitConfig
from forethought.errors import ConfigError, DataError, RunError

KNOWN = (*(field.name for field in fields(Columns)), "items")
MAY_BE_NONE = ("time", "position", "items", "split", "session")


def open_again(about: Mapping[str, Any], split: SplitConfig, source: Any = None, items: Any = None) -> Split:
    """The split that a run was trained on.

    Args:
        about: what the run folder tells: `data_path`, `columns` (with the table of `items` among them), `data_hash`.
        split: how it was divided, unless the data is a prepared folder.
        source: where the data lies now; None: where it lay.
        items: where the table of its items lies now; None: where it lay.

    Raises:
        DataError: the data is not there or not the same any more, or the run names SQL, an address or a pattern.
        ConfigError: items beside a prepared folder, which has its own.
        RunError: what the run tells is no path and no name of a column.
    """
    columns = recorded_columns(about)
    if source is None and about.get("tables") is not None:
        return _checked(_open_tables(about["tables"], columns, items), about, "the tables of its parts")
    source = _named(about.get("data_path"), "its data", "--data") if source is None else source
    if (folder := prepared_folder(source)) is not None:
        if items is not None:
            raise ConfigError(
                f"{describe(source)} was prepared with a table of items of its own: leave items out (on the command "
                "line --items)."
            )
        opened = open_prepared(folder)
    else:
        if items is None and columns.get("items") is not None:
            items = _named(columns["items"], "the table of its items", "--items")
        asked: dict[str, Any] = columns | {"items": items}
        opened = split.apply(_read_again(source, asked))
    return _checked(opened, about, describe(source))


def _checked(opened: Split, about: Mapping[str, Any], source: str) -> Split:
    """The split, if its data is that of the run."""
    if opened.data.data_hash != about.get("data_hash"):
        raise DataError(
            f"{source} is not the data the run was trained on: its hash is {opened.data.data_hash}, "
            f"the run's is {about.get('data_hash')}. Give the data as it was then (on the command line --data), or "
            "train a run on this."
        )
    return opened


def _open_tables(tables: Any, columns: dict[str, Any], items: Any) -> Split:
    """The split of tables that a run names."""
    if not isinstance(tables, dict) or not {"train", "test"} <= tables.keys() <= {*PARTS}:
        raise RunError(f"The run's config.json is damaged (its tables are {tables!r}): copy or train it again.")
    if items is None and columns.get("items") is not None:
        items = _named(columns["items"], "the table of its items", "--items")
    named = {part: _named(path, f"its {part} table", "--data, of a prepared folder") for part, path in tables.items()}
    asked = {key: value for key, value in columns.items() if key in ("user", "item", "time", "position")}
    return split_of_tables(**named, **asked, items=items)


def _read_again(source: Any, asked: dict[str, Any]) -> Interactions:
    try:
        return read(source, **asked)
    except MissingColumnError as error:
        raise DataError(
            f"{error.said}: the run was trained on a table that has it, so give that one, or a copy of it."
        ) from None


def recorded_columns(about: Mapping[str, Any]) -> dict[str, Any]:
    """Which columns mean what, and the table of items, as the run tells."""
    columns = about.get("columns", {})
    sound = isinstance(columns, dict) and all(
        name in KNOWN and (isinstance(value, str) or (value is None and name in MAY_BE_NONE))
        for name, value in columns.items()
    )
    if not sound:
        raise RunError(
            f"The run's config.json is damaged (its columns are {columns!r}, but may name {', '.join(KNOWN)}): copy or "
            "train it again."
        )
    return columns


def _named(path: Any, what: str, option: str) -> Path:
    """A file or folder that a run folder names."""
    if path is None:
        raise DataError(f"The run does not say where its data lies: name it (on the command line {option}).")
    if is_query(path):
        raise DataError(
            f"The run names {path!r} as {what}, but SQL that stands in a run folder is not executed: repeat it if you "
            f"trust it (on the command line {option})."
        )
    if is_remote(path):
        raise DataError(
            f"The run names {path!r} as {what}, but an address that stands in a run folder is not fetched: repeat it "
            f"if you trust it (on the command line {option})."
        )
    if not isinstance(path, str) or not os.path.exists(path):
        pattern = " (a pattern that stands in a run folder is not tried)" if any(m in str(path) for m in "*?[") else ""
        raise DataError(
            f"There is no file or folder {path!r}, which the run names as {what}{pattern}: say where it lies now (on "
            f"the command line {option})."
        )
    return Path(path).absolute()
