"""Assignments by tolerance and within a budget, the latter against all there are."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from forethought.precision.assignment import by_tolerance, cheapest, total, within_budget
from forethought.precision.formats import TRAINED, Format

COSTS: dict[str, dict[Format, float]] = {"a": {"fp32": 4.0, "bf16": 2.0, "fp8": 1.0}, "b": {"fp32": 4.0, "bf16": 2.0}}


def damaged(**nats: tuple[float, float]) -> dict[str, dict[Format, float]]:
    return {name: {"bf16": each[0], "fp8": each[1]} for name, each in nats.items()}


def test_each_layer_gets_its_cheapest_format_within_the_tolerance() -> None:
    assigned = by_tolerance(damaged(a=(1e-6, 1e-5), b=(1e-6, 1e-6)), COSTS, 1e-4, {}, 1.5)
    assert assigned == {"a": "fp8", "b": "bf16"}  # b has no fp8
    assert by_tolerance(damaged(a=(1e-6, 1e-3), b=(1e-3, 1e-2)), COSTS, 1e-4, {}, 1.5) == {"a": "bf16", "b": "fp32"}


def test_a_layer_of_unknown_damage_stays_in_float32() -> None:
    assert by_tolerance(damaged(a=(0.0, 0.0)), COSTS, 1e-4, {}, 1.0)["b"] == "fp32"
    assert within_budget(damaged(a=(0.0, 0.0)), COSTS, 100.0) == {"a": "fp8", "b": "fp32"}


@pytest.mark.parametrize(
    ("nats", "from_fp32", "from_bf16"), [(0.9, "fp32", "bf16"), (0.6, "bf16", "bf16"), (1.1, "fp32", "fp32")]
)
def test_a_layer_changes_where_the_tolerance_is_kept_by_the_hysteresis(
    nats: float, from_fp32: str, from_bf16: str
) -> None:
    for before, after in (("fp32", from_fp32), ("bf16", from_bf16)):
        now: Any = {"a": before}
        assert by_tolerance(damaged(a=(nats, 9.0)), {"a": COSTS["a"]}, 1.0, now, 1.5) == {"a": after}


@pytest.mark.parametrize("seed", range(8))
def test_the_assignment_within_a_budget_is_the_best_of_all(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    names = [f"layer{n}" for n in range(6)]
    costs: dict[str, dict[Format, float]] = {}
    damages: dict[str, dict[Format, float]] = {}
    for name in names:
        cost = torch.rand(3, generator=generator).tolist()
        nats = torch.rand(2, generator=generator).tolist()
        costs[name] = dict(zip(TRAINED, cost, strict=True))
        damages[name] = dict(zip(TRAINED[1:], nats, strict=True))
    whole = sum(cost["fp32"] for cost in costs.values())
    for share in (0.4, 0.7, 1.0):
        every = [dict(zip(names, way, strict=True)) for way in itertools.product(TRAINED, repeat=6)]
        fitting = [each for each in every if total(costs, each) <= share * whole]
        assigned = within_budget(damages, costs, share * whole)
        if not fitting:
            assert assigned is None
            continue
        assert assigned is not None
        assert total(costs, assigned) <= share * whole
        assert total(damages, assigned) == pytest.approx(min(total(damages, each) for each in fitting))


def test_a_budget_is_kept_where_there_are_too_many_assignments_to_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forethought.precision.assignment.MOST_KEPT", 50)
    generator, costs, damages = torch.Generator().manual_seed(0), {}, {}
    for n in range(40):
        fp32, bf16, nats = torch.rand(3, generator=generator).tolist()
        costs[f"l{n}"], damages[f"l{n}"] = {"fp32": 1 + fp32, "bf16": bf16}, {"bf16": nats}
    assigned = within_budget(damages, costs, 35.0)
    assert assigned is not None
    assert total(costs, assigned) <= 35.0
    greedy = dict.fromkeys(costs, "fp32")
    for name in sorted(costs, key=lambda n: damages[n]["bf16"] / (costs[n]["fp32"] - costs[n]["bf16"])):
        if total(costs, greedy) > 35.0:  # type: ignore[arg-type]
            greedy[name] = "bf16"
    assert total(damages, assigned) <= 1.02 * total(damages, greedy)  # type: ignore[arg-type]


def test_no_assignment_is_within_too_small_a_budget() -> None:
    assert within_budget(damaged(a=(1, 1), b=(1, 1)), COSTS, 2.9) is None
    assert cheapest(COSTS) == {"a": "fp8", "b": "bf16"}
