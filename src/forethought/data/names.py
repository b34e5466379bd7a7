"""Names of data sets: what reports call them, and part of what files of results are called."""

from __future__ import annotations

from typing import Any

from forethought.errors import DataError

LONGEST = 100  # bytes, of the 255 that a file's name may have


def is_name(name: Any) -> bool:
    """Whether it can stand in the name of a file, wherever that lies."""
    return (
        isinstance(name, str)
        and 0 < len(name.encode(errors="replace")) <= LONGEST
        and name.isprintable()
        and name == name.strip()
        and not {"/", "\\"} & set(name)
        and name not in (".", "..")
    )


def check_name(name: Any, of: str = "the data") -> None:
    """Refuse a name that would lead to other folders, or that no file can have.

    Raises:
        DataError: always where `is_name` says no.
    """
    if not is_name(name):
        raise DataError(
            f"The name of {of} is {name if not isinstance(name, str) else name[:LONGEST]!r}, but files are called "
            f"after it: choose a name of at most {LONGEST} bytes (an accented letter takes two or more): letters, "
            "digits, blanks and signs other than / and \\."
        )


def as_name(text: str) -> str:
    """The nearest name to what a file or folder is called; empty where nothing is left of it."""
    signs = "".join(sign if sign.isprintable() and sign not in "/\\" else "_" for sign in text)
    name = signs.encode()[:LONGEST].decode(errors="ignore").strip()
    return name if is_name(name) else ""
