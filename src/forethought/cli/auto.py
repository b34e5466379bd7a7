"""forethought train auto"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from forethought.cli.shared import ColumnOptions, Splitting, announced_split, console, parse, print_json


@dataclass(kw_only=True)
class Options:
    data: str
    """Data folder, table, or "sql: SELECT ..."."""
    out: Path
    """Run folder to be made."""
    columns: Annotated[ColumnOptions, tyro.conf.arg(name="")]
    splitting: Annotated[Splitting, tyro.conf.arg(name="")]
    minutes: float = 20.0
    """Time that it may take; an epoch that has begun is finished."""
    seed: int = 0
    """Of weights, batches and dropout."""
    device: str = "auto"
    """Where to compute: auto (the first CUDA device if there is one, else the CPU), cpu, cuda or cuda:N."""
    resume: bool = False
    """Go on with what was tried before the same command was stopped; the minutes count from where it first began."""
    overwrite: bool = False
    """Remove the run in OUT first."""
    quiet: bool = False
    """No progress."""
    json: bool = False
    """Print the outcome as JSON."""


ABOUT = (
    "Train the best of a few good recipes into a run folder: SASRec with little and much dropout, with what is known "
    "of items and without, and what is fitted in closed form. The validation part chooses.\n\n"
    "Example: forethought train auto --data shop --minutes 20 --out runs/auto"
)


def train_auto(arguments: list[str]) -> None:
    from forethought.devices import resolve_device
    from forethought.settings import Seed, check
    from forethought.training.interrupt import Interrupted
    from forethought.tuning.auto import choice_of, train_best
    from forethought.tuning.tried import tried_folder
    from forethought.tuning.tuner import Minutes

    options = parse(Options, arguments, "train auto", ABOUT)
    check(options.seed, Seed, "--seed")
    check(options.minutes, Minutes, "--minutes")
    resolve_device(options.device)
    view = console()
    split = announced_split(options, view)
    try:
        model = train_best(
            split,
            options.out,
            minutes=options.minutes,
            seed=options.seed,
            device=options.device,
            resume=options.resume,
            overwrite=options.overwrite,
            say=(lambda _: None) if options.quiet else (lambda words: view.print(words, highlight=False)),
        )
    except KeyboardInterrupt:
        if not (kept := tried_folder(options.out)).is_dir():
            raise
        raise Interrupted(
            f"What was tried is kept: the same command with --resume goes on from here ({kept})."
        ) from None
    if options.json:
        print_json({"run": str(options.out), "parameters": model.n_parameters, **model.outcome(), **choice_of(model)})
    elif not options.quiet:
        view.print(f"The run lies in {options.out}; next: forethought evaluate {options.out}")
