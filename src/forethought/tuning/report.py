"""What a search came to: tables, `report.md` with its pictures, and all trials as `trials.csv`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forethought.config import Recipe
from forethought.errors import MissingExtraError
from forethought.escaping import markdown
from forethought.files import replace_file
from forethought.reports.pictures import BLUE, FAINT, INK, ORANGE, new_figure, save_figure
from forethought.tables.formats import NONE, number
from forethought.tables.table import Document, Table
from forethought.tuning.search import Trial
from forethought.tuning.space import Space, Value, shown_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVE, IMPORTANCE, REPORT, ALL_TRIALS = "curve.svg", "importance.svg", "report.md", "trials.csv"
SHOWN = 10  # trials in the report


@dataclass(frozen=True)
class Tuning:
    """The outcome of a search.

    Attributes:
        folder: of the search.
        recipe: the best one, for `ft.train`.
        best: the trial that it comes from.
        trials: all that ended, in their order.
        first: what the recipe itself has for the tuned settings.
        importances: share of the differences between complete trials that each setting accounts for.
    """

    folder: Path
    recipe: Recipe
    best: Trial
    trials: list[Trial]
    first: dict[str, Value]
    space: Space
    importances: dict[str, float]
    data: str

    def __repr__(self) -> str:
        return f"Tuning({self.folder}, {len(self.trials)} trials, valid ndcg@10 {self.best.valid:.4f})"

    @property
    def before(self) -> float | None:
        """Validation NDCG@10 of the recipe as it was; None where its trial came to none, or the space left it out."""
        return next((trial.valid for trial in self.trials if trial.values == self.first), None)

    def document(self) -> Document:
        """For the terminal and the report."""
        ranked = sorted((t for t in self.trials if t.valid is not None), key=lambda t: -(t.valid or 0))[:SHOWN]
        columns = ["trial", "what differs from the recipe", "NDCG@10", "epochs", "seconds", "end"]
        rows = [[str(trial.number + 1), self._differing(trial), *_figures(trial)] for trial in ranked]
        tables = [Table(f"the best {len(rows)} of {len(self.trials)} trials", columns, rows, names=2)]
        if self.importances:
            shares = [[name, f"{share:.0%}"] for name, share in self.importances.items()]
            tables.append(Table("importance", ["setting", "share"], shares))
        return Document(f"{self.data}: NDCG@10 on the validation part", tables, self._remarks())

    def _differing(self, trial: Trial) -> str:
        return in_words({n: v for n, v in trial.values.items() if v != self.first.get(n)}) or "nothing"

    def _remarks(self) -> list[str]:
        ends = {end: sum(trial.end == end for trial in self.trials) for end in ("complete", "given up", "out of time")}
        failed = [trial for trial in self.trials if trial.end == "failed"]
        counted = [f"{n} {end}" for end, n in ends.items() if n] + ([f"{len(failed)} failed"] if failed else [])
        begun = "" if self.before is None else f"{self.before:.4f} as the recipe was, "
        changed = f"with {self._differing(self.best)}" if self.best.values != self.first else "is that of the recipe"
        remarks = [
            f"Validation NDCG@10: {begun}the best {self.best.valid:.4f} {changed}.",
            f"Trials: {', '.join(counted)}. The best of many is a little flattered by having been chosen: what it is "
            "worth, the test part says once it is trained.",
        ]
        if self.importances:
            remarks.append("Importance: the share of the differences between complete trials, by fANOVA.")
        if failed:
            remarks.append(f"Trial {failed[0].number + 1} failed: {failed[0].said}")
        return remarks


def in_words(values: Mapping[str, Value]) -> str:
    """As `--set` takes them."""
    return ", ".join(f"{name}={shown_value(value)}" for name, value in values.items())


def write_report(tuning: Tuning) -> None:
    """`report.md` and `trials.csv`, and pictures where matplotlib is there."""
    pictures = _pictures(tuning)
    columns = ["trial", *tuning.space, "NDCG@10", "epochs", "seconds", "end", "said"]
    rows = [[*_cells(trial, tuning.space), *_figures(trial, digits=6), trial.said] for trial in tuning.trials]
    table = Table("trials", columns, rows).csv()
    replace_file(tuning.folder / ALL_TRIALS, lambda part: part.write_text(table, encoding="utf-8"))
    space = Table("what was tried", ["setting", "from"], [[n, str(d)] for n, d in tuning.space.items()], names=2)
    drawn = "\n\n".join(f"![{what}]({name})" for name, what in pictures.items())
    parts = [f"# Tuning on {markdown(tuning.data)}", tuning.document().markdown(), drawn, space.markdown()]
    parts.append("`best.json` holds the best recipe: `forethought train METHOD --recipe best.json`.")
    text = "\n\n".join(part for part in parts if part) + "\n"
    replace_file(tuning.folder / REPORT, lambda part: part.write_text(text, encoding="utf-8"))


def _figures(trial: Trial, digits: int = 4) -> list[str]:
    return [number(trial.valid, f".{digits}f"), str(trial.epochs), number(trial.seconds, ".1f"), str(trial.end)]


def _cells(trial: Trial, space: Space) -> list[str]:
    values = [shown_value(trial.values[name]) if name in trial.values else NONE for name in space]
    return [str(trial.number + 1), *values]


def _pictures(tuning: Tuning) -> dict[str, str]:
    """Names of the files and what they show; none without matplotlib."""
    try:
        figure = new_figure((7.2, 3.6), "Drawing a search", layout="constrained")
        _draw_curve(figure.add_subplot(), tuning)
        save_figure(figure, tuning.folder / CURVE)
        pictures = {CURVE: "validation NDCG@10 of each trial, and the best so far"}
        if tuning.importances:
            figure = new_figure((7.2, 0.8 + 0.32 * len(tuning.importances)), "Drawing a search", layout="constrained")
            _draw_importances(figure.add_subplot(), tuning.importances)
            save_figure(figure, tuning.folder / IMPORTANCE)
            pictures[IMPORTANCE] = "importance of the settings"
    except MissingExtraError:
        return {}
    return pictures


def _draw_curve(axes: Axes, tuning: Tuning) -> None:
    measured = [(place + 1, trial) for place, trial in enumerate(tuning.trials) if trial.valid is not None]
    for ends, words, face in ((("complete",), "complete", BLUE), (("given up", "out of time"), "stopped", "white")):
        points = [(place, trial.valid) for place, trial in measured if trial.end in ends]
        if points:
            axes.scatter(*zip(*points, strict=True), s=22, facecolor=face, edgecolor=BLUE, label=words, zorder=2)
    places = [place for place, _ in measured]
    best = list(itertools.accumulate((trial.valid or 0.0 for _, trial in measured), max))
    axes.step(places, best, where="post", color=ORANGE, label="best so far", zorder=1)
    if tuning.before is not None:
        axes.axhline(tuning.before, color=FAINT, linewidth=0.8, linestyle="--", label="the recipe as it was")
    axes.set_xlabel("trial", color=INK)
    axes.set_ylabel("NDCG@10, validation", color=INK)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_importances(axes: Axes, importances: Mapping[str, float]) -> None:
    names = list(importances)[::-1]
    axes.barh(names, [importances[name] for name in names], color=BLUE)
    axes.set_xlabel("share of the differences between complete trials", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
