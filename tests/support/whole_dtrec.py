"""DTRec recomputed with whole matrices, a row a prefix: readouts, indicators and the loss (arXiv 2512.14036)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from forethought.backbones.bert4rec import BERT4Rec
from forethought.backbones.gru4rec import GRU4Rec
from forethought.backbones.hstu import HSTU
from forethought.backbones.sasrec import SASRec
from forethought.data.batches import Batch, training_batch, windows
from forethought.data.splits import Split
from forethought.methods.dtrec import DTRec, DTRecModel
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
