"""Results that were found before: whether they are of the recipe that a study would train today."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import polars as pl
import pytest

from forethought.config import to_json
from forethought.evaluation.metrics import named
from forethought.files import sha256_of
from forethought.studies import runner, variants

RESULTS = Path(__file__).parents[3] / "docs" / "results"
PUBLISHED = RESULTS / "runs"


def test_parts_beside_the_method_may_have_newer_settings_too() -> None:
    recipe = variants.VARIANTS["sasrec-full"]()
    parts = {"training": recipe.training, "features": recipe.features, "evidence": recipe.evidence}
    config = {"method": to_json(recipe.method)} | {name: asdict(part) for name, part in parts.items() if part}
    for part, newer in (("training", "crop"), ("features", "use"), ("evidence", "weeks")):
        del config[part][newer]
    assert runner._same_recipe(config, recipe)
    assert not runner._same_recipe(config | {"evidence": None}, recipe)
    assert not runner._same_recipe(config | {"evidence": {"neighbours": 7}}, recipe)
    assert not runner._same_recipe(config | {"evidence": {"neighbors": 7}}, recipe)


def test_published_results_are_of_the_recipes_of_today() -> None:
    """Otherwise a page tells of what nobody can train any more, and its study refuses to go on."""
    told = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in PUBLISHED.glob("*.json")}
    assert told
    other = [
        name
        for name, run in told.items()
        if not runner._same_recipe(run["config"], variants.VARIANTS[run["variant"]]())
    ]
    assert not other


def test_published_metrics_and_differences_follow_from_the_ranks_beside_them() -> None:
    """Of those that keep their ranks; older ones do not. A difference may be to a first row that was trained anew."""
    scores: dict[tuple[str, str], float] = {}

    def score(file: str, metric: str) -> float:
        if (file, metric) not in scores:
            ranks = (
                pl.read_parquet(RESULTS / "ranks" / file)["rank"].cast(pl.Float64).fill_null(float("inf")).to_numpy()
            )
            scores[file, metric] = float(named(metric)(ranks).mean())
        return scores[file, metric]

    for path in PUBLISHED.glob("*.json"):
        run = json.loads(path.read_text(encoding="utf-8"))
        if kept := run.get("ranks"):
            assert sha256_of(RESULTS / "ranks" / kept["file"]) == kept["sha256"]
            for name, metric in run["metrics"].items():
                assert score(kept["file"], name) == pytest.approx(metric["mean"], abs=1e-9), path.name
    for path in RESULTS.glob("*/differences-*.json"):
        for each in json.loads(path.read_text(encoding="utf-8"))["differences"]:
            if pairs := each.get("ranks"):
                base, mine = (
                    sum(score(files[side], each["metric"]) for files in pairs) / len(pairs) for side in (0, 1)
                )
                assert mine - base == pytest.approx(each["absolute"]["mean"], abs=1e-9), (path, each["method"])
                assert len(pairs) == len(each["seeds"])
    assert scores
