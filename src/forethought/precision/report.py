"""What layer-adaptive precision came to: layers, their sensitivities and formats, and how these changed over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forethought.precision.formats import TRAINED, Format
from forethought.tables.formats import number
from forethought.tables.table import Document, Table

SHOWN = 12  # samplings in the table of time; of more the first ones and the last ones
REMARK = (
    "Damage is the KL divergence, in nats, that a layer's format is expected to cost what the model says of a history, "
    "by K-FAC traces: errors of weights and of what goes in. Times are of this machine, forward and backward, over "
    "float32's; a format without one is emulated here."
)


def document(state: Mapping[str, Any]) -> Document:
    """The state of a `Controller` as tables.

    Args:
        state: as `Controller.state` has it, and a training's state under `ladq`.
    """
    assignment, samplings = state["assignment"], len(state["history"])
    counts = ", ".join(f"{list(assignment.values()).count(each)} {each}" for each in TRAINED)
    protocol = f"{len(assignment)} linear layers ({counts}), {samplings} samplings of sensitivity"
    tables = [_layers(state)]
    if samplings:
        tables.append(_over_time(state))
    remarks = [REMARK]
    if state["pinned"]:
        remarks.append(f"In float32 since the loss diverged: {', '.join(state['pinned'])}.")
    return Document(protocol, tables, remarks)


def _layers(state: Mapping[str, Any]) -> Table:
    """The last sampling."""
    damage = state["history"][-1]["damage"] if state["history"] else {}
    narrow = TRAINED[1:]
    columns = ["layer", "format", *(f"damage {each}" for each in narrow), *(f"time {each}" for each in narrow)]
    rows = []
    for name, each in state["assignment"].items():
        costs = state["costs"].get(name, {})
        nats = [number(damage.get(name, {}).get(narrowed), ".1e") for narrowed in narrow]
        times = [number(_ratio(costs, narrowed), ".2f") for narrowed in narrow]
        rows.append([name, each, *nats, *times])
    return Table("Layers, as last sampled", columns, rows, names=2)


def _ratio(costs: Mapping[str, float], format: Format) -> float | None:
    return costs[format] / costs["fp32"] if format in costs else None


def _over_time(state: Mapping[str, Any]) -> Table:
    """How many layers had which format, how many changed, and the largest damage that was taken."""
    rows, before = [], dict.fromkeys(state["assignment"], "fp32")
    for entry in state["history"]:
        now, damage = entry["assignment"], entry["damage"]
        changed = sum(now[name] != before[name] for name in now)
        taken = [damage.get(name, {}).get(each, 0.0) for name, each in now.items()]
        counts = [str(list(now.values()).count(each)) for each in TRAINED]
        rows.append([str(entry["step"]), *counts, str(changed), number(max(taken), ".1e"), number(sum(taken), ".1e")])
        before = now
    if len(rows) > SHOWN:
        rows = [*rows[: SHOWN // 2], ["..."] * len(rows[0]), *rows[-SHOWN // 2 :]]
    return Table("Over time", ["step", *TRAINED, "changed", "largest damage", "all damages"], rows)
