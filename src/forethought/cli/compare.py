"""forethought compare"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from forethought.cli.shared import console, parse, print_json
from forethought.errors import ForethoughtError

if TYPE_CHECKING:
    from forethought.evaluation.report import Evaluation

OF_A_SEED = {
    *("seed", "method.encoder_run", "method.teacher_run"),
    *(f"training.{name}" for name in ("device", "precision", "compile", "split_catalogue", "checkpoint_every_s")),
}
"""Settings in which seeds of one recipe may differ: runs that each begins with, and where and how it is computed."""


@dataclass(kw_only=True)
class Compare:
    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME=]RUN ...")]
    """Evaluated run folders; NAME=FOLDER names one, and a name given twice groups seeds."""
    scores: tuple[str, ...] = ()
    """NAME=FILE: tables of user, item and score (or, without one, rank) that other programs have made for the same
    cases; items that they do not list come last, as equals."""
    data: str | None = None
    """With --scores, where the data of the first run lies now, where it has moved."""
    items: str | None = None
    """Likewise the table of items."""
    baseline: str | None = None
    """The method the others are held against; the first by default."""
    metric: tuple[str, ...] = ()
    """Test these metrics only, which makes Holm's correction milder."""
    across_noise: bool = False
    """Let evaluations of clean and of noisy histories stand side by side: what noise costs."""
    all_pairs: bool = False
    """Also hold the methods other than the baseline against each other; Holm's correction then counts these too."""
    seed: int = 0
    """Of bootstrap and permutations."""
    out: Path | None = None
    """Also write it: a page (.html), tables (.md, .tex), numbers (.csv, .json) or a figure (.svg, .pdf, .png)."""
    json: bool = False
    """Print the comparison as JSON."""


def run(arguments: list[str]) -> None:
    about = (
        "Hold runs against each other with paired tests.\n\n"
        "Example: forethought compare sasrec=runs/s0 sasrec=runs/s1 gru=runs/g0 --out compare.html"
    )
    args = parse(Compare, arguments, "compare", about)
    from forethought.errors import ConfigError
    from forethought.evaluation.compare import compare
    from forethought.evaluation.report import Evaluation
    from forethought.files import check_path
    from forethought.reports.saving import check_results_path, save_results

    _refuse_chance_names(args.runs)
    _refuse_idle(args)
    if args.out is not None:
        check_results_path(args.out)
    named: dict[str, list[Evaluation]] = {}
    folders: dict[Path, str] = {}
    seeds: dict[str, list[Path]] = {}
    for argument in args.runs:
        name, _, folder = argument.rpartition("=")
        check_path(Path(folder))
        if (twice := folders.setdefault(Path(folder).resolve(), argument)) != argument or args.runs.count(argument) > 1:
            raise ConfigError(f"{argument!r} and {twice!r} are one run, which would count twice: name it once.")
        named.setdefault(name or Path(folder).name, []).append(Evaluation.read(folder))
        seeds.setdefault(name or Path(folder).name, []).append(Path(folder))
    for name, of in seeds.items():
        _refuse_other_recipes(name, of)
    if args.scores:
        _add_scores(args, named)
    _refuse_idle_among(args, named)
    if len(named) < 2:
        raise ConfigError(f"At least two methods are needed to compare, but {len(named)} was given: name other runs.")
    outcome = compare(
        {name: many if len(many) > 1 else many[0] for name, many in named.items()},
        baseline=args.baseline,
        metrics=list(args.metric) or None,
        across_noise=args.across_noise,
        all_pairs=args.all_pairs,
        seed=args.seed,
    )
    try:  # shown before it is written, and written even if nobody takes what is shown
        if args.json:
            print_json(outcome.to_json())
        else:
            sys.stdout.write(str(outcome) + "\n")
        sys.stdout.flush()
    finally:
        if args.out is not None:
            save_results(outcome, args.out)
            console().print(f"Written to {args.out}.")


def _refuse_other_recipes(name: str, folders: list[Path]) -> None:
    """Runs of one name are averaged, and so must be seeds of one recipe; what is no run folder says nothing of its."""
    from forethought.config import RunConfig, from_json, to_json
    from forethought.errors import ConfigError
    from forethought.files import read_json
    from forethought.run_files import CONFIG_FILE
    from forethought.run_folder import differences

    first: tuple[Path, object] | None = None
    for folder in folders if len(folders) > 1 else ():
        try:
            config = to_json(from_json(RunConfig, read_json(folder / CONFIG_FILE, "")["config"]))
        except (ForethoughtError, KeyError, TypeError):
            continue
        first = first or (folder, config)
        other = [each for each in differences(first[1], config) if each.partition(":")[0] not in OF_A_SEED]
        if other:
            raise ConfigError(
                f"{first[0]} and {folder} are both called {name!r}, as seeds of one method are, but differ in "
                f"{other[0]}: give each a name."
            )


def _add_scores(args: Compare, named: dict[str, list[Evaluation]]) -> None:
    """Scores of other programs, ranked as the first run was."""
    from forethought.cli.measuring import named_table, scores_of
    from forethought.errors import ConfigError
    from forethought.evaluation.metrics import CUTS
    from forethought.evaluation.settings import EvaluationConfig
    from forethought.recommender import load
    from forethought.run_files import CONFIG_FILE
    from forethought.runs import split_of

    folders = [Path(argument.rpartition("=")[2]) for argument in args.runs]
    run = next((folder for folder in folders if (folder / CONFIG_FILE).is_file()), None)
    if run is None:
        raise ConfigError("--scores needs a run folder beside it, whose data and split it is ranked on.")
    split = split_of(load(run, device="cpu"), args.data, args.items)
    first = next(iter(named.values()))[0]
    cuts = tuple(sorted({int(name.rpartition("@")[2]) for name in first.metrics if name.startswith("recall@")}))
    for argument in args.scores:
        name, file = named_table(argument)
        if name in named:
            raise ConfigError(f"--scores {argument} has the name of another method, {name!r}: give NAME=FILE.")
        config = EvaluationConfig(seed=args.seed, cutoffs=cuts or CUTS)
        named[name] = [scores_of(file, split, config, like=first.protocol)]
        console().print(f"{name}: scores of {named[name][0].protocol['scores']}.")


def _refuse_idle(args: Compare) -> None:
    """Options that nothing reads without scores."""
    from forethought.errors import ConfigError

    for option in ("data", "items"):
        if getattr(args, option) is not None and not args.scores:
            raise ConfigError(f"--{option} would change nothing without --scores NAME=FILE: leave it out.")


def _refuse_idle_among(args: Compare, named: dict[str, list[Evaluation]]) -> None:
    """Options that change nothing of these evaluations."""
    from forethought.errors import ConfigError

    if args.across_noise and not any(each.protocol.get("noise") for many in named.values() for each in many):
        raise ConfigError("No evaluation has noise, so that --across-noise would change nothing: leave it out.")
    if args.all_pairs and len(named) < 3:
        raise ConfigError("Two methods are one pair, so that --all-pairs would change nothing: leave it out.")


def _refuse_chance_names(runs: tuple[str, ...]) -> None:
    """Two folders that happen to end alike are not two seeds of one method."""
    from forethought.errors import ConfigError

    names = [Path(run).name for run in runs if "=" not in run]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"Several runs are called {name!r}: name each, NAME=FOLDER; the same name for seeds of one method."
            )
