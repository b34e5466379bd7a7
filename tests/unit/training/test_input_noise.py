"""Items that training histories are shown in place of their own: how many, which, and where never."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from forethought.backbones.bert4rec import BERT4Rec
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.batches import Batch
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.methods.igr_sr import IGRSR, IGRSRModel
from forethought.methods.interface import DenseStates, Losses
from forethought.methods.masked_item import MaskedItem
from forethought.methods.next_item import NextItemModel
from forethought.runs import train
from forethought.training.settings import Training


def pairs(split: Split) -> set[tuple[int, int, int]]:
    """(user, item, the item that follows it) of the training part."""
    train = split.train
    return {
        (int(user), int(train.histories.items[at]), int(train.histories.items[at + 1]))
        for user, start, end in zip(train.users, train.starts, train.ends, strict=True)
        for at in range(start, end - 1)
    }


def test_inputs_are_redrawn_and_nothing_else(
    sasrec: SASRec,
    split: Split,
    quick: Training,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trained_on: list[Batch],
) -> None:
    read: list[Batch] = []
    states = NextItemModel.user_states

    def reading(self: NextItemModel, batch: Batch, *args: object, **kwargs: object) -> DenseStates:
        read.append(batch)
        return states(self, batch)

    monkeypatch.setattr(NextItemModel, "user_states", reading)
    told = {}
    for chance in (0.0, 0.3):
        trained_on.clear(), read.clear()
        train(
            Recipe(method=sasrec, training=replace(quick, epochs=6, patience=6, input_noise=chance)),
            split,
            tmp_path / f"{chance}",
        )
        told[chance] = list(trained_on), list(read)
    moved, drawn = [], []
    for clean, noisy in zip(*(batches for batches, _ in told.values()), strict=True):
        assert clean.targets_BL is not None
        for name in ("targets_BL", "lengths_B", "times_BL", "users_B"):
            assert torch.equal(getattr(clean, name), getattr(noisy, name))
        other = (clean.items_BL != noisy.items_BL)[clean.valid_BL()]
        moved.append(other)
        drawn.append(noisy.items_BL[clean.valid_BL()][other])
    n = split.data.n_items
    assert torch.cat(moved).double().mean().item() == pytest.approx(0.3 * (1 - 1 / n), abs=0.015)
    assert len(torch.cat(drawn).unique()) == n
    for clean, noisy in zip(*(batches for _, batches in told.values()), strict=True):  # validation is never disturbed
        assert torch.equal(clean.items_BL, noisy.items_BL)


def test_each_batch_is_drawn_anew(sasrec: SASRec, split: Split, quick: Training, tmp_path: Path) -> None:
    """The same training rows, with other strangers: nothing is learned by heart that is not there."""
    known, strange = pairs(split), []
    with pytest.MonkeyPatch.context() as patch:
        loss = NextItemModel.loss

        def losing(self: NextItemModel, batch: Batch) -> Losses:
            assert batch.users_B is not None
            assert batch.targets_BL is not None
            users_BL = batch.users_B[:, None].expand_as(batch.items_BL)
            told = torch.stack([users_BL, batch.items_BL, batch.targets_BL])[:, batch.valid_BL()].T
            strange[-1:] = [strange[-1] | ({tuple(row) for row in told.tolist()} - known)]
            return loss(self, batch)

        patch.setattr(NextItemModel, "loss", losing)
        patch.setattr(NextItemModel, "begin_epoch", lambda *_: strange.append(set()))
        train(Recipe(method=sasrec, training=replace(quick, input_noise=0.2)), split, tmp_path / "run")
    first, second = strange
    assert len(first) > 20
    assert len(first & second) < 0.2 * len(first)


def test_who_hides_items_of_a_history_is_left_alone(split: Split, quick: Training, tmp_path: Path) -> None:
    """They would learn to name strangers. An encoder of that kind is trained as it is, what reads it later is not."""
    both_ways = BERT4Rec(width=16, layers=1, heads=2, window=8, ffn_width=32)
    with pytest.raises(ConfigError, match="hides items of the history: leave it out"):
        train(
            Recipe(method=MaskedItem(backbone=both_ways), training=replace(quick, input_noise=0.1)),
            split,
            tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()
    model = IGRSRModel(IGRSR(backbone=both_ways), split.data.n_items)
    told = {}
    for stage in model.stages():
        model.begin_stage(stage.name)
        told[stage.name] = model.inputs.masked_items
    assert told == {"encoder": True, "reasoner": False}


def test_an_encoder_that_hides_items_reads_clean_histories(
    split: Split, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, strange = pairs(split), {"encoder": 0, "reasoner": 0}
    loss = IGRSRModel.loss

    def losing(self: IGRSRModel, batch: Batch) -> Losses:
        assert batch.users_B is not None
        assert batch.targets_BL is not None
        users_BL = batch.users_B[:, None].expand_as(batch.items_BL)
        told = torch.stack([users_BL, batch.items_BL, batch.targets_BL])[:, batch.valid_BL()].T.tolist()
        strange[self.stage] += sum(tuple(row) not in known for row in told)
        return loss(self, batch)

    monkeypatch.setattr(IGRSRModel, "loss", losing)
    config = IGRSR(backbone=BERT4Rec(width=16, layers=1, heads=2, window=8, ffn_width=32), slots=1, prefix=1)
    train(Recipe(method=config, training=replace(quick, epochs=1, input_noise=0.3)), split, tmp_path / "run")
    assert strange["encoder"] == 0
    assert strange["reasoner"] > 50


@pytest.mark.parametrize("chance", [-0.1, 1.0])
def test_no_such_chance(chance: float) -> None:
    with pytest.raises(ConfigError, match=r"input_noise is .*, but must be a number from 0 to 1, but below 1"):
        Training(input_noise=chance)
