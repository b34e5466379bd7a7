"""Where data came from: enough to read it again."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forethought.data.columns import Columns
from forethought.data.sources import is_query


@dataclass(frozen=True)
class Origin:
    """A table that can be named, and how it was read.

    Attributes:
        path: a file or folder as it is found from any working directory; SQL, an address or a pattern as it was given.
        columns: which of its columns mean what.
        items: the table of its items, likewise; None: none, or the one in its folder.
        tables: where its parts are tables of their own: each by the name of its part.
    """

    path: str
    columns: Columns
    items: str | None = None
    tables: dict[str, str] | None = None

    @classmethod
    def of(cls, source: Any, columns: Columns, items: Any = None) -> Origin | None:
        """None where one of the tables is in memory, and so gone with this process."""
        if not isinstance(source, str | Path) or not isinstance(items, str | Path | None):
            return None
        return cls(absolute(source), columns, None if items is None else absolute(items))

    def noted(self) -> dict[str, Any]:
        """What a run folder says of it."""
        columns = self.columns.noted() | {"items": self.items}
        if self.tables is None:
            return {"data_path": self.path, "columns": columns}
        return {"data_path": None, "columns": columns, "tables": self.tables}


NOT_KNOWN: dict[str, Any] = {"data_path": None, "columns": {}}
"""What a run folder says of data that came from memory, or was changed since it was read."""


def absolute(path: str | Path) -> str:
    return str(Path(path).resolve()) if not is_query(path) and os.path.exists(path) else str(path)
