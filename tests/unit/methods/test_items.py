"""Negatives of sampled softmax: what they are drawn from, and that a training tells what it must."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.evaluation.settings import EvaluationConfig
from forethought.methods.items import ItemLoss, ItemTable, walks_items
from forethought.methods.next_item import NextItem, NextItemModel
from forethought.recommender import load
from forethought.references import resolve
from forethought.runs import evaluate, train
from forethought.training.settings import Training

COUNTS = torch.tensor([0, 1, 3, 16])


def table(proposal: Any, **more: Any) -> ItemTable:
    made = ItemTable(4, 3, ItemLoss(kind="sampled_softmax", proposal=proposal, **more), 0.02)
    if proposal != "uniform":
        made.target_counts_N = COUNTS
    return made


def test_the_default_draws_evenly() -> None:
    assert ItemLoss().proposal == "uniform"
    assert ItemTable(4, 3, ItemLoss(), 0.02).target_counts_N is None
    negatives, log_q = table("uniform", negatives=40_000).negatives(torch.tensor([3]))
    assert log_q.exp().tolist() == pytest.approx([0.25] * 4)
    assert (negatives.bincount() / 40_000).tolist() == pytest.approx([0.25] * 4, abs=0.01)


def test_popularity_draws_as_often_as_items_are_targets() -> None:
    negatives, log_q = table("popularity", negatives=40_000).negatives(torch.tensor([3]))
    expected = [1 / 21, 1 / 21, 3 / 21, 16 / 21]  # an item that never is one counts as one
    assert log_q.exp().tolist() == pytest.approx(expected)
    assert (negatives.bincount() / 40_000).tolist() == pytest.approx(expected, abs=0.01)


def test_in_batch_takes_the_targets_of_the_batch() -> None:
    targets = torch.tensor([3, 3, 1, 2, 3])
    negatives, log_q = table("in_batch", negatives=100).negatives(targets)
    assert sorted(negatives.tolist()) == sorted(targets.tolist())
    assert log_q.exp().tolist() == pytest.approx([1 / 21, 1 / 21, 3 / 21, 16 / 21])
    few, _ = table("in_batch", negatives=2).negatives(targets)
    assert len(few) == 2
    assert not Counter(few.tolist()) - Counter(targets.tolist())


@pytest.mark.parametrize("proposal", ["popularity", "in_batch"])
def test_the_loss_is_corrected_by_the_log_of_the_chances(proposal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written out; the loss always drew evenly before, whatever it was said to do."""
    items = table(proposal, negatives=5, cosine=False, temperature=1.0)
    drawn: list[Tensor] = []
    negatives = items.negatives

    def seen(targets_P: Tensor) -> tuple[Tensor, Tensor]:
        drawn.append(negatives(targets_P)[0])
        return drawn[-1], negatives(targets_P)[1]

    monkeypatch.setattr(items, "negatives", seen)
    states, targets, weights = torch.randn(3, 3), torch.tensor([3, 1, 2]), torch.tensor([0.2, 0.5, 0.3])
    ours = items.loss_of(states, targets, weights)
    scores, chances = states @ items.weight.T, COUNTS.clamp_min(1) / 21
    wanted = 0.0
    for row, target in enumerate(targets.tolist()):
        own = math.exp(scores[row, target]) / chances[target].item()
        rivals = [math.exp(scores[row, n]) / chances[n].item() for n in drawn[0].tolist() if n != target]
        wanted -= weights[row].item() * math.log(own / (own + sum(rivals)))
    assert ours.item() == pytest.approx(wanted, rel=1e-5)


def test_without_counts_it_is_refused_not_drawn_evenly() -> None:
    untold = ItemTable(4, 3, ItemLoss(kind="sampled_softmax", proposal="popularity"), 0.02)
    with pytest.raises(ConfigError, match="needs to know how often each item is a target"):
        untold.negatives(torch.tensor([1]))


def test_counts_are_those_of_training_targets_alone(split: Split, sasrec: SASRec) -> None:
    config = NextItem(backbone=sasrec, loss=ItemLoss(kind="sampled_softmax", proposal="in_batch"))
    model = NextItemModel(config, 40)
    model.fit_side_information(resolve(config, split))
    counted = Counter(item for row in range(len(split.train)) for item in split.train[row][1:].tolist())
    assert model.items.target_counts_N is not None
    assert model.items.target_counts_N.tolist() == [counted[item] for item in range(40)]


@pytest.mark.parametrize("proposal", ["popularity", "in_batch"])
def test_a_run_learns_with_it_and_keeps_its_counts(
    proposal: Any, split: Split, sasrec: SASRec, quick: Training, tmp_path: Path
) -> None:
    method = NextItem(backbone=sasrec, loss=ItemLoss(kind="sampled_softmax", proposal=proposal, negatives=20))
    train(Recipe(method=method, training=quick), split, tmp_path / "run")
    model = load(tmp_path / "run")
    assert evaluate(model, split, EvaluationConfig(resamples=10)).metrics["ndcg@10"].mean > 0
    assert int(model.method.items.target_counts_N.sum()) == int((split.train.lengths - 1).sum())  # type: ignore[union-attr]


def test_which_methods_walk_over_all_items(sasrec: SASRec) -> None:
    assert walks_items(NextItem(backbone=sasrec).build(DataSizes(9)))
    assert not walks_items(NextItem(backbone=sasrec, loss=ItemLoss(kind="bce")).build(DataSizes(9)))
