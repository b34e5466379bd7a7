"""What a run folder says of its data is read as files and folders; it is never executed, fetched or expanded."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from forethought.backbones.sasrec import SASRec
from forethought.config import Recipe
from forethought.data import sources
from forethought.data.columns import Columns
from forethought.data.filters import k_core
from forethought.data.origin import Origin
from forethought.data.prepare import Filters, PrepareConfig, open_prepared, prepare
from forethought.data.reading import read
from forethought.data.splits import Split, leave_last_out
from forethought.errors import ConfigError, DataError, RunError
from forethought.recommender import Recommender, load
from forethought.runs import split_of, train
from forethought.training.settings import Training


def copy_with(run: Recommender, folder: Path, **about: Any) -> Recommender:
    """A whole run, by its checksums, that tells otherwise of its data."""
    assert run.folder is not None
    other = load(run.folder)
    other.about |= about
    return load(other.save(folder))


NOT_READ = [
    "sql: COPY (SELECT 'x') TO 'owned.txt'",
    "  SQL: SELECT * FROM 'shop/interactions.parquet'",
    "http://127.0.0.1:9/t.parquet",
    "https://127.0.0.1:9/t.parquet",
    "s3://bucket/t.parquet",
    "gs://bucket/t.parquet",
    "hf://datasets/a/b/t.parquet",
    "file:///etc/t.parquet",
    "shop/*.parquet",
    "nowhere.parquet",
    "/dev/null",
    "\0",
    "x" * 5000,
]


@pytest.mark.parametrize("named", NOT_READ, ids=lambda named: str(named)[:20])
def test_sql_and_addresses_in_a_run_folder_are_neither_executed_nor_fetched(
    named: Any, trained: Recommender, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched(*_: object, **__: object) -> None:
        raise AssertionError("the source was opened")

    shutil.copytree(shop, tmp_path / "here" / "shop")
    monkeypatch.chdir(tmp_path / "here")
    in_data = copy_with(trained, tmp_path / "data", data_path=named)
    with monkeypatch.context() as patch:
        patch.setattr(sources, "sql", touched)
        patch.setattr(pl, "scan_parquet", touched)
        with pytest.raises(DataError) as error:
            split_of(in_data)
    assert "\n" not in str(error.value)
    if named != "/dev/null":
        assert "--data" in str(error.value)
    in_items = copy_with(trained, tmp_path / "items", columns={"items": named})
    with monkeypatch.context() as patch:
        patch.setattr(sources, "sql", touched)
        with pytest.raises((DataError, RunError)):
            split_of(in_items)
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["shop"]
    assert split_of(in_data, str(shop)).data.data_hash == trained.about["data_hash"]


def test_sql_that_the_caller_repeats_is_executed(sasrec: SASRec, quick: Training, shop: Path, tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    data = f"sql: SELECT * FROM '{shop}/interactions.parquet'" + " -- longer than any path" * 20
    items = f"sql: SELECT * FROM '{shop}/items.parquet'"
    split = leave_last_out(read(data, items=items))

    model = train(Recipe(method=sasrec, training=quick), split, tmp_path / "run")
    with pytest.raises(DataError, match=r"as its data, but SQL .* is not executed: repeat it .*--data"):
        split_of(model)
    with pytest.raises(DataError, match=r"as the table of its items, but SQL .* is not executed: repeat it .*--items"):
        split_of(model, data)
    assert split_of(model, data, items).data.data_hash == split.data.data_hash
    assert split_of(model, data, shop / "items.parquet").data.data_hash == split.data.data_hash


def test_a_table_of_items_is_found_from_another_folder(
    sasrec: SASRec, quick: Training, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)
    split = leave_last_out(read("interactions.parquet", items="items.parquet"))
    model = train(Recipe(method=sasrec, training=quick), split, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert split_of(model).data.data_hash == split.data.data_hash
    with pytest.raises(DataError, match=r"There is no file or folder 'none\.parquet'"):
        split_of(model, None, "none.parquet")


@pytest.mark.parametrize(
    "columns", [5, ["user"], {"cache": "/tmp"}, {"name": "../x"}, {"user": None}, {"items": ["a"]}]
)
def test_columns_that_are_none_are_told(columns: Any, trained: Recommender, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is damaged"):
        split_of(copy_with(trained, tmp_path / "run", columns=columns))


def test_items_beside_a_prepared_folder_are_refused(
    sasrec: SASRec, quick: Training, shop: Path, tmp_path: Path
) -> None:
    prepare(shop, tmp_path / "data")
    split = open_prepared(tmp_path / "data")
    model = train(Recipe(method=sasrec, training=quick), split, tmp_path / "run")
    assert split_of(model).data.data_hash == split.data.data_hash
    with pytest.raises(ConfigError, match="a table of items of its own: leave items out"):
        split_of(model, None, shop / "items.parquet")


# ---- brackets


def test_a_run_folder_with_brackets_is_that_folder(
    trained: Recommender, split: Split, sasrec: SASRec, quick: Training, tmp_path: Path
) -> None:
    assert trained.folder is not None
    (tmp_path / "seed1").mkdir()  # whose items nobody asked for
    others = trained.item_table.with_columns(item_id="other " + pl.col("item_id"))
    others.write_parquet(tmp_path / "seed1" / "items.parquet")
    shutil.copytree(trained.folder, tmp_path / "seed[1]")
    assert load(tmp_path / "seed[1]").items.ids.equals(trained.items.ids)
    model = train(Recipe(method=sasrec, training=quick), split, tmp_path / "lr[0.003]")
    assert model.folder == tmp_path / "lr[0.003]"


def test_a_data_folder_with_brackets_is_that_folder(shop: Path, tmp_path: Path) -> None:
    prepare(shop, tmp_path / "data[1]")
    prepare(pl.read_parquet(shop / "interactions.parquet").head(-5), tmp_path / "data1")
    assert open_prepared(tmp_path / "data[1]").data.data_hash == read(shop).data_hash


@pytest.mark.parametrize("named", [5, ["a"]])
def test_a_place_of_data_that_is_no_text_is_told(named: Any, trained: Recommender, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is damaged \(about\.data_path is .*, but must be text or None"):
        copy_with(trained, tmp_path / "data", data_path=named)


# ---- where data came from is known without being said


def test_a_run_trained_from_python_finds_its_data_again(
    sasrec: SASRec, quick: Training, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pl.read_parquet(shop / "interactions.parquet").rename({"user_id": "who", "timestamp": "when"})
    table.write_parquet(tmp_path / "table.parquet")
    monkeypatch.chdir(tmp_path)
    split = leave_last_out(read("table.parquet", user="who", time="when"))
    model = train(Recipe(method=sasrec, training=quick), split, tmp_path / "run")
    assert model.about["data_path"] == str(tmp_path / "table.parquet")
    monkeypatch.chdir("/")
    assert split_of(load(tmp_path / "run")).data.data_hash == split.data.data_hash


def test_data_that_cannot_be_read_again_has_no_origin(shop: Path, tmp_path: Path) -> None:
    table = shop / "interactions.parquet"
    whole = read(table)
    assert whole.origin is not None
    assert k_core(whole, users=1, items=1).origin == whole.origin  # nothing went
    assert whole.where(whole.histories.items > 0).origin is None
    assert read(pl.read_parquet(table)).origin is None
    assert read(table, items=pl.read_parquet(shop / "items.parquet")).origin is None
    rated = pl.read_parquet(table).with_columns(rating=1.0)
    rated.write_parquet(tmp_path / "rated.parquet")
    assert read(tmp_path / "rated.parquet", minimum_rating=1.0).origin is None
    made = prepare(rated, tmp_path / "data", PrepareConfig(keep=Filters(minimum_rating=1.0)))
    for split in (made, open_prepared(tmp_path / "data")):  # the folder has what was kept
        assert split.data.origin == Origin(str(tmp_path / "data"), Columns())
