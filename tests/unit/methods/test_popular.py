"""Popular, counted again by hand: all of the training part, or its last days."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from forethought.config import Recipe
from forethought.data.batches import lists_batch
from forethought.data.histories import Histories, Spans
from forethought.data.interactions import DataSizes
from forethought.data.popularity import DAY
from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError
from forethought.evaluation.ranking import rank_cases
from forethought.methods.popular import Popular, PopularModel
from forethought.runs import train


def fitted(train_part: Spans, n_items: int, days: float | None = None) -> PopularModel:
    model = Popular(days=days).build(DataSizes(n_items))
    model.fit_closed_form(train_part)
    return model


def test_counts_are_those_of_the_training_part(split: Split) -> None:
    wanted = np.zeros(split.data.n_items)
    for user in range(len(split.train)):
        for item in split.train[user]:
            wanted[item] += 1
    assert np.array_equal(fitted(split.train, split.data.n_items).counts_N.numpy(), wanted)


def test_only_the_last_days_count() -> None:
    """Counted back from the last time of the training part, not of what is held out."""
    flat = Histories(
        np.array([0, 1, 2, 3, 1, 1, 2], np.int32), np.array([0, 4, 7]), np.array([0, 5, 10, 99, 8, 9, 99]) * DAY
    )
    part = Spans(flat, np.arange(2), np.array([0, 4]), np.array([3, 6]))  # the last of each is held out
    assert fitted(part, 4).counts_N.tolist() == [1, 3, 1, 0]
    assert fitted(part, 4, days=5).counts_N.tolist() == [0, 2, 1, 0]  # day 5 is five days before day 10
    assert fitted(part, 4, days=5.001).counts_N.tolist() == [0, 3, 1, 0]
    assert fitted(part, 4, days=0.001).counts_N.tolist() == [0, 0, 1, 0]


def test_equal_counts_are_ties_and_the_history_is_left_out(split: Split) -> None:
    counts_N = split.train.item_counts(split.data.n_items)
    ranks = rank_cases(fitted(split.train, split.data.n_items), split.test, exclude_history=True).ranks
    for row, rank in enumerate(ranks):
        candidate_N = np.ones(len(counts_N), bool)
        candidate_N[split.test.history[row]] = False
        own = counts_N[split.test.targets[row]]
        assert rank == 1 + (counts_N[candidate_N] > own).sum() + ((counts_N[candidate_N] == own).sum() - 1) / 2
    assert (ranks % 1 == 0.5).any()


def test_counts_beyond_float32_are_told_apart() -> None:
    model = Popular().build(DataSizes(3))
    model.counts_N.copy_(torch.tensor([2.0**24, 2.0**24 + 1, 5.0], dtype=torch.float64))
    read = model.user_states(lists_batch([np.array([2])], model.window))
    assert model.rank_of(read, torch.tensor([0])).tolist() == [2.0]
    assert model.recommend(read, 2)[0].tolist() == [[1, 0]]


def test_days_need_times(split: Split, tmp_path: Path) -> None:
    bare = replace(split.train.histories, times=None)
    undated = replace(split, train=replace(split.train, histories=bare))
    with pytest.raises(DataError, match=r"days counts back .* only an order: leave it out"):
        train(Recipe(method=Popular(days=30)), undated, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for wrong in (0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="Popular's days is"):
            Popular(days=wrong)
