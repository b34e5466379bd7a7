"""What the user is told when something is wrong: what was given, what was expected, how to mend it.

Every error that a user can cause derives from `ForethoughtError`; the command line prints its text as one
sentence and exits with code 2. Anything else is a fault of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable


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


def check_whole(config: object, *names: str, least: int = 1) -> None:
    """Refuse settings that are not whole numbers from `least` up."""
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            _refuse(config, name, f"a whole number from {least} up")


def check_seed(seed: int, name: str = "seed") -> None:
    """Refuse a seed that numpy's generators do not take."""
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"{name} is {seed!r}, but must be a whole number from 0 up.")


def check_count(value: int, name: str) -> None:
    """Refuse what is no whole number from 1 up."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} is {value!r}, but must be a whole number from 1 up.")


def check_share(config: object, *names: str, one: bool = True) -> None:
    """Refuse settings outside [0, 1], or outside [0, 1) where `one` itself makes no sense."""
    for name in names:
        value = getattr(config, name)
        if not _is_number(value) or not 0 <= value <= 1 or (value == 1 and not one):
            _refuse(config, name, f"a number from 0 to 1{'' if one else ', but below 1'}")


def check_positive(config: object, *names: str) -> None:
    """Refuse settings that are not finite numbers above 0."""
    for name in names:
        value = getattr(config, name)
        if not _is_number(value) or not 0 < value < math.inf:
            _refuse(config, name, "a number above 0")


def check_number(config: object, *names: str) -> None:
    """Refuse settings that are not finite numbers."""
    for name in names:
        value = getattr(config, name)
        if not _is_number(value) or not math.isfinite(value):
            _refuse(config, name, "a number")


def check_weight(config: object, *names: str) -> None:
    """Refuse settings that are not finite numbers from 0 up."""
    for name in names:
        value = getattr(config, name)
        if not _is_number(value) or not 0 <= value < math.inf:
            _refuse(config, name, "a number from 0 up")


def check_choice(config: object, name: str, choices: Collection[str]) -> None:
    """Refuse a word that is not one of the choices."""
    value = getattr(config, name)
    if value not in choices:
        _refuse(config, name, f"one of {', '.join(choices)}", nearest(str(value), choices))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse(config: object, name: str, wanted: str, hint: str = "") -> None:
    raise ConfigError(f"{type(config).__name__}'s {name} is {getattr(config, name)!r}, but must be {wanted}.{hint}")
