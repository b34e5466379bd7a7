"""forethought evaluate"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from forethought.cli.measuring import Measuring
from forethought.cli.shared import (
    CHOICES,
    Bar,
    Choice,
    ColumnOptions,
    HaltingOptions,
    Noising,
    Splitting,
    console,
    moment,
    open_split,
    parse,
    print_json,
)
from forethought.errors import ConfigError

if TYPE_CHECKING:
    from forethought.data.noise import Noise
    from forethought.data.splits import Split
    from forethought.evaluation.report import Evaluation
    from forethought.evaluation.settings import EvaluationConfig
    from forethought.noise_curves import Robustness, RobustnessConfig
    from forethought.reasoning.halting import Halting
    from forethought.recommender import Recommender

CURVES_FILE = "noise.json"
BATCH = 1024


@dataclass(kw_only=True)
class Evaluate:
    run: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = None
    """A run folder; none with --scores."""
    scores: str | None = None
    """Instead of a run: a table of user, item and score (or, without one, rank) that any other program has made for the
    held-out cases. Items that it does not list come last, as equals. Give --data with it, and how that is split."""
    measuring: Annotated[Measuring, tyro.conf.arg(name="")]
    columns: Annotated[ColumnOptions, tyro.conf.arg(name="")]
    splitting: Annotated[Splitting, tyro.conf.arg(name="")]
    halting_options: Annotated[HaltingOptions, tyro.conf.arg(name="")]
    delta_within: float | None = None
    """Instead of --delta: the threshold at which the validation part takes the fewest steps and loses at most this
    share of the NDCG@10 that all steps have, such as 0.01; it is told, and --delta takes it elsewhere."""
    noising: Annotated[Noising, tyro.conf.arg(name="")]
    noise_seeds: int | None = None
    """How often the noise is drawn, with one seed after the other; every case is the mean of that. 5 if not given."""
    noise_curve: bool = False
    """Instead of all metrics of one evaluation: how Recall@10 and NDCG@10 fall under 10, 20 and 30% of every kind of
    noise (or of the one named by --noise), with intervals; --out FOLDER keeps it as noise.json."""
    data: str | None = None
    """Where the data lies now; by default the file or folder where it lay when the run was trained. SQL, an address or
    a pattern is never taken from a run: repeat it here."""
    since: str | None = None
    """Instead of the run's own test part: what happened in --data from this moment on: an ISO date, Unix seconds or a
    share of the interactions such as 0.9. The table holds the histories too; its items are the run's as they are now,
    new ones of extend among them. --targets says which of a user's are to be found; --out FOLDER keeps it."""
    part: Literal["test", "valid"] = "test"
    """Which cases are ranked."""
    exclude_history: Choice = "auto"
    """Leave a user's history out of the candidates; auto: as the run was trained."""
    unknown_users: bool = False
    """Read each history as that of somebody unknown, as recommend does: what a model with vectors of users (SSE-PT) is
    worth to strangers. --out FOLDER keeps it, and compare holds it against the run's own."""
    sampled: int | None = None
    """Rank among so many drawn items only; biased, and labelled so."""
    batch: int = BATCH
    """Cases encoded together. Rank metrics depend on it by rounding alone: padding changes the order of sums, and two
    scores that agree to seven digits may change places; more only where rows halt at random."""
    resamples: int = 1000
    """Bootstrap resamples behind each interval."""
    seed: int = 0
    """Of bootstrap, sampling and random halting."""
    out: Path | None = None
    """Folder for metrics.json and per_user.parquet, which compare reads; by default the run folder, unless cases,
    candidates, histories, users, halting or precision are others than the run's own."""
    precision: Literal["32", "bf16", "int8"] = "32"
    """Of the linear layers, those that it makes faster on this machine; otherwise float32."""
    device: str = "auto"
    """Where it computes: auto (the first CUDA device if there is one, else the CPU), cpu, cuda or cuda:N."""
    json: bool = False
    """Print the evaluation as JSON."""


def run(arguments: list[str]) -> None:
    about = (
        "Rank every held-out item among all items; metrics and what they cost.\n\n"
        "Examples: forethought evaluate runs/sasrec-beauty --json\n"
        "          forethought evaluate runs/dtrec-beauty --halt arh --delta 0.3 --out evaluations/eager\n"
        "          forethought evaluate runs/dtrec-beauty --delta-within 0.01 --out evaluations/fitted\n"
        "          forethought evaluate runs/dtrec-beauty --halt fixed --steps 1 --out evaluations/one-step\n"
        "          forethought evaluate runs/dtrec-beauty --noise replace --noise-share 0.2 --out evaluations/noisy\n"
        "          forethought evaluate runs/dtrec-beauty --noise-curve\n"
        "          forethought evaluate runs/dtrec-beauty --cutoffs 1,5,10,50 --groups-by brand --out brands\n"
        "          forethought evaluate runs/extended --data log.parquet --since 2026-11-01 --out november\n"
        "          forethought evaluate --scores other.parquet --data data/beauty --out evaluations/other"
    )
    args = parse(Evaluate, arguments, "evaluate", about)
    if args.scores is not None:
        _evaluate_scores(args, args.scores)
        return
    if args.run is None:
        raise ConfigError("evaluate needs a RUN folder, or --scores FILE with --data DATA: --help shows examples.")
    _refuse_own_split(args)
    from dataclasses import replace

    from forethought.files import check_replaceable
    from forethought.folders import writable
    from forethought.recommender import load
    from forethought.run_folder import unfinished
    from forethought.runs import split_of

    noise = _noise(args)
    _check_fit(args)
    model = load(args.run, device=args.device)
    if args.precision != "32":
        console().print(model.set_precision(args.precision))
    if said := unfinished(model):
        console().print(said)
    halting = _asked(args, model)
    config = _config(args, halting, noise)
    exclude = CHOICES[args.exclude_history]
    own = args.part == "test" and args.sampled is None and halting is None and noise is None
    own = own and not args.unknown_users and args.since is None
    own = own and exclude in (None, model.about["exclude_history"]) and args.precision == "32"
    if not args.noise_curve:
        _refuse_run_folder(args.out, args.run if own else None)
    if args.noise_curve and args.out is not None:
        check_replaceable(args.out / CURVES_FILE)
    split = split_of(model, args.data, args.columns.items) if args.since is None else _later(args, model)
    if args.delta_within is not None:
        config = replace(config, halting=_fitted(args.delta_within, model, split, config))
    with writable(*([] if args.out is None else [args.out])), Bar("ranking") as bar:
        result = _result(model, split, config, bar, args.measuring.user_table())
    try:  # what took long is shown before it is kept, and kept even if nobody takes what is shown
        if args.json:
            print_json(result.to_json())
        else:
            sys.stdout.write(str(result) + "\n")
        sys.stdout.flush()
    finally:
        _keep(args, model, result, own)


def _later(args: Evaluate, model: Recommender) -> Split:
    """What happened after a moment, and a word of what is left out of it."""
    from forethought.later_data import ROLES, later_split, remarks

    if args.data is None:
        raise ConfigError("--since needs --data: the table of what happened, histories included.")
    plain = ColumnOptions()
    if args.part != "test" or args.delta_within is not None or args.columns.items is not None:
        raise ConfigError(
            "What came later is tested, has no validation part and needs no table of items: leave --part, "
            "--delta-within and --items out beside --since."
        )
    if args.columns.rating != plain.rating:
        raise ConfigError("Ratings of what came later are not read: leave --rating out beside --since.")
    assert args.since is not None
    columns = {role: name for role in ROLES if (name := getattr(args.columns, role)) != getattr(plain, role)}
    targets = args.splitting.targets or "first"
    split = later_split(model, args.data, moment(args.since), targets=targets, columns=columns)
    exclude = CHOICES[args.exclude_history]
    exclude = model.about["exclude_history"] if exclude is None else exclude
    for sentence in remarks(model, split, exclude_history=exclude):
        console().print(sentence)
    return split


def _noise(args: Evaluate) -> Noise | None:
    """That of the histories that are read, once its seeds go with it."""
    from forethought.data.noise import Draws
    from forethought.settings import check

    noise = args.noising.of(curve=args.noise_curve)
    if args.noise_seeds is not None:
        check(args.noise_seeds, Draws, "--noise-seeds")
        if noise is None and not args.noise_curve:
            raise ConfigError("--noise-seeds needs noise: give a kind of it with --noise, or ask for --noise-curve.")
    return noise


def _check_fit(args: Evaluate) -> None:
    """Whether a threshold can be fitted as it is asked for."""
    from forethought.settings import ShareBelowOne, check

    if args.delta_within is None:
        return
    check(args.delta_within, ShareBelowOne, "--delta-within")
    if args.halting_options.delta is not None:
        raise ConfigError("--delta is a threshold, and --delta-within has one chosen: give one of them.")
    _check_compares(args.halting_options.halt)


def _check_compares(rule: str | None) -> None:
    if rule in ("fixed", "soft", "random"):
        raise ConfigError(
            f"--delta-within chooses a threshold, and the rule {rule} compares nothing with one: choose another with "
            "--halt, or leave --delta-within out."
        )


def _asked(args: Evaluate, model: Recommender) -> Halting | None:
    """The halting that is asked for; its threshold is still to be chosen where one is to be fitted."""
    from dataclasses import replace

    from forethought.reasoning.halting import Halting

    if args.delta_within is None:
        return args.halting_options.of(model.method)
    own = model.method.reasoning
    _check_compares(args.halting_options.halt or (None if own is None else own.halting.rule))
    halting = replace(args.halting_options, delta=0.5).of(model.method)
    assert isinstance(halting, Halting)
    return halting


def _fitted(within: float, model: Recommender, split: Split, config: EvaluationConfig | RobustnessConfig) -> Halting:
    """The halting with the threshold that the validation part chooses, which is told."""
    from forethought.evaluation.thresholds import fit_threshold

    exclude = model.about["exclude_history"] if config.exclude_history is None else config.exclude_history
    fitted = fit_threshold(
        model.method, split.valid, exclude_history=exclude, halting=config.halting, tolerance=within, batch=config.batch
    )
    console().print(str(fitted))
    return fitted.halting


def _refuse_own_split(args: Evaluate) -> None:
    """A run says by itself how its data is read and split; where the table of items lies now may be said, and of later
    data the names of columns and which targets count."""
    from dataclasses import replace

    splitting = args.splitting if args.since is None else replace(args.splitting, targets=None)
    columns = ColumnOptions() if args.since is not None else replace(args.columns, items=None)
    if splitting != Splitting() or columns != ColumnOptions():
        raise ConfigError(
            "A run says by itself how its data is read and split: leave the names of columns and the split out, which "
            "are for --scores."
        )


def _refuse_run_folder(out: Path | None, own: Path | None) -> None:
    """A run folder keeps its own evaluation, which `compare` and the card take for that of its model.

    Args:
        own: the run whose own evaluation is to be kept; None: it is none.

    Raises:
        ConfigError: the folder is a run's, and the evaluation is not.
    """
    from forethought.run_files import CONFIG_FILE

    if out is None or not (out / CONFIG_FILE).is_file():
        return
    if own is None or out.resolve() != own.resolve():
        raise ConfigError(
            f"{out} is a run's folder and keeps the evaluation of that run as it is: choose another --out."
        )


def _evaluate_scores(args: Evaluate, scores: str) -> None:
    """A table of scores, on data that is named beside it."""
    from forethought.cli.measuring import scores_of
    from forethought.evaluation.settings import EvaluationConfig
    from forethought.folders import writable

    if args.run is not None:
        raise ConfigError(
            f"--scores are of another program than {args.run}: leave the run out, or hold them against each other with "
            f"forethought compare {args.run} --scores {args.scores}."
        )
    if args.data is None:
        raise ConfigError("--scores needs --data: what was held out of it is what they are measured by.")
    noisy = args.noise_curve or args.noising != Noising() or args.noise_seeds is not None
    if args.sampled is not None or noisy or args.precision != "32":
        raise ConfigError(
            "Scores of another program rank all items from clean histories: leave sampling, noise and precision out."
        )
    if args.since is not None:
        raise ConfigError("--since is of a run and its items: leave it out beside --scores, and give --split temporal.")
    if args.unknown_users:
        raise ConfigError("Scores of another program know whom they are of: leave --unknown-users out.")
    if args.device != "auto" or args.batch != BATCH:
        raise ConfigError("Scores of another program are there already: leave --device and --batch out.")
    if args.halting_options != HaltingOptions() or args.delta_within is not None:
        raise ConfigError("Scores of another program do not halt: leave --halt, --delta and --steps out.")
    settings = args.measuring.settings() | {"part": args.part, "exclude_history": CHOICES[args.exclude_history]}
    config = EvaluationConfig(resamples=args.resamples, seed=args.seed, **settings)
    _refuse_run_folder(args.out, None)
    with writable(*([] if args.out is None else [args.out])):
        split = open_split(args.data, args.columns, args.splitting)
        result = scores_of(scores, split, config, users=args.measuring.user_table())
    if args.json:
        print_json(result.to_json())
    else:
        sys.stdout.write(str(result) + "\n")
    if args.out is not None:
        result.write(args.out)
        console().print(f"Written to {args.out}; next: forethought compare RUN {args.out}")


def _config(args: Evaluate, halting: Halting | None, noise: Noise | None) -> EvaluationConfig | RobustnessConfig:
    """What is asked for: one evaluation, or curves."""
    from forethought.data.noise import KINDS
    from forethought.evaluation.sampled import Sample
    from forethought.evaluation.settings import EvaluationConfig
    from forethought.noise_curves import SHARES, RobustnessConfig

    ranking: dict[str, Any] = {
        "part": args.part,
        "exclude_history": CHOICES[args.exclude_history],
        "halting": halting,
        "batch": args.batch,
        "resamples": args.resamples,
        "seed": args.seed,
    }
    if args.noise_seeds is not None:
        ranking["noise_seeds"] = args.noise_seeds
    if not args.noise_curve:
        sample = None if args.sampled is None else Sample(negatives=args.sampled, seed=args.seed)
        ranking["unknown_users"] = args.unknown_users
        return EvaluationConfig(noise=noise, sample=sample, **args.measuring.settings(), **ranking)
    if args.measuring != Measuring():
        raise ConfigError("Noise curves have metrics of their own: leave --cutoffs, --metric and --groups-by out.")
    if args.unknown_users:
        raise ConfigError("Noise curves take users as the run knows them: leave --unknown-users out.")
    if args.sampled is not None:
        raise ConfigError("Noise is measured by ranking all items: leave --sampled out.")
    share = args.noising.noise_share
    return RobustnessConfig(
        kinds=KINDS if noise is None else (noise.kind,),
        shares=SHARES if share is None else (share,),
        noise_seed=args.noising.noise_seed or 0,
        **ranking,
    )


def _result(
    model: Recommender, split: Split, config: EvaluationConfig | RobustnessConfig, bar: Bar, users: Any
) -> Evaluation | Robustness:
    from forethought.evaluation.settings import EvaluationConfig
    from forethought.noise_curves import robustness
    from forethought.runs import evaluate

    if isinstance(config, EvaluationConfig):
        return evaluate(model, split, config, users=users, report=bar.counted)
    return robustness(model, split, config, report=bar.counted)


def _keep(args: Evaluate, model: Recommender, result: Evaluation | Robustness, own: bool) -> None:
    """Write what is to be kept where it belongs; the run's own evaluation is never overwritten by another."""
    from forethought.evaluation.report import Evaluation
    from forethought.files import write_json
    from forethought.version import MADE_BY

    view, run, out = console(), args.run, args.out
    same = run is not None and out is not None and out.resolve() == run.resolve()
    if own and same and isinstance(result, Evaluation):
        out = None  # where it belongs in any case
    if not isinstance(result, Evaluation):
        if out is not None:
            write_json(out / CURVES_FILE, {"made": MADE_BY, **result.to_json()})
            view.print(f"Written to {out / CURVES_FILE}.")
    elif out is not None:
        result.write(out)
        across = "" if args.noising.noise is None else " --across-noise"
        further = f"forethought compare {run} {out}{across}"
        if args.since is not None:
            further = f"the same of another run, and forethought compare OTHER {out}"
        view.print(f"Written to {out}; next: {further}")
    elif own:
        assert run is not None
        view.print(_keep_own(run, model, result))
    else:
        view.print("Not the run's own evaluation, so nothing in its folder has changed; --out FOLDER would keep it.")


def _keep_own(run: Path, model: Recommender, evaluation: Evaluation) -> str:
    """Into the run folder, if it can be written to; says in a sentence what is kept now."""
    from forethought.errors import ForethoughtError
    from forethought.runs import write_card

    try:
        evaluation.write(run)
    except ForethoughtError as error:
        return f"The evaluation is not kept, --out FOLDER would keep it elsewhere: {error}"
    try:
        write_card(model, evaluation)
    except ForethoughtError as error:
        return f"The evaluation is kept in {run}, but its README.md does not tell of it: {error}"
    return f"Kept in {run}, and told of in its README.md."
