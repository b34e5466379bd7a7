"""The study of halting on a run that may stop before its first step, against loops and by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.splits import Split
from forethought.evaluation.metrics import ndcg
from forethought.evaluation.ranking import rank_cases
from forethought.evaluation.storage import plain
from forethought.methods.dtrec import DTRec
from forethought.reasoning.halting import Halting, Trace
from forethought.recommender import Recommender
from forethought.runs import train
from forethought.studies import first_exits, halting, halting_page, misread
from forethought.studies.catalogue import STUDIES
from forethought.studies.oracle import beside
from forethought.studies.page import Page
from forethought.studies.results import DatasetKey, Result
from forethought.training.settings import Training

SMALL = SASRec(width=16, heads=2, window=8, ffn_width=32, input_norm=True)
FREE = Halting(threshold=0.3, min_steps=0)
METHOD = DTRec(backbone=SMALL, first_clusters=4, most_clusters=12)


def trained(split: Split, folder: Path, **settings: Any) -> Recommender:
    training = Training(epochs=2, batch_positions=128, learning_rate=5e-3, warmup_steps=5)
    return train(Recipe(method=replace(METHOD, **settings), training=training), split, folder)


@pytest.fixture(scope="module")
def free(split: Split, tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    return trained(split, tmp_path_factory.mktemp("free") / "run", halting=FREE)


@pytest.fixture(scope="module")
def told(free: Recommender, split: Split) -> dict[str, Any]:
    """As its JSON is read."""
    return json.loads(json.dumps(plain(halting.probe(free, split, 0))))


def page_of(figures: dict[str, Any], folder: Path, variant: str = "dtrec-exit-0") -> str:
    page = Page(folder, "halting", "t", "q")
    halting_page.write(page, {variant: [Result(variant, DatasetKey("shop", "file"), 0, {}, figures)]})
    return page.write().read_text(encoding="utf-8")


def test_every_way_of_stopping_may_stop_before_the_first_step(
    told: dict[str, Any], free: Recommender, split: Split
) -> None:
    """Shares, and what those lose, recounted from the ranks."""
    points = {(p["way"], p["threshold"]): p for p in told["curve"] if p["rule"] in ("arh", "change", "entropy")}
    assert any(0 < p["at_start"]["share"] < 1 for p in points.values() if p["rule"] == "arh")
    assert any(p["at_start"]["share"] > 0 for p in points.values() if p["rule"] == "entropy")
    exclude = free.about["exclude_history"]
    depths = [
        rank_cases(free.method, split.test, exclude_history=exclude, halting=Halting(rule="fixed", max_steps=d))
        for d in range(4)
    ]
    values_Dn = np.stack([ndcg(of.ranks, 10) for of in depths])
    for point in points.values():
        way = Halting(rule=point["rule"], threshold=point["threshold"], min_steps=0)
        steps = rank_cases(free.method, split.test, exclude_history=exclude, halting=way).steps
        assert point["at_start"]["share"] == pytest.approx(np.mean([each == 0 for each in steps]))
        at = [values_Dn[int(each), n] for n, each in enumerate(steps)]
        assert point["ndcg@10"] == pytest.approx(np.mean(at))
        chance = sum((steps == d).mean() * values_Dn[d].mean() for d in range(4))
        assert point["at_start"]["chance"]["relative"] == pytest.approx(np.mean(at) / chance - 1)
        if not (steps == 0).any():
            assert point["at_start"]["those"] is None
        else:
            none, base = values_Dn[0, steps == 0].sum(), values_Dn[told["best_fixed"], steps == 0].sum()
            lost = none / base - 1 if base else None  # of nothing there is no share
            assert point["at_start"]["those"]["relative"] == pytest.approx(lost)
        first = 1 if point["rule"] == "change" else 0  # nothing has changed before the first step
        assert point["oracle"] == pytest.approx(beside(values_Dn, first, point["steps"], point["ndcg@10"]))


def test_chance_stops_before_the_first_step_too(told: dict[str, Any]) -> None:
    random = [p for p in told["curve"] if p["way"] == "random"]
    means = [p["steps"] for p in told["curve"] if p["way"] == "ARH, quantiles" and 0 < p["steps"] < 3]
    assert len(random) == len(means) > 0
    for point, steps in zip(random, means, strict=True):
        p = halting._chance(steps, 3, 0)
        assert point["threshold"] == pytest.approx(p)
        assert p * (1 - p) + 2 * p * (1 - p) ** 2 + 3 * (1 - p) ** 3 == pytest.approx(steps)
    assert any(point["at_start"]["share"] > 0 for point in random)


def test_thresholds_are_of_what_is_known(free: Recommender, split: Split, told: dict[str, Any]) -> None:
    """Change before the first step is unknown, entropy is known; the last step is no choice."""
    trace = halting._trace(free.method, split.valid)
    assert trace.first == 0
    assert trace.indicators_PT3[:, 0, 1:].isnan().all()
    for rule, column, first in (("entropy", 0, 0), ("change", 2, 1)):
        flat = np.array([[row[t][column] for t in range(first, 3)] for row in trace.indicators_PT3.tolist()]).ravel()
        want = sorted({float(np.quantile(flat, share)) for share in halting.QUANTILES})
        assert [p["threshold"] for p in told["curve"] if p["rule"] == rule] == pytest.approx(want)
    unknown = torch.full((4, 3), torch.nan)
    assert halting._thresholds(unknown) == []


def test_misread_begins_at_step_zero(told: dict[str, Any], free: Recommender, split: Split) -> None:
    rows = [row for row in told["misread"] if row["amount"] == 0]
    assert {row["rule"] for row in rows} == set(misread.RULES)
    trace = halting._trace(free.method, split.valid)
    for row in rows:
        way = Halting(rule=row["rule"], threshold=row["threshold"], min_steps=0)
        exclude = free.about["exclude_history"]
        assert row["steps"] == pytest.approx(
            rank_cases(free.method, split.test, exclude_history=exclude, halting=way).steps.mean()
        )
        values = misread.compared(trace, row["rule"])
        taken = []
        for each in values.tolist():
            stops = [v > row["threshold"] if row["rule"] == "arh" else v < row["threshold"] for v in each[:3]]
            taken.append(next((t for t, stop in enumerate(stops) if stop), 3))
        assert np.mean(taken) == pytest.approx(1.5, abs=0.25), "halfway between no step and all"
        assert misread.exits(values, row["threshold"], row["rule"], 0).tolist() == taken


def test_indicators_are_compared_where_they_are_known(told: dict[str, Any]) -> None:
    for name in ("entropy", "consistency", "change"):
        assert None not in told["indicators"][name].values()


def test_a_learnt_rule_reads_what_somebody_knows() -> None:
    features = torch.tensor(
        [[[0.5, torch.nan, torch.nan], [0.4, 0.1, 0.2]], [[0.7, torch.nan, torch.nan], [0.3, 0, 1]]]
    )
    halts = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    got = halting._features(features, halts, np.array([5, 9]))
    want = [[0.5, 0.4, 0.1, 0.2, 0.1, 0.2, 5], [0.7, 0.3, 0.0, 1.0, 0.3, 0.4, 9]]
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_depths_dealt_by_chance_by_hand() -> None:
    values_Dn = np.array([[0.5, 0.1, 0.3, 0.0], [1.0, 0.2, 0.6, 0.4]])
    steps_n = np.array([0.0, 1.0, 0.0, 0.0], dtype=np.float32)
    want = [0.75 * none + 0.25 * one for none, one in values_Dn.T]
    np.testing.assert_allclose(first_exits.dealt(steps_n, values_Dn), want)


def test_the_page_answers_in_words_and_rows(told: dict[str, Any], tmp_path: Path) -> None:
    text = page_of(told, tmp_path)
    assert first_exits.answer(told) in text
    assert "but for those that may stop before the first (dtrec-exit-0-shop-file-0)" in text
    table = text.split("those against best fixed depth |")[1].split("\n\n")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ") and "---" not in line]
    adapting = [p for p in told["curve"] if p["rule"] not in ("fixed", "soft")]
    shares = [f"{p['at_start']['share']:.1%}" for p in adapting]
    assert [
        row[3] for row in rows if row[0].split("| ")[1] not in ("learnt before the first step", "oracle at no loss")
    ] == shares
    assert rows[-1][0] == "| oracle at no loss"
    assert "nan" not in text


def test_a_run_that_takes_a_step_is_told_of_as_before(split: Split, tmp_path: Path) -> None:
    model = trained(split, tmp_path / "run")
    figures = json.loads(json.dumps(plain(halting.probe(model, split, 0))))
    assert "at_start" not in figures
    assert all("at_start" not in point for point in figures["curve"])
    text = page_of(figures, tmp_path / "page", "dtrec")
    assert "so can save no more than an oracle that must take one, too. A rule that is fitted" in text
    assert "without a step" not in text


def test_with_one_step_there_is_something_to_decide(split: Split, tmp_path: Path) -> None:
    """Whether to take it: by the halting net or by the entropy, while nothing has changed yet."""
    model = trained(split, tmp_path / "run", max_steps=1, halting=FREE)
    figures = json.loads(json.dumps(plain(halting.probe(model, split, 0))))
    assert {p["rule"] for p in figures["curve"]} >= {"arh", "entropy", "random"}
    assert not [p for p in figures["curve"] if p["rule"] == "change"]
    assert {row["rule"] for row in figures["misread"]} == {"arh", "entropy"}
    assert figures["fitted"] is not None
    assert "may stop before its first step" in page_of(figures, tmp_path / "page")


def test_nothing_is_known_of_a_trace_without_choices() -> None:
    none = Trace(torch.zeros(3, 1, 0), torch.zeros(3, 0, 3), torch.zeros(3, 0))
    assert misread.probe(none, lambda way: {}, lambda a, b: {}) == []
    assert misread.at_steps(torch.full((3, 2), torch.nan), "change", 1.0, 0) is None


def test_the_answer_follows_from_the_figures() -> None:
    def relative(mean: float, low: float, high: float) -> dict[str, Any]:
        return {"relative": mean, "relative_ci95": [low, high]}

    fixed = {"way": "fixed depth", "rule": "fixed", "steps": 2.0} | relative(0, 0, 0)
    start = {"share": 0.4, "those": None, "chance": relative(0.02, 0.01, 0.03)}
    point = {
        "way": "ARH",
        "rule": "arh",
        "threshold": 0.4,
        "steps": 1.5,
        "at_start": start,
        **relative(0, -0.005, 0.01),
    }
    point["valid"] = {"steps": 1.4, **relative(0.0, -0.005, 0.01)}
    figures = {
        "best_fixed": 2,
        "curve": [fixed, point],
        "bounds": {"oracle": {"steps_at_no_loss": 0.4}},
        "at_start": {"learnt": [{"steps": 1.0, "share": 0.5, **relative(0, -0.002, 0.002)}]},
    }
    said = first_exits.answer(figures)
    assert "saves 80.0% of the steps of the best fixed depth (2) without a loss, and leaves at least 60.0%" in said
    # half a step of two; the oracle saves 1.6
    assert "The halting net saves 25.0%, 31% of what the oracle saves" in said
    assert "(0.4) it leaves 40.0% of the cases without a step and takes 1.50 on average" in said
    assert "saves 50.0%: it leaves 50.0% without a step" in said
    assert "ARH is ahead of chance at 1 and behind it at 0 of 1 thresholds" in said
    alike = point | {"at_start": start | {"chance": relative(0.0, 0.0, 0.0)}}
    beside_it = first_exits.answer(figures | {"curve": [fixed, point, alike]})
    assert "behind it at 0 of 1 thresholds" in beside_it, "where all stop at one depth there is nothing to deal"
    more = figures | {"curve": [fixed, point | {"steps": 2.5}]}
    assert "The halting net does not, and takes 25.0% more" in first_exits.answer(more)
    tight = figures | {"bounds": {"oracle": {"steps_at_no_loss": 2.0}}}
    assert "The halting net saves 25.0%, where the oracle saves none: at" in first_exits.answer(tight)
    lost = figures | {"curve": [fixed, point | {"valid": {"steps": 1.4, **relative(-0.1, -0.2, 0.0)}}]}
    assert "The halting net does not: on validation it has no threshold" in first_exits.answer(lost)
    none = figures | {"best_fixed": 0, "curve": [fixed | {"steps": 0.0}, point], "at_start": {"learnt": []}}
    assert "The best fixed depth is none" in first_exits.answer(none)
    assert "no price of a step" in first_exits.answer(figures | {"at_start": {"learnt": []}})


def test_the_study_trains_it() -> None:
    assert "dtrec-exit-0" in STUDIES["halting"].variants
