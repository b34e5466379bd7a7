"""The authors' recipes against the papers' equations, computed once more: a row a prefix, in float64, nothing cached.

What is asked for is written out from the equations of ReaRec (arXiv 2503.22675) and LARES (arXiv 2505.16865) as their
codes train them. It shares the weights with the package and none of its code.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from forethought.backbones.sasrec import SASRec
from forethought.data.batches import Batch, training_batch, windows
from forethought.data.splits import Split
from forethought.methods import lares
from forethought.methods.items import ItemLoss
from forethought.methods.lares import LARES, LARESModel
from forethought.methods.lightrec import LightRec
from forethought.methods.rearec import ReaRec, ReaRecModel
from forethought.nn.dropout import Dropout
from forethought.recipes import AUTHORS, METHODS
from forethought.training.settings import Training

WITHIN = 1e-12
EPSILON = 1e-12
SILENT = {"dropout": 0.0, "attention_dropout": 0.0}
LAYERS, HEADS, WINDOW = 2, 2, 7


# ---- what both papers stand on


@dataclass
class Weights:
    """Parameters by name."""

    named: dict[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.named[name]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self[f"{name}.weight"].T + self[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        spread = (centred.square().mean(-1, keepdim=True) + EPSILON).sqrt()
        return centred / spread * self[f"{name}.weight"] + self[f"{name}.bias"]

    def attention(self, name: str, x_ND: Tensor) -> Tensor:
        """Each vector looks at itself and at those before it."""
        mixed = []
        for q, k, v in zip(
            *(part.chunk(HEADS, -1) for part in self.linear(f"{name}.qkv", x_ND).chunk(3, -1)), strict=True
        ):
            past = torch.ones(len(q), len(q), dtype=torch.bool).tril()
            weights = ((q @ k.T) / math.sqrt(q.shape[-1])).masked_fill(~past, -math.inf).exp()
            mixed.append(weights / weights.sum(-1, keepdim=True) @ v)
        return self.linear(f"{name}.out", torch.cat(mixed, -1))

    def feed_forward(self, name: str, x: Tensor) -> Tensor:
        hidden = self.linear(f"{name}.up", x)
        return self.linear(f"{name}.down", hidden / 2 * (1 + torch.erf(hidden / math.sqrt(2))))


def cross_entropy(scores_PN: Tensor, targets_P: Tensor) -> Tensor:
    """The mean over rows."""
    return (scores_PN.exp().sum(-1).log() - scores_PN[torch.arange(len(targets_P)), targets_P]).mean()


def contrast(one_PD: Tensor, other_PD: Tensor, temperature: float) -> Tensor:
    """InfoNCE with all other rows as negatives."""
    return cross_entropy(one_PD @ other_PD.T / temperature, torch.arange(len(one_PD)))


def prefixes(batch: Batch) -> Iterator[tuple[int, list[int], int]]:
    """Row, items up to a position, and what followed."""
    assert batch.targets_BL is not None
    for row, length in enumerate(batch.lengths_B.tolist()):
        for end in range(1, length + 1):
            yield row, batch.items_BL[row, :end].tolist(), int(batch.targets_BL[row, end - 1])


def targets_of(batch: Batch) -> Tensor:
    return torch.tensor([target for _, _, target in prefixes(batch)])


def double(config: Any, split: Split) -> tuple[Any, Batch]:
    """A model in float64 with weights of order 1 and a batch of six histories."""
    torch.manual_seed(0)
    model = config.build(split.data.sizes).double()
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.2
    return model, training_batch(windows(split.train, WINDOW).take(np.arange(6)))


def check_gradients(model: torch.nn.Module, *losses: Callable[[], Tensor]) -> None:
    """Both give the same value and reach every parameter alike."""
    both = []
    for loss in losses:
        model.zero_grad()
        value = loss()
        value.backward()
        both.append({"loss": value.detach()} | {name: p.grad for name, p in model.named_parameters()})
    for name, got in both[0].items():
        assert got is not None, name
        assert got.abs().sum() > 0, name
        torch.testing.assert_close(
            got, both[1][name], rtol=WITHIN, atol=WITHIN, msg=lambda told, at=name: f"{at}: {told}"
        )


# ---- ReaRec


def rearec(learning: str, split: Split, **changed: Any) -> tuple[ReaRecModel, Batch]:
    """The authors' recipe, narrow and without dropout."""
    method = METHODS[f"rearec-{learning}-authors"]().method
    assert isinstance(method, ReaRec)
    backbone = replace(method.backbone, width=8, ffn_width=12, window=WINDOW, **SILENT, input_dropout=0.0)  # type: ignore[call-arg]
    return double(replace(method, backbone=backbone, **changed), split)


def read(weights: Weights, inputs_ND: Tensor) -> Tensor:
    """Layers that norm after each sum (ReaRec), all states."""
    x = weights.norm("backbone.input_norm", inputs_ND)
    for block in (f"backbone.transformer.blocks.{n}" for n in range(LAYERS)):
        x = weights.norm(f"{block}.attention_norm", x + weights.attention(block, x))
        x = weights.norm(f"{block}.ffn_norm", x + weights.feed_forward(block, x))
    return x


def chain(
    weights: Weights, items: list[int], noise_KD: list[Tensor] | None, steps: int
) -> tuple[list[Tensor], list[Tensor]]:
    """r_0 .. r_K of a history, and r~_1 .. r~_K: every input again from the first item on."""
    history = weights["items.weight"][items] + weights["backbone.positions.weight"][: len(items)]
    marks = weights.named.get("step_embeddings", torch.zeros(steps, history.shape[1], dtype=history.dtype))
    inputs, noisy_inputs, noisy = history, history, []
    states = [read(weights, inputs)[-1]]
    for k in range(steps):
        thought = states[-1] + marks[k]
        inputs = torch.cat([inputs, thought[None]])
        if noise_KD is not None:
            noisy_inputs = torch.cat([noisy_inputs, (thought + noise_KD[k])[None]])
            noisy.append(read(weights, noisy_inputs)[-1])
        states.append(read(weights, inputs)[-1])
    return states, noisy


def chains(model: ReaRecModel, batch: Batch, noises: list[Tensor] | None = None) -> tuple[Tensor, Tensor | None]:
    """[K + 1, P, D] and [K, P, D], a row a prefix."""
    weights, clean, noisy = Weights(dict(model.named_parameters())), [], []
    for row, items, _ in prefixes(batch):
        own = None if noises is None else [noise[row, len(items) - 1] for noise in noises]
        states, twins = chain(weights, items, own, model.config.steps)
        clean.append(torch.stack(states))
        noisy += [torch.stack(twins)] if twins else []
    return torch.stack(clean, 1), torch.stack(noisy, 1) if noisy else None


def named(model: ReaRecModel, states_PD: Tensor, targets_P: Tensor, scale: float = 1.0) -> Tensor:
    return cross_entropy(states_PD @ model.items.weight.T / (0.07 * scale), targets_P)


@pytest.mark.parametrize("learning", ["erl", "prl"])
@pytest.mark.parametrize("step_positions", [True, False])
def test_states_of_rearec(learning: str, step_positions: bool, split: Split) -> None:
    """What is held against the items when it recommends: the mean of all states (ERL), or the last (PRL)."""
    model, batch = rearec(learning, split, step_positions=step_positions)
    states_SPD, _ = chains(model, batch)
    last = batch.lengths_B.cumsum(0) - 1
    wanted = states_SPD.mean(0) if learning == "erl" else states_SPD[-1]
    got = model.eval().user_states(batch).states_BD
    torch.testing.assert_close(got, wanted[last], rtol=WITHIN, atol=WITHIN)
    assert ("step_embeddings" in dict(model.named_parameters())) == step_positions


def test_erl_of_the_authors(split: Split) -> None:
    """Cross-entropy of the mean state less .05 times the mean KL of all ordered pairs, the second held still."""
    model, batch = rearec("erl", split)
    targets_P = targets_of(batch)

    def wanted() -> Tensor:
        states_SPD, _ = chains(model, batch)
        scores = states_SPD @ model.items.weight.T / 0.07
        logs = scores - scores.exp().sum(-1, keepdim=True).log()
        pairs = itertools.permutations(range(3), 2)
        apart = [(logs[j].exp() * (logs[j] - logs[i].detach())).sum(-1).mean() for i, j in pairs]
        return named(model, states_SPD.mean(0), targets_P) - 0.05 * torch.stack(apart).mean()

    check_gradients(model, lambda: model.loss(batch).total, wanted)


@pytest.mark.parametrize(
    ("changed", "early", "contrasts"),
    [({}, 1 / 2, 1 / 2), ({"step_weights": "sum", "contrast_steps": "sum", "progressive_weight": 0.7}, 0.7, 1.0)],
)
def test_prl_of_the_authors(
    changed: Any, early: float, contrasts: float, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CE of r_K + the mean of CE of r_k at tau 5^(K - k) + from the third epoch the contrast of r~_k and all r_k."""
    model, batch = rearec("prl", split, **changed)
    targets_P, drawn = targets_of(batch), torch.Generator().manual_seed(0)
    shape = (*batch.items_BL.shape, 8)
    noises = [torch.randn(shape, generator=drawn, dtype=torch.float64) for _ in range(2)]

    def wanted(contrasting: bool = True) -> Tensor:
        states_SPD, noisy_KPD = chains(model, batch, [0.01 * noise for noise in noises])
        total = named(model, states_SPD[2], targets_P)
        total = total + early * (named(model, states_SPD[0], targets_P, 25) + named(model, states_SPD[1], targets_P, 5))
        if not contrasting:
            return total
        assert noisy_KPD is not None
        return total + contrasts * sum(contrast(noisy_KPD[k - 1], states_SPD[k], 0.07) for k in (1, 2))

    def got() -> Tensor:
        calls = iter(noises)
        monkeypatch.setattr(torch, "randn_like", lambda _: next(calls))
        return model.loss(batch).total

    model.begin_epoch(1)
    check_gradients(model, got, lambda: wanted(contrasting=False))
    model.begin_epoch(2)
    check_gradients(model, got, wanted)


def test_the_noisy_branch_reads_the_history_again(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it has a dropout of its own; by default it shares what was read."""
    for rereads in (True, False):
        model, batch = rearec("prl", split, contrast_rereads=rereads)
        calls, encode = [], model.backbone.encode
        monkeypatch.setattr(model.backbone, "encode", lambda *a, e=encode, c=calls, **k: (c.append(1), e(*a, **k))[1])
        model.begin_epoch(2)
        model.loss(batch)
        assert len(calls) == (2 if rereads else 1)


def test_units_are_dropped_where_the_authors_drop_them(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of the inputs, half of attention weights and of branches, none inside the feed-forward nets."""
    recipe = METHODS["rearec-erl-authors"]().method
    assert isinstance(recipe, ReaRec)
    model = recipe.build(split.data.sizes).train()
    batch, shares, weights = training_batch(windows(split.train, 50).take(np.arange(2))), [], []
    attend = torch.nn.functional.scaled_dot_product_attention

    def noted(self: Dropout, x: Tensor) -> Tensor:
        shares.append(self.share_now)
        return x

    def attended(*args: Any, dropout_p: float, **rest: Any) -> Tensor:
        weights.append(dropout_p)
        return attend(*args, dropout_p=dropout_p, **rest)

    monkeypatch.setattr(Dropout, "forward", noted)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attended)
    model.loss(batch)
    assert shares == [0.2, *(0.5, 0.0, 0.5) * 2, *(0.2, *(0.5, 0.5, 0.0, 0.5) * 2) * 2]
    assert weights == [0.5, 0.5]
    shares.clear()
    weights.clear()
    model.eval().user_states(batch)
    assert set(shares) | set(weights) == {0.0}


# ---- LARES


def small_lares(split: Split, **changed: Any) -> tuple[LARESModel, Batch]:
    method = METHODS["lares-authors"]().method
    assert isinstance(method, LARES)
    return double(replace(method, width=8, ffn_width=12, window=WINDOW, **SILENT, **changed), split)


def open_layers(weights: Weights, part: str, x_LD: Tensor) -> Tensor:
    """Layers that norm before each branch, with no norm behind the last."""
    for block in (f"{part}.blocks.{n}" for n in range(LAYERS)):
        x_LD = x_LD + weights.attention(block, weights.norm(f"{block}.attention_norm", x_LD))
        x_LD = x_LD + weights.feed_forward(block, weights.norm(f"{block}.ffn_norm", x_LD))
    return x_LD


def trajectory(model: LARESModel, items: list[int], start_LD: Tensor, k: int) -> list[Tensor]:
    """T_1 .. T_k behind the last item."""
    weights, states, now = Weights(dict(model.named_parameters())), [], start_LD
    inputs = weights["items.weight"][items] + weights["positions.weight"][: len(items)]
    held = open_layers(weights, "pre", weights.norm("embedding_norm", inputs))
    for _ in range(k):
        if model.config.combine == "concat":
            mixed = weights.linear("recurrence.join", torch.cat([now, held], -1))
        elif model.config.combine == "linear":
            gate = 1 / (1 + (-weights["recurrence.gate"]).exp())
            mixed = gate * now + (1 - gate) * held
        else:
            mixed = (now + held) / 2
        now = open_layers(weights, "recurrence.core", weights.norm("recurrence.norm", mixed))
        states.append(now[-1])
    return states


@pytest.mark.parametrize("combine", ["add", "concat", "linear"])
def test_states_of_lares(combine: Any, split: Split) -> None:
    """From T_0 = 0, three steps, behind the last item of each history."""
    model, batch = small_lares(split, combine=combine)
    got = model.eval().user_states(batch).states_BD
    for row, items in {row: items for row, items, _ in prefixes(batch)}.items():
        wanted = trajectory(model, items, torch.zeros(len(items), 8, dtype=torch.float64), 3)[-1]
        torch.testing.assert_close(got[row], wanted, rtol=WITHIN, atol=WITHIN)


@pytest.mark.parametrize("combine", ["add", "concat", "linear"])
@pytest.mark.parametrize(("depths", "step"), [((2, 4, 3), 3), ((5, 3, 2), 0), ((3, 1, 2), 0)])
def test_lares_of_the_authors(
    combine: Any, depths: tuple[int, int, int], step: int, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CE of one trajectory + .2 TLA of a second and a third + .1 SLA of the second, with one step of all, if k > 1."""
    model, batch = small_lares(split, combine=combine)
    targets_P = targets_of(batch)
    P = len(targets_P)
    twin_P = [next(((p + n) % P for n in range(1, P) if targets_P[(p + n) % P] == targets_P[p]), p) for p in range(P)]
    assert twin_P != list(range(P))
    drawn = torch.Generator().manual_seed(0)
    starts = [torch.randn(*batch.items_BL.shape, 8, generator=drawn, dtype=torch.float64) for _ in range(3)]

    def thought(view: int) -> Tensor:
        """[k, P, D]."""
        rows = [
            torch.stack(trajectory(model, items, starts[view][row, : len(items)], depths[view]))
            for row, items, _ in prefixes(batch)
        ]
        return torch.stack(rows, 1)

    def both(one: Tensor, other: Tensor) -> Tensor:
        return (contrast(one, other, 1.0) + contrast(other, one, 1.0)) / 2

    def wanted() -> Tensor:
        first, second, third = (thought(view) for view in range(3))
        total = cross_entropy(first[-1] @ model.items.weight.T, targets_P) + 0.2 * both(second[-1], third[-1][twin_P])
        return total if depths[1] == 1 else total + 0.1 * both(second[-1], second[step])

    def got() -> Tensor:
        ks, begun = iter(depths), iter(starts)
        monkeypatch.setattr(lares, "draw_depth", lambda mean: next(ks))
        monkeypatch.setattr(lares, "draw_start", lambda like, scale, sigma: next(begun))
        monkeypatch.setattr(lares, "positives", lambda targets: torch.tensor(twin_P))

        def one_of_all(high: int, size: tuple[int, ...], device: Any) -> Tensor:
            assert (high, size) == (depths[1], (1,))
            return torch.tensor([step])

        monkeypatch.setattr(torch, "randint", one_of_all)
        return model.loss(batch).total

    check_gradients(model, got, wanted)


# ---- the recipes themselves


def test_the_authors_recipes_train_as_their_codes_do() -> None:
    """Adam at one rate: no decay of it, no warm-up, no clipping; numbers that are ours by default."""
    assert (
        *("rearec-erl-authors", "rearec-prl-authors", "lares-authors", "sse-pt-authors", "lightrec-authors"),
    ) == AUTHORS
    plain = {"learning_rate": 1e-3, "schedule": "constant", "warmup_steps": 0, "clip_norm": 0.0, "precision": "32"}
    rearec = {"epochs": 300, "batch_positions": 2048, "weight_decay": 0.0}
    asked: dict[str, dict[str, Any]] = {
        "rearec-erl-authors": rearec,
        "rearec-prl-authors": rearec,
        "lares-authors": {"epochs": 100, "batch_positions": 256, "weight_decay": 0.01},
    }
    for name, own in asked.items():
        assert METHODS[name]().training == Training(**plain, **own, patience=10, beta2=0.999)
    rows = {"epochs": 2001, "patience": 2001, "batch_positions": 128 * 50, "all_windows": False}
    assert METHODS["sse-pt-authors"]().training == Training(**plain, **rows, beta2=0.98)
    own = {"epochs": 101, "patience": 101, "batch_positions": 1024}
    assert METHODS["lightrec-authors"]().training == Training(**plain, **own, beta2=0.999)
    assert METHODS["lightrec-authors"]().method == LightRec(
        backbone=SASRec(width=32),
        loss=ItemLoss(kind="bpr", negatives=5, l2=0.001, cosine=False, temperature=1.0),
        codebooks=32 // 8,
        codewords=256,
        selection="bilinear",
        selection_temperature=0.9,
        pretrained=True,
        distillation=0.43,
    )
    assert pytest.approx(0.43, abs=0.001) == 1e-9 * 69_878 * (1 + 5) * 1024  # users and items of a batch, ML-10M
    lares_recipe = METHODS["lares-authors"]().method
    assert isinstance(lares_recipe, LARES)
    assert (lares_recipe.dropout, lares_recipe.attention_dropout, lares_recipe.state_scale) == (0.5, 0.5, 3.0)
    assert (lares_recipe.reinforcement.rate, lares_recipe.reinforcement.filter_top) == (1.0, 0)
    for name in ("rearec-erl-authors", "rearec-prl-authors"):
        method = METHODS[name]().method
        assert isinstance(method, ReaRec)
        assert (method.backbone.width, method.contrast_from, method.contrast_noise) == (256, 2, 0.01)
        assert method.divergence_weight == 0.05
