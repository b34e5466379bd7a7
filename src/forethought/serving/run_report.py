"""What the explorer tells of a run: how it was measured, and how healthy its data is."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from forethought.data.doctor import diagnose
from forethought.data.popularity import TRAIN_COUNT
from forethought.data.sources import is_query, is_remote
from forethought.errors import ForethoughtError
from forethought.evaluation.report import Evaluation
from forethought.serving.served_model import ServedModel

LARGEST = 200_000_000  # bytes of data that are examined while others wait for answers
MOST_KEPT = 16
_kept: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()
_alone = threading.Lock()


def report_of(model: ServedModel, folder: str) -> dict[str, Any]:
    """Training, evaluation, catalogue and data of a version; worked out once."""
    key = (model.name, model.version)
    with _alone:
        if key in _kept:
            return _kept[key] | _evaluation(Path(folder))
        try:
            outcome = model.run.outcome()
        except ForethoughtError:
            outcome = {}
        report = {"training": outcome, "catalogue": _catalogue(model), "health": _health(model.run.about)}
        _kept[key] = report
        while len(_kept) > MOST_KEPT:
            _kept.popitem(last=False)
    return report | _evaluation(Path(folder))


def _evaluation(folder: Path) -> dict[str, Any]:
    try:
        evaluation = Evaluation.read(folder).to_json()
    except ForethoughtError as error:
        return {"evaluation": None, "evaluation_note": str(error)}
    kept = ("protocol", "metrics", "lists", "groups", "cost", "halting")
    return {"evaluation": {key: evaluation[key] for key in kept}, "evaluation_note": None}


def _catalogue(model: ServedModel) -> dict[str, Any]:
    table, titles, n = model.run.item_table, model.metadata.titles, len(model.run.items)
    counts = table[TRAIN_COUNT].fill_null(0) if TRAIN_COUNT in table.columns else None
    return {
        "items": n,
        "with_title": None if titles is None else sum(title is not None for title in titles),
        "never_met": None if counts is None else int((counts == 0).sum()),
        "rarely_met": None if counts is None else int(((counts > 0) & (counts < 5)).sum()),
        "top_tenth": None if counts is None or not counts.sum() else _share_of_top_tenth(counts.sort(descending=True)),
        "categories": model.categories(20),
    }


def _share_of_top_tenth(counts: Any) -> float:
    return float(counts.head(max(1, len(counts) // 10)).sum() / counts.sum())


def _health(about: dict[str, Any]) -> list[dict[str, str]]:
    """What the doctor says of the data, where it still lies where it lay; nothing but files and folders is read."""
    path, columns = about.get("data_path"), about.get("columns") or {}
    if not isinstance(path, str) or is_query(path) or is_remote(path) or not Path(path).exists():
        return [{"level": "note", "text": "The data of this run does not lie here any more.", "mend": ""}]
    files = [Path(path)] if Path(path).is_file() else list(Path(path).glob("*.parquet"))
    if sum(file.stat().st_size for file in files) > LARGEST:
        mend = "Examine it with forethought doctor."
        return [{"level": "note", "text": "The data of this run is too large to be examined here.", "mend": mend}]
    try:
        asked = {key: columns[key] for key in ("user", "item", "time", "position", "items") if key in columns}
        findings = diagnose(path, **asked).findings
    except ForethoughtError as error:
        return [{"level": "note", "text": str(error), "mend": ""}]
    return [{"level": each.level, "text": each.text, "mend": each.mend} for each in findings]
