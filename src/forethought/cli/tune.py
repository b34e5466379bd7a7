"""forethought tune"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from forethought.cli.shared import ColumnOptions, Splitting, announced_split, console, parse, print_json

if TYPE_CHECKING:
    from forethought.config import Recipe
    from forethought.recipes import Effort

Settings = Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="NAME=VALUES")]


@dataclass(kw_only=True)
class Options:
    data: str
    """Data folder, table, or "sql: SELECT ..."."""
    out: Path
    """Folder of the search; what it holds of the same search is gone on with."""
    columns: Annotated[ColumnOptions, tyro.conf.arg(name="")]
    splitting: Annotated[Splitting, tyro.conf.arg(name="")]
    minutes: float | None = None
    """Time of this sitting; trials that run at its end are stopped. 30 if not given, or no end with --trials."""
    trials: int | None = None
    """So many trials in all, those of earlier sittings counted; as many as there is time for if not given."""
    processes: int = 1
    """Processes that work side by side, each with one thread."""
    settings: Settings = ()
    """What is tried in place of what --space shows: values (dropout=0.2,0.5), a range (learning_rate=0.001:0.01), or
    one value that stays (epochs=20)."""
    features: str | None = None
    """Of the items, as of forethought train; in every trial."""
    seed: int = 0
    """Of the search, and of each training."""
    device: str = "auto"
    """Where to compute: auto (the first CUDA device if there is one, else the CPU), cpu, cuda or cuda:N."""
    quiet: bool = False
    """No progress."""
    json: bool = False
    """Print the outcome as JSON."""


@dataclass(kw_only=True)
class SpaceOptions:
    space: bool = False
    """Show what is tried, and do nothing."""
    settings: Settings = ()
    """As of the search."""
    json: bool = False
    """Print it as JSON."""


def run(arguments: list[str]) -> None:
    from forethought import recipes
    from forethought.cli.recipe import on_backbone
    from forethought.errors import ConfigError

    names = ", ".join(recipes.METHODS)
    if not arguments:
        raise ConfigError(f"tune needs a METHOD, one of {names}: forethought tune --help shows an example.")
    if arguments[0] in ("-h", "--help"):
        sys.stdout.write(
            f"usage: forethought tune METHOD --data DATA --out FOLDER [options]\n\nMETHOD is one of {names};\n"
            "or one of your own, as my_module:MyBackbone.\n"
            "forethought tune METHOD --help shows its options, forethought tune METHOD --space what is tried.\n\n"
            "Example: forethought tune sasrec --data data/beauty --minutes 30 --out tuning/sasrec\n"
        )
        return
    name, rest = arguments[0], arguments[1:]
    recipe, rest = on_backbone(recipes.named(name), name, rest)
    effort = recipes.usual_effort(recipe, name)
    recipe = recipe if effort == "fast" else recipes.with_effort(recipe, effort, name)
    if "--space" in rest:
        _show_space(recipe, name, rest)
    else:
        _tune(recipe, effort, name, rest)


def _show_space(recipe: Recipe, name: str, arguments: list[str]) -> None:
    from forethought.tables.table import Table, plain
    from forethought.tuning.space import parse_settings, restricted, settings_of, shown_value

    options = parse(SpaceOptions, arguments, f"tune {name}", f"What tuning tries for {name}.")
    recipe, space = restricted(recipe, parse_settings(options.settings, recipe))
    of = settings_of(recipe)
    if options.json:
        print_json({setting: {"recipe": of[setting].value, **asdict(domain)} for setting, domain in space.items()})
        return
    rows = [[setting, shown_value(of[setting].value), str(domain)] for setting, domain in space.items()]
    sys.stdout.write(plain(Table(f"what is tuned of {name}", ["setting", "recipe", "from"], rows, names=3), 140) + "\n")


def _tune(recipe: Recipe, effort: Effort, name: str, arguments: list[str]) -> None:
    from forethought import recipes
    from forethought.cli.several import check_metrics
    from forethought.data.features import Features
    from forethought.devices import resolve_device
    from forethought.errors import ConfigError
    from forethought.settings import Seed, check
    from forethought.training.interrupt import Interrupted
    from forethought.tuning.search import check_installed
    from forethought.tuning.space import parse_settings, restricted
    from forethought.tuning.tuner import BEST_FILE, check_budget, tune

    about = (
        f"Search for the best settings of {name} by NDCG@10 on the validation part; the first trial is the recipe as "
        f"it is.\n\nExample: forethought tune {name} --data shop --minutes 30 --out tuning/{name}"
    )
    options = parse(Options, arguments, f"tune {name}", about)
    check(options.seed, Seed, "--seed")
    if options.features is not None:
        if recipe.method.closed_form:  # type: ignore[union-attr]
            raise ConfigError(f"{name} reads no features: leave --features out.")
        recipe = replace(recipe, features=None if options.features == "none" else Features(use=options.features))
    resolve_device(options.device)
    recipe = replace(recipe, seed=options.seed, training=replace(recipe.training, device=options.device))
    check_metrics(said := parse_settings(options.settings, recipe))
    restricted(recipe, said)  # what is wrong is told before the data is read
    check_budget(options.minutes, options.trials, options.processes)
    check_installed()
    view = console()
    split = announced_split(options, view)
    try:
        tuning = tune(
            recipes.fitted(recipe, effort, split),
            split,
            options.out,
            minutes=options.minutes,
            trials=options.trials,
            processes=options.processes,
            settings=options.settings,
            seed=options.seed,
            say=(lambda _: None) if options.quiet else (lambda words: view.print(words, highlight=False)),
        )
    except KeyboardInterrupt:
        raise Interrupted(
            f"Every trial that ended is kept: the same command goes on from here ({options.out})."
        ) from None
    best = options.out / BEST_FILE
    if options.json:
        figures = {"valid_ndcg@10": tuning.best.valid, "before": tuning.before, "trials": len(tuning.trials)}
        print_json({"best": str(best), **figures, "values": tuning.best.values, "importances": tuning.importances})
        return
    sys.stdout.write(tuning.document().text() + "\n")
    if not options.quiet:
        view.print(
            f"The best recipe lies in {best}; next: forethought train {name} --recipe {best} --data ... --out ..."
        )
