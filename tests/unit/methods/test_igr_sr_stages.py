"""What each stage of IGR-SR trains and leaves as it was, and what the ablations take out."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from igr_models import (
    BACKBONE,
    BACKBONES,
    N_ITEMS,
    REASONER,
    ROWS,
    every_backbone,
    model_of,
    step,
    training,
)
from torch.nn import functional as F

from forethought.data.batches import lists_batch
from forethought.data.interactions import DataSizes
from forethought.methods.igr_sr import IGRSR, Consistency, IGRSRModel
from forethought.methods.masked_item import MaskedItem
from forethought.methods.next_item import NextItem
from forethought.reasoning.chain import History
from forethought.reasoning.intent_reasoner import Reasoner
from forethought.reasoning.intents import Intents

# ---- stages


def test_the_encoder_is_trained_as_the_plain_method_would() -> None:
    batch = training()
    model = model_of()
    plain = NextItem(backbone=BACKBONE, loss=model.config.loss).build(DataSizes(N_ITEMS)).double()
    assert type(model.encoder) is type(plain)
    plain.load_state_dict(model.encoder.state_dict())
    model.begin_stage("encoder")
    assert model.loss(batch).total.item() == pytest.approx(plain.loss(batch).total.item(), abs=1e-12)
    asked = lists_batch([np.array(row) for row in ROWS], 8)
    torch.testing.assert_close(model.user_states(asked).states_BD, plain.user_states(asked).states_BD)
    torch.testing.assert_close(model.catalogue().comparable_ND, plain.catalogue().comparable_ND)


def test_bert4rec_is_trained_as_the_masked_method_would() -> None:
    batch, model = training(), model_of(backbone=BACKBONES[3])
    plain = MaskedItem(backbone=BACKBONES[3], loss=model.config.loss).build(DataSizes(N_ITEMS)).double()  # type: ignore[arg-type]
    assert type(model.encoder) is type(plain)
    plain.load_state_dict(model.encoder.state_dict())
    model.begin_stage("encoder")
    got, wanted = [], []
    for losses, method in ((got, model), (wanted, plain)):
        torch.manual_seed(5)
        losses += [method.loss(batch).total.item() for _ in range(3)]
    assert got == pytest.approx(wanted, abs=1e-12)
    asked = lists_batch([np.array(row) for row in ROWS], 8)
    torch.testing.assert_close(model.user_states(asked).states_BD, plain.user_states(asked).states_BD)


@every_backbone
def test_gradients_pass_through_the_frozen_encoder_and_leave_it_as_it_was(backbone: Any) -> None:
    model = model_of(backbone=replace(backbone, dropout=0.5))
    before = {name: tensor.clone() for name, tensor in model.encoder.state_dict().items()}
    gradients = step(model)
    for name in ("prefix", "slots", "projection.0.weight", "items.weight"):
        assert gradients[name].norm() > 0, name
    assert not [name for name in gradients if name.startswith("encoder.")]
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_frozen_encoder_drops_nothing() -> None:
    """So that of two losses in training, with no dropout elsewhere, nothing differs."""
    model, batch = model_of(backbone=replace(BACKBONE, dropout=0.5)), training()
    model.train()
    assert model.loss(batch).total.item() == model.loss(batch).total.item()
    model.begin_stage("encoder")
    model.train()
    assert model.loss(batch).total.item() != model.loss(batch).total.item()


def test_a_free_encoder_trains_on() -> None:
    model = model_of(freeze=False, backbone=replace(BACKBONE, dropout=0.5))
    gradients = step(model)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert gradients.keys() == trained
    assert gradients["encoder.items.weight"].norm() > 0
    assert model.loss(training()).total.item() != model.loss(training()).total.item()  # it drops units


def test_what_each_stage_trains() -> None:
    model = model_of(reasoner=replace(REASONER, width=8))
    model.begin_stage("encoder")
    assert {name.partition(".")[0] for name in step(model)} == {"encoder"}
    learned = model.encoder.items.weight.detach().clone()
    model.begin_stage("reasoner")
    assert torch.equal(model.items.weight, learned)  # IDR starts with the encoder's items, and leaves them alone
    model.zero_grad()
    step(model)
    assert torch.equal(model.encoder.items.weight, learned)
    assert not torch.equal(model.items.weight, learned)
    mine = model.items.weight.detach().clone()
    model.begin_stage("reasoner")  # of a trained model, nothing begins anew
    assert torch.equal(model.items.weight, mine)


@pytest.mark.parametrize("reasoner", [REASONER, replace(REASONER, width=8, items="random")])
def test_items_may_start_at_random(reasoner: Reasoner) -> None:
    """As asked for, or because the widths differ."""
    model = model_of(reasoner=reasoner)
    mine = model.items.weight.detach().clone()
    model.begin_stage("encoder")
    model.begin_stage("reasoner")
    assert torch.equal(model.items.weight, mine)


# ---- ablations


def test_without_lid_intents_are_the_same_for_everybody() -> None:
    model = model_of(intents="learned", consistency=Consistency())
    before = copy.deepcopy(model.encoder.state_dict())
    gradients = step(model)
    assert "prefix" not in gradients
    assert gradients["slots"].norm() > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.encoder.state_dict().items())
    n, row = 3, ROWS[3]
    x = (model.items.weight[row] + model.positions.weight[:n])[None]
    wanted = model.intent_reasoner(x, torch.tensor([n]), model.projection(model.slots)[None, None])[0][:, -1]  # type: ignore[arg-type]
    got = model.user_states(lists_batch([np.array(row)], 8)).states_BD
    torch.testing.assert_close(got, F.normalize(wanted, dim=-1))


@pytest.mark.parametrize("over", ["causal", "rows"])
def test_concatenation_trains(over: Any) -> None:
    model = model_of(over=over, reasoner=replace(REASONER, fusion="concat"), consistency=Consistency())
    gradients = step(model)
    assert gradients.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    assert min(gradients["prefix"].norm(), gradients["slots"].norm()) > 0


def test_no_prefix_and_one_slot() -> None:
    model = model_of(prefix=0, slots=1, consistency=Consistency())
    losses = model.loss(training())
    assert losses.total.isfinite()
    assert losses.parts["attention_entropy"] == 0.0
    assert "prefix" not in dict(model.named_parameters())


class Profiles(torch.nn.Module):
    """Intents from elsewhere: one vector for each history, of its first item."""

    width = 5

    def __init__(self) -> None:
        super().__init__()
        self.of = torch.nn.Embedding(N_ITEMS, 5)

    def forward(self, history: History, *, everywhere: bool) -> Intents:
        return Intents(self.of(history.items_BL[:, :1])[:, :, None])


@pytest.mark.parametrize("over", ["causal", "rows"])
def test_intents_may_come_from_elsewhere(over: Any) -> None:
    torch.manual_seed(0)
    config = IGRSR(backbone=BACKBONE, reasoner=REASONER, over=over)
    model = IGRSRModel(config, N_ITEMS, intents_from=Profiles()).double()
    gradients = step(model)
    assert gradients["intents_from.of.weight"].norm() > 0
    assert not [name for name in gradients if name.startswith("encoder.")]
    other = IGRSRModel(config, N_ITEMS, intents_from=Profiles()).double()
    other.load_state_dict(model.state_dict())
    asked = lists_batch([np.array(row) for row in ROWS], 8)
    assert torch.equal(other.eval().user_states(asked).states_BD, model.eval().user_states(asked).states_BD)
