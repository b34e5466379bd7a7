"""How a run is described: method, split, training, seed. Read at the border, checked key by key, saved with the run.

A configuration is a tree of frozen dataclasses. In JSON each choice between several carries its name under "type".
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any

from forethought.alignment.settings import Alignment
from forethought.backbones.all import BACKBONES
from forethought.backbones.interface import BackboneConfig
from forethought.data.evidence import Evidence
from forethought.data.features import Features
from forethought.data.noise import Noise
from forethought.data.splits import SplitConfig
from forethought.errors import ConfigError, RunError, nearest
from forethought.files import read_json, write_json
from forethought.methods.all import METHODS, AnyMethod
from forethought.methods.configuration import MethodConfig
from forethought.methods.masked_item import MaskedItem
from forethought.methods.next_item import NextItem
from forethought.plugins import class_of, is_own, is_path, path_of
from forethought.run_files import CONFIG_FILE
from forethought.semantic_ids.all import TOKENIZERS
from forethought.settings import Seed, Settings, Whole
from forethought.training.settings import Training
from forethought.version import __version__

TYPES: dict[str, type] = {**METHODS, **BACKBONES, **TOKENIZERS}
"""The names of everything that can be chosen in a configuration."""
NAMES = {cls: name for name, cls in TYPES.items()}
KINDS = (BackboneConfig, MethodConfig)
"""What people bring of their own, which is named by import path."""


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """A method and how to train it, on whatever data."""

    method: MethodConfig | BackboneConfig
    """What is trained; a bare backbone becomes the method that trains it alone."""
    training: Training = field(default_factory=Training)
    """How it is trained."""
    seed: Seed = 0
    """Of weights, batches and dropout."""
    exclude_history: bool | None = None
    """Leave a user's history out of the candidates; None: where no user ever repeats an item."""
    noise: Noise | None = None
    """On the training part, drawn once, so that what is to be predicted inside it may be noise too; None: it is trained
    on as it is."""
    features: Features | None = None
    """Of the items, read beside their ids; None: items are their ids alone."""
    evidence: Evidence | None = None
    """What speaks for items beside the method's scores; None: nothing does."""
    alignment: Alignment | None = None
    """How the run that it starts from is aligned with rewards, in place of training (`ft.align`); None: it is not."""

    def __post_init__(self) -> None:
        if isinstance(self.method, BackboneConfig):
            object.__setattr__(self, "method", as_method(self.method))
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class RunConfig(Recipe):
    """A whole run."""

    method: AnyMethod
    """What is trained."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """How the data is divided."""


ABOUT = {
    **{"data": str, "data_hash": str, "data_path": str | None, "columns": dict[str, str | None]},
    **{"users": Whole, "items": Whole, "interactions": Whole, "protocol": dict, "exclude_history": bool},
}
"""What a run folder says of the data it was trained on: keys, and what they hold."""


def name_of(method: MethodConfig) -> str:
    """What a person calls it: a backbone that is trained by itself bears its own name."""
    backbone = getattr(method, "backbone", None)
    alone = isinstance(method, NextItem | MaskedItem) and backbone is not None
    return type(backbone if alone else method).__name__


def as_method(config: MethodConfig | BackboneConfig) -> MethodConfig:
    """A bare backbone becomes the method that trains it alone."""
    if isinstance(config, BackboneConfig):
        return NextItem(backbone=config) if config.causal else MaskedItem(backbone=config)
    if isinstance(config, MethodConfig):
        return config
    raise ConfigError(
        f"A method such as ft.SASRec(width=64) or ft.NextItem(...) is expected, but {type(config).__name__} was given."
    )


def to_json(config: Any) -> dict[str, Any]:
    """Plain values; a choice between several classes says which it is."""
    name = type_name(type(config))
    tag = {} if name is None else {"type": name}
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return tag | {name: to_json(value) if is_dataclass(value) else value for name, value in values.items()}


def type_name(cls: type) -> str | None:
    """What a configuration calls a class that can be chosen; None: it is none of these.

    Raises:
        ConfigError: it is somebody's own and cannot be imported.
    """
    if cls in NAMES:
        return NAMES[cls]
    return path_of(cls) if issubclass(cls, KINDS) and is_own(cls) else None


def from_json(cls: type, value: Any, path: str = "") -> Any:
    """The configuration that a JSON object describes; each part checks its own values when it is made.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a missing one, a wrong type or a value out of range.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path or 'The configuration'} must be an object with keys, but it is {value!r}.")
    value = _upgraded(cls, value)
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    own_fields = {key: inner for key, inner in value.items() if (key, inner) != ("type", type_name(cls))}
    for key in own_fields:
        if key not in fields:
            raise ConfigError(f"{_join(path, key)} is not a setting of {cls.__name__}.{nearest(key, fields)}")
    parsed = {key: _field(hints[key], inner, _join(path, key)) for key, inner in own_fields.items()}
    for name, f in fields.items():
        if name not in parsed and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{_join(path, name)} is missing.")
    return cls(**parsed)


def _upgraded(cls: type, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Stored settings as they are called today."""
    return cls.upgraded(value) if issubclass(cls, Settings) else value


def write_recipe(recipe: Recipe, path: str | Path, **about: Any) -> Path:
    """Write a recipe as JSON that `read_recipe` and `forethought train --recipe` take.

    Args:
        about: what else is to be known of it; nothing reads it.

    Raises:
        RunError: it cannot be written.
    """
    write_json(path := Path(path), {"forethought": __version__, "recipe": to_json(recipe), **about})
    return path


def read_recipe(path: str | Path) -> Recipe:
    """The recipe in a file that `write_recipe` has written, or that of a run folder.

    Raises:
        RunError: there is none, or it is damaged.
        ConfigError: a setting in it is none, or has a value that it cannot have.
    """
    path = Path(path)
    file, key = (path / CONFIG_FILE, "config") if path.is_dir() else (path, "recipe")
    mend = "give a recipe that forethought tune or ft.write_recipe has written, or a run folder"
    if not file.exists():
        raise RunError(f"There is no recipe {str(file)!r}: {mend}.")
    parts = read_json(file, mend)
    if not isinstance(parts, dict) or not isinstance(parts.get(key), dict):
        raise RunError(f"{file} holds no recipe: {mend}.")
    run = from_json(RunConfig, {name: part for name, part in parts[key].items() if name != "split"})
    return Recipe(**{f.name: getattr(run, f.name) for f in dataclasses.fields(Recipe)})


def _field(hint: Any, value: Any, path: str) -> Any:
    choices = [c for c in (typing.get_args(hint) if _is_union(hint) else [hint]) if is_dataclass(c)]
    if (path_of_own := _own(choices, value)) is not None:
        return from_json(class_of(path_of_own, KINDS), value, path)
    choices = choices if _is_union(hint) else []
    if value is None and type(None) in typing.get_args(hint):
        return None
    if len(choices) == 1:  # it or nothing: there is no choice to name
        return from_json(typing.cast("type", choices[0]), value, path)
    if choices:
        known = {NAMES[c]: c for c in choices if isinstance(c, type)}
        tag = value.get("type") if isinstance(value, Mapping) else None
        if tag not in known:
            raise ConfigError(f"{path}.type is {tag!r}, but must be one of {', '.join(known)}.")
        return from_json(known[tag], value, path)
    return from_json(hint, value, path) if isinstance(hint, type) and is_dataclass(hint) else value


def _own(choices: list[Any], value: Any) -> str | None:
    """The import path that a value names, where somebody's own may be chosen."""
    tag = value.get("type") if isinstance(value, Mapping) else None
    return tag if is_path(tag) and any(isinstance(c, type) and issubclass(c, KINDS) for c in choices) else None


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, UnionType)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else str(key)
