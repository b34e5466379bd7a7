"""The report of layers: what was found, what was chosen, and when that changed."""

from __future__ import annotations

from typing import Any

from forethought.precision.report import SHOWN, document


def entry(step: int, a: str, b: str) -> dict[str, Any]:
    damage = {"a": {"bf16": 1e-7, "fp8": 2e-5}}
    return {"step": step, "damage": damage, "assignment": {"a": a, "b": b}}


def state(*entries: dict[str, Any], pinned: tuple[str, ...] = ()) -> dict[str, Any]:
    assignment = entries[-1]["assignment"] if entries else {"a": "fp32", "b": "fp32"}
    costs = {"a": {"fp32": 2.0, "bf16": 1.0}, "b": {"fp32": 2.0, "bf16": 3.0}}
    return {"assignment": assignment, "costs": costs, "history": list(entries), "pinned": list(pinned), "traces": {}}


def test_layers_have_their_damage_format_and_times() -> None:
    made = document(state(entry(0, "bf16", "fp32"), entry(200, "fp8", "fp32"), pinned=("b",)))
    layers, over_time = made.tables
    assert layers.rows == [
        ["a", "fp8", "1.0e-07", "2.0e-05", "0.50", "–"],
        ["b", "fp32", "–", "–", "1.50", "–"],
    ]
    assert over_time.rows[0] == ["0", "1", "1", "0", "1", "1.0e-07", "1.0e-07"]
    assert over_time.rows[1] == ["200", "1", "0", "1", "1", "2.0e-05", "2.0e-05"]
    assert "2 linear layers (1 fp32, 0 bf16, 1 fp8), 2 samplings" in made.protocol
    assert "since the loss diverged: b." in made.text()


def test_before_the_first_sampling_there_are_layers_alone() -> None:
    assert len(document(state()).tables) == 1


def test_of_many_samplings_the_first_and_the_last_are_shown() -> None:
    rows = document(state(*(entry(step, "bf16", "fp32") for step in range(50)))).tables[1].rows
    assert [row[0] for row in rows] == ["0", "1", "2", "3", "4", "5", "...", "44", "45", "46", "47", "48", "49"]
    assert len(rows) == SHOWN + 1
