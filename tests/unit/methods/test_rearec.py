"""ReaRec's losses against whole matrices (arXiv 2503.22675)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from forethought.backbones.gru4rec import GRU4Rec
from forethought.backbones.hstu import HSTU
from forethought.config import from_json, to_json
from forethought.data.batches import Batch, training_batch, windows
from forethought.data.reading import read
from forethought.data.splits import Split, leave_last_out
from forethought.errors import ConfigError, DataError
from forethought.methods.items import ItemLoss
from forethought.methods.rearec import ReaRec, ReaRecModel
from forethought.reasoning.halting import Halting
from row_per_prefix import chain_states, logits, prefix_rows

BACKBONE = GRU4Rec(width=16, window=12, dropout=0.0)


def given(split: Split, **settings: Any) -> tuple[ReaRecModel, Batch, Batch]:
    """A model in float64, a batch, and its prefixes as rows."""
    torch.manual_seed(0)
    model = ReaRec(backbone=BACKBONE, **{"draw_step": False} | settings).build(split.data.sizes).double()
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.3
    batch = training_batch(windows(split.train, model.window).take(np.arange(6)))
    return model, batch, prefix_rows(batch)


@pytest.mark.parametrize("bias", [False, True])
def test_erl(split: Split, same_gradients: Any, bias: bool) -> None:
    """CE of the mean state less lambda times the mean KL of all ordered pairs, the second of each held still."""
    model, batch, rows = given(split, learning="erl", steps=3, divergence_weight=0.3, loss=ItemLoss(bias=bias))
    items = model.items

    def wanted() -> torch.Tensor:
        states = chain_states(model, rows)
        named = F.cross_entropy(
            logits(torch.stack(states).mean(0), items.weight, items.loss, items.bias), rows.targets_BL
        )
        logs = [torch.log_softmax(logits(r, items.weight, items.loss, items.bias), -1) for r in states]
        pairs = [
            (a.exp() * (a - b.detach())).sum(-1).mean()
            for j, a in enumerate(logs)
            for i, b in enumerate(logs)
            if i != j
        ]
        assert len(pairs) == 12
        return named - 0.3 * torch.stack(pairs).mean()

    same_gradients(model, lambda: model.loss(batch).total, wanted)


def test_contrast_of_prl(split: Split, same_gradients: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the noise fixed, each step's noisy twin against the clean states of other users with other targets."""
    model, batch, rows = given(split, contrast_weight=0.7, contrast_noise=0.2, contrast_from=1)
    model.begin_epoch(0)
    plain = model.loss(batch)
    assert "contrast" not in plain.parts
    model.begin_epoch(1)
    shift = torch.randn(16, dtype=torch.float64)
    monkeypatch.setattr(torch, "randn_like", shift.expand_as)

    def wanted() -> torch.Tensor:
        clean = chain_states(model, rows)
        users = torch.repeat_interleave(torch.arange(len(batch.lengths_B)), batch.lengths_B)
        last_B1 = rows.lengths_B[:, None] - 1
        _, chain = model.backbone.encode(model.items.weight[rows.items_BL], rows.lengths_B, positions=last_B1)
        total = plain_value()
        for k, mark in enumerate(model.step_embeddings):
            noisy, chain = model.backbone.reason((clean[k] + mark + 0.2 * shift)[:, None], chain)
            a, o = F.normalize(noisy[:, 0], dim=-1), F.normalize(clean[k + 1], dim=-1)
            scores = a @ o.T / model.config.loss.temperature
            for p in range(len(scores)):
                others = (users != users[p]) & (rows.targets_BL != rows.targets_BL[p])
                others[p] = True
                total = total - 0.7 / 2 / len(scores) * (scores[p, p] - scores[p, others].logsumexp(0))
        return total

    def plain_value() -> torch.Tensor:
        model.begin_epoch(0)
        value = model.loss(batch).total
        model.begin_epoch(1)
        return value

    same_gradients(model, lambda: model.loss(batch).total, wanted)


def test_fewer_steps_than_trained(split: Split) -> None:
    """PRL stops after as many steps as asked for; ERL averages so many."""
    for learning in ("erl", "prl"):
        model, batch, rows = given(split, learning=learning, steps=3)
        states = chain_states(model, rows)
        last = batch.lengths_B.cumsum(0) - 1
        for steps in range(4):
            thought = model.user_states(batch, Halting(rule="fixed", max_steps=steps))
            wanted = torch.stack(states[: steps + 1]).mean(0) if learning == "erl" else states[steps]
            torch.testing.assert_close(thought.states_BD, F.normalize(wanted[last], dim=-1))
            assert thought.steps_B.tolist() == [steps] * len(last)


def test_exits_by_the_exact_indicators(split: Split) -> None:
    """PRL has no halting net, but can stop where its entropy over the catalogue falls below a threshold."""
    model, batch, rows = given(split, steps=3)
    last = batch.lengths_B.cumsum(0) - 1
    states = [r[last] for r in chain_states(model, rows)]
    logs = [torch.log_softmax(logits(r, model.items.weight, model.items.loss), -1) for r in states]
    entropies = torch.stack([-(p.exp() * p).sum(-1) for p in logs]) / np.log(len(model.items.weight))
    low, high = entropies[1:].flatten().sort().values[entropies[1:].numel() // 2 :][:2].tolist()
    threshold = (low + high) / 2  # between two of them: one may differ in its last digits
    thought = model.user_states(batch, Halting(rule="entropy", threshold=threshold))
    for row, steps in enumerate(thought.steps_B.tolist()):
        below = [t for t in (1, 2) if entropies[t, row] < threshold]
        assert steps == (below[0] if below else 3)
    assert len(set(thought.steps_B.tolist())) > 1


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="steps is 0"):
        ReaRec(steps=0)
    with pytest.raises(ConfigError, match="its loss cannot be 'bce'"):
        ReaRec(loss=ItemLoss(kind="bce"))
    with pytest.raises(ConfigError, match="divergence_weight is -1, but must be a number from 0 to 1,000,000"):
        ReaRec(divergence_weight=-1)
    with pytest.raises(ConfigError, match="contrast_noise is nan"):
        ReaRec(contrast_noise=float("nan"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"contrast_noise": 0.1}, "Without a contrast contrast_noise would change nothing: give contrast_weight"),
        ({"contrast_from": 0, "contrast_rereads": True}, "contrast_from and contrast_rereads would change nothing"),
        ({"contrast_steps": "sum"}, "contrast_steps would"),
        ({"contrast_negatives": "all"}, "contrast_negatives would"),
        ({"divergence_weight": 0.1}, "With learning prl divergence_weight would change nothing: choose learning erl"),
        ({"learning": "erl", "contrast_weight": 1.0}, "With learning erl contrast_weight would change nothing: choose"),
        ({"learning": "erl", "contrast_noise": 0.1, "temperature_scale": 5.0}, "temperature_scale and contrast_noise"),
        ({"learning": "erl", "step_weights": "sum"}, "step_weights would"),
        ({"learning": "erl", "progressive_weight": 0.5}, "progressive_weight would"),
    ],
)
def test_what_nothing_reads_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ReaRec(**settings)


def test_what_nothing_reads_is_left_out_of_runs_from_before() -> None:
    """They load and go on as they are; what is read stays, and what is damaged is told."""
    erl, prl = to_json(ReaRec(learning="erl", divergence_weight=0.1)), to_json(ReaRec())
    loaded = from_json(ReaRec, erl | {"contrast_weight": 1.0, "contrast_negatives": "all", "temperature_scale": 5.0})
    assert loaded == ReaRec(learning="erl", divergence_weight=0.1)
    assert from_json(ReaRec, prl | {"divergence_weight": 0.3, "contrast_noise": 0.5}) == ReaRec()
    contrasting = ReaRec(contrast_weight=1.0, contrast_noise=0.5, temperature_scale=5.0)
    assert from_json(ReaRec, to_json(contrasting)) == contrasting
    with pytest.raises(ConfigError, match="contrast_noise is 'much'"):
        from_json(ReaRec, prl | {"contrast_noise": "much"})


def test_no_net_to_halt_by(split: Split) -> None:
    model, batch, _ = given(split)
    with pytest.raises(ConfigError, match=r"no halting net.*choose another rule"):
        model.user_states(batch, Halting(rule="arh"))
    with pytest.raises(ConfigError, match="trained to think 2 steps and cannot take 5"):
        model.user_states(batch, Halting(rule="fixed", max_steps=5))


def test_times_that_are_not_there(shop: Any, tmp_path: Any) -> None:
    table = "user_id,item_id\n" + "".join(f"u{u},i{(u + n) % 7}\n" for u in range(6) for n in range(5))
    (tmp_path / "t.csv").write_text(table)
    split = leave_last_out(read(tmp_path / "t.csv", user="user_id", item="item_id"))
    with pytest.raises(DataError, match="needs the time of each interaction"):
        ReaRec(backbone=HSTU()).check(split)


@pytest.mark.parametrize("step_weights", ["mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_prl(split: Split, same_gradients: Any, step_weights: Any, smoothing: float) -> None:
    """CE of every step at temperature tau alpha^(K - k); those before the last weigh 1 together or 1 each (eq. 5)."""
    loss = ItemLoss(smoothing=smoothing, bias=True)
    model, batch, rows = given(split, steps=3, temperature_scale=1.5, step_weights=step_weights, loss=loss)

    def wanted() -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for k, state in enumerate(chain_states(model, rows)):
            scores = logits(state, model.items.weight, loss) / 1.5 ** (3 - k) + model.items.bias
            named = F.cross_entropy(scores, rows.targets_BL, label_smoothing=smoothing)  # type: ignore[arg-type]
            total = total + named * (1.0 if k == 3 or step_weights == "sum" else 1 / 3)
        return total

    same_gradients(model, lambda: model.loss(batch).total, wanted)


@pytest.mark.parametrize("learning", ["prl", "erl"])
def test_drawn_steps_are_the_whole_loss_on_average(
    learning: Any, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss and gradients of every step that may be drawn for a position, weighed by how often it is: the default."""
    assert ReaRec().draw_step
    model, batch, _ = given(split, learning=learning, steps=3)
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
        got = [total + shares[-1][step] * part for total, part in zip(got, told(), strict=True)]
    assert len(shares) == 4
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_a_flat_trajectory_is_told(split: Split) -> None:
    """The figure is the mean cosine of first and last state, and `health` reads it."""
    model, batch, rows = given(split)
    states = chain_states(model, rows)
    wanted = F.cosine_similarity(states[0], states[-1], dim=-1).mean().item()
    assert model.loss(batch).parts["mean_cosine"].item() == pytest.approx(wanted)
    assert model.diagnostics({"mean_cosine": 0.98}).warnings == []
    (told,) = model.diagnostics({"mean_cosine": 0.995}).warnings
    assert "the steps add nothing" in told
