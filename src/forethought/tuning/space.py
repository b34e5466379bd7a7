"""The search space of a recipe: which settings are tuned, and what each may become.

A setting is called as the options of `forethought train` call it: `dropout`, `loss.temperature`, `learning_rate`. Its
domain stands beside its type (`SearchRange`, `SearchChoices`), in the class that has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from forethought.config import Recipe
from forethought.errors import ConfigError, nearest, shown
from forethought.settings import SearchChoices, SearchDomain, SearchRange, check, hint_of, search_domains

Value = float | int | str | bool | None
Space = dict[str, SearchDomain]
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.I)
WORDS: dict[str, bool | None] = {"true": True, "false": False, "none": None}


class Setting(NamedTuple):
    """Where a setting of a recipe is, what it is, and what it may hold."""

    path: tuple[str, ...]
    value: Any
    hint: Any
    domain: SearchDomain | None


def settings_of(recipe: Recipe) -> dict[str, Setting]:
    """All settings of a recipe's method and training by their names; where nothing is trained, of the method alone."""
    parts = ("method",) if recipe.method.closed_form else ("method", "training")  # type: ignore[union-attr]
    return dict(each for part in parts for each in _settings(getattr(recipe, part), (part,), ""))


def _settings(config: Any, path: tuple[str, ...], prefix: str) -> Iterator[tuple[str, Setting]]:
    domains = search_domains(type(config))
    for each in fields(config):
        value, at = getattr(config, each.name), (*path, each.name)
        if is_dataclass(value):
            yield from _settings(value, at, prefix if each.name == "backbone" else f"{prefix}{each.name}.")
        else:
            hint = hint_of(type(config), each.name)
            yield prefix + each.name, Setting(at, value, hint, domains.get(each.name))


def space_of(recipe: Recipe) -> Space:
    """What tuning tries for a recipe: the domains that its settings declare, as far as the others allow them."""
    declared = {
        name: _with(setting.domain, setting.value)
        for name, setting in settings_of(recipe).items()
        if setting.domain is not None
    }
    return {name: domain for name, domain in declared.items() if _allowed(recipe, name, domain)}


def _with(domain: SearchDomain, value: Any) -> SearchDomain:
    """The domain with the recipe's own value in it, so that the recipe is among what is tried."""
    if contains(domain, value):
        return domain
    if isinstance(domain, SearchChoices):
        return SearchChoices(tuple(sorted([*domain.values, value])))
    if domain.log and value <= 0:
        return domain
    return replace(domain, least=min(domain.least, value), most=max(domain.most, value))


def _allowed(recipe: Recipe, name: str, domain: SearchDomain) -> bool:
    """Such as no smoothing of a loss that knows none."""
    tried = (domain.least, domain.most) if isinstance(domain, SearchRange) else domain.values
    try:
        for value in tried:
            with_values(recipe, {name: value})
    except ConfigError:
        return False
    return True


def with_values(recipe: Recipe, values: Mapping[str, Value]) -> Recipe:
    """The recipe with some settings changed, by their names.

    Raises:
        ConfigError: there is no such setting, or the values do not go together.
    """
    known = settings_of(recipe)
    changes: dict[tuple[str, ...], Value] = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(_unknown(name, known))
        changes[known[name].path] = value
    return _changed(recipe, changes)


def _changed(config: Any, changes: Mapping[tuple[str, ...], Value]) -> Any:
    """All of a level at once, as settings that go together are checked together."""
    own = {path[0]: value for path, value in changes.items() if len(path) == 1}
    below = {path[0] for path in changes if len(path) > 1}
    inner = {
        name: _changed(getattr(config, name), {p[1:]: v for p, v in changes.items() if p[0] == name and len(p) > 1})
        for name in below
    }
    return replace(config, **own, **inner)


def parse_settings(words: Sequence[str], recipe: Recipe, *, ranges: bool = True) -> Space:
    """What `--set NAME=VALUE,VALUE` or `NAME=LEAST:MOST` says, each by the name of its setting.

    Args:
        ranges: whether there may be ranges.

    Raises:
        ConfigError: a word of another form, a setting that is none or is said twice, or a value that it cannot have.
    """
    known = settings_of(recipe)
    said: Space = {}
    for word in words:
        spelled, joined, text = word.partition("=")
        name = spelled.strip().removeprefix("--").replace("-", "_")
        if not joined or not text.strip():
            raise ConfigError(f"--set has {word!r}, but must be like dropout=0.2,0.5 or dropout=0.1:0.6.")
        if name not in known:
            raise ConfigError(_unknown(name, known))
        if name in said:
            raise ConfigError(f"--set has {name} twice: give all of its values at once, with commas between.")
        said[name] = _domain(name, text, known[name], ranges)
    return said


def _domain(name: str, text: str, setting: Setting, ranges: bool) -> SearchDomain:
    least, between, most = text.partition(":")
    if between and NUMBER.fullmatch(least.strip()) and NUMBER.fullmatch(most.strip()):
        if not ranges:
            raise ConfigError(
                f"--set {name}={text} is a range, but a grid needs values: give them with commas between."
            )
        ends = [_value(end, setting.hint) for end in (least, most)]
        for end in ends:
            check(end, setting.hint, name)
        if not ends[0] < ends[1]:
            raise ConfigError(f"--set {name}={text} must rise from its least to its most.")
        log = isinstance(setting.domain, SearchRange) and setting.domain.log and ends[0] > 0
        return SearchRange(*ends, log=log)
    values = [_value(word, setting.hint) for word in text.split(",")]
    for value in values:
        check(value, setting.hint, name)
    if len(set(values)) < len(values):
        raise ConfigError(f"--set {name}={text} has a value twice, but each is tried once: leave one out.")
    return SearchChoices(tuple(values))


def _value(word: str, hint: Any) -> Any:
    word = word.strip()
    if word.lower() in WORDS:
        return WORDS[word.lower()]
    if not NUMBER.fullmatch(word):
        return word
    if _kind(hint) is float or not word.lstrip("+-").isdecimal():
        return float(word)
    return int(word) if len(word) < 20 else float(word)


def _kind(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def restricted(recipe: Recipe, said: Mapping[str, SearchDomain]) -> tuple[Recipe, Space]:
    """The recipe with what has one value only, and the space with what is said in place of what is declared.

    Raises:
        ConfigError: nothing is left to be tried, or a value does not go with the others.
    """
    fixed = {n: d.values[0] for n, d in said.items() if isinstance(d, SearchChoices) and len(d.values) == 1}
    recipe = with_values(recipe, fixed)
    space = {name: domain for name, domain in (space_of(recipe) | dict(said)).items() if name not in fixed}
    for name, value in ((n, v) for n, d in said.items() if isinstance(d, SearchChoices) for v in d.values):
        with_values(recipe, {name: value})  # what does not go with the rest is refused now, and not trial by trial
    if not space and not said:
        raise ConfigError("This method has no setting that is tuned by itself: say with --set what is to be tried.")
    if not space:
        raise ConfigError("No setting is left to be tuned: leave a --set out, or give it several values.")
    return recipe, space


def defaults(recipe: Recipe, space: Space) -> dict[str, Value]:
    """What the recipe itself has for the settings that are tuned, as far as they may become that."""
    return {name: value for name in space if contains(space[name], value := settings_of(recipe)[name].value)}


def contains(domain: SearchDomain, value: Any) -> bool:
    if isinstance(domain, SearchChoices):
        return value in domain.values
    return isinstance(value, int | float) and domain.least <= value <= domain.most


def shown_value(value: Value) -> str:
    """As it is written in `--set`."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _unknown(name: str, known: Mapping[str, Setting]) -> str:
    if name == "seed":
        return "A seed is no setting: a tuning takes one with --seed, and a training several with --seeds 0 1 2."
    near = nearest(name, known)
    every = "" if near else " Settings are called as the options of forethought train, whose --help has all of them."
    return f"There is no setting {shown(name)} of this method or its training.{near}{every}"
