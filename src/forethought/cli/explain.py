"""forethought explain"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from forethought.cli.histories import history_of, times_of, typed_id
from forethought.cli.shared import CHOICES, Choice, HaltingOptions, console, parse, print_json
from forethought.cli.steering import SteeringOptions


@dataclass(kw_only=True)
class Explain:
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder."""
    halting_options: Annotated[HaltingOptions, tyro.conf.arg(name="")]
    steering: Annotated[SteeringOptions, tyro.conf.arg(name="")]
    history: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ID,ID")]
    """Item ids of one user, oldest first, with commas between; where an id holds one, as a JSON list: '["a,b","c"]'."""
    target: str | None = None
    """An item whose rank is followed from step to step."""
    times: Annotated[str | None, tyro.conf.arg(metavar="SECOND,SECOND")] = None
    """Unix seconds beside each item, for models that read times."""
    k: int = 5
    """Items a list."""
    exclude_history: Choice = "auto"
    """Leave out what the user has met; auto: as the run was trained."""
    unknown: Literal["error", "drop"] = "error"
    """What to do with ids that the model does not know."""
    picture: Path | None = None
    """Also draw the way of the steps, as .png, .svg or .pdf."""
    story: Path | None = None
    """Also draw what was met, how the best items rose and fell from step to step, and what is recommended; likewise."""
    device: str = "auto"
    """Where it computes: auto (the first CUDA device if there is one, else the CPU), cpu, cuda or cuda:N."""
    json: bool = False
    """Print all of it as JSON."""


def run(arguments: list[str]) -> None:
    about = (
        "Show step by step how a model comes to its answer.\n\n"
        "Example: forethought explain runs/dtrec --history i00042,i00007 --picture thought.png"
    )
    args = parse(Explain, arguments, "explain", about)
    from forethought.errors import ConfigError
    from forethought.recommender import load
    from forethought.reports.pictures import check_picture

    if len(args.history) != 1:
        raise ConfigError(
            f"--history was given {' '.join(args.history) or 'nothing'!r}, but tells of one user: join the items by "
            "commas, without spaces."
        )
    (history,) = args.history

    steering = args.steering.choices()
    if args.picture is not None:
        check_picture(args.picture)
    if args.story is not None:
        check_picture(args.story)
        if args.picture is not None and args.story.resolve() == args.picture.resolve():
            raise ConfigError("--picture and --story are two pictures: give each a file of its own.")
    model = load(args.run, device=args.device)
    explanation = model.explain(
        history_of(history, model, args.unknown),
        k=args.k,
        target=None if args.target is None else typed_id(args.target, model),
        times=None if args.times is None else times_of(args.times, model),
        exclude_history=CHOICES[args.exclude_history],
        unknown=args.unknown,
        halting=args.halting_options.of(model.method),
        **steering,
    )
    if args.picture is not None:
        from forethought.reports.trajectory import write_trajectory

        write_trajectory(explanation, args.picture)
        console().print(f"Drawn to {args.picture}.")
    if args.story is not None:
        from forethought.reports.story import write_story

        write_story(explanation, args.story)
        console().print(f"Drawn to {args.story}.")
    if args.json:
        print_json(explanation.to_json())
        return
    if not sys.stdout.isatty():
        sys.stdout.write(f"{explanation}\n")
        return
    from rich.console import Console

    Console(highlight=False).print(explanation)
