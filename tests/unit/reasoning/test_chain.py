"""A chain behind every position is one row for each prefix: the same loss, the same gradients (DESIGN 1.2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from forethought.backbones.bert4rec import BERT4Rec
from forethought.backbones.gru4rec import GRU4Rec
from forethought.backbones.hstu import HSTU
from forethought.backbones.sasrec import SASRec
from forethought.data.batches import Batch, history_batch, training_batch, windows
from forethought.data.splits import Split
from forethought.methods.rearec import ReaRec, ReaRecModel
from forethought.reasoning.chain import History, initial_states_at_end, reason, reason_with_noise
from row_per_prefix import chain_states, prefix_rows, prl_loss

SMALL = {"width": 16, "window": 12, "dropout": 0.0}
BACKBONES = {
    "sasrec": SASRec(**SMALL, ffn_width=24, layers=2, input_norm=True, count_from="start"),
    "gru4rec": GRU4Rec(**SMALL),
    "hstu": HSTU(**SMALL, head_width=6),
    "bert4rec": BERT4Rec(**SMALL, ffn_width=24, input_norm=True),  # rows a prefix anyway: any count of positions
}


def given(name: str, split: Split, **changed: object) -> tuple[ReaRecModel, Batch]:
    torch.manual_seed(0)
    config = ReaRec(backbone=BACKBONES[name], steps=3, temperature_scale=1.5, draw_step=False, **changed)  # type: ignore[arg-type]
    model = config.build(split.data.sizes).double()
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.1
    return model, training_batch(windows(split.train, model.window).take(np.arange(8)))


@pytest.mark.parametrize("step_weights", ["mean", "sum"])
@pytest.mark.parametrize("name", BACKBONES)
def test_loss_and_gradients_are_those_of_a_row_per_prefix(
    name: str, step_weights: str, split: Split, same_gradients: Any
) -> None:
    model, batch = given(name, split, step_weights=step_weights)
    rows = prefix_rows(batch, pad_to=model.window)
    same_gradients(model, lambda: model.loss(batch).total, lambda: prl_loss(model, rows), within=1e-9)


@pytest.mark.parametrize("name", BACKBONES)
def test_inference_is_the_last_row(name: str, split: Split) -> None:
    """Behind the last position alone, on cached keys and values."""
    model, batch = given(name, split)
    rows = prefix_rows(batch)
    last = batch.lengths_B.cumsum(0) - 1
    initial_states = initial_states_at_end(
        model.backbone, model.items, History(batch.items_BL, batch.lengths_B, batch.times_BL)
    )
    for got, wanted in zip(
        reason(model.backbone, initial_states, model.step_embeddings), chain_states(model, rows), strict=True
    ):
        torch.testing.assert_close(got[:, 0], wanted[last], rtol=1e-9, atol=1e-9)


def test_noise_starts_from_clean_states(split: Split) -> None:
    """Without noise the second branch is the first; with noise its last step does not see the noise's sum."""
    model, batch = given("gru4rec", split)  # of a recurrent link nothing but the input and the hidden state is left
    initial_states = initial_states_at_end(model.backbone, model.items, History(batch.items_BL, batch.lengths_B))
    states = reason(model.backbone, initial_states, model.step_embeddings)
    still = reason_with_noise(model.backbone, initial_states, states, model.step_embeddings, 0.0)
    assert len(still) == 3
    for got, wanted in zip(still, states[1:], strict=True):
        torch.testing.assert_close(got, wanted)
    torch.manual_seed(1)
    noisy = reason_with_noise(model.backbone, initial_states, states, model.step_embeddings, 0.1)
    torch.manual_seed(1)
    wanted, chain = [], initial_states.chain
    for before, mark in zip(states[:-1], model.step_embeddings, strict=True):
        state, chain = model.backbone.reason(before + mark + 0.1 * torch.randn_like(before), chain)
        wanted.append(state)
    torch.testing.assert_close(torch.stack(noisy), torch.stack(wanted))
    assert not torch.allclose(noisy[0], states[1])


def test_dropout_is_drawn_anew_in_each_link(split: Split) -> None:
    config = ReaRec(backbone=replace(BACKBONES["sasrec"], dropout=0.5))  # type: ignore[type-var]
    model = config.build(split.data.sizes).train()
    batch = history_batch(split.test.history.take(np.arange(4)), model.window)
    initial_states = initial_states_at_end(model.backbone, model.items, History(batch.items_BL, batch.lengths_B))
    first, second = (reason(model.backbone, initial_states, model.step_embeddings)[-1] for _ in range(2))
    assert not torch.equal(first, second)
    first, second = (reason(model.backbone, initial_states, model.step_embeddings, dropout=False)[-1] for _ in range(2))
    assert torch.equal(first, second)
    assert all(part.training for part in model.backbone.modules())
