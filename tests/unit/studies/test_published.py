"""Results that were found before: whether they are of the recipe that a study would train today."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from forethought.config import to_json
from forethought.studies import runner, variants

PUBLISHED = Path(__file__).parents[3] / "docs" / "results" / "runs"


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
