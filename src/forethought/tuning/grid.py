"""Several trainings on the same data: seeds, small grids of settings, and their figures side by side.

Each one is an ordinary run folder. Runs that are whole stay as they are, and one that was stopped goes on.
"""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from forethought.config import Recipe
from forethought.data.splits import Split
from forethought.errors import ConfigError, RunError
from forethought.evaluation.settings import EvaluationConfig
from forethought.files import replace_file, write_json
from forethought.folders import writable
from forethought.recommender import Recommender
from forethought.run_checks import check_options, check_run
from forethought.run_files import CONFIG_FILE, STATE_FOLDER
from forethought.run_folder import check_new
from forethought.runs import evaluate, train
from forethought.settings import SearchChoices, Seed, check
from forethought.tables.formats import NONE
from forethought.tables.table import Document, Table
from forethought.training import state
from forethought.training.observer import Observer
from forethought.tuning.space import Space, shown_value, with_values

SUMMARY = "summary"
VALID = "valid_ndcg@10"
MOST_RUNS = 1_000
MOST_STAGES = 1_000  # of any method
UNUSUAL = re.compile(r"[^\w.,+-]", re.ASCII)  # in the name of a folder; = would name a run for `compare`


@dataclass(frozen=True)
class GridRun:
    """One training of several: its folder's name, its setting in words, its seed, and what it came to."""

    name: str
    setting: str
    seed: int
    figures: dict[str, Any]


@dataclass(frozen=True)
class Grid:
    """What several trainings came to."""

    out: Path
    data: str
    runs: list[GridRun]

    @property
    def settings(self) -> dict[str, list[float]]:
        """Validation NDCG@10 of all seeds, by the setting."""
        names = dict.fromkeys(run.setting for run in self.runs)
        return {name: [run.figures[VALID] for run in self.runs if run.setting == name] for name in names}

    def document(self) -> Document:
        """Mean and standard deviation over seeds where there are several, and each run."""
        cut = [
            name for name in self.runs[0].figures if name.startswith(("valid_recall", "valid_ndcg")) and name != VALID
        ]
        columns = ["run", "NDCG@10", *map(_headed, cut), "epochs (best)", "trained in"]
        rows = [[run.name, *_cells(run.figures, cut)] for run in self.runs]
        tables = [Table("each run", columns, rows)]
        if any(len(values) > 1 for values in self.settings.values()):
            means = [[name or "the recipe", *_mean(values)] for name, values in self.settings.items()]
            tables.insert(0, Table("over seeds", ["setting", "seeds", "NDCG@10", "sd"], means))
        best = max(self.runs, key=lambda run: run.figures[VALID])
        return Document(
            f"{self.data}: NDCG@10 on the validation part",
            tables,
            [f"The best is {best.name}; the test part is asked by forethought evaluate {self.out / best.name}."],
        )

    def to_json(self) -> dict[str, Any]:
        over = {name: {"mean": statistics.fmean(v), "sd": _sd(v), "seeds": len(v)} for name, v in self.settings.items()}
        runs = {run.name: {"seed": run.seed, "setting": run.setting, **run.figures} for run in self.runs}
        return {"out": str(self.out), "settings": over, "runs": runs}


def grid_of(recipe: Recipe, space: Space, seeds: Sequence[int]) -> dict[str, tuple[str, Recipe]]:
    """The recipes of a grid by the names of their folders, each with its setting in words.

    Args:
        seeds: none: that of the recipe.

    Raises:
        ConfigError: seeds that are none, or twice the same; values that do not go together; too many runs.
    """
    for seed in seeds:
        check(seed, Seed, "--seeds")
    if len(set(seeds)) < len(seeds):
        raise ConfigError("--seeds has the same seed twice, which would train the same run twice: leave one out.")
    choices = [domain.values for domain in space.values() if isinstance(domain, SearchChoices)]
    n_runs = math.prod(map(len, choices)) * max(1, len(seeds))
    if n_runs > MOST_RUNS:
        raise ConfigError(f"These settings make {n_runs:,} runs, but at most {MOST_RUNS:,} are trained at once.")
    grid: dict[str, tuple[str, Recipe]] = {}
    for values in itertools.product(*choices):
        setting = dict(zip(space, values, strict=True))
        words = ",".join(f"{name}={shown_value(value)}" for name, value in setting.items())
        tuned = with_values(recipe, setting)
        check_options(tuned)
        for seed in seeds or (recipe.seed,):
            parts = [*([words.replace("=", "-")] if words else []), *([f"seed-{seed}"] if seeds else [])]
            name = UNUSUAL.sub("_", ",".join(parts))[:200]
            if name in grid:
                raise ConfigError(f"Two of these settings would both be trained into {name}: train them one by one.")
            grid[name] = (words, replace(tuned, seed=seed))
    return grid


def train_grid(
    grid: Mapping[str, tuple[str, Recipe]],
    split: Split,
    out: Path,
    *,
    overwrite: bool = False,
    cutoffs: tuple[int, ...] = (),
    say: Callable[[str], None] = lambda _: None,
    observer: Callable[[], Observer] | None = None,
    **choices: Any,
) -> Grid:
    """Train what is missing, each into a folder of its name in `out`, and write `summary.md`, `.csv` and `.json`.

    Args:
        overwrite: train those that are there anew.
        cutoffs: lengths at which recall and NDCG of the validation part are among each run's figures.
        say: told which run begins.
        observer: called once a run; told how it trains.
        choices: of `forethought.runs.train`.

    Raises:
        ForethoughtError: `out` is a run folder itself, or holds a run of one of these names that was configured
            otherwise, or something else; or one of the configurations does not fit the data. No run has been trained.
    """
    if (out / CONFIG_FILE).exists():
        raise RunError(f"{out} is a run folder, but several are to be made in it: choose another folder.")
    for name, (_, recipe) in grid.items():  # a fault of the last is not to be told after the others have trained
        there = not overwrite and state.exists(out / name / STATE_FOLDER)
        if not there:
            check_new(out / name, overwrite=_replaces(out / name, overwrite), resumable=False)
        check_run(recipe, split, out / name if there else None)
    runs = []
    with writable(out):
        for name, (setting, recipe) in grid.items():
            folder = out / name
            there = not overwrite and state.exists(folder / STATE_FOLDER)
            whole = there and _is_done(folder)
            say(f"{name}: {'finished already' if whole else 'going on' if there else 'training'}")
            model = train(
                recipe,
                split,
                folder,
                resume=there,
                overwrite=not there and _replaces(folder, overwrite),
                observer=None if whole or observer is None else observer(),
                **choices,
            )
            figures = model.outcome() | {VALID: final_validation(model, split)} | _cut(model, split, cutoffs)
            runs.append(GridRun(name, setting, recipe.seed, figures))
        made = Grid(out, split.data.name, runs)
        _write(made)
    return made


def _replaces(folder: Path, overwrite: bool) -> bool:
    """Whether what lies there gives way: a run that was stopped before it had a state does so unasked."""
    return overwrite or (folder / CONFIG_FILE).is_file()


def _is_done(folder: Path) -> bool:
    """Whether its training came to its end; whether it is sound, resuming it will say."""
    return state.load_progress(folder / STATE_FOLDER, MOST_STAGES).done


def final_validation(model: Recommender, split: Split) -> float:
    """NDCG@10 on the validation part as the run is used, with what was fitted once it was trained."""
    if model.config.evidence is None:
        return model.outcome()[VALID]
    return evaluate(model, split, EvaluationConfig(part="valid", lists=False, resamples=2)).metrics["ndcg@10"].mean


def _cut(model: Recommender, split: Split, cutoffs: tuple[int, ...]) -> dict[str, float]:
    """Recall and NDCG of the validation part at these lengths."""
    if not cutoffs:
        return {}
    config = EvaluationConfig(part="valid", lists=False, resamples=2, cutoffs=cutoffs)
    found = evaluate(model, split, config).metrics
    return {f"valid_{name}@{k}": found[f"{name}@{k}"].mean for k in cutoffs for name in ("recall", "ndcg")}


def _headed(name: str) -> str:
    return name.removeprefix("valid_").replace("recall", "Recall").replace("ndcg", "NDCG")


def _write(grid: Grid) -> None:
    document = grid.document()
    texts = {"md": document.markdown(), "csv": document.tables[-1].csv()}
    for ending, text in texts.items():
        replace_file(grid.out / f"{SUMMARY}.{ending}", lambda part, text=text: part.write_text(text, encoding="utf-8"))
    write_json(grid.out / f"{SUMMARY}.json", grid.to_json())


def _cells(figures: Mapping[str, Any], cut: Sequence[str]) -> list[str]:
    epochs = f"{figures['epochs']} ({figures['best_epoch']})" if figures["epochs"] else NONE
    return [*(f"{figures[name]:.4f}" for name in (VALID, *cut)), epochs, f"{figures['trained_s']:.0f} s"]


def _mean(values: Sequence[float]) -> list[str]:
    return [str(len(values)), f"{statistics.fmean(values):.4f}", f"{_sd(values):.4f}" if len(values) > 1 else NONE]


def _sd(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
