"""Backbones, methods and functions of somebody else's: named by import path, imported only where a person says so.

A run folder may come from anybody, so the name of a module in it is a name and no more. It is looked up among what is
imported already; it is imported if whoever loads the run allows that, on the command line (`--plugin MODULE`,
`--allow-plugin`) or from Python (`ft.load(..., allow_plugins=True)`).
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import metadata
from typing import Any, Literal

from forethought.errors import ConfigError, RunError, nearest

Group = Literal["forethought.backbones", "forethought.methods"]
GROUPS: tuple[Group, ...] = ("forethought.backbones", "forethought.methods")
PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
# Of this process and those that it starts: modules that were named, and whether a run folder may name others.
NAMED, EVERY = "FORETHOUGHT_PLUGINS", "FORETHOUGHT_ALLOW_PLUGINS"
_allowed: ContextVar[bool] = ContextVar("plugins_allowed", default=False)


class PluginError(RunError):
    """Code outside of Forethought that is needed and not there, or not allowed to be imported."""


def is_path(name: object) -> bool:
    """Whether a name is an import path such as `my_package.module:MyBackbone`."""
    return isinstance(name, str) and PATH.fullmatch(name) is not None


def is_own(cls: type) -> bool:
    """Whether a class is not one of this package's."""
    return cls.__module__.partition(".")[0] != "forethought"


def path_of(cls: type) -> str:
    """The import path of a class.

    Raises:
        ConfigError: it has none, because it was made in a script, a notebook or a function.
    """
    if cls.__module__ == "__main__" or cls.__qualname__ != cls.__name__:
        raise ConfigError(
            f"{cls.__name__} cannot be imported from elsewhere, so that a run of it could not be loaded again: put it "
            "into a module of its own, at the top, and import it from there."
        )
    return f"{cls.__module__}:{cls.__name__}"


@contextmanager
def allowing(every: bool) -> Iterator[None]:
    """Let run folders name what is imported, where `every` says so."""
    before = _allowed.set(_allowed.get() or every)
    try:
        yield
    finally:
        _allowed.reset(before)


@contextmanager
def trusting(modules: Iterable[str], every: bool) -> Iterator[None]:
    """What the command line trusts, in this process and those that it starts; the modules are imported at once.

    Raises:
        ConfigError: a module that cannot be imported.
    """
    modules, before = list(modules), {name: os.environ.get(name) for name in (NAMED, EVERY)}
    for module in modules:
        _imported(module, ConfigError)
    try:
        if modules:
            os.environ[NAMED] = ",".join(modules)
        if every:
            os.environ[EVERY] = "1"
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def named(path: str, what: str) -> Any:
    """What a person names by import path, which is imported.

    Raises:
        ConfigError: no such module, or nothing of that name in it.
    """
    if not is_path(path):
        raise ConfigError(f"{path!r} names no {what}: give an import path such as my_module:MyName.")
    module, _, name = path.partition(":")
    known = vars(_imported(module, ConfigError))
    if name not in known:
        public = [each for each in known if not each.startswith("_")]
        raise ConfigError(f"The module {module} has no {name!r}.{nearest(name, public)}")
    return known[name]


def trusted(path: str) -> Any:
    """What a configuration names by import path, which may have come with a run folder.

    Raises:
        PluginError: it is not imported yet, and nobody has said that it may be.
        ConfigError: as `named`.
    """
    module = path.partition(":")[0]
    if module not in sys.modules and not _may_import(module):
        raise PluginError(
            f"{path} is not imported because a configuration says so: name it on the command line (--plugin {module}), "
            "or import it first."
        )
    return named(path, "function")


def class_of(path: str, kinds: tuple[type, ...], recorded: Mapping[str, Any] | None = None) -> type:
    """The class that a run folder names by import path.

    Args:
        kinds: what it must be.
        recorded: the package and version it was trained with.

    Raises:
        PluginError: it may not be imported, is not installed, or is something else.
    """
    module, _, name = path.partition(":")
    of = f" (of {_words(recorded)})" if recorded else ""
    if module not in sys.modules and not _may_import(module):
        raise PluginError(
            f"The run needs {path}{of}, and nothing is imported because a run folder says so: if you trust it, add "
            f"--plugin {module} or --allow-plugin (from Python allow_plugins=True)."
        )
    found = vars(_imported(module, PluginError, f"The run needs {path}{of}, but ")).get(name)
    if not (isinstance(found, type) and issubclass(found, kinds) and is_own(found)):
        raise PluginError(f"The run needs {path}{of}, but that is no backbone and no method of one's own.")
    return found


def check_recorded(recorded: object, kinds: tuple[type, ...]) -> None:
    """Whether what a run folder needs is there; that it has changed since is told by a warning.

    Raises:
        PluginError: as `class_of`.
    """
    if not isinstance(recorded, Mapping):
        return
    for path, known in recorded.items():
        if not is_path(path) or not isinstance(known, Mapping):
            raise PluginError(f"The run's config.json is damaged (its plugins are {dict(recorded)!r}): copy it again.")
        class_of(path, kinds, known)
        now = origin_of(path)
        if now != dict(known):
            warnings.warn(
                f"The run was trained with {path} of {_words(known)}, and here is {_words(now)}: if its numbers have "
                "moved, that may be why.",
                stacklevel=4,
            )


def origin_of(path: str) -> dict[str, str | None]:
    """The package of a module and its version; of a single file the module, and what it says of itself."""
    module = path.partition(":")[0]
    top = module.partition(".")[0]
    packages = metadata.packages_distributions().get(top)
    if packages:
        return {"package": packages[0], "version": metadata.version(packages[0])}
    version = getattr(sys.modules.get(module), "__version__", None) or getattr(
        sys.modules.get(top), "__version__", None
    )
    return {"package": top, "version": None if version is None else str(version)}


def _words(origin: Mapping[str, Any]) -> str:
    return f"{origin.get('package')} {origin.get('version') or 'without a version'}"


def paths_in(value: Any) -> list[str]:
    """Every import path that a configuration names as a type, in JSON."""
    if isinstance(value, Mapping):
        own = [value["type"]] if is_path(value.get("type")) else []
        return own + [path for inner in value.values() for path in paths_in(inner)]
    return [path for inner in value for path in paths_in(inner)] if isinstance(value, list) else []


def recorded_of(*configurations: Any) -> dict[str, dict[str, str | None]]:
    """What a run folder says of the code that it needs: package and version of each import path."""
    paths = dict.fromkeys(path for each in configurations for path in paths_in(each))
    return {path: origin_of(path) for path in paths}


def entry_points(group: Group) -> dict[str, str]:
    """Names that installed packages give to their own, and the import paths behind them."""
    return {each.name: each.value for each in metadata.entry_points(group=group)}


def _may_import(module: str) -> bool:
    return _allowed.get() or bool(os.environ.get(EVERY)) or module in os.environ.get(NAMED, "").split(",")


def _imported(module: str, error: type[ConfigError | RunError], before: str = "") -> Any:
    """The module, from the working directory too, as a command is given there."""
    if module in sys.modules:
        return sys.modules[module]
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise error(
            _opened(
                before, f"the module {missing.name or module} is not here: install its package, or go to where it lies."
            )
        ) from missing
    except Exception as failed:  # whatever somebody else's code does when it is imported
        said = (str(failed).splitlines() or [""])[0].rstrip(".")
        said = f"the module {module} cannot be imported ({type(failed).__name__}: {said})."
        raise error(_opened(before, said)) from failed


def _opened(before: str, said: str) -> str:
    """A sentence that begins with a capital, whatever stands before it."""
    return before + said if before else said[0].upper() + said[1:]
