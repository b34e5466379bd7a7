"""forethought train"""

from __future__ import annotations

import ast
import inspect
import itertools
import sys
import textwrap
from dataclasses import dataclass, field, is_dataclass, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import tyro

from forethought.cli.auto import train_auto
from forethought.cli.evidence import EvidenceTables
from forethought.cli.final_report import cutoffs_of, tell_outcome
from forethought.cli.recipe import recipe_and_effort
from forethought.cli.several import asks_for_several, check_several, train_several
from forethought.cli.shared import (
    CHOICES,
    TOKENIZERS,
    Choice,
    ColumnOptions,
    Noising,
    Splitting,
    console,
    open_split,
    parse,
    tell_notes,
)

if TYPE_CHECKING:
    from forethought.config import Recipe
    from forethought.data.evidence import Evidence


AUTO = "auto"  # in place of a method: the best of a few good recipes


@dataclass(kw_only=True)
class Options:
    data: str
    """Data folder, table, or "sql: SELECT ..."."""
    out: Path
    """Run folder to be made."""
    columns: Annotated[ColumnOptions, tyro.conf.arg(name="")]
    splitting: Annotated[Splitting, tyro.conf.arg(name="")]
    noising: Annotated[Noising, tyro.conf.arg(name="")]
    exclude_history: Choice = "auto"
    """Leave a user's history out of the candidates; auto: where no user ever repeats an item."""
    resume: bool = False
    """Go on with the stopped training in OUT."""
    overwrite: bool = False
    """Remove the run in OUT first."""
    settings: Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="NAME=V1,V2")] = ()
    """Train one run with each of these values, such as --set dropout=0.2,0.5 loss.temperature=0.05,0.085, into folders
    of OUT named by them, with a table at the end; the same command goes on where it stopped."""
    cutoffs: str | None = None
    """Lengths of lists, with commas between, such as 5,10,50: at its end it shows the metrics of the validation part at
    each, with intervals."""
    track: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    """Trackers beside log.jsonl."""
    track_model: bool = False
    """Also send the files of the run, its weights among them, to those trackers that keep files: mlflow and wandb."""
    quiet: bool = False
    """No progress."""
    json: bool = False
    """Print the outcome as JSON."""


@dataclass(kw_only=True)
class SteppedOptions(Options):
    """Of a method that is trained step by step."""

    features: str | None = None
    """Of the items, with commas between, read beside their ids or made tokens of: text, columns of the item table, .npy
    files; auto; none."""
    start: Annotated[Path | None, tyro.conf.arg(name="from", metavar="RUN")] = None
    """A run folder whose weights it begins with: of the same method, its items all in the data."""
    collaborative_from: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Of methods over tokens: a run folder of sasrec or another method with a vector an item, of which tokens are made
    in the place of co-occurrence."""
    evidence: str | None = None
    """What speaks for items beside the model, with commas between: co_occurrence, text, repeat, popular, ease, vectors;
    auto."""
    evidence_fit: Literal["validation", "training", "both"] | None = None
    """Whether the weights of evidence are chosen on the validation part (as by default), trained with the model, or
    trained and then chosen."""
    evidence_gate: bool = False
    """Weights of evidence depend on the history; with --evidence-fit training."""
    tables: Annotated[EvidenceTables, tyro.conf.arg(name="")]
    effort: Literal["fast", "default", "best"] = "default"
    """How much time it may take, unless epochs and the like are said: fast, the epochs of the recipe; default, twice as
    many, with more dropout where data is small and sparse, and inputs normalised where it is wide; best, three times as
    many, with --features auto and --evidence auto besides. Authors' settings stay as they are unless one is said."""
    seed: int = 0
    """Of weights, batches and dropout."""
    seeds: tuple[int, ...] = ()
    """Train one run with each of these seeds, such as --seeds 0 1 2, into OUT/seed-0 and so on, with mean and standard
    deviation at the end; the same command goes on where it stopped."""


@dataclass(kw_only=True, frozen=True)
class Computing:
    """All that is asked of the training of a method that is fitted in closed form."""

    device: str = "auto"
    """Where to compute: auto (the first CUDA device if there is one, else the CPU), cpu, cuda or cuda:N."""


def run(arguments: list[str]) -> None:
    from forethought import recipes
    from forethought.errors import ConfigError

    names = ", ".join([*recipes.METHODS, AUTO])
    if not arguments:
        raise ConfigError(f"train needs a METHOD, one of {names}: forethought train --help shows an example.")
    if arguments[0] in ("-h", "--help"):
        sys.stdout.write(
            f"usage: forethought train METHOD --data DATA --out RUN [options]\n\nMETHOD is one of {names};\n"
            "or one of your own, as my_module:MyBackbone.\n"
            f"{', '.join(recipes.AUTHORS)} have their authors' settings, the others ours.\n"
            "forethought train METHOD --help shows its options; auto is the best of a few within a time.\n\n"
            "Example: forethought train sasrec --data data/beauty --out runs/sasrec-beauty --ties shuffle\n"
        )
        return
    name, rest = arguments[0], arguments[1:]
    if name == AUTO:
        train_auto(rest)
        return
    _train(name, rest)


def _train(name: str, arguments: list[str]) -> None:
    from forethought import recipes
    from forethought.evaluation.metrics import metric_of
    from forethought.plugins import is_path
    from forethought.runs import train
    from forethought.settings import Seed, check, from_environment
    from forethought.training.interrupt import Interrupted
    from forethought.training.progress import Quiet, Watch
    from forethought.training.tracking import Trackers

    recipe, effort, arguments = recipe_and_effort(name, arguments)
    args = _parsed(recipe, name, arguments)
    options = args.options
    if is_path(by := getattr(args.training, "choose_by", "")):
        metric_of(by, person=True)
    view, first = console(), from_environment("RANK", 0) == 0
    check(getattr(options, "seed", 0), Seed, "--seed")
    _asked(recipe, args)  # what is wrong in it is told before the data is read
    cutoffs = cutoffs_of(options)
    several = asks_for_several(options, arguments)
    if several:
        check_several(_asked(recipe, args), options, arguments)
    Trackers(options.track if first else (), keep_model=options.track_model and first)  # a package may be missing
    split = open_split(options.data, options.columns, options.splitting)
    quiet = options.quiet or not first
    if not quiet:
        data = split.data
        view.print(f"{data.name}: {data.n_users:,} users, {data.n_items:,} items, {len(data):,} interactions.")
        tell_notes(view, data)
    if effort != "fast":
        recipe = recipes.with_settings(recipe, recipes.settings_for(_asked(recipe, args), split))
        args = _parsed(recipe, name, arguments)
        if not quiet:
            view.print(recipes.described(_asked(recipe, args), effort))
    if several:
        train_several(_asked(recipe, args), options, split, view, cutoffs)
        return
    try:
        model = train(
            _asked(recipe, args),
            split,
            options.out,
            resume=options.resume,
            overwrite=options.overwrite,
            start=getattr(options, "start", None),
            collaborative_from=getattr(options, "collaborative_from", None),
            observer=Quiet() if quiet else Watch(view),
            track=options.track,
            track_model=options.track_model,
        )
    except Interrupted:
        raise Interrupted(
            f"Everything is saved: the same command with --resume goes on from here ({options.out})."
        ) from None
    if first:
        tell_outcome(model, split, options, cutoffs, view)


def _parsed(recipe: Recipe, name: str, arguments: list[str]) -> Any:
    """The options of a method: `options`, `method` and `training`; what is not given is as in the recipe."""
    from forethought import recipes
    from forethought.training.settings import Training

    method = _as_given(recipe.method)
    stepped = not recipe.method.closed_form  # type: ignore[union-attr]
    options: Any = _with_defaults(recipe) if stepped else Options
    parts: list[Any] = [
        ("options", Annotated[_flat(options), tyro.conf.FlagCreatePairsOff]),
        ("method", _flat(method), field(default_factory=method)),
        (
            "training",
            _flat(Training if stepped else Computing),
            field(default=recipe.training if stepped else Computing()),
        ),
    ]
    Train: Any = make_dataclass("Train", parts, kw_only=True)
    about = f"Train {name} into a run folder.\n\nExample: forethought train {name} --data shop --out runs/{name}"
    about += "\n\n--recipe FILE begins with a recipe that forethought tune has written, or with that of a run folder."
    if name in recipes.AUTHORS:
        about += f"\n\nDefaults are the settings of {name.removesuffix('-authors')}'s authors."
    if backbones := recipes.backbones_of(name):
        about += f"\n\n--backbone NAME is one of {', '.join(backbones)}; sasrec if not given."
    if hasattr(recipe.method, "tokenizer"):
        about += f"\n\n--tokenizer NAME is one of {', '.join(TOKENIZERS)}, and its settings are those shown."
    return parse(Train, arguments, f"train {name}", about, pairs=True)


def _asked(recipe: Recipe, args: Any) -> Recipe:
    """The recipe as the options have it."""
    from forethought.data.features import Features

    options = args.options
    features = getattr(options, "features", None)
    return replace(
        recipe,
        method=replace(recipe.method, **vars(args.method)),
        training=replace(recipe.training, **vars(args.training)),
        seed=getattr(options, "seed", recipe.seed),
        exclude_history=recipe.exclude_history
        if options.exclude_history == "auto"
        else CHOICES[options.exclude_history],
        noise=options.noising.of() or recipe.noise,
        features=None if features in (None, "none") else Features(use=features),
        evidence=_evidence(options, recipe.evidence) if isinstance(options, SteppedOptions) else None,
    )


def _evidence(options: SteppedOptions, own: Evidence | None) -> Evidence | None:
    from forethought.data.evidence import Evidence
    from forethought.errors import ConfigError

    if options.evidence is None:
        if options.evidence_fit is not None or options.evidence_gate or options.tables.given():
            raise ConfigError("Options of evidence need --evidence NAMES, such as --evidence auto.")
        return None
    own = own or Evidence()
    fit, gate = options.evidence_fit or own.fit, options.evidence_gate or own.gate
    return replace(own, use=options.evidence, fit=fit, gate=gate, **options.tables.given())


def _with_defaults(recipe: Recipe) -> Any:
    """Options whose features, evidence and seed are the recipe's."""
    described, plain_text = _docstrings(SteppedOptions), str | None
    own: list[tuple[str, Any, Any]] = [
        (name, plain_text, part.use)
        for name, part in (("features", recipe.features), ("evidence", recipe.evidence))
        if part is not None
    ]
    if recipe.seed:
        own.append(("seed", int, recipe.seed))
    parts: list[Any] = [
        (name, Annotated[kind, tyro.conf.arg(help=described[name])], field(default=value)) for name, kind, value in own
    ]
    return make_dataclass("SteppedOptions", parts, bases=(SteppedOptions,), kw_only=True) if parts else SteppedOptions


def _flat(cls: Any) -> Any:
    """The options of a dataclass without its name in front."""
    return Annotated[cls, tyro.conf.arg(name="")]


def _as_given(config: Any) -> Any:
    """A dataclass with the fields of `config`, each of the type it has there: the recipe chose the backbone."""
    parts, descriptions, types = [], _docstrings(type(config)), get_type_hints(type(config))
    for name, value in vars(config).items():
        several = is_dataclass(value) and not isinstance(types[name], type)  # the recipe has chosen one of them
        cls: Any = _flat(type(value)) if name == "backbone" else type(value) if several else types[name]
        parts.append((name, Annotated[cls, tyro.conf.arg(help=descriptions.get(name))], field(default=value)))
    return make_dataclass(type(config).__name__, parts, kw_only=True)


def _docstrings(cls: type) -> dict[str, str]:
    """What stands below each field of a dataclass."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
    return {
        name.target.id: " ".join(str(text.value.value).split())
        for name, text in itertools.pairwise(body)
        if isinstance(name, ast.AnnAssign) and isinstance(name.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
