"""Later targets: what follows the next item has a part of the target, in falling shares, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from small_methods import built, small

from forethought.aligning import aligned
from forethought.alignment.settings import Alignment
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data.batches import Batch, LaterTargets, later_targets, lists_batch, training_batch, varied, windows
from forethought.data.reading import read
from forethought.data.splits import Split, leave_last_out
from forethought.errors import ConfigError
from forethought.methods.next_item import NextItem
from forethought.reasoning.neighbour_prior import NeighbourPrior
from forethought.recipes import METHODS
from forethought.run_checks import check_inputs
from forethought.runs import train
from forethought.training.settings import Training


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_target_holds_what_follows_in_falling_shares(share: float) -> None:
    """By hand: of a row of 6 the first position has 3 later items, the last none; a shorter row ends before."""
    targets_BL = torch.tensor([[10, 11, 12, 13, 14, 15], [20, 21, 22, 99, 99, 99]])
    items_BLK, shares_BLK, weight_BL = later_targets(targets_BL, torch.tensor([6, 3]), share)
    for row, length in ((0, 6), (1, 3)):
        for at in range(length):
            follow = targets_BL[row, at + 1 : min(at + 4, length)].tolist()
            weights = [share**j for j in range(1, len(follow) + 1)]
            held = {}
            for item, part in zip(items_BLK[row, at].tolist(), shares_BLK[row, at].tolist(), strict=True):
                if part:
                    held[item] = float(part * weight_BL[row, at])
            whole = 1 + sum(weights)
            assert held == pytest.approx({item: w / whole for item, w in zip(follow, weights, strict=True)})
            assert float(weight_BL[row, at]) == pytest.approx(sum(weights) / whole)


def test_a_batch_without_it_is_as_it_was() -> None:
    batch = replace(lists_batch([np.arange(3)], 4), targets_BL=torch.arange(1, 4)[None])
    assert varied(batch, 9, input_noise=0.0, later=0.0) is batch
    assert varied(batch, 9, input_noise=0.0, later=0.3).later is not None


PLAIN: dict[str, dict[str, Any]] = {
    "sasrec": {},
    "gru4rec": {},
    "rearec-erl": {"divergence_weight": 0.0},
    "rearec-prl": {"contrast_weight": 0.0},
    "dtrec": {"prototype_weight": 0.0},
    "lares": {"trajectory_weight": 0.0, "step_weight": 0.0},
    "igr-sr": {},
    "rpg": {},
    "reg4rec": {},
}
"""Methods without what else in their losses knows the target."""


@pytest.mark.parametrize("name", PLAIN)
def test_a_loss_is_the_mixture_of_those_of_each_target(name: str, split: Split) -> None:
    """A cross-entropy is linear in its target, so that each part may be had by naming that item alone."""
    config = replace(small(name), **PLAIN[name])  # type: ignore[type-var]
    torch.manual_seed(0)
    model = built(name, split).double() if name in ("rpg", "reg4rec") else config.build(split.data.sizes).double()
    if name == "igr-sr":
        model.begin_stage(model.stages()[-1].name)
    model.begin_epoch(99)
    batch = training_batch(windows(split.train, model.window).take(np.arange(12)))
    assert batch.targets_BL is not None
    others_BL = torch.randint(split.data.n_items, batch.targets_BL.shape)
    weight_BL = torch.rand(batch.targets_BL.shape, dtype=torch.float64)

    def of(given: Batch) -> float:
        torch.manual_seed(1)  # whatever is drawn
        made = model.loss(given)
        return float(made.parts["items" if name == "reg4rec" else "named" if name == "igr-sr" else "loss"])

    later = LaterTargets(others_BL[..., None], torch.ones(*others_BL.shape, 1, dtype=torch.float64), weight_BL)
    mixed, plain = of(replace(batch, later=later)), of(batch)
    none, all_of_it = torch.zeros_like(weight_BL), torch.ones_like(weight_BL)
    assert of(replace(batch, later=later._replace(weight_BL=none))) == pytest.approx(plain, rel=1e-9)
    instead = of(replace(batch, targets_BL=others_BL))
    whole = of(replace(batch, later=later._replace(weight_BL=all_of_it)))
    if name != "dtrec":  # whose figures know the next item alone
        assert whole == pytest.approx(instead, rel=1e-9)
    rest = of(replace(batch, later=later._replace(weight_BL=1 - weight_BL)))
    assert mixed + rest == pytest.approx(plain + whole, rel=1e-9)
    assert mixed != pytest.approx((plain + whole) / 2, rel=1e-6)  # each position has a weight of its own


def test_training_shares_the_target_and_shows_the_histories_as_they_are(
    split: Split, sasrec: SASRec, quick: Training, tmp_path: Path, trained_on: list[Batch]
) -> None:
    told = {}
    for share in (0.0, 0.3):
        trained_on.clear()
        training = replace(quick, epochs=2, patience=2, later_targets=share)
        train(Recipe(method=sasrec, training=training), split, tmp_path / f"{share}")
        told[share] = list(trained_on)
    for plain, batch in zip(told[0.0], told[0.3], strict=True):
        assert torch.equal(plain.items_BL, batch.items_BL)
        assert plain.targets_BL is not None
        assert batch.targets_BL is not None
        assert torch.equal(plain.targets_BL, batch.targets_BL)
        assert plain.later is None
        expected = later_targets(plain.targets_BL, plain.lengths_B, 0.3)
        assert batch.later is not None
        assert all(torch.equal(a, b) for a, b in zip(batch.later, expected, strict=True))


@pytest.mark.parametrize("name", ["bert4rec", "tiger", "sse-pt", "lightrec-authors"])
def test_losses_that_do_not_take_them_are_refused(name: str, split: Split, quick: Training, tmp_path: Path) -> None:
    recipe = Recipe(method=small(name), training=replace(quick, later_targets=0.1))
    with pytest.raises(ConfigError, match="later_targets share a softmax over all items"):
        train(recipe, split, tmp_path / "run")


def test_a_teacher_a_prior_and_a_split_catalogue_leave_no_room_for_them(split: Split, quick: Training) -> None:
    training = replace(quick, later_targets=0.1)
    taught = NextItem(backbone=small("sasrec").backbone, teacher="a run")  # type: ignore[union-attr]
    prior = replace(small("rearec-prl"), prior=NeighbourPrior(weight=0.5))  # type: ignore[type-var]
    for config in (taught, prior):
        with pytest.raises(ConfigError, match="later_targets share a softmax"):
            check_inputs(config.build(split.data.sizes), training, split)
    plain = small("sasrec").build(split.data.sizes)
    with pytest.raises(ConfigError, match="later_targets need all item vectors in every process"):
        check_inputs(plain, replace(training, split_catalogue=True), split)
    check_inputs(plain, training, split)


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
