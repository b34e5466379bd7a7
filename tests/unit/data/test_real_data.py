"""Published counts of real data sets, where they are present."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forethought.data.filters import k_core
from forethought.data.leakage import leakage
from forethought.data.prepare import PrepareConfig, open_prepared, prepare
from forethought.data.reading import read
from forethought.data.splits import SplitConfig, leave_last_out, temporal

SHARED = Path(__file__).parents[3].parent / "shared" / "data"


def folder(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"the data set {name} is not present")
    return SHARED / name


def test_beauty_has_its_published_counts() -> None:
    data = read(folder("amazon_beauty_2014"))
    assert (data.n_users, data.n_items, len(data)) == (22_363, 12_101, 198_502)
    assert not data.repeats
    split = leave_last_out(data)
    assert np.maximum(split.train.lengths - 1, 0).sum() == 131_413
    assert len(split.valid) == len(split.test) == 22_363
    assert data.item_table["source_row"].to_list() == list(range(12_101))


def test_beauty_follows_the_published_file() -> None:
    data = read(folder("amazon_beauty_2014"))
    table = pl.read_parquet(folder("amazon_beauty_2014") / "interactions.parquet").sort("user_id", "position")
    assert data.items.id_list(data.histories.items) == table["item_id"].to_list()
    lasts = table.group_by("user_id", maintain_order=True).agg(pl.col("item_id").last())
    split = leave_last_out(data)
    assert data.items.id_list(split.test.targets) == lasts["item_id"].to_list()


def test_beauty_leaks_and_a_temporal_split_does_not() -> None:
    data = read(folder("amazon_beauty_2014"))
    start = time.perf_counter()
    report = leakage(leave_last_out(data))
    assert time.perf_counter() - start < 1
    assert report.test.future_share is not None
    assert report.test.future_share > 0.99
    assert report.same_second == pytest.approx(0.439, abs=0.001)
    assert report.last_two_same_day == pytest.approx(0.435, abs=0.001)
    proof = leakage(temporal(data, valid_from=0.8, test_from=0.9))
    assert proof.test.future is not None
    assert proof.test.future.sum() == 0
    assert proof.test.not_earlier == 0


def test_the_five_core_of_movielens() -> None:
    data = k_core(read(folder("ml_1m")))
    assert (data.n_users, data.n_items, len(data)) == (6_040, 3_416, 999_611)


def test_beauty_prepared_is_beauty(tmp_path: Path) -> None:
    config = SplitConfig(ties="shuffle", seed=1)
    made = prepare(folder("amazon_beauty_2014"), tmp_path / "beauty", PrepareConfig(split=config))
    back = open_prepared(tmp_path / "beauty")
    assert np.array_equal(made.test.targets, back.test.targets)
    direct = config.apply(read(folder("amazon_beauty_2014")))
    assert np.array_equal(direct.test.targets, back.test.targets)
    assert back.protocol == {"split": "leave_last_out", "ties": "shuffle", "seed": 1}
    vectors = np.load(tmp_path / "beauty" / "item_text_embeddings.npy")
    assert np.array_equal(vectors, np.load(folder("amazon_beauty_2014") / "item_text_embeddings.npy"))
