from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.backbones.bert4rec import BERT4Rec
from forethought.data.batches import Batch, history_batch, lists_batch, training_batch
from forethought.data.histories import Histories
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.methods.items import ItemLoss
from forethought.methods.masked_item import MaskedItem, MaskedItemModel

N_ITEMS = 30
ROWS = [[3, 1, 4, 1, 5, 9], [2, 6], [7, 8, 9, 10, 11, 12, 13, 14], [20, 21, 22]]
BACKBONE = BERT4Rec(width=8, window=8, ffn_width=16, dropout=0.0)


def model_of(**settings: object) -> MaskedItemModel:
    torch.manual_seed(0)
    model = MaskedItem(backbone=BACKBONE, item_std=0.5, **settings).build(DataSizes(N_ITEMS)).double()  # type: ignore[arg-type]
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.1
    return model


def training() -> Batch:
    return training_batch(Histories.from_lists(ROWS).all())


def fix_mask(model: MaskedItemModel, monkeypatch: pytest.MonkeyPatch, hidden: list[list[int]]) -> Tensor:
    masked = torch.zeros(len(hidden), max(map(len, ROWS)), dtype=torch.bool)
    for row, at in zip(masked, hidden, strict=True):
        row[at] = True
    monkeypatch.setattr(model, "_draw_mask", lambda lengths_B, slots: masked[: len(lengths_B), :slots])
    return masked


def test_as_many_items_are_hidden_as_asked_for() -> None:
    lengths = torch.tensor([1, 2, 5, 8, 50]).repeat(400)
    model = model_of(mask_share=0.4, last_item_share=0.0)
    masked = model._draw_mask(lengths, 50)
    assert not (masked & (torch.arange(50) >= lengths[:, None])).any()
    np.testing.assert_array_equal(masked.sum(1), np.maximum(np.round(0.4 * lengths.numpy()), 1))
    where = masked.view(400, 5, 50)[:, 2, :5].float().mean(0)  # every position alike
    np.testing.assert_allclose(where, 0.4, atol=0.1)


def test_in_a_share_of_rows_the_last_item_alone_is_hidden() -> None:
    lengths = torch.full((2000,), 20)
    masked = model_of(mask_share=0.5, last_item_share=0.25)._draw_mask(lengths, 20)
    alone = (masked.sum(1) == 1) & masked[:, -1]
    assert abs(alone.float().mean() - 0.25) < 0.04
    assert model_of(last_item_share=1.0)._draw_mask(torch.tensor([3, 1]), 3).tolist() == [
        [False, False, True],
        [True, False, False],
    ]


PAPER: dict[str, object] = {"projection": True, "loss": ItemLoss(cosine=False, temperature=1.0, bias=True)}


@pytest.mark.parametrize("settings", [PAPER, {"loss": ItemLoss(temperature=0.3)}])
def test_loss_is_the_formula(monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]) -> None:
    """Row by row: hide, encode alone, softmax over all items; a row's weight is (n - 1) / E[hidden] of the batch's."""
    model = model_of(mask_share=0.3, last_item_share=0.2, **settings)
    hidden = [[0, 5], [1], [2, 3, 7], [0]]
    fix_mask(model, monkeypatch, hidden)
    wanted, transitions = 0.0, sum(len(row) - 1 for row in ROWS)
    for row, at in zip(ROWS, hidden, strict=True):
        x = model.items.weight[row].clone()
        x[at] = model.mask
        states = model.backbone.encode(x[None], torch.tensor([len(row)])).states_BLD[0]
        if settings is not PAPER:
            scores = F.normalize(states, dim=-1) @ F.normalize(model.items.weight, dim=-1).T / 0.3
        else:
            scores = model.projection(states) @ model.items.weight.T + model.items.bias
        log_p = scores.detach().numpy() - np.log(np.exp(scores.detach().numpy()).sum(1, keepdims=True))
        expected = 0.8 * max(round(0.3 * len(row)), 1) + 0.2
        wanted -= sum(log_p[i, row[i]] for i in at) * (len(row) - 1) / expected / transitions
    assert model.loss(training()).total.item() == pytest.approx(wanted, rel=1e-12)


def test_weights_of_a_batch_sum_to_one() -> None:
    """With all scores equal every item costs log N, and so does the mean."""
    model = model_of(mask_share=0.4, last_item_share=0.0, loss=ItemLoss())
    model.items.weight.data.fill_(1.0)
    assert model.loss(training()).total.item() == pytest.approx(np.log(N_ITEMS))


def test_losses_of_several_processes_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = model_of(), Histories.from_lists(ROWS).all()
    masked = fix_mask(model, monkeypatch, [[0, 5], [1], [2, 3, 7], [0]])
    whole = model.loss(training_batch(rows)).total
    parts = []
    for rank in range(2):
        batch = training_batch(rows, rank=rank, world=2)
        monkeypatch.setattr(model, "_draw_mask", lambda lengths_B, slots, rank=rank: masked[rank::2, :slots])
        parts.append(model.loss(batch).total)
    torch.testing.assert_close(sum(parts), whole)
    ours = torch.autograd.grad(sum(parts), model.items.weight)[0]  # type: ignore[arg-type]
    torch.testing.assert_close(ours, torch.autograd.grad(whole, model.items.weight)[0])


def test_hidden_items_are_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = model_of(), []
    fix_mask(model, monkeypatch, [[0, 5], [1], [2, 3, 7], [0]])
    encode = model.backbone.encode
    monkeypatch.setattr(model.backbone, "encode", lambda x, *rest, **more: seen.append(x) or encode(x, *rest, **more))
    model.loss(training())
    changed = [[29, 1, 4, 1, 5, 28], [2, 27], [7, 8, 26, 25, 11, 12, 13, 24], [23, 21, 22]]
    model.loss(training_batch(Histories.from_lists(changed).all()))
    for b, row in enumerate(ROWS):
        assert torch.equal(seen[0][b, : len(row)], seen[1][b, : len(row)])


def test_user_states_are_read_at_a_mask_behind_the_history() -> None:
    model = model_of(**PAPER)
    batch = lists_batch([np.array(row[-7:]) for row in [*ROWS, []]], model.window)
    assert model.window == BACKBONE.window - 1
    states = model.user_states(batch).states_BD
    for row, state in zip([*ROWS, []], states, strict=True):
        x = torch.cat([model.items.weight[row[-7:]], model.mask[None]])[None]
        alone = model.backbone.encode(x, torch.tensor([x.shape[1]])).states_BLD[0, -1]
        torch.testing.assert_close(state, model.projection(alone), rtol=1e-10, atol=1e-10)
    padded = replace(batch, items_BL=torch.where(batch.valid_BL(), batch.items_BL, 17))
    torch.testing.assert_close(model.user_states(padded).states_BD, states)


def test_window_of_one_slot_is_refused() -> None:
    split = Split.__new__(Split)
    MaskedItem().check(split)
    with pytest.raises(ConfigError, match="not 1"):
        MaskedItem(backbone=BERT4Rec(window=1)).check(split)


def test_learns_a_circle() -> None:
    """Every item is followed by the next one: after a little training so are the recommendations."""
    torch.manual_seed(0)
    rows = [[(start + i) % N_ITEMS for i in range(6)] for start in range(N_ITEMS)]
    config = MaskedItem(
        backbone=BERT4Rec(width=32, window=8, ffn_width=32, dropout=0.0), last_item_share=0.5, item_std=0.2
    )
    model = config.build(DataSizes(N_ITEMS))
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    batch = training_batch(Histories.from_lists(rows).all())
    for _ in range(250):
        optimiser.zero_grad()
        model.loss(batch).total.backward()
        optimiser.step()
    histories = Histories.from_lists([row[:-1] for row in rows])
    with torch.inference_mode():
        thought = model.user_states(history_batch(histories.all(), model.window))
        ranks = model.rank_of(thought, torch.tensor([row[-1] for row in rows]))
    assert (ranks == 1).float().mean() > 0.9
    assert thought.steps_B.sum() == 0
