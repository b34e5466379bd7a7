"""IGR-SR by hand: both ways over positions, consistency, signs of health, settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from igr_models import (
    ROWS,
    TAU,
    every_backbone,
    model_of,
    step,
    training,
)
from torch import Tensor
from torch.nn import functional as F

from forethought.data.batches import Batch, history_batch, lists_batch, training_batch
from forethought.data.histories import Histories
from forethought.errors import ConfigError
from forethought.methods import igr_sr
from forethought.methods.igr_sr import IGRSR, Consistency, IGRSRModel
from forethought.methods.igr_sr_cases import named_cases
from forethought.reasoning.chain import History
from forethought.reasoning.diagnostics import of_intents
from forethought.reasoning.intent_reasoner import Reasoner
from forethought.reasoning.intents import intent_redundancy


def prefixes(batch: Batch) -> list[tuple[Batch, int, int]]:
    """Each prefix as a row of its own, its target, and the number of the row it is of."""
    assert batch.targets_BL is not None
    assert batch.times_BL is not None
    return [
        (
            Batch(
                batch.items_BL[row : row + 1, :end],
                torch.tensor([end]),
                times_BL=batch.times_BL[row : row + 1, :end],
            ),
            int(batch.targets_BL[row, end - 1]),
            row,
        )
        for row, length in enumerate(batch.lengths_B.tolist())
        for end in range(1, length + 1)
    ]


def cross_entropy(model: IGRSRModel, states_BD: Tensor, target: int) -> Tensor:
    """Of cosines over all items, in plain words."""
    scores = F.normalize(states_BD, dim=-1) @ F.normalize(model.items.weight, dim=-1).T / TAU
    return F.cross_entropy(scores, torch.tensor([target]))


# ---- the two ways over positions


@every_backbone
@pytest.mark.parametrize("over", ["causal", "rows"])
def test_loss_and_gradients_are_those_of_each_prefix_alone(backbone: Any, over: Any) -> None:
    """Each prefix read as it is when one recommends, in double precision."""
    model, batch = model_of(backbone=backbone, over=over), training()
    model.loss(batch).total.backward()
    got = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    each = [cross_entropy(model, model.user_states(alone).states_BD, target) for alone, target, _ in prefixes(batch)]
    wanted = torch.stack(each).sum() / batch.weight
    assert model.loss(batch).total.item() == pytest.approx(wanted.item(), abs=1e-9)
    wanted.backward()
    assert got.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(got[name], parameter.grad, rtol=1e-9, atol=1e-9)


@every_backbone
def test_both_ways_agree_on_a_history_of_one(backbone: Any) -> None:
    causal, one = model_of(backbone=backbone), Histories.from_lists([[5], [7]])
    rows = model_of(backbone=backbone, over="rows")
    rows.load_state_dict(causal.state_dict())
    one = history_batch(Histories(one.items, one.offsets, np.array([5, 9])).all(), 8)
    torch.testing.assert_close(causal.user_states(one).states_BD, rows.user_states(one).states_BD, rtol=1e-9, atol=1e-9)
    two = replace(lists_batch([np.array([5, 6])], 8), times_BL=torch.tensor([[5, 9]]))
    assert not torch.allclose(causal.user_states(two).states_BD, rows.user_states(two).states_BD)


def by_hand(model: IGRSRModel, items: list[int], kept: list[int] | None = None) -> Tensor:
    """h_u of one history, every part called on its own: intents of j reach item j, or those of the end all items."""
    n, backbone = len(items), model.encoder.backbone
    ends = range(1, n + 1) if model.config.over == "causal" else [n] * n
    intents = []
    for end in ends:
        x = model.encoder.items.weight[items[:end]] + backbone.positions.weight[:end]
        whole = torch.cat([model.prefix, x, model.slots])[None]
        raw = backbone.transformer(whole, torch.tensor([whole.shape[1]]))[0][0, -len(model.slots) :]
        intents.append(model.projection(raw))
    x = (model.items.weight[items] + model.positions.weight[:n])[None]
    t = torch.stack(intents)[None][:, :, kept if kept is not None else slice(None)]
    return model.intent_reasoner(x, torch.tensor([n]), t)[0][:, -1]


@pytest.mark.parametrize("over", ["causal", "rows"])
def test_user_states_by_hand(over: Any) -> None:
    model = model_of(over=over)
    thought = model.user_states(lists_batch([np.array(row) for row in ROWS], 8), trace=True)
    assert thought.alone_BMD is not None
    assert thought.steps_B.tolist() == [0] * 4
    torch.testing.assert_close(thought.weights_BM.sum(1), torch.ones(4).double())
    for row, items in enumerate(ROWS):
        wanted = F.normalize(by_hand(model, items), dim=-1)[0]
        torch.testing.assert_close(thought.states_BD[row], wanted, rtol=1e-9, atol=1e-9)
        for slot in range(4):
            wanted = F.normalize(by_hand(model, items, [slot]), dim=-1)[0]
            torch.testing.assert_close(thought.alone_BMD[row, slot], wanted, rtol=1e-9, atol=1e-9)


def test_leanings_are_the_attention_of_the_last_item() -> None:
    model = model_of()
    weights: list[Tensor] = []
    for layer in model.intent_reasoner.layers:
        layer.cross.register_forward_hook(lambda _, __, out: weights.append(out[1]))  # type: ignore[union-attr]
    told = model.user_states(lists_batch([np.array(row) for row in ROWS], 8)).weights_BM
    assert told is not None
    assert len(weights) == 2
    for row, items in enumerate(ROWS):
        wanted = torch.stack([each[row, len(items) - 1].mean(0) for each in weights]).mean(0)
        torch.testing.assert_close(told[row], wanted)


def test_some_prefixes_stand_for_all() -> None:
    """Drawn at random, each weighs as many as it stands for: the mean over draws is the whole loss."""
    model, some, batch = model_of(over="rows"), model_of(over="rows", prefixes=2), training()
    some.load_state_dict(model.state_dict())
    torch.manual_seed(3)
    with torch.no_grad():
        whole = model.loss(batch).total.item()
        drawn = [named_cases(batch, 2, some.items.weight.dtype, whole=False) for _ in range(50)]
        told = np.mean([some.loss(batch).total.item() for _ in range(600)])
    assert told == pytest.approx(whole, rel=0.02)
    for cases in drawn:
        counts = np.unique(cases.users_P.numpy(), return_counts=True)[1]
        np.testing.assert_array_equal(counts, np.minimum(batch.lengths_B.numpy(), 2))
        assert cases.weights_P.sum().item() == pytest.approx(1.0)
        assert cases.ends_P.sum() == 4


# ---- consistency


@pytest.mark.parametrize("over", ["causal", "rows"])
@pytest.mark.parametrize("at", ["last", "all"])
def test_consistency_is_the_formula(monkeypatch: pytest.MonkeyPatch, over: Any, at: Any) -> None:
    """Eq. 6 pair by pair: the same user's and the same target's states are no negatives."""
    rows = [*ROWS, [15, 16, 22], [17, 22]]  # three histories lead to 22
    weight, tau = 0.7, 0.3
    model = model_of(over=over, consistency=Consistency(weight=weight, temperature=tau, at=at))
    batch = training_batch(Histories.from_lists(rows).all())
    batch.users_B = torch.tensor([0, 1, 2, 3, 0, 4])  # the fifth row is of the first one's user
    masks: list[Tensor] = []

    def keep(n: int, m: int, share: float, device: object) -> Tensor:
        masks.append(torch.rand(n, m) > 0.5)
        masks[-1][:, 1] |= ~masks[-1].any(1)
        return masks[-1]

    monkeypatch.setattr(igr_sr, "keep_some", keep)
    losses = model.loss(batch)
    assert batch.users_B is not None
    cases = [
        (alone.items_BL[0].tolist(), target, row)
        for alone, target, row in prefixes_of(batch)
        if at == "all" or len(alone.items_BL[0]) == batch.lengths_B[row]
    ]
    (kept,) = masks
    n_rows = 6 if at == "last" or over == "causal" else len(cases)
    assert len(kept) == 2 * n_rows
    views = []
    for view in range(2):
        mask_of = [row if n_rows == 6 else place for place, (_, _, row) in enumerate(cases)]
        h = [
            by_hand(model, items, kept[view * n_rows + mask].nonzero()[:, 0].tolist())[0]
            for mask, (items, _, _) in zip(mask_of, cases, strict=True)
        ]
        views.append(F.normalize(torch.stack(h), dim=-1).detach().numpy())
    total = 0.0
    for b, (items, target, row) in enumerate(cases):
        others = [
            c for c, (_, t, r) in enumerate(cases) if c == b or (t != target and batch.users_B[r] != batch.users_B[row])
        ]
        share = 1 if at == "all" else len(items)
        for one, other in (views, views[::-1]):
            scores = np.exp(one[b] @ other[others].T / tau)
            total -= share / 2 * np.log(np.exp(one[b] @ other[b] / tau) / scores.sum())
    assert losses.parts["icr"].item() == pytest.approx(total / batch.weight, rel=1e-9)
    assert losses.total.item() == pytest.approx(losses.parts["named"].item() + weight * total / batch.weight, rel=1e-9)


def prefixes_of(batch: Batch) -> list[tuple[Batch, int, int]]:
    return prefixes(replace(batch, times_BL=torch.zeros_like(batch.items_BL)))


def test_all_masked_is_no_nan() -> None:
    model = model_of(consistency=Consistency(mask_share=1.0), slots=2)
    losses = model.loss(training())
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


# ---- health


def test_signs_are_means_over_positions() -> None:
    model, batch = model_of(), training()
    parts = model.loss(batch).parts
    diffuse, copied, ends = [], [], []
    for alone, _, row in prefixes(batch):
        n = int(alone.lengths_B)
        found = igr_sr.extract_intents(
            model.encoder.backbone,
            model.encoder.items,
            History(alone.items_BL, alone.lengths_B),
            model.prefix,
            model.slots,  # type: ignore[arg-type]
            everywhere=False,
        )
        copied.append(F.cosine_similarity(found.raw_BPMD[0, 0], found.states_BPD[0], dim=-1).mean().item())  # type: ignore[index]
        weights: list[Tensor] = []
        hooks = [
            layer.cross.register_forward_hook(lambda _, __, out, w=weights: w.append(out[1]))  # type: ignore[union-attr]
            for layer in model.intent_reasoner.layers
        ]
        state = model.user_states(alone).states_BD[0].detach()
        for hook in hooks:
            hook.remove()
        w = torch.stack(weights)[:, 0, -1]
        diffuse.append((-(w * w.log()).sum(-1) / np.log(4)).mean().item())
        if n == batch.lengths_B[row]:
            ends.append(state)
    alike = [float(a @ b) for i, a in enumerate(ends) for j, b in enumerate(ends) if i != j]
    assert parts["attention_entropy"].item() == pytest.approx(np.mean(diffuse), rel=1e-6)
    assert parts["copied"].item() == pytest.approx(np.mean(copied), rel=1e-6)
    assert parts["users_alike"].item() == pytest.approx(np.mean(alike), rel=1e-6)


@pytest.mark.parametrize("over", ["causal", "rows"])
def test_sameness_is_of_the_intents_of_every_prefix(over: Any) -> None:
    model, batch = model_of(over=over), training()
    with torch.no_grad():
        each = [model.projection(model.intents(alone))[0] for alone, _, _ in prefixes(batch)]
    parts = model.loss(batch).parts
    assert parts["intent_redundancy"].item() == pytest.approx(
        intent_redundancy(torch.stack(each)).mean().item(), rel=1e-6
    )
    apart = model_of(over=over, distinct=3.0)
    more = apart.loss(batch)
    assert (more.total - model.loss(batch).total).item() == pytest.approx(
        3.0 * parts["intent_redundancy"].item(), rel=1e-6
    )
    for _ in range(5):
        step(apart)
    assert apart.loss(batch).parts["intent_redundancy"] < parts["intent_redundancy"]


def test_health_says_what_looks_wrong() -> None:
    well = {"attention_entropy": 0.8, "users_alike": 0.3, "copied": 0.5, "intent_redundancy": 0.4}
    assert of_intents(well, 0.2).warnings == []
    assert of_intents(well, 0.2).figures == {"prefix_moved": 0.2}
    assert of_intents({"attention_entropy": 0.0, "users_alike": 0.3, "intent_redundancy": 0.0}, None).warnings == []
    for changed, said in (
        ({"attention_entropy": 0.999}, "nearly uniform"),
        ({"users_alike": 0.99}, "nearly one"),
        ({"copied": 0.99}, "nearly copies"),
        ({"intent_redundancy": 0.99}, "by one and the same thing"),
    ):
        (warning,) = of_intents({**well, **changed}, 0.2).warnings
        assert said in warning
    (warning,) = of_intents(well, 1e-5).warnings
    assert "hardly moved" in warning


def test_a_prefix_that_moves_is_told_apart_from_one_that_does_not() -> None:
    model = model_of()
    model.begin_stage("reasoner")
    figures = {name: float(part) for name, part in model.loss(training()).parts.items()}
    assert any("hardly moved" in warning for warning in model.diagnostics(figures).warnings)
    start = model.prefix.detach().clone()  # type: ignore[union-attr]
    step(model)
    told = model.diagnostics(figures)
    moved = ((model.prefix - start).norm() / start.norm()).item()  # type: ignore[operator]
    assert told.figures["prefix_moved"] == pytest.approx(moved)
    assert not any("hardly moved" in warning for warning in told.warnings)
    model.begin_stage("encoder")
    assert model.diagnostics({"loss": 1.0}).warnings == []


# ---- settings


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: IGRSR(slots=0), "slots"),
        (lambda: IGRSR(prefix=-1), "prefix"),
        (lambda: IGRSR(over="row"), "Did you mean 'rows'"),  # type: ignore[arg-type]
        (lambda: IGRSR(prefixes=2), 'only with over="rows"'),
        (lambda: IGRSR(encoder_epochs=0), "encoder_epochs"),
        (lambda: Reasoner(width=10, heads=4), "multiple of its 4 heads"),
        (lambda: Reasoner(fusion="sum"), "fusion"),  # type: ignore[arg-type]
        (lambda: Consistency(weight=-1.0), "weight"),
        (lambda: Consistency(weight=float("nan")), "weight"),
        (lambda: Consistency(mask_share=1.5), "mask_share"),
        (lambda: Consistency(temperature=0.0), "temperature"),
    ],
)
def test_settings_out_of_range(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()
