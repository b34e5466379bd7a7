"""What `forethought train` does with `--seeds` and `--set`: several runs, and a table of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from forethought.cli.shared import print_json

if TYPE_CHECKING:
    from rich.console import Console

    from forethought.config import Recipe
    from forethought.data.splits import Split
    from forethought.tuning.space import Space


def asks_for_several(options: Any, arguments: list[str]) -> bool:
    """Whether there are seeds or settings.

    Raises:
        ConfigError: an option for them has no value, and so would change nothing.
    """
    from forethought.errors import ConfigError

    for option, values in (("--seeds", getattr(options, "seeds", ())), ("--set", options.settings)):
        if option in arguments and not values:
            example = "0 1 2" if option == "--seeds" else "dropout=0.2,0.5"
            raise ConfigError(f"{option} needs values, such as {option} {example}.")
    return bool(options.settings or getattr(options, "seeds", ()))


def check_several(recipe: Recipe, options: Any, arguments: list[str]) -> None:
    """Refuse what does not go with several runs, before the data is read.

    Raises:
        ConfigError: an option that would change nothing, a setting that is said twice, or is none.
    """
    from forethought.errors import ConfigError
    from forethought.settings import from_environment

    if options.resume:
        raise ConfigError("Several runs go on by themselves where they stopped: leave --resume out.")
    said = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in arguments if word.startswith("--")}
    if getattr(options, "seeds", ()) and "seed" in said:
        raise ConfigError("--seeds says all seeds, so that --seed would change nothing: leave it out.")
    if from_environment("WORLD_SIZE", 1) > 1:
        raise ConfigError("Several runs are trained by one process: leave torchrun out, or train them one by one.")
    for word in options.settings:
        if (name := word.partition("=")[0].replace("-", "_")) in said:
            raise ConfigError(f"{name} is said twice, by --set and by an option of its own: leave one out.")
    check_metrics(_space(recipe, options))
    _grid(recipe, options)


def check_metrics(space: Space) -> None:
    """Import what `--set choose_by=my_module:my_metric` names, as a person names it.

    Raises:
        ConfigError: there is none.
    """
    from forethought.evaluation.metrics import metric_of
    from forethought.plugins import is_path

    for by in getattr(space.get("choose_by"), "values", ()):
        if is_path(by):
            metric_of(by, person=True)


def _space(recipe: Recipe, options: Any) -> Space:
    from forethought.tuning.space import parse_settings

    return parse_settings(options.settings, recipe, ranges=False)


def _grid(recipe: Recipe, options: Any) -> Any:
    from forethought.tuning.grid import grid_of

    return grid_of(recipe, _space(recipe, options), getattr(options, "seeds", ()))


def train_several(recipe: Recipe, options: Any, split: Split, view: Console, cutoffs: tuple[int, ...]) -> None:
    from forethought.training.interrupt import Interrupted
    from forethought.training.progress import Quiet, Watch
    from forethought.tuning.grid import train_grid

    try:
        made = train_grid(
            _grid(recipe, options),
            split,
            options.out,
            overwrite=options.overwrite,
            cutoffs=cutoffs,
            say=(lambda _: None) if options.quiet else view.print,
            observer=Quiet if options.quiet else (lambda: Watch(view)),
            start=getattr(options, "start", None),
            collaborative_from=getattr(options, "collaborative_from", None),
            track=options.track,
            track_model=options.track_model,
        )
    except Interrupted:
        raise Interrupted(f"Everything is saved: the same command goes on from here ({options.out}).") from None
    if options.json:
        print_json(made.to_json())
    else:
        sys.stdout.write(made.document().text() + "\n")
