"""What the user is told when something is wrong: what was given, what was expected, how to mend it.

Every error that a user can cause derives from `ForethoughtError`; the command line prints its text as one
sentence and exits with code 2. Anything else is a fault of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class ForethoughtError(Exception):
    """An error the user can mend; its text is a whole sentence."""


class DataError(ForethoughtError):
    """A table, a column, an id or a split is not what it should be."""


class HistoryError(DataError):
    """One of several histories is not what it should be.

    Attributes:
        row: which one, counted from 0.
        said: what is wrong, with `{}` where the history is named.
    """

    def __init__(self, row: int, said: str) -> None:
        super().__init__(said.replace("{}", f"History {row}", 1))
        self.row, self.said = row, said

    def about(self, name: str) -> DataError:
        """The same of a history that is called otherwise, such as the row of a table."""
        return DataError(self.said.replace("{}", name, 1))


class ConfigError(ForethoughtError):
    """A setting is unknown, of the wrong type or out of its range."""


class RunError(ForethoughtError):
    """A run folder is missing, damaged or does not fit what is asked of it."""


class MissingExtraError(ForethoughtError):
    """An optional package is needed; the text names the extra that brings it, or the package where none does."""

    def __init__(self, package: str, extra: str | None, purpose: str) -> None:
        wanted = package if extra is None else f'"forethought[{extra}]"'
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed: pip install {wanted} brings it."
        )


def nearest(word: object, known: Iterable[str]) -> str:
    """A hint such as ` Did you mean 'width'?`, or nothing when no known word is close; SASRec is close to sasrec."""
    if not isinstance(word, str):
        return ""
    spelled = {_plain(each): each for each in known}
    close = difflib.get_close_matches(_plain(word), spelled, n=1)
    return f" Did you mean {shown(spelled[close[0]])}?" if close else ""


def _plain(word: str) -> str:
    """A word as it is compared: IGR_SR, IGR-SR and igr-sr are one."""
    return word.casefold().replace("_", "-")


def shown(value: object, most: int = 80) -> str:
    """A value as Python writes it; what is longer than a line is cut, and a number too long to write is not written."""
    try:
        text = repr(value).replace("\n", " ")
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= most else f"{text[:most]}..."


def some(values: Sequence[object], most: int) -> str:
    """So many of the values, each as `shown`, and how many more there are."""
    first = ", ".join(map(shown, values[:most]))
    return first if len(values) <= most else f"{first} and {len(values) - most:,} more"
