"""forethought study"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from forethought.cli.shared import ColumnOptions, Splitting, announced_split, console, parse

if TYPE_CHECKING:
    from rich.console import Console

    from forethought.data.splits import Split
    from forethought.studies.study import Study


@dataclass(kw_only=True)
class DataOptions:
    data: str
    """Data folder, table, or "sql: SELECT ..."."""
    columns: Annotated[ColumnOptions, tyro.conf.arg(name="")]
    splitting: Annotated[Splitting, tyro.conf.arg(name="")]


@dataclass(kw_only=True)
class StudyOptions:
    seeds: tuple[int, ...] = (0,)
    """Seeds, such as --seeds 0 1 2; the whole study with the first, then with the next."""
    only: tuple[str, ...] = ()
    """Train these variants only; the page tells of all there are."""
    results: Path | None = None
    """Where results and pages go; what has its result there is not trained again. The folder results if not given, or
    docs/results in a checkout of the project."""
    runs: Path = Path("runs")
    """Where the models are trained."""
    device: str = "auto"
    """Where it computes: auto (the first CUDA device if there is one, else the CPU), cpu, cuda or cuda:N."""
    quiet: bool = False
    """No progress."""


@dataclass(kw_only=True)
class Options(StudyOptions, DataOptions):
    """Of a study that trains on what it is given; one that makes its own shops has `StudyOptions`."""


@dataclass(kw_only=True)
class AnywhereOptions(StudyOptions):
    """Of a study that makes its own shops unless it is given data."""

    data: str | None = None
    """Data folder, table, or "sql: SELECT ..."; the study's own shops if not given."""
    columns: Annotated[ColumnOptions, tyro.conf.arg(name="")]
    splitting: Annotated[Splitting, tyro.conf.arg(name="")]


def run(arguments: list[str]) -> None:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else PyTorch's profiler tells of itself; read when it is imported
    from forethought.errors import ConfigError, nearest
    from forethought.studies.catalogue import STUDIES

    if not arguments:
        raise ConfigError(f"study needs a STUDY, one of {', '.join(STUDIES)}: forethought study --help tells of each.")
    if arguments[0] in ("-h", "--help"):
        sys.stdout.write(_help())
        return
    name, rest = arguments[0], arguments[1:]
    if name not in STUDIES:
        raise ConfigError(f"There is no study {name!r}; there are {', '.join(STUDIES)}.{nearest(name, STUDIES)}")
    _study(name, rest)


def _study(name: str, arguments: list[str]) -> None:
    from forethought.devices import resolve_device
    from forethought.errors import ConfigError
    from forethought.settings import Seed, check
    from forethought.studies.catalogue import STUDIES
    from forethought.studies.runner import StudyContext, carry_out_all, check_asked
    from forethought.training.interrupt import Interrupted
    from forethought.training.progress import Quiet, Watch

    study = STUDIES[name]
    given = "" if study.shops else " --data data/beauty --ties shuffle"
    about = (
        f"{study.title}. {study.question}\n\nVariants: {', '.join(study.variants)}.\n\n"
        f"Example: forethought study {name}{given} --seeds 0 1 2"
    )
    kinds = AnywhereOptions if study.anywhere else StudyOptions
    options = parse(kinds if study.shops else Options, arguments, f"study {name}", about)
    if not options.seeds:
        raise ConfigError("--seeds needs values, such as --seeds 0 1 2.")
    for seed in options.seeds:
        check(seed, Seed, "--seeds")
    check_asked(study, options.only)
    resolve_device(options.device)
    view = console()
    command = shlex.join(["forethought", "study", name, *arguments])
    contexts = [
        StudyContext(
            split=split,
            results=options.results or _results(),
            runs=options.runs,
            device=options.device,
            say=(lambda _: None) if options.quiet else view.print,
            observer=Quiet if options.quiet else (lambda: Watch(view)),
            command=command,
        )
        for split in _splits(study, options, view)
    ]
    try:
        page = carry_out_all(study, contexts, options.seeds, options.only)
    except Interrupted:
        raise Interrupted("Everything is saved: the same command goes on from here.") from None
    view.print(f"The page lies in {page}.")


def _splits(study: Study, options: StudyOptions, view: Console) -> list[Split]:
    """What a study trains on: the data it is given, or the shops it makes, beside the folders of its runs."""
    from forethought.studies.shops import shop_split

    if isinstance(options, Options) or (isinstance(options, AnywhereOptions) and options.data is not None):
        return [announced_split(options, view)]
    if isinstance(options, AnywhereOptions):
        _check_read(options)
    return [shop_split(name, shop, options.runs / "shops", texts=study.texts) for name, shop in study.shops.items()]


def _check_read(options: AnywhereOptions) -> None:
    """Refuse what is said of data where none is given.

    Raises:
        ConfigError: it would change nothing.
    """
    from forethought.errors import ConfigError

    plain = ColumnOptions(), Splitting()
    asked = [
        f"--{name.replace('_', '-')}"
        for part, default in zip((options.columns, options.splitting), plain, strict=True)
        for name, value in vars(part).items()
        if value != getattr(default, name)
    ]
    if asked:
        raise ConfigError(
            f"Without --data the study makes its own shops, and {', '.join(asked)} would change nothing: give --data, "
            "or leave that out."
        )


def _results() -> Path:
    """Where results go if nothing is said: the project keeps its own beside its documentation."""
    return Path("docs/results" if Path("src/forethought/studies").is_dir() else "results")


def _help() -> str:
    from forethought.studies.catalogue import STUDIES

    listed = "\n".join(f"  {study.name:<17} {study.title}" for study in STUDIES.values())
    return (
        f"usage: forethought study STUDY --data DATA [options]\n\nSTUDY is one of\n{listed}\n\n"
        "forethought study STUDY --help says what it asks, which variants it trains, and its options.\n\n"
        "Example: forethought study hps --data data/beauty --ties shuffle --seeds 0 1 2\n"
    )
