"""The trials of a search, carried out: each one is a training of its own, watched epoch by epoch."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forethought.config import Recipe
from forethought.data.splits import Split
from forethought.errors import ForethoughtError
from forethought.runs import train
from forethought.training.observer import EndedEarly
from forethought.training.progress import Quiet
from forethought.tuning.search import End, Search, Trial
from forethought.tuning.space import Space, defaults, with_values

TRIALS = "trials"
HOPELESS = 3  # trials that fail, and nothing but these: what fails then is the recipe, and no value of a setting


@dataclass(frozen=True)
class Job:
    """What every process of a search is told.

    Attributes:
        folder: of the search.
        recipe: what the values of a trial are put into.
        until: the moment, as `time.time()` has it, at which running trials stop; None: there is none.
        trials: so many in all, those of earlier sittings counted; None: as many as there is time for.
    """

    folder: Path
    split: Split
    recipe: Recipe
    space: Space
    until: float | None
    trials: int | None
    seed: int

    @property
    def time_is_up(self) -> bool:
        return self.until is not None and time.time() >= self.until

    def search(self, process: int = 0) -> Search:
        closed_form = self.recipe.method.closed_form  # type: ignore[union-attr]
        epochs = 0 if closed_form else self.recipe.training.epochs
        first = defaults(self.recipe, self.space)
        return Search(self.folder, self.space, first, epochs=epochs, seed=self.seed, process=process)


class _EndedEarly(EndedEarly):
    """A trial that does not go on; never seen outside of this file."""

    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.end: End = end


class _TrialObserver(Quiet):
    """Somebody who reports each epoch, and ends what is not worth its time or has none left."""

    def __init__(self, report: Callable[[int, float], bool], over: Callable[[], bool]) -> None:
        self.report, self.over = report, over
        self.valid: float | None = None
        self.epochs = 0

    def step(self, losses: dict[str, float], positions: int) -> None:
        if self.over():
            raise _EndedEarly("out of time")

    def end_epoch(self, epoch: int, figures: dict[str, float], improved: bool) -> None:
        quality = figures["valid_ndcg@10"]
        self.epochs, self.valid = epoch, quality if self.valid is None else max(self.valid, quality)
        if self.report(epoch, self.valid):
            raise _EndedEarly("given up")


def carry_out(job: Job, search: Search, told: Callable[[Trial], None], orphaned: Callable[[], bool]) -> None:
    """Trial after trial until the time is up, or there were enough, or it is plain that all of them fail.

    Args:
        told: of each trial that ended.
        orphaned: whether whoever started this process is gone.
    """
    while not (job.time_is_up or orphaned() or _hopeless(search)) and (asked := search.ask(job.trials)) is not None:
        outcome = _one(job, search, *asked, lambda: job.time_is_up or orphaned())
        search.tell(outcome)
        told(outcome)


def _hopeless(search: Search) -> bool:
    ends = [trial.end for trial in search.trials() if trial.end not in (None, "abandoned")]
    return len(ends) >= HOPELESS and set(ends) == {"failed"}


def _one(job: Job, search: Search, number: int, values: dict, over: Callable[[], bool]) -> Trial:
    folder, begin = job.folder / TRIALS / f"{number:05d}", time.perf_counter()
    observer = _TrialObserver(lambda epoch, valid: search.report(number, epoch, valid), over)
    end, said, valid = "complete", "", None
    try:
        model = train(with_values(job.recipe, values), job.split, folder, overwrite=folder.is_dir(), observer=observer)
        valid = model.outcome()["valid_ndcg@10"]
    except _EndedEarly as early:
        end, valid = early.end, observer.valid
    except ForethoughtError as error:
        end, said = "failed", str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # of a trial only its figures are kept
    return Trial(number, values, end, valid, observer.epochs, round(time.perf_counter() - begin, 2), said)


def work(job: Job, process: int, parent: int) -> None:
    """The whole of a process beneath another one, with a single thread of its own."""
    import torch

    torch.set_num_threads(1)
    try:
        carry_out(job, job.search(process), lambda _: None, lambda: os.getppid() != parent)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
