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
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from forethought.config import from_json, to_json
from forethought.data.names import check_name
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError, MissingExtraError, RunError
from forethought.escaping import code, link
from forethought.evaluation.report import Evaluation
from forethought.evaluation.storage import plain
from forethought.folders import check_writable
from forethought.recipes import Recipe
from forethought.recommender import Recommender
from forethought.references import resolve
from forethought.run_files import CONFIG_FILE, METRICS_FILE
from forethought.runs import evaluate, train
from forethought.studies import results
from forethought.studies.differences import METRICS, paired
from forethought.studies.page import Page
from forethought.studies.results import Place, Result, run_name
from forethought.studies.study import Study
from forethought.studies.variants import VARIANTS, canonical
from forethought.training import state
from forethought.training.loop import Observer
from forethought.training.settings import Training


@dataclass(frozen=True)
class Desk:
    """Where a study is carried out.

    Attributes:
        split, data_path: what is trained on.
        results: folder of results and pages.
        runs: folder of run folders; may be emptied when all is done.
        say: told what is being done.
        observer: told how training goes; called once a run.
    """

    split: Split
    data_path: str
    results: Path
    runs: Path
    say: Callable[[str], None]
    observer: Callable[[], Observer]
    command: str

    @property
    def place(self) -> Place:
        return Place(self.split.data.name, self.split.protocol.get("ties", "file"))


def carry_out(study: Study, desk: Desk, seeds: Sequence[int], only: Sequence[str] = ()) -> Path:
    """Do what is missing, and write the page.

    Args:
        only: variants to train now; if empty, all that the data can serve. The page tells of whatever there is.

    Raises:
        ConfigError: a variant that the study does not have.
        DataError: the data cannot serve a variant that is asked for by name, or its own name is no part of a path.
        RunError: results lie there that are of other data, of another split or of another configuration, or nothing
            can be written there.
        MissingExtraError: the study measures with a package that is not installed.
    """
    if study.needs is not None and find_spec(study.needs[0]) is None:
        raise MissingExtraError(*study.needs[1:], f"The study {study.name}")
    for variant in only:
        if variant not in study.variants:
            raise ConfigError(f"{study.name} has no variant {variant!r}; it has {', '.join(study.variants)}.")
    check_name(desk.place.data)
    check_writable(desk.results)
    _check_found(study, desk)
    asked = list(dict.fromkeys(canonical(name) for name in only or study.variants))
    unserved = set() if only else _unserved(asked, desk)
    for seed in seeds:  # the whole study with one seed first
        for variant in asked:
            if variant not in unserved:
                _one(study, variant, seed, desk)
    return write_page(study, desk.results, desk.runs)


def write_page(study: Study, folder: Path, runs: Path | None = None) -> Path:
    """The page from all results there are; differences are renewed where the runs' cases are at hand."""
    found = results.read_results(folder, study.variants, study.name)
    page = Page(folder, study.name, study.title, study.question)
    for place in results.places(found):
        here = results.at(found, place)
        _compare(study, place, here, folder, runs)
        _relate(study, place, here, folder, runs)
    study.write(page, found)
    _sources(page, found)
    return page.write()


def _unserved(variants: Sequence[str], desk: Desk) -> set[str]:
    """Those that need what the data does not have, such as texts of items; said once."""
    found = set()
    for variant in variants:
        try:
            method = VARIANTS[variant]().method
            method.check(desk.split)
            resolve(method, desk.split)
        except DataError as error:
            desk.say(f"{variant} is left out. {error}")
            found.add(variant)
    return found


def _check_found(study: Study, desk: Desk) -> None:
    """Results are told apart by variant, data and seed; what else has these names must not be averaged with them."""
    asked = (desk.split.data.data_hash, plain(desk.split.protocol))
    for runs in results.read_results(desk.results, study.variants).values():
        for run in runs:
            name = run_name(run.variant, run.place, run.seed)
            if not _same_recipe(run.parts["config"], VARIANTS[run.variant]()):
                told = desk.results / "runs" / f"{name}.json"
                raise RunError(
                    f"{told} is of another configuration of {run.variant}: remove it, and the study makes it anew."
                )
            if run.place == desk.place and (run.parts["protocol"]["data_hash"], run.parts["split"]) != asked:
                raise RunError(
                    f"{desk.results} has {name} of other data or another split than those given: choose another "
                    "folder (on the command line --results, and --runs)."
                )


def _one(study: Study, variant: str, seed: int, desk: Desk) -> None:
    name, recipe = run_name(variant, desk.place, seed), VARIANTS[variant]()
    told, probed = desk.results / "runs" / f"{name}.json", desk.results / study.name / f"{name}.json"
    model: Recommender | None = None
    if not told.is_file():
        desk.say(f"{name}: training")
        model, wall_s = _trained(name, recipe, seed, desk)
        desk.say(f"{name}: evaluating")
        results.write(told, _told(variant, seed, model, wall_s, desk))
    if study.probe is not None and not probed.is_file():
        model = model or _trained(name, recipe, seed, desk)[0]
        desk.say(f"{name}: measuring for {study.name}")
        results.write(probed, plain(study.probe(model, desk.split, seed)) | {"run": name, "commit": _commit()})


def _same_recipe(told: Mapping[str, Any], recipe: Recipe) -> bool:
    """Settings that are newer than the run are as they were: their defaults."""
    try:
        method = from_json(type(recipe.method), told["method"])
    except ConfigError:
        return False
    noise = None if recipe.noise is None else asdict(recipe.noise)
    trained = asdict(Training()) | told["training"]
    return method == recipe.method and trained == asdict(recipe.training) and told.get("noise") == noise


def _trained(name: str, recipe: Recipe, seed: int, desk: Desk) -> tuple[Recommender, float]:
    folder, begin = desk.runs / name, time.perf_counter()
    going_on = state.exists(folder / "state")
    model = train(
        recipe.method,
        desk.split,
        folder,
        training=recipe.training,
        noise=recipe.noise,
        seed=seed,
        resume=going_on,
        overwrite=not going_on and (folder / CONFIG_FILE).is_file(),
        observer=desk.observer(),
        data_path=desk.data_path,
    )
    return model, time.perf_counter() - begin


def _told(variant: str, seed: int, model: Recommender, wall_s: float, desk: Desk) -> dict[str, Any]:
    """The run's JSON; every case stays in the run folder."""
    assert model.folder is not None
    valid = evaluate(model, desk.split, part="valid", lists=False, resamples=100)
    evaluation = evaluate(model, desk.split)
    evaluation.write(model.folder)
    parts = evaluation.to_json()
    return {
        "variant": variant,
        "data": desk.place.data,
        "ties": desk.place.ties,
        "seed": seed,
        "command": desk.command,
        "commit": _commit(),
        "config": {
            "method": to_json(model.config.method),
            "training": asdict(model.config.training),
            "noise": None if model.config.noise is None else asdict(model.config.noise),
        },
        "split": plain(desk.split.protocol),
        "protocol": parts["protocol"] | {"data_hash": desk.split.data.data_hash},
        "metrics": parts["metrics"],
        "groups": parts["groups"],
        "lists": parts["lists"],
        "valid": {name: valid.metrics[name].mean for name in METRICS},
        "cost": parts["cost"],
        "training": model.outcome() | {"wall_s": wall_s},
        "machine": _machine(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _compare(study: Study, place: Place, here: Mapping[str, Sequence[Result]], folder: Path, runs: Path | None) -> None:
    """Paired differences to the first variant, kept as JSON; without the runs' cases those of before stay."""
    found = {name: {run.seed: e for run in here.get(name, []) if (e := _cases(run, runs))} for name in study.variants}
    sound = {name: e for name, e in found.items() if e and len(e) == len(here[name])}
    if study.variants[0] in sound and (told := paired(sound)):
        results.write(folder / study.name / f"differences-{place.data}-{place.ties}.json", told)


def _relate(study: Study, place: Place, here: Mapping[str, Sequence[Result]], folder: Path, runs: Path | None) -> None:
    """What the study itself sees in all runs together; where run folders are gone, what was seen before stays."""
    if study.relate is None or runs is None:
        return
    told = study.relate({v: [runs / run_name(r.variant, r.place, r.seed) for r in of] for v, of in here.items()})
    if told:
        results.write(results.related_file(folder, study.name, place), plain(told))


def _cases(run: Result, runs: Path | None) -> Evaluation | None:
    folder = None if runs is None else runs / run_name(run.variant, run.place, run.seed)
    return Evaluation.read(folder) if folder is not None and (folder / METRICS_FILE).is_file() else None


def _sources(page: Page, found: Mapping[str, Sequence[Result]]) -> None:
    page.heading("Every run")
    runs = {run_name(r.variant, r.place, r.seed): r for rows in found.values() for r in rows}
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


def _machine() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} cores"
    return f"{platform.machine()}, {device}, {torch.get_num_threads()} threads"
