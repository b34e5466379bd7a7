"""DTRec's loss against whole matrices, and its halting against one row at a time (arXiv 2512.14036)."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import reference
from forethought.backbones.bert4rec import BERT4Rec
from forethought.backbones.gru4rec import GRU4Rec
from forethought.backbones.hstu import HSTU
from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe, from_json, to_json
from forethought.data.batches import Batch, training_batch, windows
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.errors import ConfigError, RunError
from forethought.methods.dtrec import DTRec, DTRecModel
from forethought.methods.items import ItemLoss
from forethought.methods.take_over import take_over
from forethought.reasoning.chain import History, initial_states_at_end
from forethought.reasoning.halting import Halting
from forethought.reasoning.indicator_noise import IndicatorNoise
from forethought.recommender import load
from forethought.runs import train
from forethought.training.interrupt import Interrupted
from forethought.training.progress import Quiet
from forethought.training.settings import Training
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
    plain: dict[str, Any] = {"draw_step": False}
    if settings.get("supervision") != "none":
        plain |= {"warmup_epochs": 0, "prototype_weight": 0.4}
    if settings.get("supervision") != "none" or settings.get("indicator_source") != "exact":
        plain |= {"first_clusters": 4, "most_clusters": 12}
    config = DTRec(backbone=BACKBONES[backbone], **plain | settings)
    model = config.build(split.data.sizes).double()
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.3
    model.begin_epoch(0)
    model.head.eval()  # else each call moves its running means
    batch = training_batch(windows(split.train, model.window).take(np.arange(6)))
    return model, batch, prefix_rows(batch)


def tau_scale(model: DTRecModel, step: int) -> float:
    """tau_t / tau: ReaRec's schedule."""
    return model.config.temperature_scale ** (model.config.max_steps - step)


def start_features(model: DTRecModel, r_0: torch.Tensor) -> torch.Tensor:
    """Before the first step the entropy is known, of exact indicators; the rest is as usual (running means)."""
    items = model.items
    logs = torch.log_softmax(logits(r_0, items.weight, items.loss, items.bias) / tau_scale(model, 0), -1)
    entropy = -(logs.exp() * logs).sum(-1) / math.log(len(items.weight))
    return torch.cat([entropy[:, None], model.head.mean[1:].expand(len(r_0), 2)], 1).detach()


def readouts(model: DTRecModel, rows: Batch) -> list[torch.Tensor]:
    states = chain_states(model, rows)
    if model.config.readout == "last":
        return states
    return [torch.stack(states[: t + 1]).mean(0) for t in range(len(states))]


def last_items(rows: Batch) -> torch.Tensor:
    return rows.items_BL.gather(1, rows.lengths_B[:, None] - 1)[:, 0]


@torch.enable_grad()
def refined(model: DTRecModel, r: torch.Tensor, step: int, last: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """lse and mean of a refined look: the last item exact, each cluster's others Gaussian around all its members' mean.

    The gradient of the lse, by autograd, is the mean.
    """
    items, tau = model.items, model.items.loss.temperature * tau_scale(model, step)
    e = F.normalize(items.weight.detach(), dim=-1) if items.loss.cosine else items.weight.detach()
    r = (F.normalize(r.detach(), dim=-1) if items.loss.cosine else r.detach()) / tau
    if items.loss.bias:
        e, r = torch.cat([e, items.bias.detach()[:, None]], 1), F.pad(r, (0, 1), value=1.0)
    r = r.requires_grad_()
    cluster = model.prototypes.cluster_TN[model.config.max_steps if model.config.indicator_clusters else 0]
    sets = [(cluster == c).nonzero()[:, 0] for c in range(int(cluster.max()) + 1)]
    around = {c: e[i] - e[i].mean(0) for c, i in enumerate(sets) if len(i)}
    shape = sum(off.T @ off for off in around.values()) / len(e)
    each = []  # what an item is taken to score, by its cluster
    for i in range(len(e)):
        c = int(cluster[i])
        wide = around[c].square().sum(-1).mean() / shape.trace()
        each.append(r @ e[sets[c]].mean(0) + wide * ((r @ shape) * r).sum(-1) / 2)
    scores = torch.stack(each, 1).scatter(1, last[:, None], (r * e[last]).sum(-1, keepdim=True))
    lse = scores.logsumexp(-1)
    return r.detach(), lse.detach(), torch.autograd.grad(lse.sum(), r)[0]


def refined_features(model: DTRecModel, states: list[torch.Tensor], last: torch.Tensor) -> torch.Tensor:
    looks, told = [refined(model, r, t, last) for t, r in enumerate(states)], []
    for t in range(1, len(states)):
        (r0, lse0, mean0), (r, lse, mean) = looks[t - 1], looks[t]
        entropy = (lse - (r * mean).sum(-1)) / math.log(len(model.items.weight))
        kl = ((r0 - r) * mean0).sum(-1) - lse0 + lse
        change = (states[t] - states[t - 1]).norm(dim=-1) / 4
        told.append(torch.stack([entropy, kl.clamp(max=5) / 5, change], -1))
    return torch.stack(told, 1).detach()


def features_of(model: DTRecModel, states: list[torch.Tensor], last: torch.Tensor | None = None) -> torch.Tensor:
    """Ent, Cons, Delta of each step (eq. 7), [P, T, 3], from whole distributions."""
    n, items = len(model.items.weight), model.items
    if model.config.indicator_source == "refined":
        assert last is not None
        return refined_features(model, states, last)
    if model.config.indicator_source == "exact":
        logs = [
            torch.log_softmax(logits(r, items.weight, items.loss, items.bias) / tau_scale(model, t), -1)
            for t, r in enumerate(states)
        ]
        plain = logs
    else:
        centres, sizes = model.prototypes.level(
            0 if model.config.indicator_source == "coarse" else -1 % model.config.max_steps
        )
        if model.config.indicator_clusters is not None:
            centres, sizes = model.prototypes.level(model.config.max_steps)
        scores = [
            F.normalize(r, dim=-1) @ centres.T / items.loss.temperature / tau_scale(model, t)
            for t, r in enumerate(states)
        ]
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
    scores = [logits(r, items.weight, items.loss, items.bias) / tau_scale(model, t) for t, r in enumerate(states)]
    halts = model.head(features_of(model, states, last_items(rows)))
    w, left = [], torch.ones(len(targets))
    if config.halting.min_steps == 0:  # w_0, which step 0 is trained by
        p_0 = model.head(start_features(model, states[0]))
        w.append(p_0)
        left = left * (1 - p_0)
    for t in range(T):
        w.append(left * (halts[:, t] if t < T - 1 else 1.0))
        left = left * (1 - halts[:, t])
    ce = [F.cross_entropy(s, targets, reduction="none") for s in scores]
    weighed = ce if config.halting.min_steps == 0 else ce[1:]
    total = (
        sum((each * loss).mean() for each, loss in zip(w, weighed, strict=True))
        + config.base_weight * torch.stack(ce).mean()
    )
    for t in range(T):
        centres, _ = model.prototypes.level(t)
        p = centres[model.prototypes.clusters_of(t, targets)]
        if config.prototype_choice == "nearest":  # by the angle, whatever the target is
            p = centres[(F.normalize(states[t + 1], dim=-1) @ F.normalize(centres, dim=-1).T).argmax(-1)]
        tau = config.loss.temperature * config.prototype_temperature
        if config.loss.bias:
            p = torch.cat([p[:, :-1] / tau, torch.ones(len(p), 1)], 1)
            q = torch.softmax(p @ torch.cat([F.normalize(items.weight, dim=-1), items.bias[:, None]], 1).T, -1).detach()
        else:
            q = torch.softmax(p @ F.normalize(items.weight, dim=-1).T / tau, -1).detach()
        total = total + weight / T * -(q * torch.log_softmax(scores[t + 1], -1)).sum(-1).mean()
    if config.ponder_weight:
        prior = torch.tensor([config.ponder_rate * (1 - config.ponder_rate) ** t for t in range(len(w))])
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


@pytest.mark.parametrize("indicator_source", ["exact", "coarse", "refined", "fine"])
@pytest.mark.parametrize(("backbone", "readout"), [*((name, "mean") for name in BACKBONES), ("gru4rec", "last")])
def test_rows_stop_where_they_would_alone(backbone: str, readout: str, indicator_source: str, split: Split) -> None:
    """Hard exit: the first step whose p_halt is over delta, else T; the state is that step's (eq. 10)."""
    model, batch, rows = given(split, backbone, indicator_source=indicator_source, max_steps=4, readout=readout)
    last = batch.lengths_B.cumsum(0) - 1
    with torch.no_grad():
        states = [r[last] for r in readouts(model, rows)]
        halts = model.head(features_of(model, states, last_items(rows)[last]))
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


@pytest.mark.parametrize("readout", ["mean", "last", "weighted"])
def test_rows_may_stop_before_their_first_step(readout: str, split: Split) -> None:
    """p_halt of r_0 knows its entropy; who stops there recommends by r_0, and the others go on as they would."""
    halting = Halting(min_steps=0)
    model, batch, rows = given(split, indicator_source="exact", max_steps=3, readout=readout, halting=halting)
    model.head.mean.copy_(torch.tensor([0.9, 0.3, 0.6]))  # what is unknown is read as this
    last = batch.lengths_B.cumsum(0) - 1
    with torch.no_grad():
        states = [r[last] for r in (chain_states(model, rows) if readout == "weighted" else readouts(model, rows))]
        start = model.head(start_features(model, states[0]))
        h = torch.cat([start[:, None], model.head(features_of(model, states))], 1)
        threshold = start.sort().values[2:4].mean().item()
        wanted = [next((t for t in range(3) if p[t] > threshold), 3) for p in h]
        reasoned = model.user_states(batch, replace(halting, threshold=threshold))
        assert reasoned.steps_B.tolist() == wanted
        assert 0 in wanted
        assert max(wanted) > 0
        for row, taken in enumerate(wanted):
            state = F.normalize(states[taken][row], dim=-1)
            if readout == "weighted":
                w, left = [], 1.0
                for t in range(taken + 1):
                    w.append(left * float(h[row, t]) if t < 3 else left)
                    left -= w[-1]
                state = sum(w[t] * F.normalize(states[t][row], dim=-1) for t in range(taken + 1)) / sum(w)
            torch.testing.assert_close(reasoned.states_BD[row], state)
        traced = model.user_states(batch, replace(halting, threshold=threshold), trace=True)
        assert torch.equal(traced.steps_B, reasoned.steps_B)
        torch.testing.assert_close(traced.states_BD, reasoned.states_BD)
        assert traced.trace is not None
        assert traced.trace.first == 0
        torch.testing.assert_close(traced.trace.halts_PT, h)
        torch.testing.assert_close(traced.trace.states_PSD, torch.stack(states, 1))
        assert traced.trace.indicators_PT3[:, 0, 1:].isnan().all()
        soft = model.user_states(batch, replace(halting, rule="soft")).states_BD
        w = torch.stack([h[:, 0], *((1 - h[:, :t]).prod(1) * h[:, t] for t in (1, 2)), (1 - h[:, :3]).prod(1)], 1)
        mixed = sum(w[:, t, None] * F.normalize(states[t], dim=-1) for t in range(4))
        torch.testing.assert_close(soft, mixed)


def test_every_step_is_read_by_its_own_means(split: Split) -> None:
    """In inference as in training: p_halt by hand, with the buffers of that step, and where rows then stop."""
    model, batch, rows = given(split, indicator_source="exact", max_steps=3, halting_inputs="per_step")
    torch.manual_seed(1)
    model.head.mean.copy_(torch.rand(4, 3) * 0.5)
    model.head.variance.copy_(torch.rand(4, 3) * 0.1)
    last = batch.lengths_B.cumsum(0) - 1
    with torch.no_grad():
        x_PT3 = features_of(model, [r[last] for r in readouts(model, rows)])
        z = (x_PT3 - model.head.mean[1:]) / (model.head.variance[1:] + 1e-8).sqrt()
        h = model.head.down(model.head.up(z.clamp(-5, 5)).relu())[..., 0].sigmoid()
        traced = model.user_states(batch, Halting(rule="arh"), trace=True).trace
        assert traced is not None
        torch.testing.assert_close(traced.halts_PT, h)
        threshold = h[:, :2].flatten().sort().values[4:6].mean().item()
        wanted = [next((t for t in (1, 2) if p[t - 1] > threshold), 3) for p in h]
        assert model.user_states(batch, Halting(threshold=threshold)).steps_B.tolist() == wanted
        assert len(set(wanted)) > 1
        shifted = Halting(threshold=threshold, noise=IndicatorNoise(bias=1.0))
        z = (z + 1.0).clamp(-5, 5)
        h = model.head.down(model.head.up(z).relu())[..., 0].sigmoid()
        misread = model.user_states(batch, replace(shifted, max_steps=3), trace=True).trace
        assert misread is not None
        torch.testing.assert_close(misread.halts_PT, h)


def test_means_of_steps_are_refused_where_there_is_but_one() -> None:
    with pytest.raises(ConfigError, match="With a single step there is nothing to decide, so halting_inputs"):
        DTRec(max_steps=1, halting_inputs="per_step")
    DTRec(max_steps=1, halting_inputs="per_step", halting=Halting(min_steps=0))
    stored = to_json(DTRec())
    del stored["halting_inputs"]
    assert from_json(DTRec, stored).halting_inputs == "pooled"


def test_the_log_tells_hard_steps_beside_soft_ones(split: Split, quick: Training, tmp_path: Path) -> None:
    """At a threshold that everybody is over the log has one step for all, and a sentence says what to do."""
    said: list[str] = []

    class Listening(Quiet):
        def warn(self, sentence: str) -> None:
            said.append(sentence)

    config = DTRec(backbone=BACKBONES["gru4rec"], first_clusters=4, most_clusters=12, halting=Halting(threshold=0.01))
    train(Recipe(method=config, training=quick), split, tmp_path / "run", observer=Listening())
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in [line for line in lines if "valid_ndcg@10" in line]:
        assert [line[f"valid_steps{part}"] for part in ("", "_p10", "_p50", "_p90", "_alike")] == [1.0] * 5
        assert 1 < line["soft_steps_p10"] <= line["soft_steps_p50"] <= line["soft_steps_p90"] < 3
    assert any(
        "100% of the validation cases stop after step 1 of 3 at the threshold 0.01" in each
        and "forethought evaluate --delta-within" in each
        and "forethought align" in each
        for each in said
    )


def test_rules_of_change_cannot_stop_before_there_was_any(split: Split) -> None:
    model, batch, _ = given(split)
    for rule, least in (("change", 1), ("entropy", 0), ("random", 0)):
        steps = model.user_states(batch, Halting(rule=rule, threshold=1e6, min_steps=0)).steps_B
        assert steps.tolist() == [least] * 6


def test_indicators_of_prototypes_of_their_own_see_the_same_whatever_k_is(split: Split) -> None:
    """With the counts of HPS changed, the same items are looked at through the same prototypes."""
    read = {}
    for first in (4, 6):
        model, batch, _ = given(split, indicator_clusters=5, supervision="none")
        config = replace(model.config, first_clusters=first)
        torch.manual_seed(0)
        other = config.build(split.data.sizes).double()
        other.load_state_dict({k: v for k, v in model.state_dict().items() if "prototypes" not in k}, strict=False)
        other.begin_epoch(0)
        other.eval()
        assert other.prototypes.counts[0] == first
        assert len(other.prototypes.level(3)[0]) == 5
        trace = other.user_states(batch, Halting(rule="fixed"), trace=True).trace
        assert trace is not None
        read[first] = trace.indicators_PT3
    torch.testing.assert_close(read[4], read[6])


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


@pytest.mark.parametrize("indicator_source", ["coarse", "refined", "fine"])
def test_without_hps_the_indicators_still_have_prototypes(indicator_source: Any, split: Split) -> None:
    """They are what a coarse indicator source looks at, whether or not a loss looks at them too."""
    model, batch, _ = given(split, supervision="none", indicator_source=indicator_source)
    assert int(model.prototypes.made_in) == 0
    assert model.prototypes.sizes_K.sum() == 3 * split.data.n_items
    trace = model.user_states(batch, Halting(rule="fixed"), trace=True).trace
    assert trace is not None
    assert trace.indicators_PT3[..., 0].std() > 0  # of centres that are all zero each state thinks the same


class Stop(Quiet):
    """Ctrl-C in the fourth step."""

    left = 3

    def step(self, losses: dict[str, float], positions: int) -> None:
        if self.left == 0:
            raise Interrupted
        self.left -= 1


def test_refined_indicators_are_kept_with_a_run(split: Split, quick: Training, tmp_path: Path) -> None:
    """Stopped within an epoch, a training goes on with what was measured at its beginning; a loaded run halts alike."""
    config = DTRec(backbone=BACKBONES["gru4rec"], first_clusters=4, most_clusters=12, indicator_source="refined")
    recipe = Recipe(method=config, training=replace(quick, checkpoint_every_s=1e-9, precision="32", device="cpu"))
    whole = train(recipe, split, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(recipe, split, tmp_path / "run", observer=Stop())
    resumed, again = train(recipe, split, tmp_path / "run", resume=True), load(tmp_path / "whole")
    for name, tensor in whole.method.state_dict().items():
        assert torch.equal(resumed.method.state_dict()[name], tensor), name
        assert torch.equal(again.method.state_dict()[name], tensor), name
    batch = training_batch(windows(split.train, 12).take(np.arange(6)))
    traces = [run.method.user_states(batch, trace=True).trace for run in (whole, again)]
    assert torch.equal(traces[0].indicators_PT3, traces[1].indicators_PT3)


def test_items_that_join_may_end_a_history_that_is_looked_at(split: Split) -> None:
    """They are put into clusters, old histories are seen as before, and a twin of an item is seen as it is."""
    model, batch, _ = given(split, indicator_source="refined")
    n = split.data.n_items
    grown = model.config.build(DataSizes(n + 1)).double().eval()
    take_over(grown, model, torch.arange(n), trains=False)
    twin = int(batch.items_BL[0, batch.lengths_B[0] - 1])
    grown.items.weight.data[n] = model.items.weight.data[twin]
    grown.join_items(n)
    assert grown.spread is not None
    assert grown.spread.cluster_N[n] == grown.prototypes.cluster_TN[0, n] == model.prototypes.cluster_TN[0, twin]
    items_BL = batch.items_BL.clone()
    items_BL[0, batch.lengths_B[0] - 1] = n
    wanted = model.user_states(batch, trace=True).trace
    assert wanted is not None
    for given_batch in (batch, replace(batch, items_BL=items_BL)):
        trace = grown.user_states(given_batch, trace=True).trace
        assert trace is not None
        torch.testing.assert_close(
            trace.indicators_PT3[..., 1:], wanted.indicators_PT3[..., 1:]
        )  # entropies are told in ln N, which has grown


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


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="max_steps is 0"):
        DTRec(max_steps=0)
    with pytest.raises(ConfigError, match="trained to think 2 steps and cannot take 3"):
        DTRec(max_steps=2, halting=Halting(max_steps=3))
    with pytest.raises(ConfigError, match="ponder_rate is 1"):
        DTRec(ponder_rate=1)
    with pytest.raises(ConfigError, match="min_steps is 2, but must be a whole number from 0 to 1"):
        DTRec(halting=Halting(min_steps=2))
    with pytest.raises(ConfigError, match="Indicators that are exact look at no prototypes of their own"):
        DTRec(indicator_source="exact", indicator_clusters=8)
    assert DTRec(indicator_source="refined", indicator_clusters=8).indicator_clusters == 8
    with pytest.raises(ConfigError, match="prototype_choice is 'near', but must be one of target, nearest"):
        DTRec(prototype_choice="near")  # type: ignore[arg-type]
    for name, value in {"contrast_noise": 0.1, "contrast_from": 0}.items():
        with pytest.raises(ConfigError, match=f"Without a contrast {name} would change nothing: give contrast_weight"):
            DTRec(**{name: value})
        assert from_json(DTRec, to_json(DTRec()) | {name: value}) == DTRec()  # of a run from before
        contrasting = DTRec(contrast_weight=1.0, **{name: value})
        assert from_json(DTRec, to_json(contrasting)) == contrasting
    with pytest.raises(ConfigError, match="must be ce without smoothing"):
        DTRec(loss=ItemLoss(smoothing=0.1))


@pytest.mark.parametrize(
    ("values", "unread", "give"),
    [
        ({}, {"ponder_rate": 0.2}, "ponder_weight"),
        ({"supervision": "none"}, {"prototype_weight": 0.2}, "supervision dynamic or fixed"),
        ({"supervision": "none"}, {"warmup_epochs": 0}, "supervision dynamic or fixed"),
        ({"supervision": "none"}, {"prototype_temperature": 0.5}, "supervision dynamic or fixed"),
        ({"supervision": "none"}, {"prototype_choice": "nearest"}, "supervision dynamic or fixed"),
        ({"supervision": "none", "indicator_source": "exact"}, {"cluster_speed": 0.5}, "a coarse indicator_source"),
        ({"prototype_weight": 0.0}, {"warmup_epochs": 0}, "prototype_weight"),
        ({"prototype_weight": 0.0}, {"prototype_temperature": 0.5}, "prototype_weight"),
        ({"prototype_weight": 0.0}, {"prototype_choice": "nearest"}, "prototype_weight"),
    ],
)
def test_settings_that_nothing_reads_are_refused(values: dict[str, Any], unread: dict[str, Any], give: str) -> None:
    (name,) = unread
    with pytest.raises(ConfigError, match=f"{name} would change nothing: give {give}"):
        DTRec(**values, **unread)
    plain = DTRec(**values)
    assert from_json(DTRec, to_json(plain) | unread) == plain  # of a run from before
    read = {"ponder_weight": 0.1} if name == "ponder_rate" else {}
    asked = DTRec(**read, **unread)
    assert from_json(DTRec, to_json(asked)) == asked


@pytest.mark.parametrize("source", ["fine", "coarse", "refined"])
def test_a_model_without_prototypes_says_that_it_was_never_trained(split: Split, source: str) -> None:
    config = DTRec(backbone=BACKBONES["gru4rec"], first_clusters=4, most_clusters=12, indicator_source=source)  # type: ignore[arg-type]
    model, batch = config.build(split.data.sizes), training_batch(windows(split.train, 12).take(np.arange(6)))
    with pytest.raises(RunError, match="has none before its training begins: train it"):
        model.user_states(batch)
