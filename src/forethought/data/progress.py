"""How long work tells of itself: a callback, so that the library never prints and the command line can draw a bar."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, int, int | None], None]
"""Called with what is being done, how much of it is done, and the total (None where it is not known)."""


def silent(what: str, done: int, total: int | None) -> None:
    """Tell nobody."""
