"""Vectors of a run for a vector database: items, their neighbours, and the queries that histories come to.

    query . vector = score        with a bias one more coordinate, which is 1 in every query

So a plain inner product ranks as the run does, cosine and temperature included, but for what evidence adds beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from forethought.batch_recommend import HISTORY, TIMES, histories_in, ids_of
from forethought.catalogue.catalogue import Catalogue
from forethought.catalogue.ranking import FilteredItems, top_k
from forethought.data.evidence import LISTED
from forethought.data.sources import readable
from forethought.data.vocabulary import UNKNOWN
from forethought.exporting.items import TABLE_FILE, item_frame
from forethought.history_rows import history_times
from forethought.methods.interface import dense_states
from forethought.recommender import Recommender
from forethought.row_ranking import RankingRequest, batch_of

NEIGHBOURS_FILE, QUERIES_FILE = "neighbours.parquet", "queries.parquet"
VECTOR = pl.List(pl.Float32)
CHUNK = 4096
NEIGHBOURS = pl.Schema(
    {"kind": pl.String(), "row": pl.Int64(), "neighbour_row": pl.Int64(), "rank": pl.Int64(), "value": pl.Float64()}
)


@torch.inference_mode()
def ranked_vectors(run: Recommender) -> Tensor:
    """Item vectors as they are ranked, [N, D]; with a bias [N, D + 1]."""
    catalogue = run.method.catalogue()
    vectors_ND, offsets_N = catalogue.comparable_ND, catalogue.offsets_N
    return vectors_ND if offsets_N is None else torch.cat([vectors_ND, offsets_N[:, None]], dim=1)


@torch.inference_mode()
def query_vectors(run: Recommender, requests: list[RankingRequest]) -> Tensor:
    """What histories come to, whose inner product with an item's vector is its score."""
    represented = run.method.represent(batch_of(requests, run.method))
    states_BD = dense_states(represented, "A vector database").states_BD
    if run.method.catalogue().offsets_N is None:
        return states_BD
    return torch.cat([states_BD, states_BD.new_ones(len(states_BD), 1)], dim=1)


def write_vectors(run: Recommender, folder: Path, neighbours: int) -> dict[str, int]:
    """Items with their vectors, and their neighbours by each kind; how many of each kind there are."""
    vectors = pl.Series("vector", ranked_vectors(run).float().cpu().numpy()).cast(VECTOR)
    table = item_frame(run).with_columns(vectors)
    table.write_parquet(folder / TABLE_FILE)
    pairs = pl.concat([_cosines(run, neighbours), *_spoken(run, neighbours)])
    ids = table.select("row", "item_id")
    pairs = pairs.join(ids, on="row", how="left", maintain_order="left").join(
        ids.rename({"row": "neighbour_row", "item_id": "neighbour_id"}), on="neighbour_row", maintain_order="left"
    )
    pairs.select("kind", "item_id", "neighbour_id", "rank", "value", "row", "neighbour_row").write_parquet(
        folder / NEIGHBOURS_FILE
    )
    return dict(pairs.group_by("kind", maintain_order=True).len().iter_rows())


@torch.inference_mode()
def _cosines(run: Recommender, neighbours: int) -> pl.DataFrame:
    """The items whose vectors lie nearest by direction, without a bias; never the item itself."""
    directions_ND = F.normalize(run.method.catalogue().comparable_ND, dim=-1)
    parts = []
    for rows in torch.arange(len(directions_ND), device=directions_ND.device).split(CHUNK):
        itself = FilteredItems(torch.arange(len(rows), device=rows.device), rows)
        found_BK, values_BK = top_k(directions_ND[rows], Catalogue(directions_ND), neighbours, itself)
        parts.append(_pairs("cosine", rows, found_BK, values_BK))
    return pl.concat(parts)


def _spoken(run: Recommender, neighbours: int) -> Iterator[pl.DataFrame]:
    """The neighbours that the run's evidence knows, kind by kind, as loudly as an item speaks for them."""
    evidence, start = run.method.evidence, 0
    for shape in () if evidence is None else evidence.shapes:
        columns, start = slice(start, start + shape.neighbours), start + shape.neighbours
        if shape.kind in LISTED:
            continue
        values_NK = evidence.values_NK[:, columns]  # type: ignore[union-attr]
        kept = min(neighbours, values_NK.shape[1])
        values_NK, places_NK = values_NK.sort(dim=1, descending=True, stable=True)
        items_NK = evidence.items_NK[:, columns].long().gather(1, places_NK)  # type: ignore[union-attr]
        items_NK = items_NK.masked_fill(values_NK <= 0, UNKNOWN)
        rows = torch.arange(len(items_NK), device=items_NK.device)
        yield _pairs(shape.name, rows, items_NK[:, :kept], values_NK[:, :kept])


def _pairs(kind: str, rows: Tensor, items_BK: Tensor, values_BK: Tensor) -> pl.DataFrame:
    """One row a pair; slots without an item are left out."""
    B, K = items_BK.shape
    frame = {
        "kind": [kind] * (B * K),
        "row": rows.cpu().numpy().repeat(K),
        "neighbour_row": items_BK.cpu().numpy().ravel(),
        "rank": np.tile(np.arange(1, K + 1), B),
        "value": values_BK.double().cpu().numpy().ravel(),
    }
    return pl.DataFrame(frame, schema=NEIGHBOURS).filter(pl.col("neighbour_row") != UNKNOWN)


def write_queries(run: Recommender, source: str | Path, folder: Path) -> dict[str, int]:
    """The table of histories, each with its query vector; how many there are, and how many have no known item.

    Raises:
        DataError: it is no such table, or has a column `vector` already.
    """
    frame, schema, total = histories_in(source, run, ("vector",))
    as_bytes = run.items.kind == "uuid" and schema[HISTORY] == pl.List(pl.Binary)
    parts, unmet = [], 0
    with readable(source):
        for chunk in frame.collect().iter_slices(CHUNK):
            vectors = _queries(run, chunk, as_bytes=as_bytes)
            unmet += sum(vector is None for vector in vectors)
            parts.append(chunk.with_columns(pl.Series("vector", vectors, VECTOR)))
    empty = pl.DataFrame(schema=dict(schema) | {"vector": VECTOR})
    (pl.concat(parts) if parts else empty).write_parquet(folder / QUERIES_FILE)
    return {"queries": total, "queries_without_known_item": unmet}


def _queries(run: Recommender, chunk: pl.DataFrame, *, as_bytes: bool) -> list[list[float] | None]:
    rows = [run.items.index_of(history or []) for history in ids_of(chunk[HISTORY], as_bytes)]
    times: list[np.ndarray] | list[None] = [None] * len(rows)
    if run.method.inputs.times:
        times = history_times([each or [] for each in chunk[TIMES].to_list()], rows)
    requests = {n: RankingRequest(row[row != UNKNOWN], 1, times[n]) for n, row in enumerate(rows) if (row >= 0).any()}
    if not requests:
        return [None] * len(rows)
    vectors = dict(zip(requests, query_vectors(run, list(requests.values())).float().cpu().tolist(), strict=True))
    return [vectors.get(n) for n in range(len(rows))]
