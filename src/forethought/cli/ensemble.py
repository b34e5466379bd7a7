"""forethought ensemble"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from forethought.cli.shared import console, parse, print_json


@dataclass(kw_only=True)
class Ensemble:
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")]
    """Run folders of the same items, data and split; they stay as they are."""
    out: Path
    """Run folder to be made."""
    fit_weights: bool = False
    """Fit the members' weights on the validation part; by default all count alike."""
    data: str | None = None
    """Where the data lies now, for --fit-weights; by default where it lay when the first run was trained."""
    items: str | None = None
    """The same for the table of items, for runs that were trained with --items."""
    device: str = "auto"
    """Where weights are fitted: auto (the first CUDA device if there is one, else the CPU), cpu, cuda or cuda:N."""
    json: bool = False
    """Print what was made as JSON."""


def run(arguments: list[str]) -> None:
    about = (
        "Average several runs, of any seeds and methods that know a softmax, in a run folder of its own.\n\n"
        "Example: forethought ensemble runs/sasrec-0 runs/sasrec-1 runs/gru4rec-0 --out runs/three"
    )
    args = parse(Ensemble, arguments, "ensemble", about)
    from forethought.ensembling import ensemble
    from forethought.errors import ConfigError
    from forethought.recommender import load
    from forethought.runs import split_of

    if not args.fit_weights and (args.data is not None or args.items is not None):
        raise ConfigError("--data and --items are read to fit weights alone: add --fit-weights, or leave them out.")
    split = None
    if args.fit_weights and args.runs:
        split = split_of(load(args.runs[0], device="cpu"), args.data, args.items)
    made = ensemble(args.runs, args.out, split=split, device=args.device)
    weights = [round(weight, 4) for weight in made.method.weights_K.tolist()]  # type: ignore[operator]
    if args.json:
        names = [each["run"] for each in made.about["members"]]
        print_json({"run": str(args.out), "members": names, "weights": weights})
    else:
        said = f" with weights {', '.join(f'{weight:g}' for weight in weights)}" if args.fit_weights else ""
        console().print(
            f"{len(weights)} runs are averaged{said} in {args.out}; next: forethought evaluate {args.out}",
            highlight=False,
        )
