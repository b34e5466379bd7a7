"""LADQ beside layers of one format: what is read off a training, how steps are measured, and what the page says."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from forethought.config import Recipe
from forethought.data.splits import Split
from forethought.errors import RunError
from forethought.methods.interface import Losses
from forethought.methods.next_item import NextItem, NextItemModel
from forethought.precision.linear import PrecisionLinear, make_precise
from forethought.precision.settings import LADQ
from forethought.recommender import Recommender
from forethought.runs import train
from forethought.studies import layer_precision
from forethought.studies.layer_precision import STUDIES, bits_a_weight, changes, largest_rise, probe
from forethought.studies.page import Page
from forethought.studies.results import DatasetKey, Result
from forethought.studies.variants import VARIANTS
from forethought.training.settings import Training


@pytest.fixture(autouse=True)
def few_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_precision, "TURNS", 2)
    monkeypatch.setattr(layer_precision, "WARM_TURNS", 1)
    monkeypatch.setattr(layer_precision, "PEAKS", 1)


def trained_with(ladq: LADQ, split: Split, quick: Training, sasrec: Any, folder: Path) -> Recommender:
    training = replace(quick, ladq=ladq, precision="32")
    return train(Recipe(method=NextItem(backbone=sasrec), training=training), split, folder)


def test_bits_rises_and_changes_by_hand() -> None:
    layers = make_precise(torch.nn.ModuleDict({"a": torch.nn.Linear(4, 6), "b": torch.nn.Linear(2, 4)}))
    assert bits_a_weight(layers, {"a": "fp8", "b": "fp32"}) == (24 * 8 + 8 * 32) / 32
    assert largest_rise([4.0, 2.0, 3.0, 2.7]) == pytest.approx(0.5)
    assert largest_rise([4.0, 3.0, 2.7]) == pytest.approx(-0.1)
    assert largest_rise([4.0]) is None
    first, second = {"a": "bf16", "b": "fp32"}, {"a": "fp8", "b": "bf16"}
    assert changes([first, first, second, {**second, "a": "bf16"}]) == 3  # type: ignore[list-item]
    assert changes([]) == changes([first]) == 0  # type: ignore[list-item]


def test_a_training_that_adapts_is_told_as_its_state_and_log_have_it(
    split: Split, quick: Training, sasrec: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ladq = LADQ(assign="budget", budget=0.4, every=3, samples=16, force=True)
    model = trained_with(ladq, split, quick, sasrec, tmp_path / "run")
    state, before = model.progress()["ladq"], {k: v.clone() for k, v in model.method.state_dict().items()}
    state["pinned"] = ["one", "two"]  # as two divergences leave it
    monkeypatch.setattr(Recommender, "progress", lambda _: {"ladq": state})
    with (tmp_path / "run" / "log.jsonl").open("a") as file:
        file.write(json.dumps({"warnings": ["not a loss"], "step": 99}) + "\n")
    told = probe(model, split, 0)
    counts = Counter(state["assignment"].values())
    assert len(counts) > 1  # so that a mean of bits is one
    assert told["layers"] == {each: counts[each] for each in ("fp32", "bf16", "fp8")}
    sizes = {name: value.numel() for name, value in before.items()}
    bits = {"fp32": 32, "bf16": 16, "fp8": 8}
    weighted = sum(bits[each] * sizes[f"{name}.weight"] for name, each in state["assignment"].items())
    assert told["bits"] == pytest.approx(weighted / sum(sizes[f"{name}.weight"] for name in state["assignment"]))
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert (told["largest_rise"], told["last_loss"]) == (losses[1] / losses[0] - 1, losses[1])
    assert (told["divergences"], told["samplings"]) == (2, len(state["history"]))
    assert told["samplings"] >= 2
    assert told["sampling_s"] > 0
    assert all(torch.equal(value, before[name]) for name, value in model.method.state_dict().items())
    assert not any(isinstance(part, PrecisionLinear) for part in model.method.modules())


def test_steps_are_measured_with_the_layers_as_assigned_and_in_float32(
    split: Split, quick: Training, sasrec: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained_with(LADQ(assign="fp8", force=True), split, quick, sasrec, tmp_path / "run")
    seen: list[set[str]] = []
    loss = NextItemModel.loss

    def watched(method: NextItemModel, batch: Any) -> Losses:
        assert method.training
        seen.append({part.precision for part in method.modules() if isinstance(part, PrecisionLinear)})
        return loss(method, batch)

    monkeypatch.setattr(NextItemModel, "loss", watched)
    monkeypatch.setattr(layer_precision, "TURNS", 3)
    spent = iter((50, 60, 2, 1, 8, 2, 2, 1))

    def seconds(work: Any, _: torch.device) -> float:
        work()
        return next(spent)

    monkeypatch.setattr(layer_precision, "seconds_of", seconds)
    told = probe(model, split, 0)
    narrow, plain = {"fp8"}, {"fp32"}
    turns = [narrow, plain, plain, narrow, narrow, plain, plain, narrow]
    assert seen == [*turns, plain, narrow]  # the last two: peaks
    assert told["bits"] == 8
    assert min(told["assigned_mb"], told["fp32_mb"]) > 0
    # 1, 8 and 1 s in float8 beside 2 s each in float32; what warms up does not count
    assert (told["over_fp32"], told["assigned_s"], told["fp32_s"]) == (0.5, 1, 2)
    assert "sampling_s" not in told  # one format for all is not sampled


def test_a_training_without_ladq_is_all_float32(trained: Recommender, split: Split) -> None:
    told = probe(trained, split, 0)
    assert told["layers"] == {"fp32": 4, "bf16": 0, "fp8": 0}
    assert (told["bits"], told["emulated"], told["divergences"], told["samplings"]) == (32, [], 0, 0)


def test_a_model_of_no_run_folder_has_no_training_to_tell_of(trained: Recommender, split: Split) -> None:
    loose = replace(trained, folder=None)
    with pytest.raises(RunError, match="read from a run folder, and this model has none"):
        probe(loose, split, 0)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_variants_differ_in_their_layers_alone(study: Any) -> None:
    first, *others = [VARIANTS[name]() for name in study.variants]
    assert first.training.ladq == LADQ()
    assert first.training.precision == "32"
    plain = {replace(each, training=replace(each.training, ladq=LADQ())) == first for each in others}
    assert plain == {True}
    asked = [each.training.ladq for each in others]
    assert all(each.force for each in asked)
    assert [each.assign for each in asked] == ["bf16", "fp8", "tolerance", "budget", "tolerance", "tolerance"]
    assert [each.every for each in asked[-2:]] == [LADQ.every // 2, LADQ.every * 2]


def test_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_precision, "results_table", lambda *_: None)
    one = {"layers": {"fp32": 1, "bf16": 3, "fp8": 0}, "bits": 20.0, "emulated": [], "divergences": 1}
    one |= {"largest_rise": -0.02, "last_loss": 2.0, "samplings": 4, "changes": 3}
    one |= {"assigned_mb": 3.0, "fp32_mb": 2.0, "over_fp32": 1.5, "fp32_s": 0.02, "sampling_s": 0.1}
    other = {**one, "layers": {"fp32": 0, "bf16": 2, "fp8": 2}, "bits": 12.0, "emulated": ["fp8"], "divergences": 2}
    other |= {"largest_rise": 0.25, "last_loss": 3.0, "over_fp32": 2.5, "changes": 0}
    key = DatasetKey("shop", "file")
    runs = [
        Result("v", key, n, {"metrics": {"ndcg@10": {"mean": 0.1 + n / 10}}}, p) for n, p in enumerate((one, other))
    ]
    page = Page(tmp_path, "layer-precision", "t", "q")
    layer_precision.write(page, {"v": runs, "unprobed": [Result("unprobed", key, 0, {}, None)]})
    text = page.write().read_text()
    assert "| v | 2 | 12% | 62% | 25% | 16.0 | fp8 | 2.00 | 3.0 | 2.0 | 4.0 | 5.0 |" in text
    assert "| v | 0.0707 | 3 | +25.0% | 2.5000 | 1.5 |" in text
    assert "| unprobed" not in text
