"""An explanation's answer as a data frame: one row an item, and how it came to its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from forethought.explaining.explanation import Explanation


def answer_frame(explanation: Explanation) -> pl.DataFrame:
    """Columns: `place` (from 1), `item_id`, `title`, `score`, `probability`, `rank_0`, `rank_1`, .. after each step,
    and where evidence speaks `model` and `added_<evidence>`, which add up to the score."""
    moved = {each.item: each for each in explanation.movements}
    added = {each.item: each for each in explanation.sums or []}
    kinds = [each.name for each in explanation.evidence] if explanation.sums is not None else []
    rows: list[dict[str, Any]] = []
    for place, each in enumerate(explanation.answer, 1):
        row = {"place": place, "item_id": each.item, "title": each.title, "score": each.score}
        row["probability"] = each.probability
        ranks = moved[each.item].ranks if each.item in moved else []
        row |= {f"rank_{step}": rank for step, rank in enumerate(ranks)}
        if each.item in added:
            own = added[each.item]
            row |= {"model": own.model} | {f"added_{name}": own.added.get(name, 0.0) for name in kinds}
        rows.append(row)
    columns = ["place", "item_id", "title", "score", "probability"]
    columns += [f"rank_{step}" for step in range(len(explanation.steps))]
    columns += ["model", *(f"added_{name}" for name in kinds)] if explanation.sums is not None else []
    data = {column: [row.get(column) for row in rows] for column in columns}
    floats = dict.fromkeys(columns[3:], pl.Float64)
    return pl.DataFrame(data, schema_overrides={"place": pl.Int64, "title": pl.String, **floats})
