"""Events of users, appended to a folder of Parquet tables that `read` takes for the next training.

An event is answered once it lies on the disk. What comes within a moment is written together; a table is written anew
with what has come, appears whole or not at all, and is left alone when it is long enough. Each process writes its own.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from forethought.data.vocabulary import IdKind
from forethought.errors import DataError
from forethought.files import first_line, replace_file
from forethought.folders import writable
from forethought.serving.failures import OverloadedError, RequestError
from forethought.serving.requests import Event
from forethought.serving.settings import UserKind

LONGEST = 20_000  # events of a table
MOST_WAITING = 50_000  # events
PAUSE_S = 0.05  # between two writings, so that events gather


class EventStore:
    """Where events are written; any thread may add some.

    Raises:
        DataError: the folder has tables of events whose ids are of another kind, so that none could be read any more.
    """

    def __init__(self, folder: Path, items: IdKind, users: UserKind) -> None:
        self.folder, self.items, self.users = folder, items, users
        with writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (keep := folder / ".keep").touch()
        keep.unlink(missing_ok=True)
        self.schema = schema_of(items, users)
        check_earlier(folder, self.schema)
        self._rows: list[tuple[Any, ...]] = []
        self._waiting: list[tuple[list[tuple[Any, ...]], Future[int]]] = []
        self._file = self._new_file()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def add(self, events: Sequence[Event]) -> Future[int]:
        """Keep some events; the future is done once they lie on the disk.

        Raises:
            RequestError: an id is of another kind than the tables hold.
            OverloadedError: the disk is slower than the events come.
        """
        rows = [self._row(event, place) for place, event in enumerate(events)]
        written: Future[int] = Future()
        with self._changed:
            if self._closed or sum(len(each) for each, _ in self._waiting) > MOST_WAITING:
                raise OverloadedError(1)
            self._waiting.append((rows, written))
            self._changed.notify()
        return written

    def close(self) -> None:
        """Write what waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=30)

    def _row(self, event: Event, place: int) -> tuple[Any, ...]:
        user, item = event.user, event.item
        if self.users == "text":
            user = str(user)
        for value, kind, name in ((user, self.users, "user"), (item, self.items, "item")):
            if (kind == "integer") != isinstance(value, int):
                asked = "a whole number" if kind == "integer" else "text"
                raise RequestError(f"The {name} of event {place} is {value!r:.80}, but ids of {name}s are {asked}.")
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise RequestError(f"The {name} of event {place} is a number too large to be an id.")
            if isinstance(value, str) and not _writable(value):
                raise RequestError(f"The {name} of event {place} is text that cannot be written: give it in UTF-8.")
        if not _writable(event.kind) or not _writable(event.model or ""):
            raise RequestError(f"Event {place} has text that cannot be written: give it in UTF-8.")
        now = int(time.time()) if event.time is None else event.time
        return user, item, now, event.kind, event.model

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                waiting, self._waiting = self._waiting, []
                if not waiting:
                    return
            self._write(waiting)
            if not self._closed:
                time.sleep(PAUSE_S)

    def _write(self, waiting: list[tuple[list[tuple[Any, ...]], Future[int]]]) -> None:
        added = [row for rows, _ in waiting for row in rows]
        try:
            frame = pl.DataFrame(self._rows + added, schema=self.schema, orient="row")
            replace_file(self._file, frame.write_parquet)
        except BaseException as error:  # whatever it is, somebody waits to be told
            for _, written in waiting:
                written.set_exception(error)
            return
        self._rows += added
        if len(self._rows) >= LONGEST:
            self._rows, self._file = [], self._new_file()
        for rows, written in waiting:
            written.set_result(len(rows))

    def _new_file(self) -> Path:
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        return self.folder / f"events-{now}-{secrets.token_hex(4)}.parquet"


def _writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def schema_of(items: IdKind, users: UserKind) -> dict[str, Any]:
    """The columns of the tables."""
    return {
        "user_id": pl.Int64 if users == "integer" else pl.String,
        "item_id": pl.Int64 if items == "integer" else pl.String,
        "timestamp": pl.Int64,
        "kind": pl.String,
        "model": pl.String,
    }


def check_earlier(folder: Path, schema: dict[str, Any]) -> None:
    """Refuse a folder whose tables could not be read together with ours.

    Raises:
        DataError: ids in one of its tables are of another kind, or it cannot be read as it is.
    """
    for file in sorted(folder.glob("events-*.parquet")):
        try:
            held = pl.read_parquet_schema(file)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(f"{file} cannot be read ({first_line(error)}): take it out of the folder.") from error
        for name in ("user_id", "item_id"):
            if held.get(name) != schema[name]:
                raise DataError(
                    f"{file} holds {name}s of type {held.get(name)}, but this service writes {schema[name]}, and both "
                    "in one folder cannot be read: choose another folder for --events, or --event-users as before."
                )


def check_kinds(kinds: Sequence[IdKind]) -> IdKind:
    """The kind of id that all models share, so that one table can hold the events of all.

    Raises:
        DataError: they do not.
    """
    if len(set(kinds)) > 1:
        raise DataError(
            "The models have ids of different kinds, and no table holds the events of all: serve them apart."
        )
    return kinds[0]
