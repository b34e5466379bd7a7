"""Later targets: positions name an item that comes later in their row, by a geometric law, and nothing else changes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from forethought.aligning import aligned
from forethought.alignment.settings import Alignment
from forethought.backbones.bert4rec import BERT4Rec
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.batches import Batch, later_targets, lists_batch, varied
from forethought.data.reading import read
from forethought.data.splits import Split, leave_last_out
from forethought.errors import ConfigError
from forethought.methods.interface import Losses
from forethought.methods.masked_item import MaskedItem
from forethought.methods.next_item import NextItemModel
from forethought.recipes import METHODS
from forethought.runs import train
from forethought.training.settings import Training


@pytest.mark.parametrize("chance", [0.3, 0.9])
def test_a_target_is_as_much_later_as_a_truncated_geometric_law_says(chance: float) -> None:
    """Of the 4 targets from the first position on, by hand; a shorter row has fewer, and padding stays."""
    torch.manual_seed(0)
    draws = 20_000
    targets_BL = torch.tensor([[10, 11, 12, 13], [20, 21, 22, 99]]).repeat(draws, 1)
    lengths_B = torch.tensor([4, 3]).repeat(draws)
    drawn_BL = later_targets(targets_BL, lengths_B, chance)
    assert bool((drawn_BL[1::2, 3] == 99).all())
    for row, length in ((0, 4), (1, 3)):
        for at in range(length):
            likely = [chance**j for j in range(length - at)]
            counts = Counter(drawn_BL[row::2, at].tolist())
            assert set(counts) == set(targets_BL[row, at:length].tolist())  # each of them is met, and no other
            for j, weight in enumerate(likely):
                share = counts[int(targets_BL[row, at + j])] / draws
                assert share == pytest.approx(weight / sum(likely), abs=0.015)


def test_a_chance_near_one_stays_within_the_row() -> None:
    targets_BL = torch.arange(50).repeat(400, 1)
    drawn_BL = later_targets(targets_BL, torch.full((400,), 50), 1 - 1e-12)
    assert int(drawn_BL.max()) <= 49
    assert bool((drawn_BL >= targets_BL).all())


def test_a_batch_without_it_is_as_it_was() -> None:
    batch = replace(lists_batch([], 4), items_BL=torch.arange(6).view(2, 3), targets_BL=torch.arange(1, 7).view(2, 3))
    assert varied(batch, 9, input_noise=0.0, later=0.0) is batch


def test_training_names_later_items_and_shows_the_histories_as_they_are(
    split: Split, sasrec: SASRec, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """About p (1 - p^(n-1)) / (1 - p^n) of the positions with n targets left name a later one; in validation none."""
    seen: list[Batch] = []
    loss = NextItemModel.loss

    def losing(self: NextItemModel, batch: Batch) -> Losses:
        seen.append(batch)
        return loss(self, batch)

    monkeypatch.setattr(NextItemModel, "loss", losing)
    told = {}
    for chance in (0.0, 0.3):
        seen.clear()
        training = replace(quick, epochs=3, patience=3, later_targets=chance)
        train(Recipe(method=sasrec, training=training), split, tmp_path / f"{chance}")
        told[chance] = list(seen)
    moved, expected, positions = 0, 0.0, 0
    for plain, batch in zip(told[0.0], told[0.3], strict=True):
        assert torch.equal(plain.items_BL, batch.items_BL)
        assert plain.targets_BL is not None
        assert batch.targets_BL is not None
        for row, length in enumerate(batch.lengths_B.tolist()):
            nexts, named = plain.targets_BL[row].tolist(), batch.targets_BL[row].tolist()
            for at in range(length):
                left = length - at
                assert named[at] in nexts[at:length]
                moved += named[at] != nexts[at]
                expected += 0.3 * (1 - 0.3 ** (left - 1)) / (1 - 0.3**left)
                positions += 1
    assert moved / positions == pytest.approx(expected / positions, rel=0.1)


def test_what_hides_items_is_refused(split: Split, quick: Training, tmp_path: Path) -> None:
    both_ways = BERT4Rec(width=16, layers=1, heads=2, window=8, ffn_width=32)
    with pytest.raises(ConfigError, match="later_targets is for models that name what follows a history"):
        train(
            Recipe(method=MaskedItem(backbone=both_ways), training=replace(quick, later_targets=0.1)),
            split,
            tmp_path / "run",
        )


def test_rows_without_a_later_item_are_refused(sasrec: SASRec, quick: Training, tmp_path: Path) -> None:
    table = {"user_id": [1, 1, 1, 1, 2, 2, 2, 2], "item_id": [1, 2, 3, 4, 2, 3, 4, 1], "timestamp": [*range(8)]}
    with pytest.raises(ConfigError, match="nothing for later_targets to name"):
        train(
            Recipe(method=sasrec, training=replace(quick, later_targets=0.1)),
            leave_last_out(read(pl.DataFrame(table))),
            tmp_path / "run",
        )


def test_an_alignment_names_what_comes_next() -> None:
    recipe = METHODS["reg4rec"]()
    recipe = replace(recipe, training=replace(recipe.training, later_targets=0.3))
    assert aligned(recipe, Alignment()).training.later_targets == 0.0
