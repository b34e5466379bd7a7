"""The controller: when it samples, what it assigns, what it refuses, and that its state is the whole of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from forethought.errors import ConfigError
from forethought.precision.cost import Costs, measured, paying
from forethought.precision.ladq import Controller
from forethought.precision.linear import PrecisionLinear, is_available, make_precise
from forethought.precision.settings import LADQ

PAY: dict[Any, float] = {"fp32": 4.0, "bf16": 2.0, "fp8": 1.0}


def net() -> tuple[nn.Sequential, dict[str, PrecisionLinear]]:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16), nn.GELU(), nn.Linear(16, 20))
    layers = make_precise(made)
    for layer in layers.values():
        layer.backend = "emulate"
    return made, layers


def controller(costs: dict[Any, float] = PAY, exact: tuple[str, ...] = (), **settings: Any) -> Controller:
    made, layers = net()
    control = Controller(layers, LADQ(**settings), {name: dict(costs) for name in layers}, exact=exact)
    control.net = made  # type: ignore[attr-defined]
    return control


def sample(control: Controller, step: int, **more: Any) -> str:
    torch.manual_seed(step)
    x = torch.randn(64, 16)

    def loss() -> torch.Tensor:
        logits = control.net(x)  # type: ignore[attr-defined]
        return F.cross_entropy(logits, torch.multinomial(logits.detach().softmax(-1), 1)[:, 0], reduction="sum")

    return control.sample(step, [loss], 64, **more)


def test_it_begins_in_float32_and_narrows_what_the_tolerance_allows() -> None:
    control = controller(assign="tolerance", tolerance=1e-3, every=10)
    assert set(control.assignment.values()) == {"fp32"}
    assert [step for step in range(31) if control.due(step)] == [0, 10, 20, 30]
    assert sample(control, 0) == "From step 0 on the layers multiply in fp8 (3)."
    assert {layer.precision for layer in control.layers.values()} == {"fp8"}
    assert not control.due(0)
    assert sample(control, 10) == ""
    control.settings = LADQ(assign="tolerance", tolerance=1e-12)
    assert "fp32 (3)" in sample(control, 20)
    assert [entry["step"] for entry in control.history] == [0, 10, 20]
    assert set(control.history[0]["damage"]) == set(control.layers)


def test_logits_are_never_float8() -> None:
    control = controller(exact=("4",), assign="tolerance", tolerance=1.0)
    sample(control, 0)
    assert control.assignment == {"0": "fp8", "2": "fp8", "4": "bf16"}
    assert controller(exact=("4",), assign="fp8").assignment["4"] == "fp32"


def test_a_budget_is_kept_and_spent_where_it_hurts_least() -> None:
    control = controller(assign="budget", budget=0.7)
    sample(control, 0)
    seconds = sum(control.costs[name][each] for name, each in control.assignment.items())
    assert seconds <= control.most == pytest.approx(0.7 * 12)
    damage = control.history[0]["damage"]
    assert control.assignment["4"] == "fp32" or damage["4"]["bf16"] < max(each["bf16"] for each in damage.values())


def test_what_does_not_pay_is_left_out_unless_forced() -> None:
    slow = {"fp32": 1.0, "bf16": 0.97, "fp8": 3.0}
    with pytest.raises(ConfigError, match=r"nothing pays .*bf16 takes 0\.97 .*fp8 takes 3\.00") as caught:
        controller(slow, assign="tolerance").check()
    assert "--ladq.force" in str(caught.value)
    with pytest.raises(ConfigError, match="fp8 is emulated"):
        controller({"fp32": 1.0, "bf16": 0.1}, assign="fp8").check()
    controller(slow, assign="tolerance", force=True).check()
    controller({"fp32": 1.0}, assign="fp32").check()
    assert paying({"a": slow}) == {"a": {"fp32": 1.0}}
    assert set(controller(slow, assign="fp8", force=True).assignment.values()) == {"fp8"}


def test_a_budget_that_nothing_fits_is_refused_with_what_would_fit() -> None:
    with pytest.raises(ConfigError, match=r"cheapest formats of all layers take 0\.25 of it"):
        controller(assign="budget", budget=0.2).check()


def test_a_model_without_linear_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="no linear layers"):
        Controller({}, LADQ(assign="tolerance"), {}).check()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"tolerance": 1.0}, "tolerance"),
        ({"assign": "bf16", "every": 10}, "every"),
        ({"assign": "tolerance", "budget": 0.5}, "budget"),
        ({"assign": "budget", "tolerance": 0.5}, "tolerance"),
    ],
)
def test_a_setting_that_nothing_reads_is_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=f"{named} would change nothing"):
        LADQ(**wrong)


def test_its_state_is_plain_json_and_all_there_is() -> None:
    first, second = (controller(assign="tolerance", tolerance=3e-5, every=10, ema=0.5) for _ in range(2))
    for step in (0, 10):
        sample(first, step)
    first.pin("2")
    second.load(json.loads(json.dumps(first.state())))
    assert second.state() == first.state()
    assert {name: layer.precision for name, layer in second.layers.items()} == first.assignment
    assert sample(first, 20) == sample(second, 20)
    assert second.state() == first.state()
    with pytest.raises(ValueError, match="not those of this model"):
        second.load({**first.state(), "assignment": {"other": "fp32"}})


@pytest.mark.parametrize("every", [50, 200, 400])
def test_memory_is_counted_in_steps_and_not_in_samplings(every: int) -> None:
    """The first sampling weighs as much at step 400 with every period; by hand, in float64, of every trace."""
    control = controller(assign="tolerance", tolerance=1e-3, every=every, ema=0.36)
    kept: dict[str, dict[str, float]] = {}
    for step in range(0, 401, every):
        alone = controller(assign="tolerance", tolerance=1e-3)
        sample(alone, step)
        sample(control, step)
        for name, traces in alone.traces.items():
            new = {"A": traces.inputs, "G": traces.gradients, "WG": traces.input_gradients}
            new |= {f"dx {each}": traces.input_errors[each] for each in traces.input_errors}
            share = {50: 0.36**0.25, 200: 0.36, 400: 0.1296}[every]
            old = kept.get(name, new)
            kept[name] = {key: share * old[key] + (1 - share) * value for key, value in new.items()}
    for name, traces in control.traces.items():
        assert traces.inputs == pytest.approx(kept[name]["A"], rel=1e-9)
        assert traces.gradients == pytest.approx(kept[name]["G"], rel=1e-9)
        assert traces.input_gradients == pytest.approx(kept[name]["WG"], rel=1e-9)
        for each, error in traces.input_errors.items():
            assert error == pytest.approx(kept[name][f"dx {each}"], rel=1e-9)
    settings = control.settings
    assert settings.kept_after(every) ** (400 // every) == pytest.approx(0.36**2)
    assert LADQ(assign="tolerance").kept_after(LADQ.every) == LADQ.ema


def test_a_pinned_layer_stays_in_float32() -> None:
    for settings in ({"assign": "tolerance", "tolerance": 1.0}, {"assign": "bf16"}):
        control = controller(**settings)
        if control.settings.adapts:
            sample(control, 0)
        named = control.most_sensitive()
        assert named is not None
        control.pin(named)
        assert control.layers[named].precision == "fp32"
        if control.settings.adapts:
            sample(control, 200, anew=True)
        assert control.assignment[named] == "fp32"
        assert control.assignment != dict.fromkeys(control.layers, "fp32")


def test_costs_are_measured_at_the_layers_shapes_and_once_a_shape() -> None:
    _, layers = net()
    for layer in layers.values():
        layer.backend = "auto"
    real = {"fp32", *(["bf16"] if is_available("bf16", torch.device("cpu")) else [])}
    state = torch.get_rng_state()
    costs: Costs = measured(layers, 64)
    assert {frozenset(each) for each in costs.values()} == {frozenset(real)}
    assert all(seconds > 0 for each in costs.values() for seconds in each.values())
    assert torch.equal(torch.get_rng_state(), state)
