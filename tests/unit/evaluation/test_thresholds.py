"""Thresholds of halting that the validation part chooses, against every threshold one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.evaluation.metrics import ndcg
from forethought.evaluation.ranking import rank_cases
from forethought.evaluation.thresholds import compared, exits, fit_threshold, never, thresholds, traced
from forethought.methods.dtrec import DTRec
from forethought.methods.next_item import NextItem
from forethought.reasoning.halting import Halting
from forethought.recommender import Recommender
from forethought.runs import train
from forethought.studies import misread
from forethought.training.settings import Training

SMALL = SASRec(width=16, heads=2, window=8, ffn_width=32, input_norm=True)


@pytest.fixture(scope="module")
def run(split: Split, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    method = DTRec(backbone=SMALL, first_clusters=4, most_clusters=12)
    training = Training(epochs=2, batch_positions=128, learning_rate=5e-3, warmup_steps=5)
    return train(Recipe(method=method, training=training), split, tmp_path_factory.mktemp("run") / "dtrec")


@pytest.mark.parametrize("rule", ["arh", "change", "entropy", "doubt"])
@pytest.mark.parametrize("tolerance", [0.0, 0.05, 0.9])
def test_the_fewest_steps_within_the_tolerance(rule: Any, tolerance: float, run: Recommender, split: Split) -> None:
    got = fit_threshold(run.method, split.valid, exclude_history=False, halting=Halting(rule=rule), tolerance=tolerance)

    def measured(halting: Halting) -> tuple[float, float]:
        ranked = rank_cases(run.method, split.valid, exclude_history=False, halting=halting)
        return float(ranked.steps.mean()), float(ndcg(ranked.ranks, 10).mean())

    assert (got.all_steps, got.all_ndcg) == measured(Halting(rule="fixed"))
    assert (got.steps, got.ndcg) == measured(got.halting)
    assert got.ndcg >= (1 - tolerance) * got.all_ndcg
    assert got.halting.rule == rule
    values = compared(traced(run.method, split.valid), rule)
    for threshold in thresholds(values):
        steps, quality = measured(Halting(rule=rule, threshold=threshold))
        assert steps >= got.steps or quality < (1 - tolerance) * got.all_ndcg
        assert exits(values.double(), threshold, rule).double().mean() == pytest.approx(steps, abs=0.02)
    nobody = Halting(rule=rule, threshold=never(rule), min_steps=0)
    assert measured(nobody) == (got.all_steps, got.all_ndcg)
    if tolerance == 0.9:
        assert got.steps < 1.02
    assert f"needs {got.steps:.2f} steps of 3" in str(got)


def test_what_has_no_threshold_is_refused(run: Recommender, split: Split) -> None:
    with pytest.raises(ConfigError, match="The rule random compares nothing with a threshold that could be fitted"):
        fit_threshold(run.method, split.valid, exclude_history=False, halting=Halting(rule="random"))
    plain = NextItem(backbone=SMALL).build(split.data.sizes)
    with pytest.raises(ConfigError, match="does not reason, so there is nothing to halt"):
        fit_threshold(plain, split.valid, exclude_history=False)
    with pytest.raises(ConfigError, match="tolerance is 1"):
        fit_threshold(run.method, split.valid, exclude_history=False, tolerance=1.0)


def test_every_rule_begins_at_the_same_steps(run: Recommender, split: Split) -> None:
    trace = traced(run.method, split.valid)
    for rule in misread.RULES:
        values = compared(trace, rule)
        threshold = misread.at_steps(values, rule, 2.0)
        stops = values > threshold if rule == "arh" else values < threshold
        taken = [next((t for t in (1, 2) if row[t - 1]), 3) for row in stops.tolist()]
        assert np.mean(taken) == pytest.approx(2.0, abs=0.25)
        assert exits(values, threshold, rule).tolist() == taken


def test_the_sentence_follows_from_the_figures() -> None:
    def row(rule: str, kind: str, amount: float, same: float, relative: float, low: float, high: float) -> dict:
        named = {"rule": rule, "kind": kind, "amount": amount, "same_exit": same}
        return named | {"relative": relative, "relative_ci95": [low, high]}

    rows = [
        row(rule, kind, amount, 1.0 if amount == 0 else same, 0.0, -0.01, 0.01)
        for rule, same in (("arh", 0.4), ("entropy", 0.8))
        for kind in misread.KINDS
        for amount in misread.AMOUNTS
    ]
    said = misread.conclusion(rows)
    assert "under noise entropy keeps most of its exits (80%), arh fewest (40%)" in said
    assert "No rule loses NDCG@10 at any amount: no interval lies below zero, and the widest reaches -1.0%" in said
    lost = row("arh", "bias", 2.0, 0.1, -0.2, -0.3, -0.1)
    said = misread.conclusion([*rows, lost, lost | {"relative": -0.1}])
    assert "NDCG@10 is lost by arh: most by arh under bias of 2 (-20.0% [-30.0%, -10.0%])" in said
    unknown = [each | {"relative_ci95": [None, None]} for each in rows]
    assert "is not known from so few cases" in misread.conclusion(unknown)


def test_a_step_before_the_first_counts_from_zero(run: Recommender, split: Split) -> None:
    halting = replace(Halting(), min_steps=0)
    trace = traced(run.method, split.valid, halting)
    assert trace.halts_PT.shape[1] == 4
    values = compared(trace, "arh")
    threshold = float(torch.quantile(values[:, 0], 0.5))
    ranked = rank_cases(run.method, split.valid, exclude_history=False, halting=replace(halting, threshold=threshold))
    assert exits(values, threshold, "arh", first=0).double().mean() == pytest.approx(ranked.steps.mean(), abs=0.02)
    assert ranked.steps.min() == 0
