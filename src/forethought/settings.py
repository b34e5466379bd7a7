"""What a setting may hold: type and range stand in one annotation, checked whenever and wherever it is given.

    @dataclass(frozen=True, kw_only=True)
    class Encoder(Settings):
        width: Width = 64
        dropout: ShareBelowOne = 0.2

An `Encoder(width=1.5)` is refused when it is made, from Python as from JSON. The most that is allowed lies far beyond
what anybody trains, and within what a machine can be asked for without harm.
"""

from __future__ import annotations

import functools
import typing
from dataclasses import dataclass, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from forethought.errors import ConfigError, nearest


@dataclass(frozen=True)
class Between:
    """A range of numbers, both ends included unless they are said to be open; NaN lies in none."""

    least: float
    most: float
    above: bool = False
    """`least` itself is not allowed."""
    below: bool = False
    """`most` itself is not allowed."""

    def holds(self, value: float) -> bool:
        return self.least <= value <= self.most and not (
            (self.above and value == self.least) or (self.below and value == self.most)
        )

    def __str__(self) -> str:
        least, most = f"{self.least:,}", f"{self.most:,}"
        if self.above:
            return f"above {least} and {'below' if self.below else 'at most'} {most}"
        return f"from {least} to {most}" + (f", but below {most}" if self.below else "")


MOST_SEED = 2**63 - 1

Seed = Annotated[int, Between(0, MOST_SEED)]
Width = Annotated[int, Between(1, 16_384)]
Layers = Annotated[int, Between(1, 512)]
Heads = Annotated[int, Between(1, 1_024)]
Window = Annotated[int, Between(1, 100_000)]
Steps = Annotated[int, Between(1, 100)]
Epochs = Annotated[int, Between(1, 1_000_000)]
Epoch = Annotated[int, Between(0, 1_000_000)]
Share = Annotated[float, Between(0, 1)]
ShareBelowOne = Annotated[float, Between(0, 1, below=True)]
Weight = Annotated[float, Between(0, 1_000_000)]
Scale = Annotated[float, Between(0, 1_000, above=True)]
Count = Annotated[int, Between(1, 1_000_000_000)]
Number = Annotated[float, Between(-1e9, 1e9)]

Part = Annotated[int, Between(1, 65_536)]
"""How many cases are worked on together."""
Resamples = Annotated[int, Between(2, 100_000)]
"""Of a bootstrap: fewer than two have no spread."""


class Settings:
    """A frozen dataclass whose fields are checked against their annotations as soon as it is made.

    Raises:
        ConfigError: a value of another type, or out of its range.
    """

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            check(getattr(self, name), hint, f"{type(self).__name__}'s {name}")


def check(value: object, hint: Any, name: str) -> None:
    """Refuse one value: `check(k, Count, "k")`.

    Raises:
        ConfigError: it is of another type, or out of its range.
    """
    if not fits(value, hint):
        hint_at = nearest(value, _words(hint)) if isinstance(value, str) else ""
        raise ConfigError(f"{name} is {_shown(value)}, but must be {described(hint)}.{hint_at}")


def check_all(**given: tuple[object, Any]) -> None:
    """`check` for several: `check_all(seed=(seed, Seed), batch=(batch, Part))`."""
    for name, (value, hint) in given.items():
        check(value, hint, name)


def fits(value: object, hint: Any) -> bool:
    """Whether a value is of an annotated type and in its range; a whole number may stand for a number."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        ranges = [each for each in inner[1:] if isinstance(each, Between)]
        return fits(value, inner[0]) and all(each.holds(value) for each in ranges)  # type: ignore[arg-type]
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is tuple:
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(fits, value, inner))
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    return isinstance(value, hint)


def described(hint: Any) -> str:
    """An annotated type in words: "a whole number from 1 to 512"."""
    origin, inner = get_origin(hint), list(get_args(hint))
    if origin is Annotated:
        return " ".join([described(inner[0]), *(str(each) for each in inner[1:] if isinstance(each, Between))])
    if origin in (Union, UnionType):
        return _listed([described(each) for each in inner], "or")
    if origin is Literal:
        return f"one of {', '.join(inner)}"
    if origin is tuple:
        return f"{len(inner)} values ({_listed([described(each) for each in inner], 'and')})"
    if is_dataclass(hint):
        return f"{typing.cast('type', hint).__name__}(...)"
    return _PLAIN[hint]


_PLAIN = {int: "a whole number", float: "a number", bool: "True or False", str: "text", NoneType: "None"}


def _words(hint: Any) -> list[str]:
    """The words that an annotation knows."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [word for each in get_args(hint) if not isinstance(each, Between) for word in _words(each)]


def _listed(parts: list[str], last: str) -> str:
    return f" {last} ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)


def _shown(value: object, most: int = 80) -> str:
    """A value as Python writes it; what is longer than a line is cut, and a number too long to write is not written."""
    try:
        shown = repr(value).replace("\n", " ")
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too long to show"
    return shown if len(shown) <= most else f"{shown[:most]}..."


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return {name: hint for name, hint in typing.get_type_hints(cls, include_extras=True).items() if name != "return"}
