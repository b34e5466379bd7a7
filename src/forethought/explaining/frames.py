"""An explanation's answer as a data frame: one row an item, and how it came to its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from forethought.explaining.parts import Candidate, EvidenceUse, ItemSum, RankChange


def answer_frame(
    answer: Sequence[Candidate],
    movements: Sequence[RankChange],
    sums: Sequence[ItemSum] | None,
    evidence: Sequence[EvidenceUse],
    n_steps: int,
) -> pl.DataFrame:
    """By the parts of `Explanation`: `place` (from 1), `item_id`, `title`, `score`, `probability`, `rank_0`, `rank_1`,
    .. after each step, and where evidence speaks `model` and `added_<evidence>`, which add up to the score."""
    moved = {each.item: each.ranks for each in movements}
    added = {each.item: each for each in sums or ()}
    kinds = [] if sums is None else [each.name for each in evidence]
    columns = ["place", "item_id", "title", "score", "probability", *(f"rank_{step}" for step in range(n_steps))]
    columns += [] if sums is None else ["model", *(f"added_{name}" for name in kinds)]
    rows: list[dict[str, Any]] = []
    for place, each in enumerate(answer, 1):
        row = {"place": place, "item_id": each.item, "title": each.title, "score": each.score}
        row["probability"] = each.probability
        row |= {f"rank_{step}": rank for step, rank in enumerate(moved.get(each.item, ()))}
        if each.item in added:
            own = added[each.item]
            row |= {"model": own.model} | {f"added_{name}": own.added.get(name, 0.0) for name in kinds}
        rows.append(row)
    kinds_of = {"place": pl.Int64, "title": pl.String} | dict.fromkeys(columns[3:], pl.Float64)
    return pl.DataFrame({name: [row.get(name) for row in rows] for name in columns}, schema_overrides=kinds_of)
