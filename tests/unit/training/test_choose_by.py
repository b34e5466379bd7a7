"""The epoch that is kept is the best by the metric that was asked for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import forethought as ft
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.plugins import PluginError

METRICS = """
calls = []

def later(ranks):
    # worse from one epoch to the next, whatever the model does
    calls.append(len(ranks))
    return ranks * 0 + 1 / len(calls)

def long(ranks, lists):
    return (lists >= 0).mean(axis=1)

def beyond(ranks):
    return ranks
"""


@pytest.fixture
def metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "choosing_metrics.py").write_text(METRICS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield "choosing_metrics"
    sys.modules.pop("choosing_metrics", None)


def recipe(by: str, epochs: int = 3) -> ft.Recipe:
    training = ft.Training(epochs=epochs, batch_positions=256, choose_by=by, precision="32")
    return ft.Recipe(method=ft.SASRec(width=8, layers=1, heads=1, window=8), training=training)


def test_a_metric_of_ones_own_chooses(metrics: str, split: Split, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="--plugin choosing_metrics"):
        ft.train(recipe(f"{metrics}:later"), split, tmp_path / "run")
    __import__(metrics)
    run = ft.train(recipe(f"{metrics}:later"), split, tmp_path / "run")
    assert run.outcome()["best_epoch"] == 1
    assert run.outcome()["valid_later"] == 1.0
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["valid_later"] for line in lines if "valid_later" in line] == pytest.approx([1, 1 / 2, 1 / 3])
    sys.modules.pop(metrics)
    assert ft.load(tmp_path / "run").outcome()["best_epoch"] == 1  # and needs nothing of it any more
    __import__(metrics)
    assert ft.train(recipe(f"{metrics}:long", 1), split, tmp_path / "lists").outcome()["valid_long"] > 0.9


def test_one_of_ours_chooses(split: Split, tmp_path: Path) -> None:
    run = ft.train(recipe("recall@1"), split, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    values = [line["valid_recall@1"] for line in lines if "valid_recall@1" in line]
    assert run.outcome()["valid_recall@1"] == max(values)
    assert run.outcome()["best_epoch"] == values.index(max(values)) + 1


def test_what_cannot_choose_is_told(metrics: str, split: Split, tmp_path: Path) -> None:
    __import__(metrics)
    with pytest.raises(ConfigError, match="must lie between 0 and 1"):
        ft.train(recipe(f"{metrics}:beyond"), split, tmp_path / "run")
    with pytest.raises(ConfigError, match="must be text like ndcg@10"):
        ft.Training(choose_by="precision@3")
    with pytest.raises(ConfigError, match="would change nothing"):
        ft.train(ft.Recipe(method=ft.Popular(), training=ft.Training(choose_by="recall@5")), split, tmp_path / "p")
