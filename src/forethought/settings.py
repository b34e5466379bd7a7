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
import os
import re
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from forethought.errors import ConfigError, nearest, shown


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


@dataclass(frozen=True)
class Like:
    """A form of text, with an example of it."""

    pattern: str
    example: str

    def holds(self, value: str) -> bool:
        return re.fullmatch(self.pattern, value, re.ASCII) is not None

    def __str__(self) -> str:
        return f"like {self.example}"


@dataclass(frozen=True)
class SearchRange:
    """Where tuning looks for a number: between both ends, on a logarithmic scale where magnitudes are what matters.

    It stands beside the type of a setting, which it restricts in no way.
    """

    least: float
    most: float
    log: bool = False

    def __str__(self) -> str:
        return f"{self.least:g} to {self.most:g}" + (", logarithmic" if self.log else "")


@dataclass(frozen=True)
class SearchChoices:
    """The values of a setting that tuning tries."""

    values: tuple[float | int | str | bool, ...]

    def __str__(self) -> str:
        return ", ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in self.values)


SearchDomain = SearchRange | SearchChoices
"""What a tuned setting may become."""

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
Whole = Annotated[int, Between(0, 2**53)]
"""Any count, zero among them, that JSON and float64 keep exactly."""
Second = Annotated[int, Between(-(2**53), 2**53)]
"""A moment as Unix seconds."""
Number = Annotated[float, Between(-1_000_000_000, 1_000_000_000)]

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

    @classmethod
    def upgraded(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Stored values under the names and in the units of today; those that are so already as they are."""
        return values

    @classmethod
    def stands_for(cls, kind: type) -> bool:
        """Whether it may stand where another class is asked for, because it is somebody's own of that kind."""
        return False


def asked_among(config: Settings, names: Iterable[str]) -> list[str]:
    """Those of its settings that somebody asked for: they are not as by default."""
    return [name for name in names if getattr(config, name) != getattr(type(config), name)]


def without_unread(cls: type[Settings], values: Mapping[str, Any], unread: Collection[str]) -> dict[str, Any]:
    """Stored settings less those that nothing reads, from before such were refused; damaged ones stay to be told."""
    return {n: value for n, value in values.items() if n not in unread or not fits(value, hint_of(cls, n))}


def check(value: object, hint: Any, name: str) -> None:
    """Refuse one value: `check(k, Count, "k")`.

    Raises:
        ConfigError: it is of another type, or out of its range.
    """
    if not fits(value, hint):
        hint_at = nearest(value, _words(hint))
        raise ConfigError(f"{name} is {shown(value)}, but must be {described(hint)}.{hint_at}")


def check_all(**given: tuple[object, Any]) -> None:
    """`check` for several: `check_all(seed=(seed, Seed), batch=(batch, Part))`."""
    for name, (value, hint) in given.items():
        check(value, hint, name)


def check_keys(value: object, kinds: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Refuse what should be an object of JSON with these keys and is not; further keys are let through.

    Raises:
        ConfigError: it is no object, lacks a key, or has a value of another type or out of its range.
    """
    if not isinstance(value, dict):
        raise ConfigError(f"{name} is {shown(value)}, but must be an object with keys.")
    for key, hint in kinds.items():
        if key not in value:
            raise ConfigError(f"{name} has no {key!r}.")
        check(value[key], hint, f"{name}.{key}")
    return value


def search_domains(cls: type) -> dict[str, SearchDomain]:
    """What tuning may try for each setting of a class that says so, by the name of its field."""
    hints = _hints(cls).items()
    found = {name: [each for each in get_args(hint) if isinstance(each, SearchDomain)] for name, hint in hints}
    return {name: domains[-1] for name, domains in found.items() if domains}  # the outermost annotation


def hint_of(cls: type, name: str) -> Any:
    """The annotation of a field, with its range."""
    return _hints(cls)[name]


def from_environment(name: str, default: int) -> int:
    """A whole number that a launcher such as torchrun puts into the environment.

    Raises:
        ConfigError: something else stands there.
    """
    text = os.environ.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ConfigError(
            f"{name} is {text!r} in the environment, but torchrun sets it to a small whole number: unset it."
        )
    return int(text)


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type and in its range; a whole number may stand for a number."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is not None:
        return _FITS[origin](value, inner)
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    return isinstance(value, hint) or (isinstance(value, Settings) and value.stands_for(hint))


_FITS: dict[Any, Callable[[Any, tuple[Any, ...]], bool]] = {
    Annotated: lambda value, of: fits(value, of[0]) and all(each.holds(value) for each in _ranges(of)),
    Union: lambda value, of: any(fits(value, each) for each in of),
    UnionType: lambda value, of: any(fits(value, each) for each in of),
    Literal: lambda value, of: isinstance(value, str) and value in of,
    tuple: lambda value, of: isinstance(value, tuple) and _fit_in_turn(value, of),
    list: lambda value, of: isinstance(value, list) and all(fits(each, of[0]) for each in value),
    dict: lambda value, of: (
        isinstance(value, dict) and all(fits(k, of[0]) and fits(v, of[1]) for k, v in value.items())
    ),
}


def described(hint: Any) -> str:
    """An annotated type in words: "a whole number from 1 to 512"."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is not None:
        return _DESCRIBED[origin](inner)
    return _PLAIN.get(hint, f"{hint.__name__}(...)")


_DESCRIBED: dict[Any, Callable[[tuple[Any, ...]], str]] = {
    Annotated: lambda of: " ".join([described(of[0]), *map(str, _ranges(of))]),
    Union: lambda of: _listed([described(each) for each in of], "or"),
    UnionType: lambda of: _listed([described(each) for each in of], "or"),
    Literal: lambda of: f"one of {', '.join(of)}",
    tuple: lambda of: (
        f"a tuple, each value {described(of[0])}"
        if of[1:] == (...,)
        else f"{len(of)} values, {_each([described(each) for each in of])}"
    ),
    list: lambda of: f"a list of {described(of[0])}",
    dict: lambda of: f"an object of {described(of[1])}",
}
_PLAIN = {
    **{int: "a whole number", float: "a number", bool: "True or False", str: "text", Path: "a path", NoneType: "None"},
    **{list: "a list", dict: "an object"},
}


def _fit_in_turn(values: tuple[Any, ...], of: tuple[Any, ...]) -> bool:
    if of[1:] == (...,):  # as many as one likes, all of one kind
        return all(fits(value, of[0]) for value in values)
    return len(values) == len(of) and all(map(fits, values, of))


def _ranges(parts: tuple[Any, ...]) -> list[Between | Like]:
    return [each for each in parts if isinstance(each, Between | Like)]


def _each(kinds: list[str]) -> str:
    return f"each {kinds[0]}" if len(set(kinds)) == 1 else _listed(kinds, "and")


def _words(hint: Any) -> list[str]:
    """The words that an annotation knows."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [word for each in get_args(hint) for word in _words(each)]


def _listed(parts: list[str], last: str) -> str:
    return f" {last} ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return {name: hint for name, hint in typing.get_type_hints(cls, include_extras=True).items() if name != "return"}
