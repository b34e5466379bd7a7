"""Recommendations for a whole table of histories, Parquet to Parquet, a few thousand at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from forethought.data.sources import scan
from forethought.errors import DataError, nearest
from forethought.files import replace_file
from forethought.recommender import Recommendation, Recommender

CHUNK = 4096
HISTORY = "history"


def recommend_table(
    model: Recommender,
    source: str | Path,
    out: str | Path,
    k: int = 10,
    *,
    report: Callable[[int, int], None] | None = None,
    unknown: str = "error",
    **choices: Any,
) -> dict[str, Any]:
    """Recommend for every row of a table with a list column `history`, or for every user of an interaction table.

    Memory does not grow with the number of histories. The output repeats the other columns and adds `items` and
    `scores` (lists); rows without any known item get empty lists when `unknown="drop"`.

    Args:
        source: a table; or rows of user_id, item_id and a time, which are gathered into histories first.
        out: Parquet file, written whole or not at all.
        choices: as in `Recommender.recommend`.

    Returns:
        How many histories, and the share of their items that the model does not know.
    """
    frame = _histories(scan(str(source)), source)
    schema = frame.collect_schema()
    total = int(frame.select(pl.len()).collect().item())
    item_type = model.items.ids.dtype
    counts = {"items": 0, "unknown": 0, "done": 0}
    out_schema = pl.Schema(dict(schema) | {"items": pl.List(item_type), "scores": pl.List(pl.Float32)})

    def score(chunk: pl.DataFrame) -> pl.DataFrame:
        histories = chunk[HISTORY].to_list()
        found = _recommend(model, histories, k, unknown, choices, counts["done"])
        counts["items"] += sum(map(len, histories))
        counts["unknown"] += sum(len(one.dropped) for one in found)
        counts["done"] += len(chunk)
        if report is not None:
            report(counts["done"], total)
        as_held = [list(map(str, one.items)) if model.items.kind == "uuid" else one.items for one in found]
        return chunk.with_columns(
            pl.Series("items", as_held, pl.List(item_type)),
            pl.Series("scores", [one.scores for one in found], pl.List(pl.Float32)),
        )

    def chunks(columns: list[str] | None, *_: Any) -> Iterator[pl.DataFrame]:
        for chunk in frame.collect_batches(chunk_size=CHUNK, maintain_order=True):
            for part in chunk.iter_slices(CHUNK):
                scored = score(part)
                yield scored if columns is None else scored.select(columns)

    failed: list[DataError] = []

    def guarded(columns: list[str] | None, *rest: Any) -> Iterator[pl.DataFrame]:
        try:
            yield from chunks(columns, *rest)
        except DataError as error:  # polars would wrap it: keep our sentence
            failed.append(error)
            raise

    def write(part: Path) -> None:
        try:
            register_io_source(guarded, schema=out_schema, is_pure=True).sink_parquet(part)
        except Exception:
            if failed:
                part.unlink(missing_ok=True)
                raise failed[0] from None
            raise

    replace_file(Path(out), write)
    return {"histories": total, "unknown_share": counts["unknown"] / max(counts["items"], 1)}


def _recommend(
    model: Recommender, histories: list[Any], k: int, unknown: str, choices: dict[str, Any], before: int
) -> list[Recommendation]:
    """As `recommend`, but with `unknown="drop"` an empty row is no error, and errors count rows from the table's top."""
    filled = [n for n, history in enumerate(histories) if history]
    if len(filled) < len(histories) and unknown == "error":
        empty = next(n for n, history in enumerate(histories) if not history)
        raise DataError(f"Row {before + empty} has an empty history: drop such rows, or use unknown='drop'.")
    found = model.recommend([histories[n] for n in filled], k, unknown=unknown, **choices) if filled else []  # type: ignore[arg-type]
    by_row = dict(zip(filled, found, strict=True))
    return [by_row.get(n, Recommendation([], [], [], [])) for n in range(len(histories))]


def _histories(frame: pl.LazyFrame, source: str | Path) -> pl.LazyFrame:
    """The frame with a list column `history`, gathered from rows if need be."""
    schema = frame.collect_schema()
    if HISTORY in schema:
        if not isinstance(schema[HISTORY], pl.List):
            raise DataError(f"The column 'history' of {source} has type {schema[HISTORY]}, but must be a list of item ids.")
        return frame
    names = schema.names()
    if "user_id" not in names or "item_id" not in names:
        raise DataError(
            f"{source} needs a list column 'history', or the columns user_id and item_id, but it has "
            f"{', '.join(names)}.{nearest('history', names)}"
        )
    order = [name for name in ("timestamp", "position") if name in names]
    rows = frame.sort("user_id", *order, maintain_order=True) if order else frame
    return rows.group_by("user_id", maintain_order=True).agg(pl.col("item_id").alias(HISTORY))


