"""forethought evaluate"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from forethought.cli.shared import CHOICES, Bar, Choice, parse, print_json


@dataclass(kw_only=True)
class Evaluate:
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder."""
    data: str | None = None
    """Where the data lies now; by default where it lay when the run was trained."""
    part: Literal["test", "valid"] = "test"
    """Which cases are ranked."""
    exclude_history: Choice = "auto"
    """Leave a user's history out of the candidates; auto: as the run was trained."""
    sampled: int | None = None
    """Rank among so many drawn items only; biased, and labelled so."""
    batch: int = 1024
    """Cases encoded together; no metric depends on it."""
    resamples: int = 1000
    """Bootstrap resamples behind each interval."""
    seed: int = 0
    """Of bootstrap and sampling."""
    json: bool = False
    """Print the evaluation as JSON."""


def run(arguments: list[str]) -> None:
    about = "Rank every held-out item among all items.\n\nExample: forethought evaluate runs/sasrec-beauty --json"
    args = parse(Evaluate, arguments, "evaluate", about)
    from forethought.evaluation.sampled import Sample
    from forethought.recommender import load
    from forethought.runs import evaluate, split_of, write_card

    model = load(args.run)
    split = split_of(model, args.data)
    with Bar("ranking") as bar:
        evaluation = evaluate(
            model,
            split,
            part=args.part,
            exclude_history=CHOICES[args.exclude_history],
            sample=None if args.sampled is None else Sample(negatives=args.sampled, seed=args.seed),
            batch=args.batch,
            resamples=args.resamples,
            seed=args.seed,
            report=bar.counted,
        )
    if args.part == "test" and args.sampled is None:
        evaluation.write(args.run)
        write_card(model, evaluation)
    if args.json:
        print_json(evaluation.to_json())
    else:
        sys.stdout.write(str(evaluation) + "\n")
