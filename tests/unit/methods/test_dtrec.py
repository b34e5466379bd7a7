"""DTRec's loss against whole matrices, and its halting against one row at a time (arXiv 2512.14036)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from forethought.backbones.bert4rec import BERT4Rec
from forethought.backbones.gru4rec import GRU4Rec
from forethought.backbones.hstu import HSTU
from forethought.backbones.sasrec import SASRec
from forethought.data.batches import Batch, training_batch, windows
from forethought.data.splits import Split
from forethought.errors import ConfigError, RunError
from forethought.methods.dtrec import DTRec, DTRecModel
from forethought.methods.items import ItemLoss
from forethought.reasoning.halting import Halting
from row_per_prefix import chain_states, logits, prefix_rows

SMALL: dict[str, Any] = {"width": 16, "window": 12, "dropout": 0.0}
BACKBONES = {
    "sasrec": SASRec(**SMALL, ffn_width=24, input_norm=True, count_from="start"),
    "gru4rec": GRU4Rec(**SMALL),
    "hstu": HSTU(**SMALL, head_width=6),
    "bert4rec": BERT4Rec(**SMALL, ffn_width=24, input_norm=True),
}


def given(split: Split, backbone: str = "gru4rec", **settings: Any) -> tuple[DTRecModel, Batch, Batch]:
    """A model in float64 with prototypes, a batch, and its prefixes as rows."""
    torch.manual_seed(0)
    plain: dict[str, Any] = {"warmup_epochs": 0, "prototype_weight": 0.4, "draw_step": False}
    config = DTRec(backbone=BACKBONES[backbone], first_clusters=4, most_clusters=12, **plain | settings)
    model = config.build(split.data.sizes).double()
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.3
    model.begin_epoch(0)
    model.head.eval()  # else each call moves its running means
    batch = training_batch(windows(split.train, model.window).take(np.arange(6)))
    return model, batch, prefix_rows(batch)


def readouts(model: DTRecModel, rows: Batch) -> list[torch.Tensor]:
    states = chain_states(model, rows)
    if model.config.readout == "last":
        return states
    return [torch.stack(states[: t + 1]).mean(0) for t in range(len(states))]


def features_of(model: DTRecModel, states: list[torch.Tensor]) -> torch.Tensor:
    """Ent, Cons, Delta of each step (eq. 7), [P, T, 3], from whole distributions."""
    n, items = len(model.items.weight), model.items
    if model.config.indicator_source == "exact":
        logs = [torch.log_softmax(logits(r, items.weight, items.loss, items.bias), -1) for r in states]
        plain = logs
    else:
        centres, sizes = model.prototypes.level(
            0 if model.config.indicator_source == "coarse" else -1 % model.config.max_steps
        )
        scores = [F.normalize(r, dim=-1) @ centres.T / items.loss.temperature for r in states]
        logs = [torch.log_softmax(s + sizes.log(), -1) for s in scores]  # a cluster's mass
        plain = [each - sizes.log() for each in logs]  # an item's, all of a cluster alike
    told = []
    for t in range(1, len(states)):
        entropy = -(logs[t].exp() * plain[t]).sum(-1)
        kl = (logs[t - 1].exp() * (logs[t - 1] - logs[t])).sum(-1)
        change = (states[t] - states[t - 1]).norm(dim=-1)
        told.append(torch.stack([entropy / math.log(n), kl.clamp(max=5) / 5, change / 4], -1))
    return torch.stack(told, 1).detach()


def loss_of_rows(model: DTRecModel, rows: Batch, weight: float) -> torch.Tensor:
    """Section 3 of the paper's algorithm, word by word, with [P, N] matrices."""
    config, items, targets = model.config, model.items, rows.targets_BL
    states, T = readouts(model, rows), config.max_steps
    scores = [logits(r, items.weight, items.loss, items.bias) for r in states]
    halts = model.head(features_of(model, states))
    w, left = [], torch.ones(len(targets))
    for t in range(T):
        w.append(left * (halts[:, t] if t < T - 1 else 1.0))
        left = left * (1 - halts[:, t])
    ce = [F.cross_entropy(s, targets, reduction="none") for s in scores]
    total = sum((w[t] * ce[t + 1]).mean() for t in range(T)) + config.base_weight * torch.stack(ce).mean()
    for t in range(T):
        centres, _ = model.prototypes.level(t)
        p = centres[model.prototypes.clusters_of(t, targets)]
        tau = config.loss.temperature * config.prototype_temperature
        if config.loss.bias:
            p = torch.cat([p[:, :-1] / tau, torch.ones(len(p), 1)], 1)
            q = torch.softmax(p @ torch.cat([F.normalize(items.weight, dim=-1), items.bias[:, None]], 1).T, -1).detach()
        else:
            q = torch.softmax(p @ F.normalize(items.weight, dim=-1).T / tau, -1).detach()
        total = total + weight / T * -(q * torch.log_softmax(scores[t + 1], -1)).sum(-1).mean()
    if config.ponder_weight:
        prior = torch.tensor([config.ponder_rate * (1 - config.ponder_rate) ** t for t in range(T)])
        w_PT, prior = torch.stack(w, 1), prior / prior.sum()
        total = total + config.ponder_weight * (w_PT * (w_PT / prior).log()).sum(1).mean()
    return total


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
]


@pytest.mark.parametrize("settings", CASES, ids=lambda s: "-".join(str(v)[:12] for v in s.values()))
def test_loss_and_gradients_are_those_of_whole_matrices(
    settings: dict[str, Any], split: Split, same_gradients: Any
) -> None:
    model, batch, rows = given(split, **settings)
    weight = 0.0 if settings.get("supervision") == "none" else 0.4
    same_gradients(model, lambda: model.loss(batch).total, lambda: loss_of_rows(model, rows, weight))


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


@pytest.mark.parametrize("indicator_source", ["exact", "coarse", "fine"])
@pytest.mark.parametrize(("backbone", "readout"), [*((name, "mean") for name in BACKBONES), ("gru4rec", "last")])
def test_rows_stop_where_they_would_alone(backbone: str, readout: str, indicator_source: str, split: Split) -> None:
    """Hard exit: the first step whose p_halt is over delta, else T; the state is that step's (eq. 10)."""
    model, batch, rows = given(split, backbone, indicator_source=indicator_source, max_steps=4, readout=readout)
    last = batch.lengths_B.cumsum(0) - 1
    with torch.no_grad():
        states = [r[last] for r in readouts(model, rows)]
        halts = model.head(features_of(model, states))
    between = halts[:, :-1].flatten().sort().values[len(halts) : len(halts) + 2]
    threshold = between.mean().item()  # not on any row's probability
    thought = model.user_states(batch, Halting(threshold=threshold))
    wanted = [next((t for t in (1, 2, 3) if p[t - 1] > threshold), 4) for p in halts]
    assert thought.steps_B.tolist() == wanted
    assert len(set(wanted)) > 1
    exits = torch.stack([states[t][row] for row, t in enumerate(wanted)])
    torch.testing.assert_close(thought.states_BD, F.normalize(exits, dim=-1))
    traced = model.user_states(batch, Halting(threshold=threshold), trace=True)
    assert torch.equal(traced.steps_B, thought.steps_B)
    assert traced.trace is not None
    torch.testing.assert_close(traced.trace.halts_PT, halts)
    torch.testing.assert_close(traced.trace.states_PSD, torch.stack(states, 1))


@pytest.mark.parametrize("rule", ["arh", "fixed", "change"])
@pytest.mark.parametrize("loss", [ItemLoss(), ItemLoss(bias=True), ItemLoss(cosine=False, temperature=1.0)])
def test_a_weighted_readout_mixes_the_scores_of_the_steps_taken(loss: ItemLoss, rule: str, split: Split) -> None:
    """sum_{j <= exit} w_j y_j / sum_{j <= exit} w_j, w as in training; what is left goes to the last step."""
    model, batch, rows = given(split, indicator_source="exact", loss=loss, readout="weighted", max_steps=4)
    last = batch.lengths_B.cumsum(0) - 1
    with torch.no_grad():
        states = [r[last] for r in chain_states(model, rows)]
        h = model.head(features_of(model, states))
        threshold = h[:, 0].sort().values[2:4].mean().item()  # half of the rows stop at once
        halting = Halting(rule=rule, threshold=threshold if rule == "arh" else 0.1)
        reasoned = model.user_states(batch, halting)
        steps = reasoned.steps_B.tolist()
        if rule == "arh":
            assert steps == [next((t for t in (1, 2, 3) if p[t - 1] > threshold), 4) for p in h]
            assert len(set(steps)) > 1
        wanted = []
        for row, taken in enumerate(steps):
            left, mixed, total = 1.0, 0.0, 0.0
            for t in range(1, taken + 1):
                w = left if t == 4 else left * float(h[row, t - 1])
                left, total = left - w, total + w
                scores = logits(states[t][row], model.items.weight, loss, model.items.bias)
                mixed = mixed + w * scores
            wanted.append(mixed / total)
        got = model.catalogue().scores(reasoned.states_BD) / loss.temperature
        torch.testing.assert_close(got, torch.stack(wanted))
        traced = model.user_states(batch, halting, trace=True)
        torch.testing.assert_close(traced.states_BD, reasoned.states_BD)
        assert torch.equal(traced.steps_B, reasoned.steps_B)


def test_all_steps_weighted_are_soft_halting(split: Split) -> None:
    model, batch, _ = given(split, indicator_source="exact", readout="weighted", max_steps=3)
    with torch.no_grad():
        whole = model.user_states(batch, Halting(rule="fixed")).states_BD
        torch.testing.assert_close(whole, model.user_states(batch, Halting(rule="soft")).states_BD)


def test_a_weighted_readout_is_trained_as_the_last_state_is(split: Split) -> None:
    losses = {}
    for readout in ("last", "weighted"):
        model, batch, _ = given(split, readout=readout, draw_step=False)
        losses[readout] = model.loss(batch).total.item()
    assert losses["last"] == losses["weighted"]


@pytest.mark.parametrize("loss", [ItemLoss(), ItemLoss(bias=True), ItemLoss(cosine=False, temperature=1.0)])
def test_soft_halting_mixes_the_scores(loss: ItemLoss, split: Split) -> None:
    """The final scores are sum_t w_t (r_t . e / tau + b), w as in training."""
    model, batch, rows = given(split, indicator_source="exact", loss=loss)
    last = batch.lengths_B.cumsum(0) - 1
    with torch.no_grad():
        states = [r[last] for r in readouts(model, rows)]
        h = model.head(features_of(model, states))
        w = torch.stack([h[:, 0], (1 - h[:, 0]) * h[:, 1], (1 - h[:, 0]) * (1 - h[:, 1])], 1)
        items = model.items
        wanted = sum(w[:, t, None] * logits(states[t + 1], items.weight, loss, items.bias) for t in range(3))
        got = model.catalogue().scores(model.user_states(batch, Halting(rule="soft")).states_BD)
        torch.testing.assert_close(got / loss.temperature, wanted)


def test_the_configured_delta_is_obeyed_by_a_direct_call(split: Split) -> None:
    """Not only where an evaluation hands the halting over."""
    assert DTRec().halting.threshold == 0.3
    steps = {}
    for threshold in (0.0, 0.3, 1.0):
        model, batch, _ = given(split, halting=Halting(threshold=threshold))
        steps[threshold] = model.user_states(batch).steps_B.tolist()
        assert steps[threshold] == model.user_states(batch, Halting(threshold=threshold)).steps_B.tolist()
    assert steps[0.0] == [1] * 6
    assert steps[1.0] == [3] * 6


@pytest.mark.parametrize("indicator_source", ["coarse", "fine"])
def test_without_hps_the_indicators_still_have_prototypes(indicator_source: Any, split: Split) -> None:
    """They are what a coarse indicator source looks at, whether or not a loss looks at them too."""
    model, batch, _ = given(split, supervision="none", indicator_source=indicator_source)
    assert int(model.prototypes.made_in) == 0
    assert model.prototypes.sizes_K.sum() == 3 * split.data.n_items
    trace = model.user_states(batch, Halting(rule="fixed"), trace=True).trace
    assert trace is not None
    assert trace.indicators_PT3[..., 0].std() > 0  # of centres that are all zero each state thinks the same


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
        ({"warmup_epochs": 10, "supervision": "none"}, 0, True),
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


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="max_steps is 0"):
        DTRec(max_steps=0)
    with pytest.raises(ConfigError, match="trained to think 2 steps and cannot take 3"):
        DTRec(max_steps=2, halting=Halting(max_steps=3))
    with pytest.raises(ConfigError, match="ponder_rate is 1"):
        DTRec(ponder_rate=1)
    with pytest.raises(ConfigError, match="must be ce without smoothing"):
        DTRec(loss=ItemLoss(smoothing=0.1))


@pytest.mark.parametrize("source", ["fine", "coarse"])
def test_a_model_without_prototypes_says_that_it_was_never_trained(split: Split, source: str) -> None:
    config = DTRec(backbone=BACKBONES["gru4rec"], first_clusters=4, most_clusters=12, indicator_source=source)  # type: ignore[arg-type]
    model, batch = config.build(split.data.sizes), training_batch(windows(split.train, 12).take(np.arange(6)))
    with pytest.raises(RunError, match="has none before its training begins: train it"):
        model.user_states(batch)
