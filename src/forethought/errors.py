"""What the user is told when something is wrong: what was given, what was expected, how to mend it.

Every error that a user can cause derives from `ForethoughtError`; the command line prints its text as one
sentence and exits with code 2. Anything else is a fault of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint such as ` Did you mean 'width'?`, or nothing when no known word is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
