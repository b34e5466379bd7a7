"""forethought evaluate"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from forethought.cli.shared import CHOICES, Bar, Choice, Thinking, console, parse, print_json


@dataclass(kw_only=True)
class Evaluate:
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder."""
    thinking: Annotated[Thinking, tyro.conf.arg(name="")]
    data: str | None = None
    """Where the data lies now; by default where it lay when the run was trained."""
    part: Literal["test", "valid"] = "test"
    """Which cases are ranked."""
    exclude_history: Choice = "auto"
    """Leave a user's history out of the candidates; auto: as the run was trained."""
    sampled: int | None = None
    """Rank among so many drawn items only; biased, and labelled so."""
    batch: int = 1024
    """Cases encoded together; no metric depends on it, unless rows halt at random."""
    resamples: int = 1000
    """Bootstrap resamples behind each interval."""
    seed: int = 0
    """Of bootstrap, sampling and random halting."""
    out: Path | None = None
    """Folder for metrics.json and per_user.parquet, which compare reads; by default the run folder, unless cases,
    candidates or halting are others than the run's own."""
    json: bool = False
    """Print the evaluation as JSON."""


def run(arguments: list[str]) -> None:
    about = (
        "Rank every held-out item among all items; metrics and what they cost.\n\n"
        "Examples: forethought evaluate runs/sasrec-beauty --json\n"
        "          forethought evaluate runs/dtrec-beauty --halt arh --delta 0.3 --out evaluations/eager\n"
        "          forethought evaluate runs/dtrec-beauty --halt fixed --steps 1 --out evaluations/one-step"
    )
    args = parse(Evaluate, arguments, "evaluate", about)
    from forethought.evaluation.sampled import Sample
    from forethought.recommender import load
    from forethought.runs import evaluate, split_of, write_card

    model = load(args.run)
    halting = args.thinking.of(model.method)
    split = split_of(model, args.data)
    with Bar("ranking") as bar:
        evaluation = evaluate(
            model,
            split,
            part=args.part,
            exclude_history=CHOICES[args.exclude_history],
            halting=halting,
            sample=None if args.sampled is None else Sample(negatives=args.sampled, seed=args.seed),
            batch=args.batch,
            resamples=args.resamples,
            seed=args.seed,
            report=bar.counted,
        )
    own = args.part == "test" and args.sampled is None and halting is None
    if args.out is not None:
        evaluation.write(args.out)
        console().print(f"Written to {args.out}; next: forethought compare {args.run} {args.out}")
    elif own:
        evaluation.write(args.run)
        write_card(model, evaluation)
    else:
        console().print(
            "Not the run's own evaluation, so nothing in its folder has changed; --out FOLDER would keep it."
        )
    if args.json:
        print_json(evaluation.to_json())
    else:
        sys.stdout.write(str(evaluation) + "\n")
