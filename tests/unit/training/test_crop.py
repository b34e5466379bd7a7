"""Crops: a share of the training rows shown as random stretches of themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.batches import Batch, cropped, training_batch, windows
from forethought.data.histories import Histories
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.methods.ease import EASE
from forethought.methods.interface import Losses
from forethought.methods.next_item import NextItemModel
from forethought.runs import train, training_cost
from forethought.training.settings import Training

ROWS = Histories.from_lists([list(range(10 * n, 10 * n + length)) for n, length in enumerate([2, 3, 5, 10])]).all()


def test_crops_are_stretches_of_every_length_and_place() -> None:
    met: list[set[tuple[int, int]]] = [set() for _ in range(len(ROWS))]
    for draw in range(2_000):
        cut = cropped(ROWS, 1.0, 0, draw, 1)
        assert np.array_equal(cut.users, ROWS.users)
        for row, (start, end) in enumerate(zip(cut.starts - ROWS.starts, cut.ends - ROWS.starts, strict=True)):
            met[row].add((int(start), int(end)))
    for length, found in zip(ROWS.lengths.tolist(), met, strict=True):
        stretches = {(start, end) for start in range(length) for end in range(start + 2, length + 1)}
        whole = {(0, length)}
        assert found == (whole if length == 2 else stretches - whole)


def test_a_share_of_the_rows_is_cut() -> None:
    many = ROWS.take(np.repeat(3, 4_000))
    assert (cropped(many, 0.3, 0, 0, 1).lengths < 10).mean() == pytest.approx(0.3, abs=0.03)
    assert cropped(many, 0.0, 0, 0, 1) is many


def test_draws_depend_on_seed_epoch_and_batch_alone() -> None:
    many = ROWS.take(np.repeat(3, 50))
    torch.rand(1), np.random.default_rng().random()
    again = [
        cropped(many, 0.5, *draw).starts.tolist() for draw in [(0, 1, 2), (0, 1, 2), (1, 1, 2), (0, 2, 2), (0, 1, 3)]
    ]
    assert again[0] == again[1]
    assert len(set(map(tuple, again))) == 4


def test_what_is_cut_is_neither_read_nor_named(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, trained_on: list[Batch]
) -> None:
    """The weight is that of what is left, so that its losses are means of it; positions in the data are its own."""
    model = train(Recipe(method=sasrec, training=replace(quick, crop=0.5)), split, tmp_path / "run")
    items = torch.from_numpy(split.train.histories.items.astype(np.int64))
    for batch in trained_on:
        assert batch.starts_B is not None
        assert batch.targets_BL is not None
        at_BL = batch.starts_B[:, None] + torch.arange(batch.items_BL.shape[1])
        real_BL = batch.valid_BL()
        assert torch.equal(batch.items_BL[real_BL], items[at_BL[real_BL]])
        assert torch.equal(batch.targets_BL[real_BL], items[at_BL[real_BL] + 1])
        assert batch.weight == int(batch.lengths_B.sum())
    rows = windows(split.train, 8)
    shown = sum(batch.weight for batch in trained_on) / (quick.epochs * (rows.lengths - 1).sum())
    assert 0.6 < shown < 0.95
    whole = replace(model, config=replace(model.config, training=replace(quick, crop=0.0)))
    costs = [training_cost(each, split) for each in (model, whole)]
    assert costs[0] is not None
    assert costs[1] is not None
    assert costs[0]["flops_per_epoch"] < 0.99 * costs[1]["flops_per_epoch"]  # padding is read as before


def test_each_epoch_cuts_anew(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[tuple[int, int]]] = []
    loss = NextItemModel.loss

    def losing(self: NextItemModel, batch: Batch) -> Losses:
        assert batch.starts_B is not None
        seen[-1] |= set(zip(batch.starts_B.tolist(), batch.lengths_B.tolist(), strict=True))
        return loss(self, batch)

    monkeypatch.setattr(NextItemModel, "loss", losing)
    monkeypatch.setattr(NextItemModel, "begin_epoch", lambda *_: seen.append(set()))
    one_batch = replace(quick, crop=1.0, batch_positions=100_000)  # of all rows in the order of their lengths
    train(Recipe(method=sasrec, training=one_batch), split, tmp_path / "run")
    assert len(seen[0] & seen[1]) < 0.5 * len(seen[0])


def test_processes_share_the_same_crops() -> None:
    many = ROWS.take(np.arange(4).repeat(5))
    parts = [training_batch(cropped(many, 0.7, 0, 3, 4), rank=rank, world=2) for rank in (0, 1)]
    whole = training_batch(cropped(many, 0.7, 0, 3, 4))
    assert [part.weight for part in parts] == [whole.weight] * 2
    assert sum(int(part.lengths_B.sum()) for part in parts) == whole.weight


def test_crops_that_do_nothing_are_refused(sasrec: SASRec, split: Split, quick: Training, tmp_path: Path) -> None:
    recipe = Recipe(method=replace(sasrec, window=1), training=replace(quick, crop=0.5))
    with pytest.raises(ConfigError, match="nothing for crop to cut: leave it out"):
        train(recipe, split, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"training\.crop would change nothing"):
        train(Recipe(method=EASE(), training=Training(crop=0.5)), split, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"crop is 1\.5, but must be a number from 0 to 1"):
        Training(crop=1.5)
    assert not (tmp_path / "run").exists()
