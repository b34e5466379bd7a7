"""Runs become a report: what their folders hold, what the doctor says of the data, and a few cases explained."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from forethought.data.doctor import diagnose
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError, ForethoughtError, RunError, shown
from forethought.evaluation.compare import compare
from forethought.evaluation.report import Evaluation
from forethought.files import check_path
from forethought.recommender import Recommender, load
from forethought.reports.run_report import Example, ReportedRun, RunReport
from forethought.run_files import LOG_FILE, METRICS_FILE
from forethought.run_folder import unfinished
from forethought.runs import split_of
from forethought.settings import check

MOST_EXAMPLES = 20


def report(
    runs: Mapping[str, str | Path] | Sequence[str | Path],
    *,
    data: Any = None,
    items: Any = None,
    examples: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> RunReport:
    """Everything that is known of runs, for one page (`RunReport.page()`).

    Args:
        runs: run folders, perhaps by the names that they shall have.
        data, items: where the data lies now, if it has moved since the training.
        examples: how many cases of the test part are explained, by the first run.
        progress: told of the runs that are read, and how many there are.

    Raises:
        ConfigError: no runs, two of one name, or too many examples.
        RunError: a folder is no run, or is damaged.
    """
    named = _named(runs)
    check(examples, int, "examples")
    if not 0 <= examples <= MOST_EXAMPLES:
        raise ConfigError(f"A report has 0 to {MOST_EXAMPLES} examples, not {examples}.")
    notes: list[str] = []
    known: list[ReportedRun] = []
    first: Recommender | None = None
    for place, (name, folder) in enumerate(named.items()):
        model = load(folder)
        first = model if first is None else first
        notes += _not_ended(model, name)
        known.append(
            ReportedRun(name, _evaluation(folder, name, model.about, notes), _log(folder / LOG_FILE), model.about)
        )
        if progress is not None:
            progress(place + 1, len(named))
    assert first is not None
    comparison = None
    evaluated = {run.name: run.evaluation for run in known if run.evaluation is not None}
    if len(evaluated) > 1:
        try:
            comparison = compare(evaluated)
        except DataError as error:
            notes.append(f"The runs are not compared: {error}")
    split = _split(first, data, items, notes)
    found = [] if split is None else _examples(known[0], first, split, examples)
    return RunReport(known, comparison, _health(first, data, items, notes), found, notes)


def _named(runs: object) -> dict[str, Path]:
    """Folders by name; those without one are called by theirs."""
    pairs = list(runs.items()) if isinstance(runs, Mapping) else None
    if pairs is None:
        if not isinstance(runs, Sequence) or isinstance(runs, str | bytes):
            raise ConfigError(f"A report needs a list of run folders, or folders by name, but got {shown(runs)}.")
        pairs = [(Path(folder).name, folder) for folder in runs]
    if not pairs:
        raise ConfigError("A report needs at least one run folder.")
    named: dict[str, Path] = {}
    for name, folder in pairs:
        if str(name) in named:
            raise ConfigError(f"Two runs are called {name!r}: give each a name of its own.")
        check_path(Path(folder))
        named[str(name)] = Path(folder)
    return named


def _not_ended(model: Recommender, name: str) -> list[str]:
    try:
        said = unfinished(model)
    except RunError as error:  # a damaged state hinders a resume, and nothing here
        said = str(error)
    return [] if said is None else [f"{name}: {said}"]


def _evaluation(folder: Path, name: str, about: Mapping[str, Any], notes: list[str]) -> Evaluation | None:
    if not (folder / METRICS_FILE).is_file():
        extended = "it was extended by items that its data does not have, so name the run that it was extended from"
        plain = "forethought evaluate on its folder makes up for it"
        notes.append(f"{name} was never evaluated: {extended if about.get('extended') else plain}.")
        return None
    return Evaluation.read(folder)


def _log(path: Path) -> list[dict[str, Any]]:
    """The rows of a training log; a line that was cut off is left out."""
    rows = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            rows += [row] if isinstance(row, dict) else []
    return rows


def _split(model: Recommender, data: Any, items: Any, notes: list[str]) -> Split | None:
    try:
        return split_of(model, data, items)
    except ForethoughtError as error:
        if data is not None or items is not None:
            raise
        notes.append(f"No examples: {error}")
        return None


def _health(model: Recommender, data: Any, items: Any, notes: list[str]) -> list[str]:
    """What the doctor says of the table that the first run was trained on."""
    columns, path = model.about.get("columns") or {}, model.about.get("data_path")
    if data is None and (path is None or not Path(path).exists()):
        notes.append(
            "Nothing is said of the health of the data, which does not lie where it did: name its place as data "
            "(on the command line --data)."
        )
        return []
    of = {key: columns[key] for key in ("user", "item", "time", "position") if columns.get(key) is not None}
    return diagnose(path if data is None else data, **of, items=items or columns.get("items")).sentences()


def _examples(run: ReportedRun, model: Recommender, split: Split, n: int) -> list[Example]:
    """Cases from the best ranked to the worst, at even distances; without ranks the first cases."""
    cases = split.test
    n = min(n, len(cases))
    ranks = None if run.evaluation is None else run.evaluation.cases["rank"].to_numpy()
    order = np.arange(len(cases)) if ranks is None or len(ranks) != len(cases) else np.argsort(ranks, kind="stable")
    # the middle of each of n equal parts: neither the luckiest case nor the most hopeless
    chosen = order[((np.arange(n) + 0.5) / max(n, 1) * len(order)).astype(int)]
    found = []
    for at in chosen.tolist():
        history = cases.history.take(np.array([at]))
        times = None
        if model.method.inputs.times:
            times = history.histories.dated()[history.starts[0] : history.ends[0]].tolist()
        ids, target = split.data.items.id_list(history[0]), split.data.items.id_list(cases.targets[[at]])[0]
        try:
            told = model.explain(ids, target=target, times=times, unknown="drop")
        except ForethoughtError:
            continue  # nothing that the model knows
        rank = "" if ranks is None else f": what came next, {target}, was ranked {ranks[at]:g}"
        found.append(Example(f"{run.name}, user {split.data.users.id_list(history.users)[0]}{rank}", told))
    return found
