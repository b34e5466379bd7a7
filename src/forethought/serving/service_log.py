"""The log of a service: one JSON object a line, on standard error."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

LEVELS = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}


class ServiceLog:
    """Writes events with their fields; control characters of what clients sent are spelled out."""

    def __init__(self, *, requests: bool = True) -> None:
        self.requests = requests

    def info(self, event: str, **about: Any) -> None:
        _write("info", event, about)

    def warning(self, event: str, **about: Any) -> None:
        _write("warning", event, about)

    def failure(self, event: str, error: BaseException, **about: Any) -> None:
        """A fault of ours, with its traceback, which no client sees."""
        _write("error", event, {**about, "error": repr(error), "traceback": traceback.format_exception(error)})

    def request(self, **about: Any) -> None:
        if self.requests:
            _write("info", "request", about)


class JsonLines(logging.Handler):
    """What the server beneath has to say, in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        about: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            about["traceback"] = traceback.format_exception(*record.exc_info)
        _write(LEVELS.get(record.levelno, "info"), record.getMessage(), about)


def _write(level: str, event: str, about: dict[str, Any]) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = {"time": now, "level": level, "event": event, "pid": os.getpid(), **about}
    try:
        sys.stderr.write(json.dumps(line, default=str) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # nobody reads the log any more; the service goes on
