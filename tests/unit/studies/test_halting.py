"""Halting: its curves, what is told of them, and the page that is made of what is committed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_studies import TINY, on_every_device, study

from forethought.reasoning.halting import Trace
from forethought.studies import halting, halting_page, variants
from forethought.studies.catalogue import STUDIES
from forethought.studies.halting_points import CAPPED
from forethought.studies.runner import StudyContext, carry_out, write_page


def test_the_depth_told_of_is_chosen_on_validation() -> None:
    """The eager point looks sound on the test part only; of the sound ones the first has the fewest steps there."""

    def point(way: str, steps: float, test: float, valid: float, valid_steps: float) -> dict[str, Any]:
        of = {"relative": test, "relative_ci95": [test, test]}
        told = {
            "way": way,
            "rule": "arh",
            "threshold": steps,
            "steps": steps,
            "flops": 10 * steps,
            "ms": steps,
            "ndcg@10": 1 + test,
            **of,
        }
        return told | {"valid": {"steps": valid_steps, "relative": valid, "relative_ci95": [valid, valid]}}

    fixed = point("fixed depth", 3.0, 0.0, 0.0, 3.0) | {"rule": "fixed"}
    points = [point("ARH", 1.0, 0.5, -0.2, 1.0), point("ARH", 1.5, -0.3, 0.0, 1.4), point("ARH", 1.2, 0.0, 0.0, 1.6)]
    deepest = fixed | {"steps": 6.0, "flops": 60.0, "ms": 15.0, "ndcg@10": 0.5}
    said = halting_page.verdict({"best_fixed": 3, "curve": [fixed, deepest, *points]})
    assert "the threshold 1.5. On the test part it takes 1.50 steps" in said
    assert "NDCG@10 -30.0% [-30.0%, -30.0%], steps saved 50.0%, FLOPs saved 50.0%, time saved 50.0%" in said
    assert "taking all 6 steps: NDCG@10 +40.0%, steps saved 75.0%, FLOPs saved 75.0%, time saved 90.0%" in said
    nothing = points[0]["valid"] | {"relative_ci95": [None, None]}
    assert "no ARH point" in halting_page.verdict({"best_fixed": 3, "curve": [fixed, points[0] | {"valid": nothing}]})


@on_every_device
@pytest.mark.usefixtures("tiny")
def test_halting_curves(context: StudyContext) -> None:
    page = carry_out(study("dtrec", of="halting"), context, seeds=[0])
    told = json.loads(next((context.results / "halting").glob("dtrec-*.json")).read_text())
    fixed = [p for p in told["curve"] if p["way"] == "fixed depth"]
    assert [p["steps"] for p in fixed] == [0, 1, 2, 3]
    assert [p["flops"] for p in fixed] == sorted(p["flops"] for p in fixed)
    assert fixed[told["best_fixed"]]["relative"] == 0
    assert all(p["mix"]["relative"] == 0 for p in fixed[: 1 + told["best_fixed"]] if p["mix"]["shallow"] == p["steps"])
    for point in told["curve"]:
        mix = point["mix"]
        dealt = (1 - mix["share"]) * fixed[mix["shallow"]]["ndcg@10"] + mix["share"] * fixed[mix["deep"]]["ndcg@10"]
        assert mix["relative"] == pytest.approx(point["ndcg@10"] / dealt - 1)
        assert (1 - mix["share"]) * mix["shallow"] + mix["share"] * mix["deep"] <= point["steps"] + 1e-9
    assert {p["way"] for p in told["curve"]} >= {"soft", "ARH", "change (REE)", "entropy"}
    still = [n for n in told["misread"] if n["amount"] == 0]
    assert {n["rule"] for n in still} >= {"arh", "change", "entropy"}
    assert all(n["same_exit"] == 1.0 and n["relative"] == 0 for n in still)
    noisy = [n for n in told["misread"] if (n["kind"], n["amount"]) == ("bias", 2.0)]
    assert any(n["same_exit"] < 1 for n in noisy)
    assert told["fitted"].startswith("On the validation part arh needs")
    bounds, text = told["bounds"], page.read_text()
    assert bounds["oracle"]["ndcg@10"] >= max(p["ndcg@10"] for p in fixed)
    assert bounds["oracle"]["steps_at_no_loss"] <= told["best_fixed"]
    assert all(p["relative_ci95"][0] <= p["relative"] <= p["relative_ci95"][1] for p in bounds["learnt"])
    assert "An oracle that knows what comes next".lower() in text.lower()
    assert [p["oracle"]["ndcg@10"] for p in fixed[:2]] == pytest.approx([p["ndcg@10"] for p in fixed[:2]])
    for point in [p for p in told["curve"] if p["rule"] != "soft"]:
        assert point["oracle"]["ndcg@10"] >= point["ndcg@10"] - 1e-9, "no rule is above it"
        assert point["oracle"]["steps"] <= point["steps"] + 1e-9
        assert set(point["steps_by"]) == {"length", "entropy", "rank"}
        assert list(point["steps_quantiles"].values()) == sorted(point["steps_quantiles"].values())
    summary = text.split("## What is saved at no loss")[1].split("\n## ")[0]
    assert "| oracle saves at most |" in summary
    assert "| against fixed depths by chance |" in summary
    assert "Only what is better than that adapts." in summary
    rows = [line.split(" | ") for line in summary.splitlines() if line.startswith("| dtrec-")]
    tried = {p["rule"] for p in told["curve"] if "valid" in p}
    assert tried >= {"arh", "change", "entropy"}
    chosen = [name for rule, name in halting_page.CHOSEN.items() if rule in tried]
    assert [row[1:3] for row in rows] == [[str(told["best_fixed"]), name] for name in chosen]
    assert all(p["steps"] <= told["best_fixed"] for p in told["curve"] if p["way"] in CAPPED.values())
    assert "| by entropy before the first step | difference |" in text
    assert "| fixed depth |" in text
    assert "| ARH, fitted on validation |" in text
    assert "At one deviation, under noise" in text
    assert told["fitted"] in text


def test_the_page_of_halting_is_made_of_what_is_committed(tmp_path: Path) -> None:
    """Results of before quartiles, oracles and errors in deviations were asked for."""
    kept = Path(__file__).parents[3] / "docs" / "results"
    for part in ("runs", "halting"):
        (tmp_path / part).mkdir()
        for path in (kept / part).glob("dtrec*.json"):
            shutil.copy(path, tmp_path / part)
    text = write_page(STUDIES["halting"], tmp_path).read_text(encoding="utf-8")
    assert "| dtrec-amazon_beauty_2014-shuffle-0 | 1 | ARH | 0.3 | 1.33 |" in text


@pytest.mark.usefixtures("tiny")
def test_halting_curves_of_one_step(context: StudyContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to decide, so there are fixed depths and nothing under noise."""
    one = replace(TINY["dtrec"], method=replace(TINY["dtrec"].method, max_steps=1))
    monkeypatch.setitem(variants.VARIANTS, "dtrec", lambda: one)
    carry_out(study("dtrec", of="halting"), context, seeds=[0])
    told = json.loads(next((context.results / "halting").glob("dtrec-*.json")).read_text())
    assert [p["steps"] for p in told["curve"] if p["way"] == "fixed depth"] == [0, 1]
    assert told["misread"] == []
    assert told["fitted"] is None


@pytest.mark.parametrize(
    ("first", "best", "columns"), [(0, 2, 2), (0, 3, 3), (1, 3, 2), (1, 1, 0), (0, 0, 0), (1, 0, 0)]
)
def test_capped_rules_decide_at_the_steps_before_the_best_depth(first: int, best: int, columns: int) -> None:
    """Thresholds are of what is known there; what is compared after the best depth is never asked."""
    read = torch.arange(40.0).reshape(10, 4)[:, first:]  # a column a step, from the first on
    trace = Trace(torch.zeros(10, 4, 2), torch.stack([read / 100, read, read], -1), read / 50)
    ways = halting._capped(trace, best)
    assert all((way.min_steps, way.max_steps) == (first, best) for _, way in ways)
    for rule, of in (("doubt", read / 100), ("arh", read / 50)):
        wanted = np.quantile(of[:, :columns], halting.QUANTILES).tolist() if columns else []
        found = [way.threshold for name, way in ways if (way.rule, name) == (rule, CAPPED[rule])]
        assert found == pytest.approx(wanted)


def test_chance_takes_so_many_steps() -> None:
    for steps in (1.2, 2.0, 2.9):
        p = halting._chance(steps, 3)
        assert p + 2 * p * (1 - p) + 3 * (1 - p) ** 2 == pytest.approx(steps)
