"""What a stage sets for itself: batches, precision, and the metric that selects."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from forethought import run_costs
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.batches import plan, windows
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.evaluation.flops import flops_per_epoch
from forethought.evaluation.ranking import rank_cases
from forethought.methods.interface import Stage
from forethought.methods.next_item import NextItemModel
from forethought.run_costs import training_cost
from forethought.runs import train
from forethought.training import loop, precision, validation
from forethought.training.precision import choose_for_stages
from forethought.training.progress import Quiet, Watch
from forethought.training.settings import Training

FIRST, SECOND = Stage(name="first"), Stage(name="second")
Stages = Callable[..., None]


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    """Gives SASRec the stages of a test."""
    return lambda *given: monkeypatch.setattr(NextItemModel, "stages", lambda method: given)


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def same(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(got[name], tensor) for name, tensor in wanted.items())


def test_a_stage_is_the_trainings_by_default() -> None:
    stage = Stage(name="train")
    assert (stage.batch_positions, stage.precision, stage.metric) == (None, None, "ndcg@10")
    settings = Training(batch_positions=77, precision="32")
    assert settings.of(stage) == settings
    own = settings.of(replace(stage, batch_positions=5, precision="bf16"))
    assert own == replace(settings, batch_positions=5, precision="bf16")
    with pytest.raises(ConfigError, match="batch_positions is 0, but must be"):
        settings.of(replace(stage, batch_positions=0))
    with pytest.raises(ConfigError, match="precision is 'fp8', but must be one of auto, 32, bf16"):
        settings.of(replace(stage, precision="fp8"))


# ---- batches


def test_a_stage_has_batches_of_its_own(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its schedule counts their steps, and what an epoch of it costs is counted in them."""
    asked: list[tuple[int, int]] = []
    rate = loop.learning_rate

    def noted(step: int, steps: int, settings: Training) -> float:
        asked.append((step, steps))
        return rate(step, steps, settings)

    monkeypatch.setattr(loop, "learning_rate", noted)
    stages(FIRST, replace(SECOND, batch_positions=32))
    run = train(Recipe(method=sasrec, training=replace(quick, patience=9)), split, tmp_path / "run")
    lengths = windows(split.train, sasrec.window).lengths - 1
    wide, narrow = (len(plan(lengths, positions, 0, 0)) for positions in (quick.batch_positions, 32))
    assert narrow > 2 * wide
    steps = [line["step"] for line in lines(tmp_path / "run")]
    assert np.diff([0, *steps]).tolist() == [
        *(len(plan(lengths, quick.batch_positions, 0, epoch)) for epoch in (0, 1)),
        *(len(plan(lengths, 32, 0, epoch)) for epoch in (2, 3)),
    ]
    assert {total for _, total in asked} == {2 * wide, 2 * narrow}
    counted: dict[str, Any] = {}

    def counting(*args: Any, **how: Any) -> float:
        counted.update(how)
        return flops_per_epoch(*args, **how)

    monkeypatch.setattr(run_costs, "flops_per_epoch", counting)
    assert training_cost(run, split)
    assert counted["positions"] == (32 if counted["stage"] == "second" else quick.batch_positions)


class Stop(Exception):
    pass


class StopIn(Quiet):
    """Somebody who stops the run at the start of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def begin_epoch(self, epoch: int, batches: int, done: int) -> None:
        if epoch == self.epoch:
            raise Stop


def test_resumed_in_a_stage_with_batches_and_a_metric_of_its_own(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, stages: Stages
) -> None:
    stages(FIRST, replace(SECOND, batch_positions=32, metric="mrr@20"))
    whole = train(Recipe(method=sasrec, training=quick), split, tmp_path / "whole").method.state_dict()
    with pytest.raises(Stop):
        train(Recipe(method=sasrec, training=quick), split, tmp_path / "cut", observer=StopIn(3))
    again = train(Recipe(method=sasrec, training=quick), split, tmp_path / "cut", resume=True).method.state_dict()
    assert same(dict(again), dict(whole))
    assert [line["step"] for line in lines(tmp_path / "cut")] == [line["step"] for line in lines(tmp_path / "whole")]


# ---- precision


@pytest.fixture
def has_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)


@pytest.mark.usefixtures("has_bf16")
def test_a_stage_has_a_precision_of_its_own(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, stages: Stages
) -> None:
    settings, said = replace(quick, precision="32"), io.StringIO()
    third = Stage(name="third", epochs=1)
    stages(FIRST, SECOND, third)
    train(Recipe(method=sasrec, training=settings), split, tmp_path / "plain")
    stages(FIRST, replace(SECOND, precision="bf16"), third)
    watch = Watch(Console(file=said, width=200))
    run = train(Recipe(method=sasrec, training=settings), split, tmp_path / "mixed", observer=watch)
    plain, mixed = ([line["loss"] for line in lines(tmp_path / name)] for name in ("plain", "mixed"))
    assert mixed[:2] == plain[:2]
    assert mixed[2] != plain[2]
    assert mixed[2] == pytest.approx(plain[2], rel=0.01)
    assert run.about["precision"] == "first 32, second bf16, third 32"
    told = [line for line in said.getvalue().splitlines() if line.startswith(("Stage", "The softmax", "Everything"))]
    assert [line.split(":")[0][:24] for line in told] == [
        "Stage first",
        "Stage second",
        "The softmax over the ite",
        "Stage third",
        "Everything is made in fl",
    ]


def test_on_a_gpu_all_stages_share_one_precision() -> None:
    def chosen(*given: Stage) -> dict[str, str]:
        found = choose_for_stages(Training(precision="bf16"), given, "cuda", 5000, walks=True)
        return {name: each.name for name, each in found.items()}

    assert chosen(FIRST, replace(SECOND, precision="bf16")) == {"first": "bf16", "second": "bf16"}
    with pytest.raises(ConfigError, match=r"Stage 'second' is to be trained in 32 and the training in bf16, but on a"):
        chosen(FIRST, replace(SECOND, precision="32"))


# ---- the metric that selects


def validated(monkeypatch: pytest.MonkeyPatch, ndcg: list[float], other: list[float]) -> None:
    """Validation NDCG@10 of each epoch, and the other metric of each that has one."""
    first, second = iter(ndcg), iter(other)
    monkeypatch.setattr(validation, "ndcg", lambda ranks, k: np.full(1, next(first)))
    monkeypatch.setattr(validation, "chosen_mean", lambda metric, ranks, lists: next(second))


def test_the_metric_of_a_stage_selects_and_stops_in_it(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(quick, schedule="constant", epochs=9, patience=2)
    validated(monkeypatch, [0.1, 0.3], [])
    two = train(
        Recipe(method=sasrec, training=replace(settings, epochs=2)), split, tmp_path / "two"
    ).method.state_dict()
    stages(replace(FIRST, metric="recall@5"))
    validated(monkeypatch, [0.3, 0.2, 0.4, 0.5], [0.1, 0.6, 0.2, 0.6])
    run = train(Recipe(method=sasrec, training=settings), split, tmp_path / "run")
    told = lines(tmp_path / "run")
    assert [(line["valid_ndcg@10"], line["valid_recall@5"]) for line in told] == [
        *((0.3, 0.1), (0.2, 0.6), (0.4, 0.2), (0.5, 0.6))
    ]
    assert run.outcome() | {"trained_s": 0} == {"epochs": 4, "best_epoch": 2, "valid_ndcg@10": 0.2, "trained_s": 0}
    assert same(dict(run.method.state_dict()), dict(two))


@pytest.mark.parametrize(("second", "best"), [([0.25, 0.2], 2), ([0.25, 0.35], 4), ([0.5, 0.4], 4)])
def test_between_stages_ndcg_decides(
    sasrec: SASRec,
    split: Split,
    quick: Training,
    tmp_path: Path,
    stages: Stages,
    monkeypatch: pytest.MonkeyPatch,
    second: list[float],
    best: int,
) -> None:
    """The second stage's pick is its last epoch; it becomes the run's where it is better than the first stage."""
    stages(FIRST, replace(SECOND, metric="recall@5"))
    validated(monkeypatch, [0.1, 0.3, *second], [0.1, 0.2])
    run = train(Recipe(method=sasrec, training=replace(quick, schedule="constant")), split, tmp_path / "run")
    assert run.outcome()["best_epoch"] == best
    first = load_file(tmp_path / "run/state/first.safetensors")
    assert same(dict(run.method.state_dict()), first) == (best == 2)


def test_what_is_logged_is_the_metric(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, stages: Stages
) -> None:
    """Counted anew from the ranks of the validation part."""
    stages(replace(FIRST, metric="mrr@3"))
    run = train(Recipe(method=sasrec, training=replace(quick, epochs=1)), split, tmp_path / "run")
    ranks = rank_cases(run.method, split.valid, exclude_history=run.about["exclude_history"]).ranks
    wanted = sum(1 / rank for rank in ranks.tolist() if rank <= 3) / len(ranks)
    assert lines(tmp_path / "run")[0]["valid_mrr@3"] == pytest.approx(wanted)
    stages(FIRST)
    train(Recipe(method=sasrec, training=replace(quick, epochs=1)), split, tmp_path / "plain")
    assert [key for key in lines(tmp_path / "plain")[0] if key.startswith("valid_")] == ["valid_ndcg@10", "valid_s"]


def test_an_unknown_metric_is_refused_before_anything_is_written(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, stages: Stages
) -> None:
    stages(replace(FIRST, metric="map@10"))
    with pytest.raises(ConfigError, match=r"There is no metric 'map@10': give recall, ndcg, mrr with a length"):
        train(Recipe(method=sasrec, training=quick), split, tmp_path / "run")
    assert not (tmp_path / "run").exists()
