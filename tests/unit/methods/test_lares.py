"""LARES against numpy, row by row, with its draws laid down beforehand (arXiv 2505.16865)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import reference
from forethought.config import Recipe
from forethought.data.batches import Batch, lists_batch, training_batch, windows
from forethought.data.interactions import DataSizes
from forethought.data.splits import Split
from forethought.errors import ConfigError
from forethought.methods import lares
from forethought.methods.items import ItemLoss
from forethought.methods.lares import LARES, LARESModel, Reinforcement
from forethought.reasoning.halting import Halting
from forethought.runs import train
from forethought.training.settings import Training
from reference import unit

AUTHORS = {"pre_layers": 2, "core_layers": 2, "state_scale": 3.0}  # more than one layer of each is checked
SMALL: dict[str, Any] = {"width": 8, "ffn_width": 12, "window": 12, "dropout": 0.0, **AUTHORS}
TEMPERATURE = 0.085


def given(split: Split, **settings: Any) -> LARESModel:
    """A model in float64 with weights large enough that mistakes show."""
    torch.manual_seed(0)
    model = LARES(**SMALL, **settings).build(split.data.sizes).double()
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.3
    return model


def some(split: Split, rows: int = 7) -> Batch:
    return training_batch(windows(split.train, 12).take(np.arange(rows)))


# ---- the model once more, in numpy


def layer_norm(weights: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    return reference.layer_norm(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def linear(weights: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    return reference.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def layers(weights: dict[str, np.ndarray], name: str, x: np.ndarray, heads: int = 2) -> np.ndarray:
    """Causal pre-norm layers over one row, [L, D]."""
    for block in (f"{name}.blocks.0", f"{name}.blocks.1"):
        q, k, v = np.split(linear(weights, f"{block}.qkv", layer_norm(weights, f"{block}.attention_norm", x)), 3, -1)
        mixed = np.stack([reference.attend(q[j], k[: j + 1], v[: j + 1], heads)[0] for j in range(len(x))])
        x = x + linear(weights, f"{block}.out", mixed)
        hidden = reference.gelu(linear(weights, f"{block}.up", layer_norm(weights, f"{block}.ffn_norm", x)))
        x = x + linear(weights, f"{block}.down", hidden)
    return layer_norm(weights, f"{name}.norm", x)


def trajectory(model: LARESModel, items: list[int], start: np.ndarray, k: int) -> list[np.ndarray]:
    """T_0 .. T_k of one history, [L, D] each; slots are counted from its end."""
    weights = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    slots = weights["positions.weight"][model.window - len(items) :]
    held = layers(weights, "pre", weights["items.weight"][items] + slots)
    states = [start]
    for _ in range(k):
        now = states[-1]
        if model.config.combine == "add":
            mixed = (now + held) / 2
        elif model.config.combine == "concat":
            mixed = linear(weights, "recurrence.join", np.concatenate([now, held], -1))
        else:
            g = 1 / (1 + math.exp(-weights["recurrence.gate"]))
            mixed = g * now + (1 - g) * held
        states.append(layers(weights, "recurrence.core", layer_norm(weights, "recurrence.norm", mixed)))
    return states


def log_softmax(model: LARESModel, state: np.ndarray) -> np.ndarray:
    items = model.items.weight.detach().numpy()
    scores = unit(items) @ unit(state) / TEMPERATURE
    if model.items.bias is not None:
        scores = scores + model.items.bias.detach().numpy()
    return reference.log_softmax(scores)


def laid_down(monkeypatch: pytest.MonkeyPatch, depths: list[int]) -> list[torch.Tensor]:
    """Depths in this order, again and again; beginnings as they are drawn, noted down."""
    starts: list[torch.Tensor] = []
    ks: Iterator[int] = itertools.cycle(depths)
    draw = lares.draw_start

    def noted(like: torch.Tensor, scale: float, sigma: float) -> torch.Tensor:
        starts.append(draw(like, scale, sigma))
        return starts[-1]

    monkeypatch.setattr(lares, "draw_depth", lambda mean: next(ks))
    monkeypatch.setattr(lares, "draw_start", noted)
    return starts


def rows_of(batch: Batch) -> list[tuple[list[int], list[int], int]]:
    """Items, targets and user of each row."""
    assert batch.targets_BL is not None
    assert batch.users_B is not None
    return [
        (items[:n].tolist(), targets[:n].tolist(), int(user))
        for items, targets, user, n in zip(
            batch.items_BL, batch.targets_BL, batch.users_B, batch.lengths_B.tolist(), strict=True
        )
    ]


# ---- reading and thinking


@pytest.mark.parametrize("combine", ["add", "concat", "linear"])
@pytest.mark.parametrize("steps", [None, 1, 7])
def test_user_states(split: Split, combine: Any, steps: int | None) -> None:
    """From T_0 = 0, m steps or as many as asked for, more than were ever trained among them."""
    model = given(split, combine=combine).eval()
    histories = [[1, 2, 3, 4], [5], [9, 8, 7, 9, 9, 2]]
    batch = lists_batch([np.array(history) for history in histories], model.window)
    thought = model.user_states(batch, None if steps is None else Halting(max_steps=steps), trace=True)
    k = steps or 3
    assert thought.steps_B.tolist() == [k] * 3
    assert thought.trace is not None
    assert thought.trace.states_PSD.shape == (3, k + 1, 8)
    for row, history in enumerate(histories):
        states = np.stack([state[-1] for state in trajectory(model, history, np.zeros((len(history), 8)), k)])
        np.testing.assert_allclose(thought.trace.states_PSD[row].detach().numpy(), states, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(thought.states_BD[row].detach().numpy(), unit(states[-1]), rtol=1e-8)
        change = np.linalg.norm(np.diff(states, axis=0), axis=-1) / math.sqrt(8)
        np.testing.assert_allclose(thought.trace.indicators_PT3[row, :, 2].detach().numpy(), change, rtol=1e-8)
    assert thought.trace.indicators_PT3[..., :2].isnan().all()
    assert thought.trace.halts_PT.isnan().all()
    plain = model.user_states(batch, None if steps is None else Halting(max_steps=steps))
    assert plain.trace is None
    torch.testing.assert_close(plain.states_BD, thought.states_BD)


def test_any_depth_is_obeyed_and_no_other_rule(split: Split) -> None:
    model = given(split, mean_recurrence=2)
    assert model.resolve_halting(None) == Halting(rule="fixed", max_steps=2)
    assert model.resolve_halting(Halting(rule="fixed")) == Halting(rule="fixed", max_steps=2)
    assert model.resolve_halting(Halting(rule="fixed", max_steps=9)) == Halting(rule="fixed", max_steps=9)
    with pytest.raises(ConfigError, match="cannot halt by 'arh': choose one of fixed"):
        model.resolve_halting(Halting(max_steps=9))


def test_the_beginning_may_be_drawn_at_test_too(split: Split) -> None:
    batch = lists_batch([np.array([1, 2, 3])], 12)
    for init, same in (("normal_zero", True), ("normal", False)):
        model = given(split, state_init=init).eval()
        first, second = (model.user_states(batch).states_BD for _ in range(2))
        assert torch.equal(first, second) == same


def test_no_step_is_no_thought(split: Split) -> None:
    with pytest.raises(ConfigError, match="LARES thinks one step at least, so max_steps cannot be 0"):
        given(split).user_states(lists_batch([np.array([1])], 12), Halting(max_steps=0))


# ---- the supervised stage


def info_nce(anchors: np.ndarray, others: np.ndarray, ignored: np.ndarray) -> float:
    """The sum over rows, in one direction, at the temperature of the defaults."""
    return float(reference.info_nce(anchors, others, 0.1, ignored).sum())


@pytest.mark.parametrize("k", [1, 2, 5])
def test_supervised_loss(split: Split, monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    """L_rec + alpha L_TLA + gamma L_SLA, every position of every row with the draws of the batch."""
    model, batch = given(split, trajectory_weight=0.7, step_weight=0.4), some(split)
    starts = laid_down(monkeypatch, [k])
    twins: list[torch.Tensor] = []
    drawn: list[torch.Tensor] = []
    positives, randint = lares.positives, torch.randint
    monkeypatch.setattr(lares, "positives", lambda labels: twins.append(positives(labels)) or twins[-1])
    monkeypatch.setattr(torch, "randint", lambda *a, **b: drawn.append(randint(*a, **b)) or drawn[-1])
    losses = model.loss(batch)
    (start,), (twin,), (step) = starts, twins, drawn[-1]
    assert step.max() == max(k - 2, 0)
    named, last, early, users, targets = 0.0, [], [], [], []
    for row, (items, wanted, user) in enumerate(rows_of(batch)):
        states = trajectory(model, items, start[row, : len(items)].numpy(), k)
        for at, target in enumerate(wanted):
            named -= log_softmax(model, states[-1][at])[target]
            early.append(unit(states[1 + int(step[len(last)])][at]))
            last.append(unit(states[-1][at]))
            users.append(user)
            targets.append(target)
    other, u, y = twin.numpy(), np.array(users), np.array(targets)
    assert (other != np.arange(len(other))).any()
    ends, earlier = np.stack(last), np.stack(early)
    same_item = y[:, None] == y
    tla_ignored, sla_ignored = same_item | (u[:, None] == u[other]), same_item | (u[:, None] == u)
    tla = info_nce(ends, ends[other], tla_ignored) + info_nce(ends[other], ends, tla_ignored.T)
    sla = info_nce(ends, earlier, sla_ignored) + info_nce(earlier, ends, sla_ignored.T)
    n = len(ends)
    assert n == batch.weight
    assert losses.parts["named"].item() == pytest.approx(named / n)
    assert losses.parts["tla"].item() == pytest.approx(tla / 2 / n)
    assert losses.parts["sla"].item() == pytest.approx(sla / 2 / n, abs=1e-12)
    assert losses.total.item() == pytest.approx((named + 0.7 * tla / 2 + 0.4 * sla / 2) / n)
    assert losses.parts["loss"].item() == losses.total.item()


def test_depth_and_beginning_are_drawn_anew(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = given(split), some(split)
    starts = laid_down(monkeypatch, [2])
    for _ in range(2):
        model.loss(batch)
    assert starts[0].shape == (*batch.items_BL.shape, 8)
    assert not torch.equal(*starts)


def test_shares_of_a_batch_add_up(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without draws, and without contrasts, which see the share alone, two processes make the gradients of one."""
    model = given(split, trajectory_weight=0.0, step_weight=0.0)
    monkeypatch.setattr(lares, "draw_depth", lambda mean: 2)
    monkeypatch.setattr(lares, "draw_start", lambda like, scale, sigma: torch.zeros_like(like))
    rows = windows(split.train, 12).take(np.arange(9))
    told = []
    for world in (1, 2):
        model.zero_grad()
        for rank in range(world):
            model.loss(training_batch(rows, rank=rank, world=world)).total.backward()
        told.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(told[0]) == len(list(model.parameters()))
    for got, wanted in zip(*told, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


# ---- the reinforcement stage


def reinforced(split: Split, loss: ItemLoss | None = None, **settings: Any) -> LARESModel:
    """A model in its second stage, some way from where that began."""
    model = given(split, loss=loss or ItemLoss(), reinforcement=Reinforcement(**settings))
    model.begin_stage("reinforced")
    for parameter in model.parameters():
        parameter.data += torch.randn_like(parameter) * 0.05
    return model.train()


@pytest.mark.parametrize("reward", ["recall", "ndcg"])
@pytest.mark.parametrize("filter_top", [0, 10])
@pytest.mark.parametrize("bias", [False, True])
def test_reinforced_loss(
    split: Split, monkeypatch: pytest.MonkeyPatch, reward: Any, filter_top: int, bias: bool
) -> None:
    """Each case alone: rollouts, ranks among all items, advantages, and KL to the model the stage began with."""
    loss = ItemLoss(bias=bias)
    model = reinforced(split, loss, rollouts=3, kl_weight=0.5, reward=reward, top=5, filter_top=filter_top)
    (supervised,), batch, depths = model.reference, some(split, 12), [2, 4, 1]
    torch.manual_seed(4)
    last = (torch.rand(12) * batch.lengths_B).long()
    torch.manual_seed(4)
    starts = laid_down(monkeypatch, depths)
    losses = model.loss(batch)
    assert len(starts) == 3
    told, place = np.zeros(4), 0
    for row, (items, wanted, _) in enumerate(rows_of(batch)):
        prefix, target = items[: int(last[row]) + 1], wanted[int(last[row])]
        n = len(prefix)
        if filter_top:
            before = log_softmax(supervised, trajectory(supervised, prefix, np.zeros((n, 8)), 3)[-1][-1])
            if 1 + (before > before[target]).sum() > filter_top:
                continue
        rewards, objectives, kls = [], [], []
        for start, k in zip(starts, depths, strict=True):
            begin = start[place, :n].numpy()
            mine = [log_softmax(model, s[-1]) for s in trajectory(model, prefix, begin, k)[1:]]
            theirs = [log_softmax(supervised, s[-1]) for s in trajectory(supervised, prefix, begin, k)[1:]]
            rank = 1 + (mine[-1] > mine[-1][target]).sum()
            rewards.append(reference.metric(reward, rank, 5))
            ahead = [b[target] - a[target] for a, b in zip(mine, theirs, strict=True)]
            kls.append(np.mean([math.exp(x) - x - 1 for x in ahead]))
        for gain, kl in zip(rewards, kls, strict=True):
            objectives.append((gain - np.mean(rewards)) / (np.std(rewards, ddof=1) + 1e-4) - 0.5 * kl)
        share = len(items) / batch.weight
        told += share * np.array([-np.mean(objectives), np.mean(rewards), np.mean(kls), 1])
        place += 1
    if filter_top:
        assert 0 < place < 12
    assert 0 < told[1] < told[3]
    assert [losses.parts[name].item() for name in ("loss", "reward", "kl", "kept")] == pytest.approx(told.tolist())
    assert losses.total.item() == losses.parts["loss"].item()


def test_kl_is_zero_at_the_start_and_gradients_are_those_of_the_advantages(split: Split) -> None:
    torch.manual_seed(1)
    model = LARES(**SMALL | {"dropout": 0.5}, reinforcement=Reinforcement(top=3)).build(split.data.sizes)
    model.begin_stage("reinforced")
    losses = model.train().loss(some(split, 40))
    assert losses.parts["kl"].item() == pytest.approx(0, abs=1e-9)
    losses.total.backward()
    grads = [p.grad for p in model.parameters()]
    assert all(grad is not None for grad in grads)
    assert sum(grad.abs().sum() for grad in grads if grad is not None) > 0


def test_where_every_case_is_dropped_nothing_is_learned(split: Split) -> None:
    model = given(split, reinforcement=Reinforcement(filter_top=1))
    model.begin_stage("reinforced")
    batch = some(split)
    (reference,) = model.reference
    assert batch.targets_BL is not None
    best = reference.recommend(reference.eval().user_states(batch), 1)[0][:, 0]
    batch.lengths_B = torch.ones_like(batch.lengths_B)
    batch.targets_BL = ((best + 1) % split.data.n_items)[:, None].expand_as(batch.targets_BL).clone()
    one = reference.recommend(reference.user_states(batch), 1)[0][:, 0]
    batch.targets_BL[:, 0] = (one + 1) % split.data.n_items
    losses = model.loss(batch)
    assert losses.parts["kept"].item() == losses.total.item() == 0
    losses.total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() == 0 for p in model.parameters())


def test_cases_are_drawn_evenly(split: Split) -> None:
    model, batch = given(split), some(split)
    torch.manual_seed(0)
    seen = np.zeros((7, batch.items_BL.shape[1]))
    for _ in range(2000):
        case, targets_B, shares_B = model._draw_cases(batch)
        seen[np.arange(7), case.lengths_B.numpy() - 1] += 1
        for row, (_, wanted, _) in enumerate(rows_of(batch)):
            assert int(targets_B[row]) == wanted[int(case.lengths_B[row]) - 1]
    assert shares_B.sum().item() == pytest.approx(1)
    for row, n in enumerate(batch.lengths_B.tolist()):
        assert seen[row, n:].sum() == 0
        assert seen[row, :n] / 2000 == pytest.approx(1 / n, abs=5 * math.sqrt(1 / n / 2000))


# ---- stages


def test_stages() -> None:
    both = [(stage.name, stage.epochs, stage.rate) for stage in LARES().build(DataSizes(5)).stages()]
    assert both == [("supervised", None, 1), ("reinforced", 5, 0.1)]
    alone = LARES(reinforcement=Reinforcement(epochs=0)).build(DataSizes(5)).stages()
    assert [stage.name for stage in alone] == ["supervised"]


def test_the_reference_stands_still_and_apart(split: Split) -> None:
    model = given(split)
    names, tensors = list(model.state_dict()), len(list(model.parameters()))
    before = model.items.weight.detach().clone()
    model.begin_stage("reinforced")
    (reference,) = model.reference
    assert list(model.state_dict()) == names
    assert len(list(model.parameters())) == tensors
    assert not any(p.requires_grad for p in reference.parameters())
    model.items.weight.data += 1
    assert torch.equal(reference.items.weight, before)
    assert not model.train().pre.training  # no dropout in this stage
    model.begin_stage("supervised")
    assert model.reference == ()
    assert model.train().pre.training


def test_what_is_saved(split: Split, quick: Training, tmp_path: Path) -> None:
    config = LARES(**SMALL, reinforcement=Reinforcement(epochs=1))
    model = train(Recipe(method=config, training=quick), split, tmp_path / "run").method
    assert sorted(load_file(tmp_path / "run/model.safetensors")) == sorted(model.state_dict())
    assert not [name for name in model.state_dict() if "reference" in name]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": 9}, "LARES's width is 9, but must be a multiple of its 2 heads"),
        ({"mean_recurrence": 0}, "mean_recurrence is 0, but must be a whole number from 1 to 100"),
        ({"combine": "sum"}, "combine is 'sum', but must be one of add, concat, linear"),
        ({"state_init": "zero"}, "state_init is 'zero', but must be one of normal_zero, normal"),
        ({"trajectory_weight": -1.0}, "trajectory_weight is -1.0, but must be a number from 0 to 1,000,000"),
        ({"step_weight": math.nan}, "step_weight is nan, but must be a number from 0 to 1,000,000"),
        ({"sigma": 0.0}, "sigma is 0.0, but must be a number above 0"),
        ({"loss": ItemLoss(kind="bce")}, "full cross-entropy, so its loss cannot be 'bce'"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        LARES(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rollouts": 1}, "rollouts is 1, but must be a whole number from 2 to 1,000"),
        ({"epochs": -1}, "epochs is -1, but must be a whole number from 0 to 1,000,000"),
        ({"reward": "mrr"}, "reward is 'mrr', but must be one of recall, ndcg"),
        ({"kl_weight": -0.1}, "kl_weight is -0.1, but must be a number from 0 to 1,000,000"),
        ({"rate": 0.0}, "rate is 0.0, but must be a number above 0"),
    ],
)
def test_reinforcement_out_of_range(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Reinforcement(**settings)
