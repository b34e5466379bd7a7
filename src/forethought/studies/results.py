"""Results of finished runs: one small JSON each, so that a study goes on from them in a fresh checkout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from forethought.data.names import is_name
from forethought.data.splits import Ties
from forethought.errors import ConfigError, RunError
from forethought.files import first_line, read_json, write_json
from forethought.settings import Number, Seed, Share, Whole, check, check_keys, fits
from forethought.studies import ranks
from forethought.studies.variants import canonical

TEMPORAL = "temporal"
MEND = "remove it, and the study makes it anew"


NEEDED = {
    **{"variant": str, "data": str, "ties": str, "seed": Seed, "command": str, "commit": str, "config": dict},
    **{"split": dict, "protocol": dict, "metrics": dict, "cost": dict, "valid": dict[str, Share], "training": dict},
    "machine": str,
}
WITHIN = {
    "config": {"training": dict},
    "protocol": {"data_hash": str, "split": str, "n_items": Whole, "n_cases": Whole, "history_excluded": bool},
    "training": {"epochs": Whole, "best_epoch": Whole, "trained_s": Number},
}
METRIC = {"mean": Number, "ci95": list[Number]}
MEASURED = Number | dict[str, float | None] | None
COST = {
    **dict.fromkeys(("parameters", "steps", "flops_per_history", "ms_per_history"), MEASURED),
    "training": dict[str, float] | None,
}
"""What pages read of a run's results, and what it holds."""


@dataclass(frozen=True)
class DatasetKey:
    """Which data, cut how: "temporal", or leave-last-out with ties in order of the "file" or "shuffle"d.

    In the JSON of a run it is called `ties`, as before there were temporal ones.
    """

    data: str
    cut: str

    def __str__(self) -> str:
        ties = f"ties {'shuffled' if self.cut == 'shuffle' else 'in file order'}"
        return f"{self.data}, {'split by time' if self.cut == TEMPORAL else ties}"


@dataclass(frozen=True)
class Result:
    """One run: what was done, and what came of it.

    Attributes:
        parts: the whole JSON; `metrics` {name: {mean, ci95}}, `cost`, `protocol`, `training`, `command` and so on
            (`NEEDED`).
        probe: what the study at hand measured on it, None if it has not.
    """

    variant: str
    dataset: DatasetKey
    seed: int
    parts: dict[str, Any]
    probe: dict[str, Any] | None = None

    def mean(self, metric: str) -> float:
        return self.parts["metrics"][metric]["mean"]


def run_name(variant: str, dataset: DatasetKey, seed: int) -> str:
    return f"{variant}-{dataset.data}-{dataset.cut}-{seed}"


def read_results(folder: Path, variants: Sequence[str], study: str | None = None) -> dict[str, list[Result]]:
    """All results of the variants by variant, ordered by data, ties and seed; with what the study probed.

    Raises:
        RunError: a file is damaged.
    """
    runs: dict[str, list[Result]] = {}
    for path in sorted((folder / "runs").glob("*.json")):
        parts = read_run(path)
        dataset, probed = DatasetKey(parts["data"], parts["ties"]), folder / str(study) / path.name
        probe = read(probed) if study and probed.is_file() else None
        runs.setdefault(parts["variant"], []).append(Result(parts["variant"], dataset, parts["seed"], parts, probe))
    return {variant: runs.get(first, []) for variant, first in canonical(variants).items()}


def read(path: Path) -> dict[str, Any]:
    return read_json(path, MEND)


def read_run(path: Path) -> dict[str, Any]:
    """What a run came to.

    Raises:
        RunError: the file is damaged.
    """
    parts = read(path)
    missing = [part for part in NEEDED if part not in parts] if isinstance(parts, dict) else ["{"]
    if missing:
        raise RunError(f"{path} is damaged (it has no {missing[0]!r}): {MEND}.")
    sound = {
        "variant": is_name(parts["variant"]),
        "data": is_name(parts["data"]),
        "ties": parts["ties"] in (*get_args(Ties), TEMPORAL),
        "seed": fits(parts["seed"], Seed),
    }
    for part, is_sound in sound.items():  # files are called after them
        if not is_sound:
            raise RunError(f"{path} is damaged (its {part} cannot be {parts[part]!r}): {MEND}.")
    try:
        _check_figures(parts)
    except ConfigError as error:
        raise RunError(f"{path} is damaged ({first_line(error).rstrip('.')}): {MEND}.") from error
    return parts


def _check_figures(parts: dict[str, Any]) -> None:
    check_keys(parts, NEEDED, "it")
    for name, kinds in WITHIN.items():
        check_keys(parts[name], kinds, name)
    if "ranks" in parts:
        ranks.check(parts["ranks"])
    for name, metric in parts["metrics"].items():
        check_keys(metric, METRIC, f"metrics.{name}")
        if len(metric["ci95"]) != 2:
            raise ConfigError(f"metrics.{name}.ci95 is no interval")
    for name, kind in COST.items():
        check(parts["cost"].get(name), kind, f"cost.{name}")


def write(path: Path, parts: dict[str, Any]) -> None:
    write_json(path, parts)


def places(results: Mapping[str, Sequence[Result]]) -> list[DatasetKey]:
    """Where there are results, most of them first."""
    count: dict[DatasetKey, int] = {}
    for runs in results.values():
        for run in runs:
            count[run.dataset] = count.get(run.dataset, 0) + 1
    return sorted(count, key=lambda dataset: (-count[dataset], str(dataset)))


def at(results: Mapping[str, Sequence[Result]], dataset: DatasetKey) -> dict[str, list[Result]]:
    """The results of one place, variants without any left out."""
    runs_of = {variant: [run for run in runs if run.dataset == dataset] for variant, runs in results.items()}
    return {variant: runs for variant, runs in runs_of.items() if runs}


def over_seeds(runs: Sequence[Result], metric: str) -> tuple[float, float]:
    """Mean over seeds and their standard deviation (n - 1), NaN for one seed."""
    values = np.array([run.mean(metric) for run in runs])
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def differences_file(folder: Path, study: str, dataset: DatasetKey) -> Path:
    """Where what `compare` found against the first variant is kept."""
    return folder / study / f"differences-{dataset.data}-{dataset.cut}.json"


def differences(folder: Path, study: str, dataset: DatasetKey) -> dict[str, dict[str, Any]]:
    """ "variant metric" -> what `compare` found against the first variant; empty where it could not."""
    path = differences_file(folder, study, dataset)
    differences = read(path)["differences"] if path.is_file() else []
    return {f"{each['method']} {each['metric']}": each for each in differences}


def aggregated_file(folder: Path, study: str, dataset: DatasetKey) -> Path:
    """Where what `Study.relate` found is kept."""
    return folder / study / f"related-{dataset.data}-{dataset.cut}.json"


def aggregated(folder: Path, study: str, dataset: DatasetKey) -> dict[str, Any]:
    """What `Study.relate` found; empty where it could not look."""
    path = aggregated_file(folder, study, dataset)
    return read(path) if path.is_file() else {}
