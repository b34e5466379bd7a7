"""Carry a study out: train what is missing, measure it, keep one JSON a run, write the page.

Whatever has its JSON is done and is not trained again, in a fresh checkout neither; what was stopped goes on where it
stopped. A probe needs the trained model: where its folder is gone, the run is trained again for it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from forethought.alignment.settings import Alignment
from forethought.config import Recipe, as_method, from_json, to_json
from forethought.data.evidence import Evidence
from forethought.data.features import Features
from forethought.data.names import check_name
from forethought.data.noise import Noise
from forethought.data.splits import Split
from forethought.devices import Device
from forethought.errors import ConfigError, DataError, MissingExtraError, RunError
from forethought.escaping import code, link
from forethought.evaluation.report import Evaluation
from forethought.evaluation.settings import EvaluationConfig
from forethought.evaluation.storage import plain
from forethought.folders import writable
from forethought.memory import ShortOfMemoryError
from forethought.recommender import Recommender
from forethought.references import resolve
from forethought.run_files import CONFIG_FILE, METRICS_FILE
from forethought.runs import evaluate, train
from forethought.studies import ranks, results
from forethought.studies.aligned_variants import ALIGNED
from forethought.studies.differences import COMPARED, merged, paired
from forethought.studies.page import Page
from forethought.studies.results import TEMPORAL, DatasetKey, Result, run_name
from forethought.studies.study import Study
from forethought.studies.variants import MADE_OF, VARIANTS, canonical
from forethought.training import state
from forethought.training.observer import Observer
from forethought.training.settings import Training

BESIDE = {"noise": Noise, "features": Features, "evidence": Evidence, "alignment": Alignment}
"""Parts of a recipe beside its method and training; None where it has none."""


@dataclass(frozen=True)
class StudyContext:
    """Where a study is carried out.

    Attributes:
        split: what is trained on.
        results: folder of results and pages.
        runs: folder of run folders; may be emptied when all is done.
        say: told what is being done.
        observer: told how training goes; called once a run.
        device: where models are trained and measured.
    """

    split: Split
    results: Path
    runs: Path
    say: Callable[[str], None]
    observer: Callable[[], Observer]
    command: str
    device: Device = "auto"

    @property
    def dataset(self) -> DatasetKey:
        temporal = self.split.config.kind == "temporal"
        return DatasetKey(self.split.data.name, TEMPORAL if temporal else self.split.protocol.get("ties", "file"))


def carry_out(study: Study, context: StudyContext, seeds: Sequence[int], only: Sequence[str] = ()) -> Path:
    """Do what is missing on one data set, and write the page; what is raised is what `carry_out_all` raises."""
    return carry_out_all(study, [context], seeds, only)


def check_asked(study: Study, only: Sequence[str]) -> None:
    """Refuse what cannot be, before data are read or made; what is raised is what `carry_out_all` raises."""
    if study.needs is not None and find_spec(study.needs[0]) is None:
        raise MissingExtraError(*study.needs[1:], f"The study {study.name}")
    for variant in only:
        if variant not in study.variants:
            raise ConfigError(f"{study.name} has no variant {variant!r}; it has {', '.join(study.variants)}.")


def carry_out_all(
    study: Study, contexts: Sequence[StudyContext], seeds: Sequence[int], only: Sequence[str] = ()
) -> Path:
    """Do what is missing on every data set, and write the page.

    Args:
        contexts: one a data set, with the same results and runs.
        only: variants to train now; if empty, all that the data can serve. The page tells of whatever there is.

    Raises:
        ConfigError: a variant that the study does not have.
        DataError: the data cannot serve a variant that is asked for by name, or its own name is no part of a path.
        RunError: results lie there that are of other data, of another split or of another configuration, or nothing
            can be written there.
        MissingExtraError: the study measures with a package that is not installed.
    """
    check_asked(study, only)
    for context in contexts:
        check_name(context.dataset.data)
    first = contexts[0]
    with writable(first.results, first.runs):
        for context in contexts:
            _check_found(study, context)
        asked = list(dict.fromkeys(canonical(only or study.variants).values()))
        unserved = [set[str]() if only else _unserved(asked, context) for context in contexts]
        for seed in seeds:  # the whole study with one seed first
            for context, left_out in zip(contexts, unserved, strict=True):
                for variant in asked:
                    if variant not in left_out:
                        _one(study, variant, seed, context)
        return write_page(study, first.results, first.runs)


def write_page(study: Study, folder: Path, runs: Path | None = None) -> Path:
    """The page from all results there are; differences are renewed where the ranks of the runs are at hand."""
    runs_of = results.read_results(folder, study.variants, study.name)
    page = Page(folder, study.name, study.title, study.question)
    for dataset in results.places(runs_of):
        runs_here = results.at(runs_of, dataset)
        _compare(study, dataset, runs_here, folder, runs)
        _aggregate(study, dataset, runs_here, folder, runs)
    study.write(page, runs_of)
    _sources(page, runs_of)
    return page.write()


def _unserved(variants: Sequence[str], context: StudyContext) -> set[str]:
    """Those that need what the data, or the machine, does not have, such as texts of items; said once."""
    unserved = set()
    for variant in variants:
        try:
            recipe = VARIANTS[variant]()
            method = as_method(recipe.method)
            method.check(context.split)
            resolve(method, context.split, recipe.features, recipe.evidence)
        except (DataError, ShortOfMemoryError) as error:
            context.say(f"{variant} is left out. {error}")
            unserved.add(variant)
    return unserved


def _check_found(study: Study, context: StudyContext) -> None:
    """Results are told apart by variant, data and seed; what else has these names must not be averaged with them."""
    asked = (context.split.data.data_hash, plain(context.split.protocol))
    for runs in results.read_results(context.results, study.variants).values():
        for run in runs:
            name = run_name(run.variant, run.dataset, run.seed)
            if not _same_recipe(run.parts["config"], VARIANTS[run.variant]()):
                result = context.results / "runs" / f"{name}.json"
                raise RunError(
                    f"{result} is of another configuration of {run.variant}: remove it, and the study makes it anew."
                )
            if run.dataset == context.dataset and (run.parts["protocol"]["data_hash"], run.parts["split"]) != asked:
                raise RunError(
                    f"{context.results} has {name} of other data or another split than those given: choose another "
                    "folder (on the command line --results, and --runs)."
                )


def _one(study: Study, variant: str, seed: int, context: StudyContext) -> None:
    name = run_name(variant, context.dataset, seed)
    result, probed = context.results / "runs" / f"{name}.json", context.results / study.name / f"{name}.json"
    model: Recommender | None = None
    if not result.is_file():
        context.say(f"{name}: training")
        model, wall_s = _trained(variant, seed, context)
        context.say(f"{name}: evaluating")
        results.write(result, _told(variant, seed, model, wall_s, context))
    if study.probe is not None and not probed.is_file():
        model = model or _trained(variant, seed, context)[0]
        context.say(f"{name}: measuring for {study.name}")
        results.write(probed, plain(study.probe(model, context.split, seed)) | {"run": name, "commit": _commit()})


def _settings(part: Any) -> dict[str, Any] | None:
    return None if part is None else asdict(part)


def _same_recipe(config: Mapping[str, Any], recipe: Recipe) -> bool:
    """Settings that are newer than the run are as they were, their defaults; a device is no part of a recipe."""
    kinds: dict[str, type] = {"method": type(recipe.method), "training": Training, **BESIDE}
    try:
        stored = {name: config[name] for name in kinds if config.get(name) is not None}
        run = dict.fromkeys(kinds) | {name: from_json(kinds[name], part) for name, part in stored.items()}
    except ConfigError:
        return False
    run["training"] = replace(run["training"] or Training(), device=recipe.training.device)
    return all(part == getattr(recipe, name) for name, part in run.items())


def _trained(variant: str, seed: int, context: StudyContext) -> tuple[Recommender, float]:
    """The run of a variant, after that of another which it is aligned from or whose vectors its tokens are made of."""
    name, recipe = run_name(variant, context.dataset, seed), VARIANTS[variant]()
    start = _trained(ALIGNED[variant][0], seed, context)[0].folder if variant in ALIGNED else None
    vectors = _trained(MADE_OF[variant][1], seed, context)[0].folder if variant in MADE_OF else None
    folder, begin = context.runs / name, time.perf_counter()
    going_on = state.exists(folder / "state")
    model = train(
        replace(recipe, seed=seed, training=replace(recipe.training, device=context.device)),
        context.split,
        folder,
        resume=going_on,
        overwrite=not going_on and (folder / CONFIG_FILE).is_file(),
        start=start,
        collaborative_from=vectors,
        observer=context.observer(),
    )
    return model, time.perf_counter() - begin


def _told(variant: str, seed: int, model: Recommender, wall_s: float, context: StudyContext) -> dict[str, Any]:
    """The run's JSON, with its ranks beside it; groups of cases stay in the run folder, as no page shows them."""
    assert model.folder is not None
    valid = evaluate(model, context.split, EvaluationConfig(part="valid", lists=False, resamples=100))
    evaluation = evaluate(model, context.split)
    evaluation.write(model.folder)
    parts = evaluation.to_json()
    return {
        "variant": variant,
        "data": context.dataset.data,
        "ties": context.dataset.cut,
        "seed": seed,
        "command": context.command,
        "commit": _commit(),
        "config": {
            "method": to_json(model.config.method),
            "training": asdict(model.config.training),
            **{part: _settings(getattr(model.config, part)) for part in BESIDE},
        },
        "split": plain(context.split.protocol),
        "protocol": parts["protocol"] | {"data_hash": context.split.data.data_hash},
        "metrics": parts["metrics"],
        "ranks": ranks.keep(context.results, run_name(variant, context.dataset, seed), evaluation),
        "lists": parts["lists"],
        "weights": parts["weights"],
        "valid": {name: valid.metrics[name].mean for name in COMPARED},
        "cost": parts["cost"],
        "training": model.outcome() | {"wall_s": wall_s},
        "machine": _machine(model.device),
        "date": time.strftime("%Y-%m-%d"),
    }


def _compare(
    study: Study, dataset: DatasetKey, runs_of: Mapping[str, Sequence[Result]], folder: Path, runs: Path | None
) -> None:
    """Paired differences to the first variant, kept as JSON; those of runs whose cases are gone stay as they were."""
    evaluations = {
        name: {run.seed: e for run in runs_of.get(name, []) if (e := _cases(run, folder, runs))}
        for name in study.variants
    }
    held = {name: e for name, e in evaluations.items() if e}
    if study.variants[0] in held and (renewed := paired(held)):
        path = results.differences_file(folder, study.name, dataset)
        before = results.read(path) if path.is_file() else None
        results.write(path, merged(before, _naming_ranks(renewed, runs_of), study.variants))


def _naming_ranks(differences: dict[str, Any], runs_of: Mapping[str, Sequence[Result]]) -> dict[str, Any]:
    """Each difference with the files that it follows from: of the first variant and of its own, a pair a seed."""
    files = {(v, run.seed): run.parts.get("ranks", {}).get("file") for v, of in runs_of.items() for run in of}
    for each in differences["differences"]:
        pairs = [[files[v, seed] for v in (differences["baseline"], each["method"])] for seed in each["seeds"]]
        if all(all(pair) for pair in pairs):
            each["ranks"] = pairs
    return differences


def _aggregate(
    study: Study, dataset: DatasetKey, runs_of: Mapping[str, Sequence[Result]], folder: Path, runs: Path | None
) -> None:
    """What the study itself sees in all runs together; where run folders are gone, what was seen before stays."""
    if study.aggregate is None or runs is None:
        return
    figures = study.aggregate(
        {v: [runs / run_name(r.variant, r.dataset, r.seed) for r in of] for v, of in runs_of.items()}
    )
    if figures:
        results.write(results.aggregated_file(folder, study.name, dataset), plain(figures))


def _cases(run: Result, results_folder: Path, runs: Path | None) -> Evaluation | None:
    """What is kept of a run's cases, or all of them where its folder is from before they were kept."""
    if (kept := ranks.read(results_folder, run.parts)) is not None:
        return kept
    folder = None if runs is None else runs / run_name(run.variant, run.dataset, run.seed)
    if folder is None or not (folder / METRICS_FILE).is_file():
        return None
    return ranks.without_ids(Evaluation.read(folder))


def _sources(page: Page, runs_of: Mapping[str, Sequence[Result]]) -> None:
    page.heading("Every run")
    runs = {run_name(r.variant, r.dataset, r.seed): r for rows in runs_of.values() for r in rows}
    page.table(
        ["run", "command", "commit", "data hash", "epochs (best)", "trained in", "machine"],
        [
            (
                link(name, f"runs/{name}.json"),
                code(r.parts["command"]),
                r.parts["commit"][:7],
                r.parts["protocol"]["data_hash"],
                f"{r.parts['training']['epochs']} ({r.parts['training']['best_epoch']})",
                f"{r.parts['training']['trained_s']:.0f} s",
                r.parts["machine"],
            )
            for name, r in runs.items()
        ],
    )


def _commit() -> str:
    """Of the checkout we run from; empty where we were installed."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _machine(device: torch.device) -> str:
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} cores"
    return f"{platform.machine()}, {where}, {torch.get_num_threads()} threads"
