"""A run from beginning to end: train into a folder, evaluate what lies there."""

from __future__ import annotations

import os
import time
import warnings
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import torch

from forethought import machine
from forethought.backbones.interface import BackboneConfig
from forethought.config import RunConfig, as_method, to_json
from forethought.data.batches import plan, windows
from forethought.data.noise import Noise
from forethought.data.sources import is_query
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError
from forethought.evaluation import protocol as protocols
from forethought.evaluation.flops import flops_per_epoch, flops_per_history
from forethought.evaluation.metrics import named as metric_named
from forethought.evaluation.ranking import among_negatives, in_turn, rank_cases
from forethought.evaluation.report import Evaluation, summarise
from forethought.evaluation.sampled import Sample
from forethought.evaluation.storage import plain
from forethought.evaluation.timing import ms_per_history
from forethought.files import read_json, replace_file
from forethought.methods.interface import Method, MethodConfig, SideInformation
from forethought.methods.items import walks_items
from forethought.nn.budget import built
from forethought.reasoning.halting import Halting
from forethought.recommender import Recommender, load
from forethought.references import resolve
from forethought.reports.model_card import model_card
from forethought.run_files import CARD_FILE, CONFIG_FILE, Sums, write_model
from forethought.run_folder import begun
from forethought.settings import Part, Resamples, Seed, check, check_all
from forethought.training.loop import Fit, Observer, launch
from forethought.training.precision import Precision, choose_for_stages
from forethought.training.progress import Quiet
from forethought.training.settings import Training
from forethought.training.split_items import SplitItems
from forethought.training.tracking import TrackerName, Trackers

LIST_LENGTH = 20


def train(
    method: MethodConfig | BackboneConfig,
    split: Split,
    out: str | Path,
    *,
    training: Training | None = None,
    seed: int = 0,
    exclude_history: bool | None = None,
    noise: Noise | None = None,
    resume: bool = False,
    overwrite: bool = False,
    observer: Observer | None = None,
    track: Sequence[TrackerName] = (),
    data_path: str | None = None,
    columns: Any = None,
) -> Recommender:
    """Train a method into a run folder and return it at its best validation epoch.

    Args:
        method: a backbone such as `ft.SASRec(width=64)`, or a method around one.
        split: from `ft.leave_last_out(data)` or `ft.temporal(data, ...)`.
        out: the run folder; it must be empty or absent unless `resume` or `overwrite`.
        training: learning rate, epochs, batch size and so on.
        seed: of weights, batches and dropout.
        exclude_history: leave histories out of the candidates; None: where no user ever repeats an item.
        noise: on the training part, drawn once; what is to be predicted inside it may be noise too.
        resume: go on with the training that lies in `out`.
        overwrite: remove what lies in `out` first.
        observer: somebody to tell of progress.
        track: further trackers beside `log.jsonl`.
        data_path: where the data came from, noted in the run so that `forethought evaluate` finds it.
        columns: which of its columns mean what, a dataclass, noted likewise.

    Raises:
        ForethoughtError: one sentence on what is wrong; nothing half-written is left.
        Interrupted: Ctrl-C; `resume=True` goes on exactly where it stopped.
    """
    check_all(resume=(resume, bool), overwrite=(overwrite, bool))
    config = _configured(method, split, training, seed=seed, exclude_history=exclude_history, noise=noise)
    seen = split.with_noise(noise)
    config.method.check(seen)
    _check_trainable(seen)
    side = resolve(config.method, seen)
    folder = Path(out)
    fabric = launch(config.training)
    trackers = Trackers(track if fabric.is_global_zero else ())
    recommender = _untrained(config, split, side, folder, _about(config, split, data_path, columns))
    sharing = config.training.split_catalogue
    shares = SplitItems.over(fabric, recommender.method, split.data.n_items) if sharing else None
    precisions = _precisions(recommender, fabric.device.type)
    watcher = observer if observer is not None and fabric.is_global_zero else Quiet()
    with ExitStack() as held:
        sums: Sums = {}
        if fabric.is_global_zero:
            sums = held.enter_context(begun(recommender, resume=resume, overwrite=overwrite))
            _tell_of_move(recommender, None if observer is None else watcher)
        fabric.barrier()
        torch.manual_seed(seed + fabric.global_rank)  # each process drops units of its own
        trackers.start(folder, to_json(config))
        held.callback(trackers.finish)
        Fit(
            method=recommender.method,
            split=seen,
            settings=config.training,
            seed=seed,
            folder=folder,
            exclude_history=recommender.about["exclude_history"],
            observer=watcher,
            trackers=trackers,
            keep_best=lambda best: write_model(folder, best, sums),
            sums=sums,
            precisions=precisions,
            shares=shares,
        ).run(fabric)
        if fabric.is_global_zero:
            write_card(recommender)
        fabric.barrier()
    return load(folder)


def _untrained(
    config: RunConfig, split: Split, side: SideInformation, folder: Path, about: dict[str, Any]
) -> Recommender:
    """A run before its first step."""
    torch.manual_seed(config.seed)
    copies = 2 if config.training.split_catalogue else 4  # all once and a half more, or a half, its gradients, moments
    method = built(lambda: config.method.build(split.data.sizes), copies=copies)
    _check_inputs(method, config.training)
    method.fit_side_information(side)
    about["references"] = dict(side.hashes)
    return Recommender(method, config, split.data.items, _item_table(split), about, folder)


def _precisions(run: Recommender, device: str) -> dict[str, Precision]:
    """What products are made in, stage by stage, noted in the run."""
    stages, walks = run.method.stages(), walks_items(run.method)
    chosen = choose_for_stages(run.config.training, stages, device, len(run.items), walks=walks)
    names = {precision.name for precision in chosen.values()}
    each = ", ".join(f"{stage} {precision.name}" for stage, precision in chosen.items())
    run.about["precision"] = each if len(names) > 1 else names.pop()
    run.about["trained_on"] = machine.described(device) | {"precision": run.about["precision"]}
    return chosen


def _tell_of_move(run: Recommender, watcher: Observer | None) -> None:
    """A run that goes on elsewhere does not come to the same bits, and says so."""
    assert run.folder is not None
    before = read_json(run.folder / CONFIG_FILE, "train it anew")["about"].get("trained_on", {})
    said = machine.differences(before, run.about["trained_on"])
    if said is not None and watcher is not None:
        watcher.warn(said)
    elif said is not None:
        warnings.warn(said, stacklevel=3)


def _configured(
    method: MethodConfig | BackboneConfig, split: Split, training: Training | None, **choices: Any
) -> RunConfig:
    check(split, Split, "split")
    check_all(seed=(choices["seed"], Seed), exclude_history=(choices["exclude_history"], bool | None))
    training = Training() if training is None else training
    return RunConfig(method=as_method(method), split=split.config, training=training, **choices)


def write_card(run: Recommender, evaluation: Evaluation | None = None) -> None:
    """`README.md` of the run folder; with an evaluation its metrics stand in it."""
    assert run.folder is not None
    table = None if evaluation is None else evaluation.document().markdown()
    text = model_card(run.folder.name, to_json(run.config), run.about, table)
    replace_file(run.folder / CARD_FILE, lambda part: part.write_text(text, encoding="utf-8"))


def evaluate(
    run: Recommender | str | Path,
    split: Split,
    *,
    part: protocols.Part = "test",
    exclude_history: bool | None = None,
    halting: Halting | None = None,
    noise: Noise | None = None,
    noise_seeds: int = 5,
    sample: Sample | None = None,
    lists: bool = True,
    batch: int = 1024,
    resamples: int = 1000,
    seed: int = 0,
    report: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Rank every case of a part of the split among all items; metrics come with 95% intervals.

    Args:
        run: a recommender, or a run folder.
        split: of the same items as the run was trained on.
        part: "test" or "valid".
        exclude_history: None: as the run was trained.
        halting: when to stop thinking; None: as the run was trained.
        noise: on the histories that are read; targets and candidates stay those of the clean ones. The protocol names
            it, and `compare` mixes it with no other.
        noise_seeds: how often it is drawn (with `noise.seed`, the next one, ...); each case's metrics are their mean.
        sample: rank among sampled negatives instead; labelled as biased wherever it is shown.
        lists: also make top-20 lists, for coverage, Gini, novelty and popularity bias.
        batch: cases encoded together; metrics depend on it by rounding alone, unless rows halt at random.
        resamples: of the bootstrap behind the intervals.
        seed: of the bootstrap, and of halting at random.

    Raises:
        ConfigError: a part that is not there, a halting that the model cannot obey, or noise among sampled negatives.
        DataError: the split is not the one the run was trained on.
    """
    check_asked(part, exclude_history, batch=batch, resamples=resamples, seed=seed)
    _check_choices(halting, noise, sample, lists)
    if noise is not None and sample is not None:
        raise ConfigError("Noise is measured by ranking all items: leave sample out (on the command line --sampled).")
    model = run if isinstance(run, Recommender) else load(run)
    check_same_split(model, split)
    halting = model.method.resolve_halting(halting)
    exclude = model.about["exclude_history"] if exclude_history is None else exclude_history
    cases = split.test if part == "test" else split.valid
    read = [cases] if noise is None else [n.on_cases(cases, split.data.n_items) for n in noise.seeds(noise_seeds)]
    k = min(LIST_LENGTH, split.data.n_items) if lists and sample is None else None
    flops = flops_per_history(model.method, read[0], halting=halting, batch=batch)  # first: it warms up what is timed
    ms = ms_per_history(model.method, read[0], exclude_history=exclude, halting=halting, batch=batch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        begin = time.perf_counter()
        ask = partial(rank_cases, model.method, exclude_history=exclude, halting=halting, k=k, batch=batch)
        ranked = [ask(each, report=in_turn(report, at, len(read))) for at, each in enumerate(read)]
        if sample is not None:
            popularity = split.train.item_counts(split.data.n_items)
            ask = partial(among_negatives, model.method, cases, popularity, exclude_history=exclude, halting=halting)
            ranked = [ask(ranked[0], sample)]
    evaluation = summarise(
        ranked,
        cases,
        split,
        window=model.method.window,
        history_excluded=exclude,
        part=part,
        sample=None if sample is None else sample.protocol(),
        halting=None if halting is None else asdict(halting),
        extras=None if noise is None else {"noise": noise.protocol(noise_seeds)},
        resamples=resamples,
        seed=seed,
    )
    cost = {
        "flops_per_history": flops,
        "ms_per_history": evaluation.cost["ms_per_history"] | ms,
        "parameters": model.n_parameters,
        "wall_s": time.perf_counter() - begin,
        "machine": {"device": model.device.type, "threads": torch.get_num_threads(), "batch": batch},
    }
    return replace(evaluation, cost=evaluation.cost | cost | {"training": training_cost(model, split)})


def training_cost(model: Recommender, split: Split) -> dict[str, float] | None:
    """`epochs`, `trained_s` and `s_per_epoch` as they were, over all stages; `flops_per_epoch` counted anew, as in the
    best epoch.

    None where no training state lies beside the model. The model and the random generators stay as they are.
    """
    progress, seed = model.progress(), model.config.seed
    if not progress or progress["best_epoch"] < 0:
        return None
    settings, stages, starts = model.config.training, model.method.stages(), progress.get("stages", [0])
    rows = windows(split.with_noise(model.config.noise).train, model.method.window, every=settings.all_windows)
    last = settings.of(stages[len(starts) - 1]).batch_positions
    epochs = progress["epoch"] + progress["batch"] / len(plan(rows.lengths - 1, last, seed, progress["epoch"]))
    at = bisect_right(starts, progress["best_epoch"]) - 1
    return {
        "epochs": progress["epoch"],
        "trained_s": progress["trained_s"],
        "s_per_epoch": progress["trained_s"] / epochs,
        "flops_per_epoch": flops_per_epoch(
            model.method,
            rows,
            positions=settings.of(stages[at]).batch_positions,
            seed=seed,
            epoch=progress["best_epoch"] - starts[at],
            stage=stages[at].name,
        ),
    }


def split_of(model: Recommender, source: Any = None, items: Any = None) -> Split:
    """The split a run was trained on, read again from where the data lay, or from where it lies now.

    Args:
        source: where the data lies now; asked for where the run names no file or folder, but SQL, an address or a
            pattern: what stands in a run folder is neither executed nor fetched.
        items: the same for the table of items, if the run was trained with one.

    Raises:
        DataError: the data is not there, or not the same any more.
    """
    from forethought.data.stored import open_again

    return open_again(model.about, model.config.split, source, items)


def check_asked(part: str, exclude_history: bool | None, *, batch: int, resamples: int, seed: int) -> None:
    """Refuse what no evaluation can be asked for, before anything is ranked."""
    check_all(part=(part, protocols.Part), exclude_history=(exclude_history, bool | None))
    check_all(batch=(batch, Part), resamples=(resamples, Resamples), seed=(seed, Seed))


def _check_choices(halting: object, noise: object, sample: object, lists: object) -> None:
    check_all(halting=(halting, Halting | None), noise=(noise, Noise | None))
    check_all(sample=(sample, Sample | None), lists=(lists, bool))


def check_same_split(model: Recommender, split: Split) -> None:
    """Refuse a split other than the one the run was trained on."""
    check(split, Split, "split")
    theirs, ours = split.data.items.ids, model.items.ids
    if len(theirs) != len(ours) or theirs.dtype.is_integer() != ours.dtype.is_integer() or (theirs != ours).any():
        raise DataError(
            f"The data has {len(theirs)} items and the run was trained on {len(ours)} "
            f"({model.about['data']!r}), not the same ones: evaluate on the data it was trained on."
        )
    if model.method.inputs.users and split.data.data_hash != model.about["data_hash"]:
        raise DataError(
            f"The run keeps a vector for each user of its data (hash {model.about['data_hash']}) and would mistake the "
            f"users of other data ({split.data.data_hash}) for them: evaluate it on the data it was trained on."
        )
    trained_on, asked = model.about["protocol"], plain(split.protocol)
    other = [key for key in {**trained_on, **asked} if trained_on.get(key) != asked.get(key)]
    if other:
        raise DataError(
            f"The run was trained on another split ({', '.join(f'{k} {trained_on.get(k)!r}' for k in other)}; given "
            f"{', '.join(f'{k} {asked.get(k)!r}' for k in other)}), so its training may hold these very targets: "
            "evaluate it on its own split."
        )


def _check_trainable(split: Split) -> None:
    if not (split.train.lengths >= 2).any():
        raise DataError("No user has two interactions in the training part, so there is nothing to learn from.")
    if len(split.valid) == 0:
        raise DataError("The validation part is empty, so the best epoch cannot be chosen: choose another split.")


def _check_inputs(model: Method, settings: Training) -> None:
    for stage in model.stages():
        metric_named(stage.metric)  # raises where there is none
    if settings.input_noise and model.inputs.masked_items:
        raise ConfigError(
            "input_noise is for models that name what follows a history, and this one hides items of the history: "
            "leave it out."
        )


def _item_table(split: Split) -> pl.DataFrame:
    counts = split.train.item_counts(split.data.n_items)
    return split.data.item_table.drop("source_row", strict=False).with_columns(train_count=pl.Series(counts))


def _about(config: RunConfig, split: Split, data_path: str | None, columns: Any) -> dict[str, Any]:
    exclude = config.exclude_history
    noted = {} if columns is None else asdict(columns)
    noted |= {"items": _absolute(noted["items"])} if noted.get("items") is not None else {}
    return {
        "data": split.data.name,
        "data_hash": split.data.data_hash,
        "data_path": None if data_path is None else _absolute(data_path),
        "columns": noted,
        "users": split.data.n_users,
        "items": split.data.n_items,
        "interactions": len(split.data),
        "protocol": plain(split.protocol),
        "exclude_history": protocols.excludes_history(split.data) if exclude is None else exclude,
    }


def _absolute(path: str | Path) -> str:
    """A path that still leads there from another working directory; SQL, addresses and patterns stay as they are."""
    return str(Path(path).resolve()) if not is_query(path) and os.path.exists(path) else str(path)
