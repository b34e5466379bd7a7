"""A search over a recipe's settings from beginning to end: its folder, its processes, and the best recipe as a file."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

from forethought import recipes
from forethought.backbones.interface import BackboneConfig
from forethought.config import Recipe, to_json, write_recipe
from forethought.data.splits import Split
from forethought.errors import ConfigError, ForethoughtError, RunError
from forethought.evaluation.storage import plain
from forethought.files import check_local, read_json, write_json
from forethought.folders import LOCK_FILE, alone, writable
from forethought.methods.configuration import MethodConfig
from forethought.nn.budget import built
from forethought.run_checks import check_inputs
from forethought.run_folder import differences
from forethought.settings import Between, Count, SearchRange, Seed, check_all
from forethought.tuning.report import Tuning, write_report
from forethought.tuning.search import Search, Trial, check_installed, mend_journal
from forethought.tuning.space import Space, defaults, parse_settings, restricted, settings_of, with_values
from forethought.tuning.trials import TRIALS, Job, carry_out, work
from forethought.version import __version__

SEARCH_FILE, BEST_FILE = "search.json", "best.json"
MINUTES = 30.0
Minutes = Annotated[float, Between(0, 1_000_000, above=True)]
Processes = Annotated[int, Between(1, 256)]
LOOK_EVERY_S = 0.2
GRACE_S = 20.0  # for processes to end their step and note how their trial ended


def tune(
    recipe: Recipe | MethodConfig | BackboneConfig | str,
    split: Split,
    out: str | Path,
    *,
    minutes: float | None = None,
    trials: int | None = None,
    processes: int = 1,
    settings: Sequence[str] = (),
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Tuning:
    """Search for the best settings of a recipe by NDCG@10 on the validation part, and write the best as a file.

    The first trial is the recipe as it is, so that the best is never worse on validation. What lies in `out` is gone
    on with: trials that ended are kept.

    Args:
        recipe: what is tuned: a recipe, a method, a backbone, or the name of a method on the command line.
        out: folder of the search: `best.json`, `report.md`, pictures, `trials.csv`.
        minutes: of this sitting; trials that run at the end are stopped. None: 30, or no end where `trials` is given.
        trials: so many in all, those of earlier sittings counted; None: as many as there is time for.
        processes: that work side by side, each with one thread.
        settings: what is tried in place of what the settings declare: `dropout=0.2,0.5`, `learning_rate=0.001:0.01`.
        seed: of the search; that of the trainings is the recipe's.
        say: told of each trial that ended.

    Raises:
        ForethoughtError: one sentence on what is wrong.
        Interrupted: Ctrl-C; the same call goes on.
    """
    check_installed()
    check_budget(minutes, trials, processes)
    check_all(seed=(seed, Seed), settings=(settings, list | tuple))
    full = _as_recipe(recipe, split)
    full, space = restricted(full, said := parse_settings(settings, full))
    space = _without_refused(full, space, said, split)
    minutes = MINUTES if minutes is None and trials is None else minutes
    until = None if minutes is None else time.time() + 60 * minutes
    folder = Path(out)
    job = Job(folder, split, full, space, until, trials, seed)
    with _held(job):
        search = job.search()
        search.begin()
        if processes == 1:
            carry_out(job, search, lambda trial: say(_said(trial)), lambda: False)
        else:
            _side_by_side(job, search, processes, say)
        shutil.rmtree(folder / TRIALS, ignore_errors=True)
        return _finish(job, search)


def check_budget(minutes: object, trials: object, processes: object) -> None:
    """Refuse a time, a number of trials or of processes that is none.

    Raises:
        ConfigError: one is not.
    """
    check_all(minutes=(minutes, Minutes | None), trials=(trials, Count | None), processes=(processes, Processes))


def _as_recipe(recipe: Any, split: Split) -> Recipe:
    if isinstance(recipe, str):
        return recipes.recipe(recipe, split)
    if isinstance(recipe, MethodConfig | BackboneConfig):
        return Recipe(method=recipe)
    if not isinstance(recipe, Recipe):
        raise ConfigError(f"A recipe, a method or its name is expected, but {type(recipe).__name__} was given.")
    return recipe


def _without_refused(recipe: Recipe, space: Space, said: Space, split: Split) -> Space:
    """Without settings of training that this method on this data refuses, such as input noise of one that hides items.

    Raises:
        ForethoughtError: what is refused was asked for.
    """
    model = built(lambda: recipe.method.build(split.data.sizes), copies=1)  # type: ignore[union-attr]
    check_inputs(model, recipe.training, split)
    settings, refused = settings_of(recipe), set()
    for name, domain in space.items():
        if settings[name].path[0] != "training":
            continue
        tried = (domain.least, domain.most) if isinstance(domain, SearchRange) else domain.values
        try:
            for value in tried:
                check_inputs(model, with_values(recipe, {name: value}).training, split)
        except ForethoughtError:
            if name in said:
                raise
            refused.add(name)
    return {name: domain for name, domain in space.items() if name not in refused}


@contextmanager
def _held(job: Job) -> Iterator[None]:
    """The folder is this search's own meanwhile; what lies there is the same search, or nothing.

    Raises:
        RunError: something else lies there, or another process is at work.
    """
    check_local(job.folder)
    if job.folder.exists() and not job.folder.is_dir():
        raise RunError(f"{job.folder} is a file, but a search needs a folder.")
    description = {
        "recipe": to_json(job.recipe),
        "space": {name: str(domain) for name, domain in job.space.items()},
        "seed": job.seed,
        "data": job.split.data.data_hash,
        "split": plain(job.split.protocol),
    }
    there = [path for path in job.folder.iterdir() if path.name != LOCK_FILE] if job.folder.is_dir() else []
    file = job.folder / SEARCH_FILE
    if there and not file.is_file():
        raise RunError(f"The folder {str(job.folder)!r} holds something other than a search: choose another one.")
    if there:
        before = read_json(file, mend := "begin the search in another folder")
        if not isinstance(before, dict):
            raise RunError(f"{file} is damaged (it describes no search): {mend}.")
        changed = differences({k: v for k, v in before.items() if k != "forethought"}, plain(description))
        if changed:
            raise RunError(
                f"{job.folder} holds another search ({changed[0]}): choose another folder, or go on with the same data "
                "and settings."
            )
    with ExitStack() as held:
        held.enter_context(writable(job.folder))
        held.enter_context(alone(job.folder))
        if not there:
            write_json(file, {"forethought": __version__, **plain(description)})
        mend_journal(job.folder)
        yield


def _side_by_side(job: Job, search: Search, processes: int, say: Callable[[str], None]) -> None:
    """Processes that take trials from one journal, and are gone when this is left."""
    context = multiprocessing.get_context("spawn")  # a fork would inherit locks of threads that it does not have
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    workers = [context.Process(target=work, args=(job, n, os.getpid()), daemon=True) for n in range(1, processes + 1)]
    said = {trial.number for trial in search.trials() if trial.end is not None}
    try:
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            time.sleep(LOOK_EVERY_S)
            _tell_new(search, said, say)
            if job.until is not None and time.time() > job.until + GRACE_S:
                break  # a step, or a fit in closed form, that takes longer than anybody waits
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
        for worker in workers:
            if worker.pid is not None:
                worker.join()
        os.environ.pop("OMP_NUM_THREADS")
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before
    _tell_new(search, said, say)
    if all(worker.exitcode not in (0, -15) for worker in workers):
        raise RunError(
            "The processes of the search died: run it with one process, which says why, or make room for several."
        )


def _tell_new(search: Search, said: set[int], say: Callable[[str], None]) -> None:
    for trial in search.trials():
        if trial.end not in (None, "abandoned") and trial.number not in said:
            said.add(trial.number)
            say(_said(trial))


def _said(trial: Trial) -> str:
    from forethought.tuning.report import in_words

    what = f"trial {trial.number + 1}: {in_words(trial.values)}"
    if trial.end == "failed":
        return f"{what}; it failed: {trial.said}"
    quality = "no epoch" if trial.valid is None else f"valid ndcg@10 {trial.valid:.4f}"
    epochs = f" after {trial.epochs:,} epoch{'s' * (trial.epochs != 1)}" if trial.epochs else ""
    end = "" if trial.end == "complete" else f", {trial.end}{epochs}"
    return f"{what}; {quality}{end}, {trial.seconds:.0f} s"


def _finish(job: Job, search: Search) -> Tuning:
    trials = [trial for trial in search.trials() if trial.end is not None and trial.end != "abandoned"]
    measured = [trial for trial in trials if trial.valid is not None]
    if not measured:
        failed = next((trial.said for trial in trials if trial.end == "failed"), None)
        raise RunError(failed or "The time was up before a trial had finished an epoch: give it more minutes.")
    best = max(measured, key=lambda trial: (trial.valid, -trial.number))
    tuning = Tuning(
        folder=job.folder,
        recipe=with_values(job.recipe, best.values),
        best=best,
        trials=trials,
        first=defaults(job.recipe, job.space),
        space=job.space,
        importances=search.importances(),
        data=job.split.data.name,
    )
    about = {"values": best.values, "valid_ndcg@10": best.valid, "trial": best.number + 1, "trials": len(trials)}
    write_recipe(tuning.recipe, job.folder / BEST_FILE, tuned=about | {"data": job.split.data.name})
    write_report(tuning)
    return tuning
