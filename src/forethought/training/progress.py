"""What one sees while training: a bar with the loss, positions a second and time left, and a line an epoch."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from forethought.evaluation.metrics import metric_of
from forethought.methods.interface import Stage
from forethought.training import state
from forethought.training.settings import Training

JUDGED_BY = re.compile(r"reward\w*|valid_steps|valid_(?!ndcg@10$)\w+@\d+")  # beside the loss and NDCG@10
NUMBER = re.compile(r"-?\d[\d.,]*")


class Quiet:
    """Nobody watches."""

    def start(self, progress: state.Progress, settings: Training) -> None:
        """Nothing to show."""

    def begin_stage(self, stage: Stage, ends: int) -> None:
        """Nothing to show."""

    def begin_epoch(self, epoch: int, batches: int, done: int) -> None:
        """Nothing to show."""

    def step(self, losses: dict[str, float], positions: int) -> None:
        """Nothing to show."""

    def end_epoch(self, epoch: int, figures: dict[str, float], improved: bool) -> None:
        """Nothing to show."""

    def enough(self) -> bool:
        """Never: the schedule and patience decide."""
        return False

    def note(self, sentence: str) -> None:
        """Nothing to show."""

    def warn(self, sentence: str) -> None:
        """Nothing to show."""

    def finish(self, progress: state.Progress) -> None:
        """Nothing to show."""

    def close(self) -> None:
        """Nothing to put away."""


class Watch(Quiet):
    """A live bar on a terminal; elsewhere only the line at the end of each epoch."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.warned: set[str] = set()
        self.chosen = "ndcg@10"
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def start(self, progress: state.Progress, settings: Training) -> None:
        self.epochs, self.chosen = settings.epochs, metric_of(settings.choose_by).name
        if progress.step and not progress.done:
            self.console.print(f"Going on at epoch {progress.epoch + 1}, batch {progress.batch + 1}.")

    def begin_stage(self, stage: Stage, ends: int) -> None:
        self.epochs, self.warned = ends, set()
        self.console.print(f"Stage {stage.name}: up to epoch {ends}.", highlight=False)

    def begin_epoch(self, epoch: int, batches: int, done: int) -> None:
        if self.console.is_terminal:
            self.bar.start()
        self.task: TaskID = self.bar.add_task(
            "train", total=batches, completed=done, epoch=epoch + 1, epochs=self.epochs, figures=""
        )
        self.began, self.positions = time.perf_counter(), 0

    def step(self, losses: dict[str, float], positions: int) -> None:
        self.positions += positions
        rate = self.positions / (time.perf_counter() - self.began)
        self.bar.update(self.task, advance=1, figures=f"{_told(losses)}  {rate:,.0f} positions/s")

    def end_epoch(self, epoch: int, figures: dict[str, float], improved: bool) -> None:
        self.close()
        self.bar.remove_task(self.task)
        quality, mark = f"{figures[f'valid_{self.chosen}']:.4f}", " *" if improved else "  "
        self.console.print(
            f"epoch {epoch:>3}  {_told(figures)}  valid {self.chosen} {quality}{mark}  {figures['trained_s']:.0f} s",
            highlight=False,
        )

    def note(self, sentence: str) -> None:
        self.console.print(sentence, highlight=False)

    def warn(self, sentence: str) -> None:
        what = NUMBER.sub("", sentence)
        if what not in self.warned:  # once is enough, whatever its figures come to later; the log has them all
            self.console.print(f"  warning: {sentence}", style="yellow", highlight=False)
            self.warned.add(what)

    def finish(self, progress: state.Progress) -> None:
        why = "all epochs done" if progress.epoch >= self.epochs else f"no gain for {_epochs(progress.stale)}"
        self.console.print(
            f"Trained {_epochs(progress.epoch)} in {progress.trained_s:.0f} s ({why}); the best was epoch "
            f"{progress.best_epoch + 1} with valid {self.chosen} {progress.best:.4f}."
            f"{_advice(progress, self.epochs)}"
        )

    def close(self) -> None:
        """Give the terminal back, however training ended."""
        if self.console.is_terminal:
            self.bar.stop()


def _epochs(number: int) -> str:
    return f"{number} epoch{'' if number == 1 else 's'}"


def _told(figures: Mapping[str, float]) -> str:
    """The loss, and what else a stage is judged by: two figures at most, as all of them stand in log.jsonl."""
    names = [name for name in ("loss", *figures) if name in figures][:1]
    names += [name for name in figures if JUDGED_BY.fullmatch(name)][:1]
    return "  ".join(f"{name.replace('_', ' ')} {figures[name]:.4f}" for name in names)


def _advice(progress: state.Progress, epochs: int) -> str:
    """What follows from the best epoch having been the last one that was allowed."""
    if not 0 < epochs == progress.epoch == progress.best_epoch + 1:
        return ""
    return " It was still getting better when it ended: more --epochs may be worth their time."
