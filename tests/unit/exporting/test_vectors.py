"""A plain inner product of what is exported ranks as the run does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from export_runs import run_of, speaking

from forethought.data.splits import Split
from forethought.errors import ConfigError, DataError
from forethought.exporting.export import export
from forethought.methods.items import ItemLoss

LOSSES = {
    "cosine": ItemLoss(),
    "cosine and bias": ItemLoss(bias=True),
    "product, temperature and bias": ItemLoss(cosine=False, temperature=0.3, bias=True),
}


def matrix(column: pl.Series) -> np.ndarray:
    return np.array(column.to_list(), dtype=np.float32)


@pytest.fixture
def histories(split: Split, tmp_path: Path) -> Path:
    ids = split.data.items.id_list(range(40))
    rows = [[ids[3], ids[7], ids[1]], ["nobody knows it"], [], [ids[5], "nor that", ids[5]]]
    pl.DataFrame({"who": ["a", "b", "c", "d"], "history": rows}).write_parquet(tmp_path / "histories.parquet")
    return tmp_path / "histories.parquet"


@pytest.mark.parametrize("name", ["sasrec", "dtrec"])
@pytest.mark.parametrize("loss", LOSSES)
def test_an_inner_product_ranks_as_recommend(
    name: str, loss: str, split: Split, histories: Path, tmp_path: Path
) -> None:
    run = run_of(name, split, loss=LOSSES[loss])
    made = export(run, tmp_path / "out", "parquet", histories=histories)
    items = pl.read_parquet(tmp_path / "out" / "items.parquet")
    queries = pl.read_parquet(tmp_path / "out" / "queries.parquet")
    assert items["item_id"].to_list() == run.items.id_list(range(40))
    assert queries["who"].to_list() == ["a", "b", "c", "d"]
    assert queries["vector"].is_null().to_list() == [False, True, True, False]
    assert made.about["queries_without_known_item"] == 2
    assert made.about["dimensions"] == 16 + LOSSES[loss].bias
    asked = queries.filter(pl.col("vector").is_not_null())
    scores = matrix(asked["vector"]) @ matrix(items["vector"]).T
    wanted = run.recommend(asked["history"].to_list(), k=40, exclude_history=False, unknown="drop")
    for one, row in zip(wanted, scores, strict=True):
        np.testing.assert_allclose(row[run.items.index_of(one.items)], one.scores, atol=2e-6)
        assert [items["item_id"][int(at)] for at in np.argsort(-row, kind="stable")[:10]] == one.items[:10]


def test_neighbours_are_the_nearest_by_cosine(split: Split, tmp_path: Path) -> None:
    run = run_of("sasrec", split, loss=ItemLoss(cosine=False, bias=True))
    export(run, tmp_path / "out", "parquet", neighbours=5)
    vectors = matrix(pl.read_parquet(tmp_path / "out" / "items.parquet")["vector"])[:, :-1]  # without the bias
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    pairs = pl.read_parquet(tmp_path / "out" / "neighbours.parquet")
    assert set(pairs["kind"]) == {"cosine"}
    for row, wanted in enumerate(np.argsort(-cosines, axis=1)[:, :5]):
        mine = pairs.filter(pl.col("row") == row)
        assert mine["neighbour_row"].to_list() == wanted.tolist()
        assert mine["rank"].to_list() == [1, 2, 3, 4, 5]
        np.testing.assert_allclose(mine["value"], cosines[row, wanted], atol=1e-6)
        assert mine["neighbour_id"].to_list() == run.items.id_list(wanted)


def test_neighbours_of_a_program_would_be_nowhere(split: Split, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave them out"):
        export(run_of("sasrec", split), tmp_path / "out", "torch", neighbours=5)
    assert not (tmp_path / "out").exists()


def test_neighbours_by_evidence_are_written_beside_them(split: Split, tmp_path: Path) -> None:
    run = run_of("sasrec", split, speaking)
    made = export(run, tmp_path / "out", "parquet", neighbours=4)
    pairs = pl.read_parquet(tmp_path / "out" / "neighbours.parquet")
    assert set(pairs["kind"]) == {"cosine", "co_occurrence", "text"}
    evidence = run.method.evidence
    assert evidence is not None
    for kind, columns in (("co_occurrence", slice(0, 5)), ("text", slice(5, 12))):
        for row in range(40):
            values, items = evidence.values_NK[row, columns], evidence.items_NK[row, columns]
            best = values.argsort(descending=True)[: min(4, int((values > 0).sum()))]
            mine = pairs.filter((pl.col("kind") == kind) & (pl.col("row") == row))
            assert mine["neighbour_row"].to_list() == items[best].tolist()
            assert mine["value"].to_list() == pytest.approx(values[best].tolist())
    assert made.about["evidence"]
    assert "**Evidence** adds to the scores" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["rpg", "popular"])
def test_a_method_without_vectors_is_refused(name: str, split: Split, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="knows no vectors of items"):
        export(run_of(name, split), tmp_path / "out", "parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"history": [["i00001"]], "vector": [1]}, "has a column 'vector' already"),
        ({"history": ["i00001"]}, "must be a list"),
        ({"other": [1]}, "needs a list column 'history'"),
    ],
)
def test_a_table_that_holds_no_histories_leaves_nothing(table: Any, words: str, split: Split, tmp_path: Path) -> None:
    pl.DataFrame(table).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=words):
        export(run_of("sasrec", split), tmp_path / "out", "parquet", histories=tmp_path / "t.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]
