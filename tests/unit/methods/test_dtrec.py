"""DTRec's loss against whole matrices, and the prototypes it is told from (arXiv 2512.14036)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from whole_dtrec import BACKBONES, given, loss_of_rows

import reference
from forethought.data.batches import Batch
from forethought.data.splits import Split
from forethought.methods.dtrec import DTRecModel
from forethought.methods.items import ItemLoss
from forethought.reasoning.chain import History, initial_states_at_end
from forethought.reasoning.halting import Halting
from row_per_prefix import chain_states

CASES = [
    *(
        {"backbone": name, "indicator_source": indicator_source}
        for name in BACKBONES
        for indicator_source in ("exact", "coarse")
    ),
    {"supervision": "fixed"},
    {"readout": "last"},
    {"supervision": "none", "indicator_source": "exact"},
    {"base_weight": 0.0, "ponder_weight": 0.2, "max_steps": 2},
    {"loss": ItemLoss(bias=True), "indicator_source": "exact"},
    {"prototype_temperature": 0.4},
    {"ponder_weight": 0.3, "ponder_rate": 0.2},
    {"prototype_choice": "nearest"},
    {"prototype_choice": "nearest", "readout": "last", "supervision": "fixed"},
    *(
        {"temperature_scale": 1.5, "supervision": supervision, "indicator_source": source}
        for supervision in ("dynamic", "none")
        for source in ("exact", "coarse")
    ),
    {"halting": Halting(min_steps=0), "indicator_source": "exact"},
    {"halting": Halting(min_steps=0), "indicator_source": "exact", "ponder_weight": 0.2, "readout": "last"},
    {"indicator_clusters": 7},
    {"indicator_source": "refined"},
    {"indicator_source": "refined", "backbone": "bert4rec", "indicator_clusters": 7, "temperature_scale": 1.5},
    {"indicator_source": "refined", "supervision": "none", "loss": ItemLoss(bias=True), "readout": "last"},
    {"indicator_source": "refined", "supervision": "none", "loss": ItemLoss(cosine=False, temperature=1.0)},
]


@pytest.mark.parametrize("settings", CASES, ids=lambda s: "-".join(str(v)[:12] for v in s.values()))
def test_loss_and_gradients_are_those_of_whole_matrices(
    settings: dict[str, Any], split: Split, same_gradients: Any
) -> None:
    model, batch, rows = given(split, **settings)
    weight = 0.0 if settings.get("supervision") == "none" else 0.4
    same_gradients(model, lambda: model.loss(batch).total, lambda: loss_of_rows(model, rows, weight))
    assert model.loss(batch).total.item() == pytest.approx(loss_of_rows(model, rows, weight).item(), rel=1e-9)


def test_nearest_prototypes_are_asked_for_by_the_state_alone(split: Split) -> None:
    """Other targets with the same history: the same prototypes, where those of the targets' clusters would differ."""
    model, _, rows = given(split, prototype_choice="nearest", readout="last")
    states = [F.normalize(r.detach(), dim=-1) for r in chain_states(model, rows)]
    for t in range(3):
        centres, sizes = model.prototypes.level(t)
        centres[2], sizes[2] = states[t + 1][0].float(), 0  # the nearest of all, but nobody's
        angles = (states[t + 1] @ F.normalize(centres, dim=-1).double().T).masked_fill(sizes == 0, -2)
        got = model.prototypes.nearest(t, states[t + 1])
        assert torch.equal(got, angles.argmax(-1))
        assert 2 not in got.tolist()
        assert len(set(got.tolist())) > 1


@pytest.mark.parametrize("loss", [ItemLoss(bias=True), ItemLoss(cosine=False, temperature=1.0)])
def test_the_nearest_centre_is_nearest_in_space_where_clusters_are(loss: ItemLoss, split: Split) -> None:
    model, _, rows = given(split, loss=loss)
    states = model.catalogue().comparable(chain_states(model, rows)[1].detach())
    centres = model.prototypes.level(0)[0][:, : states.shape[1]]
    wanted = (states[:, None] - centres).square().sum(-1).argmin(-1)
    assert torch.equal(model.prototypes.nearest(0, states), wanted)


@pytest.mark.parametrize("settings", [{"readout": "last"}, {"draw_step": True}])
def test_the_contrast_is_rearecs_on_top(
    settings: dict[str, Any], split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twins from clean states and noise; each is told from positions of other users with other targets."""
    model, batch, rows = given(split, contrast_weight=0.7, contrast_noise=0.3, contrast_from=2, **settings)
    noise = torch.randn(3, *batch.items_BL.shape, 16, dtype=torch.float64)
    drawn = iter(noise)
    monkeypatch.setattr(torch, "randn_like", lambda like: next(drawn))
    torch.manual_seed(1)
    before = model.loss(batch)
    model.begin_epoch(1)
    assert not model.contrasting
    model.begin_epoch(2)
    model.prototype_weight = 0.4
    torch.manual_seed(1)
    after = model.loss(batch)
    clean, valid = chain_states(model, rows), batch.valid_BL()
    users = batch.users_B[:, None].expand_as(batch.items_BL)[valid].tolist()  # type: ignore[index]
    targets = batch.targets_BL[valid].tolist()  # type: ignore[index]
    ignored = np.array([[u == v or i == j for v, j in zip(users, targets)] for u, i in zip(users, targets)])  # noqa: B905
    twins = noisy_states(model, rows, clean, [each[valid] for each in noise])
    terms = [
        reference.info_nce(unit(noisy), unit(state), model.config.loss.temperature, ignored)
        for noisy, state in zip(twins, clean[1:], strict=True)
    ]
    wanted = np.mean(terms, axis=0).sum() / batch.weight
    assert after.parts["contrast"].item() == pytest.approx(wanted, rel=1e-9)
    assert after.total.item() == pytest.approx(before.total.item() + 0.7 * wanted, rel=1e-9)
    assert "contrast" not in before.parts


def unit(states: torch.Tensor) -> np.ndarray:
    return reference.unit(states.detach().numpy())


def noisy_states(
    model: DTRecModel, rows: Batch, clean: list[torch.Tensor], noise: list[torch.Tensor]
) -> list[torch.Tensor]:
    """GRU4Rec's twin: the same memory, its own noisy inputs one after the other."""
    history = History(rows.items_BL, rows.lengths_B)
    roots = initial_states_at_end(model.backbone, model.items, history)
    chain, twins = roots.chain, []
    for state, embedding, each in zip(clean, model.step_embeddings, noise, strict=False):
        twin, chain = model.backbone.reason((state + embedding + 0.3 * each)[:, None], chain)
        twins.append(twin[:, 0])
    return twins


@pytest.mark.parametrize("indicator_source", ["coarse", "exact"])
def test_drawn_steps_are_the_whole_loss_on_average(
    indicator_source: str, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss and gradients of every step that may be drawn for a position, weighed by how often it is."""
    model, batch, _ = given(split, indicator_source=indicator_source, ponder_weight=0.1)
    assert batch.targets_BL is not None
    one = Batch(batch.items_BL[:1, :1], torch.tensor([1]), batch.targets_BL[:1, :1], None, None, 1)

    def told() -> list[torch.Tensor]:
        model.zero_grad()
        value = model.loss(one).total
        value.backward()
        return [value.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    wanted = told()
    model.config = replace(model.config, draw_step=True)
    shares: list[torch.Tensor] = []
    got = [torch.zeros_like(each) for each in wanted]
    for step in range(4):

        def draw(share_PS: torch.Tensor, n: int, step: int = step) -> torch.Tensor:
            shares.append(share_PS[0])
            return torch.full((len(share_PS), n), step)

        monkeypatch.setattr(torch, "multinomial", draw)
        each = told()
        got = [total + shares[-1][step] * part for total, part in zip(got, each, strict=True)]
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_warm_up_and_levels(split: Split) -> None:
    """lambda(e) = lambda_p min(1, e / 10); prototypes are made once an epoch; k_t as eq. 3 has it."""
    model, _, _ = given(split, warmup_epochs=10, max_steps=3, cluster_speed=0.5)
    told = []
    for epoch in (0, 1, 5, 10, 20):
        model.begin_epoch(epoch)
        told.append(model.prototype_weight)
    assert told == pytest.approx([0.0, 0.04, 0.2, 0.4, 0.4])
    assert model.prototypes.counts == [4, round(12 - 8 * math.exp(-0.5)), round(12 - 8 * math.exp(-1))]
    fixed, _, _ = given(split, supervision="fixed", max_steps=3, cluster_speed=0.5)
    assert fixed.prototypes.counts == [model.prototypes.counts[-1]] * 3


def test_a_weighted_readout_is_trained_as_the_last_state_is(split: Split) -> None:
    losses = {}
    for readout in ("last", "weighted"):
        model, batch, _ = given(split, readout=readout, draw_step=False)
        losses[readout] = model.loss(batch).total.item()
    assert losses["last"] == losses["weighted"]


def test_a_flat_trajectory_is_told(split: Split) -> None:
    """The figure is the mean cosine of the first and the last link, and `health` reads it where there are several."""
    model, batch, rows = given(split)
    states = chain_states(model, rows)
    wanted = F.cosine_similarity(states[1], states[-1], dim=-1).mean().item()
    assert model.loss(batch).parts["mean_cosine"].item() == pytest.approx(wanted)
    told = {"soft_steps": 2.0, "mean_cosine": 0.995}
    assert sum("the steps add nothing" in each for each in model.diagnostics(told).warnings) == 1
    assert not any("the steps add nothing" in each for each in model.diagnostics(told | {"mean_cosine": 0.98}).warnings)
    one, _, _ = given(split, max_steps=1)
    assert not any("the steps add nothing" in each for each in one.diagnostics(told | {"soft_steps": 1.0}).warnings)


def test_steps_are_not_called_useless_while_nothing_yet_makes_them_differ(split: Split) -> None:
    told = {"soft_steps": 2.0, "mean_cosine": 0.995}
    for settings, epoch, warned in (
        ({"warmup_epochs": 10}, 0, False),
        ({"warmup_epochs": 10}, 1, True),
        ({"warmup_epochs": 10, "prototype_weight": 0.0}, 0, True),
        ({"supervision": "none"}, 0, True),
    ):
        model, _, _ = given(split, **settings)
        model.begin_epoch(epoch)
        assert any("the steps add nothing" in each for each in model.diagnostics(told).warnings) == warned


def test_prototypes_are_those_of_the_items_as_they_are(split: Split) -> None:
    """Made anew at the beginning of each epoch, of vectors that have moved since."""
    model, _, _ = given(split)
    for epoch in (1, 2):
        model.items.weight.data += torch.randn_like(model.items.weight)
        model.begin_epoch(epoch)
        unit = F.normalize(model.items.weight.detach(), dim=-1)
        for t in range(3):
            (centres, sizes), cluster = model.prototypes.level(t), model.prototypes.cluster_TN[t]
            for c in range(len(centres)):
                if sizes[c]:
                    wanted = F.normalize(unit[cluster == c].mean(0), dim=-1)
                    torch.testing.assert_close(centres[c], wanted, rtol=1e-5, atol=1e-5)
