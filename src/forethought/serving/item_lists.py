"""Lists of items that are registered once and then named: what is in stock, what was recalled.

A list is a Parquet file in the folder that all processes of a service share, so that each of them knows what one was
told, and so does a process that takes the place of another. Files are looked at when a list is named, and read anew
only where they have changed.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from forethought.errors import nearest, shown
from forethought.files import replace_file
from forethought.serving.failures import RequestError, TooLargeError, UnknownNameError
from forethought.serving.requests import Id
from forethought.serving.settings import Name
from forethought.settings import described, fits

ENDING = ".json"
MOST_HELD = 32


class ItemList(NamedTuple):
    """Ids under a name; `version` differs for every other content of it."""

    name: str
    version: tuple[int, int, int]
    ids: list[Id]


class ItemLists:
    """The registered lists of a service; any thread may ask."""

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self.most = folder, most
        self._held: OrderedDict[str, ItemList] = OrderedDict()
        self._alone = threading.Lock()

    def register(self, name: str, ids: Sequence[Id]) -> None:
        """Keep a list under this name; an earlier one goes.

        Raises:
            RequestError: that is no name; TooLargeError: there are too many lists.
        """
        path = self._path(name)
        if not path.exists() and len(self.names()) >= self.most:
            raise TooLargeError(f"There are {self.most} lists already: remove one first.")
        text = json.dumps(list(ids))
        replace_file(path, lambda part: part.write_text(text, encoding="ascii"))

    def remove(self, name: str) -> None:
        """Forget a list.

        Raises:
            UnknownNameError: there is none of this name.
        """
        path = self._path(name)
        if not path.exists():
            raise self._unknown(name)
        path.unlink(missing_ok=True)

    def names(self) -> list[str]:
        """All of them, in alphabetical order."""
        return sorted(path.name.removesuffix(ENDING) for path in self.folder.glob(f"[!.]*{ENDING}"))

    def named(self, name: str) -> ItemList:
        """The list of this name as it is now.

        Raises:
            UnknownNameError: there is none.
        """
        path = self._path(name)
        try:
            seen = path.stat()
        except OSError:
            raise self._unknown(name) from None
        version = (seen.st_mtime_ns, seen.st_ino, seen.st_size)
        with self._alone:
            held = self._held.get(name)
            if held is None or held.version != version:
                held = ItemList(name, version, json.loads(path.read_text(encoding="ascii")))
            self._held[name] = held
            self._held.move_to_end(name)
            while len(self._held) > MOST_HELD:
                self._held.popitem(last=False)
        return held

    def _unknown(self, name: str) -> UnknownNameError:
        return UnknownNameError(f"There is no list {shown(name)}.{nearest(name, self.names())} Register it first.")

    def _path(self, name: str) -> Path:
        if not fits(name, Name):
            raise RequestError(f"{shown(name)} is no name of a list: it must be {described(Name)}.")
        return self.folder / f"{name}{ENDING}"
