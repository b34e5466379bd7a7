"""Whole tables of histories, table to table."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from forethought import batch_recommend
from forethought.backbones.hstu import HSTU
from forethought.backbones.sasrec import SASRec
from forethought.batch_recommend import recommend_table
from forethought.config import Recipe
from forethought.data.reading import read
from forethought.data.shop import Shop
from forethought.data.splits import Split, leave_last_out
from forethought.errors import ConfigError, DataError, RunError
from forethought.recommender import Recommender
from forethought.runs import train
from forethought.training.settings import Training


@pytest.fixture(scope="module")
def histories(trained: Recommender, split: Split) -> pl.DataFrame:
    """A column of its own, and a list column."""
    lists = [trained.items.id_list(split.test.history[n]) for n in range(len(split.test))]
    return pl.DataFrame({"customer": range(len(lists)), "history": lists})


def assert_scored(found: pl.DataFrame, model: Recommender, k: int = 10, **choices: Any) -> None:
    wanted = model.recommend(found["history"].to_list(), k, **choices)
    assert found["items"].to_list() == [one.items for one in wanted]
    for scores, one in zip(found["scores"].to_list(), wanted, strict=True):
        assert scores == pytest.approx(one.scores, abs=1e-5)


def test_a_list_column(trained: Recommender, histories: pl.DataFrame, tmp_path: Path) -> None:
    histories.write_parquet(tmp_path / "in.parquet")
    told = recommend_table(trained, tmp_path / "in.parquet", tmp_path / "out.parquet", k=7)
    found = pl.read_parquet(tmp_path / "out.parquet")
    none = {"unknown_items": 0, "unknown_share": 0.0, "empty_lists": 0}
    assert told == {"histories": len(histories), **none, "notes": []}
    assert found.columns == ["customer", "history", "items", "scores", "dropped"]
    assert found.drop("items", "scores", "dropped").equals(histories)
    assert_scored(found, trained, k=7)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_long_rows_become_histories_in_order_of_time(
    trained: Recommender, split: Split, shop: Path, tmp_path: Path
) -> None:
    recommend_table(trained, shop, tmp_path / "whole.parquet")
    shuffled = pl.read_parquet(shop / "interactions.parquet").sample(fraction=1.0, shuffle=True, seed=0)
    shuffled.drop("position").write_csv(tmp_path / "rows.csv")
    recommend_table(trained, tmp_path / "rows.csv", tmp_path / "out.parquet")
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert found.equals(pl.read_parquet(tmp_path / "whole.parquet"))
    assert found["user_id"].to_list() == split.data.users.id_list(range(split.data.n_users))
    data = split.data
    assert found["history"].to_list() == [data.items.id_list(data.histories[u]) for u in range(data.n_users)]
    assert_scored(found, trained)


def test_more_rows_than_a_chunk(
    trained: Recommender, histories: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = pl.concat([histories] * 3).with_columns(customer=pl.int_range(pl.len()))
    many.write_parquet(tmp_path / "in.parquet", row_group_size=50)
    recommend_table(trained, tmp_path / "in.parquet", tmp_path / "once.parquet")
    reports: list[tuple[int, int]] = []
    monkeypatch.setattr(batch_recommend, "CHUNK", 64)
    report = lambda done, total: reports.append((done, total))  # noqa: E731
    told = recommend_table(trained, tmp_path / "in.parquet", tmp_path / "out.parquet", report=report)
    assert told["histories"] == len(many) == reports[-1][0]
    assert len(reports) >= len(many) // 64
    once, found = pl.read_parquet(tmp_path / "once.parquet"), pl.read_parquet(tmp_path / "out.parquet")
    assert found.drop("scores").equals(once.drop("scores"))


def test_unknown_items(trained: Recommender, histories: pl.DataFrame, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(batch_recommend, "CHUNK", 16)
    lists = histories["history"].to_list()
    lists[20] = ["nobody knows", *lists[20]]
    lists[21], lists[40] = ["neither this"], []
    histories.with_columns(history=pl.Series(lists)).write_parquet(tmp_path / "in.parquet")
    with pytest.raises(DataError, match=r"^Row 20 has items that the model does not know: 'nobody knows'"):
        recommend_table(trained, tmp_path / "in.parquet", tmp_path / "out.parquet", unknown="error")
    assert not (tmp_path / "out.parquet").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]  # nothing half-written
    told = recommend_table(trained, tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert told["unknown_share"] == pytest.approx(2 / sum(map(len, lists)))
    assert (told["unknown_items"], told["empty_lists"]) == (2, 2)
    assert found["dropped"].gather([19, 20, 21, 40]).to_list() == [0, 1, 1, 0]
    assert found["items"].list.len().gather([20, 21, 40]).to_list() == [10, 0, 0]
    assert found["history"].to_list() == lists


def test_empty_histories_are_named(trained: Recommender, histories: pl.DataFrame, tmp_path: Path) -> None:
    for n, empty in enumerate(([], None)):
        lists = [*histories["history"].to_list()[:5], empty]
        pl.DataFrame({"history": pl.Series(lists, dtype=pl.List(pl.String))}).write_parquet(tmp_path / f"{n}.parquet")
        with pytest.raises(DataError, match="Row 5 has an empty history"):
            recommend_table(trained, tmp_path / f"{n}.parquet", tmp_path / "out.parquet", unknown="error")


def test_choices_are_those_of_recommend(trained: Recommender, histories: pl.DataFrame, tmp_path: Path) -> None:
    histories.write_parquet(tmp_path / "in.parquet")
    choices = {"exclude_history": False, "deny": trained.items.id_list([0, 1])}
    recommend_table(trained, tmp_path / "in.parquet", tmp_path / "out.parquet", 100, **choices)
    assert_scored(pl.read_parquet(tmp_path / "out.parquet"), trained, k=100, **choices)


def test_unknown_items_of_lists_are_counted_once_for_the_whole_table(
    trained: Recommender, histories: pl.DataFrame, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    histories.write_parquet(tmp_path / "in.parquet")
    known = trained.items.id_list(range(20))
    told = recommend_table(
        trained, tmp_path / "in.parquet", tmp_path / "out.parquet", allow=[*known, "new"], deny=["old", *known[:2]]
    )
    assert [note.partition(" are ")[0] for note in told["notes"]] == [
        "Of 21 items in the allow list 1",
        "Of 3 items in the deny list 1",
    ]
    assert not [each for each in recwarn if each.category is UserWarning]
    assert_scored(pl.read_parquet(tmp_path / "out.parquet"), trained, k=10, allow=known[2:])


def test_an_older_file_stays_until_the_new_one_is_whole(
    trained: Recommender, histories: pl.DataFrame, tmp_path: Path
) -> None:
    histories.write_parquet(tmp_path / "in.parquet")
    (tmp_path / "out.parquet").write_text("older, written by forethought")
    for choices, said in (
        ({}, "The allow list has no item that the model knows"),
        ({"strict_lists": True}, "The allow list has items that the model does not know"),
    ):
        with pytest.raises(DataError, match=said):
            recommend_table(trained, tmp_path / "in.parquet", tmp_path / "out.parquet", allow=["x"], **choices)
    assert (tmp_path / "out.parquet").read_text().startswith("older")
    with pytest.raises(DataError, match="is the table of histories itself"):
        recommend_table(trained, tmp_path / "in.parquet", tmp_path / "in.parquet")
    assert pl.read_parquet(tmp_path / "in.parquet").equals(histories)
    with pytest.raises(RunError, match="could not be written"):
        recommend_table(trained, tmp_path / "in.parquet", tmp_path / "in.parquet" / "out.parquet")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pl.DataFrame({"history": ["i1,i2"]}), "has type String, but must be a list"),
        (pl.DataFrame({"histroy": [["i1"]]}), r"needs a list column 'history', or the columns user_id and item_id"),
        (pl.DataFrame({"user_id": [1], "item": ["i1"]}), "or the columns user_id and item_id"),
    ],
)
def test_wrong_tables(trained: Recommender, tmp_path: Path, table: pl.DataFrame, said: str) -> None:
    table.write_parquet(tmp_path / "in.parquet")
    with pytest.raises(DataError, match=said):
        recommend_table(trained, tmp_path / "in.parquet", tmp_path / "out.parquet")


def test_columns_are_called_as_in_the_data_of_the_run(
    sasrec: SASRec, quick: Training, shop: Path, tmp_path: Path
) -> None:
    rows = pl.read_parquet(shop / "interactions.parquet").select(
        customer="user_id", sku="item_id", bought="timestamp", place="position"
    )
    rows.write_parquet(tmp_path / "sales.parquet")
    names = {"user": "customer", "item": "sku", "time": "bought", "position": "place"}
    data = read(tmp_path / "sales.parquet", **names)
    model = train(Recipe(method=sasrec, training=replace(quick, epochs=1)), leave_last_out(data), tmp_path / "run")
    recommend_table(model, tmp_path / "sales.parquet", tmp_path / "own.parquet")
    recommend_table(model, shop, tmp_path / "default.parquet")  # by default names, where its own are not there
    found, default = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("own", "default"))
    assert found.columns == ["customer", "history", "items", "scores", "dropped"]
    assert found.rename({"customer": "user_id"}).equals(default)
    rows.rename({"sku": "article"}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(
        DataError, match="or the columns customer and sku or user_id and item_id, but it has customer, "
    ):
        recommend_table(model, tmp_path / "other.parquet", tmp_path / "out.parquet")


def test_columns_may_be_called_otherwise_than_in_the_run(trained: Recommender, shop: Path, tmp_path: Path) -> None:
    rows = pl.read_parquet(shop / "interactions.parquet").drop("position")
    rows.write_parquet(tmp_path / "recorded.parquet")
    names = {"user": "visitor", "item": "sku", "time": "at"}
    rows.rename({"user_id": "visitor", "item_id": "sku", "timestamp": "at"}).write_parquet(tmp_path / "in.parquet")
    recommend_table(trained, tmp_path / "recorded.parquet", tmp_path / "own.parquet")
    named = names | {"position": None}
    recommend_table(trained, tmp_path / "in.parquet", tmp_path / "out.parquet", columns=named)
    found, own = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("out", "own"))
    assert found.rename({"visitor": "user_id"}).equals(own)
    with pytest.raises(DataError, match=r"no item column 'skus' in .* Did you mean 'sku'\?$"):
        recommend_table(trained, tmp_path / "in.parquet", tmp_path / "x.parquet", columns=named | {"item": "skus"})
    with pytest.raises(ConfigError, match="columns has 'shop', but a table of rows has user, item, time, position"):
        recommend_table(trained, tmp_path / "in.parquet", tmp_path / "x.parquet", columns={"shop": "sku"})
    with pytest.raises(ConfigError, match="'history' with whole histories, so user would change nothing"):
        recommend_table(trained, tmp_path / "own.parquet", tmp_path / "x.parquet", columns={"user": "visitor"})
    rows.with_columns(at=-pl.col("timestamp")).write_parquet(tmp_path / "in.parquet")
    recommend_table(trained, tmp_path / "in.parquet", tmp_path / "out.parquet", columns={"time": "at"})
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert found["history"].list.first().equals(own["history"].list.last())
    assert not (tmp_path / "x.parquet").exists()


def test_csv_and_lines_of_json_hold_what_parquet_holds(
    trained: Recommender, histories: pl.DataFrame, tmp_path: Path
) -> None:
    told = histories.with_columns(place=pl.struct(aisle=pl.lit(3), shelf=pl.lit('"top", left')))
    told = told.with_columns(shop=pl.when(pl.col("customer") > 0).then(pl.lit("a,b")))
    told.write_parquet(tmp_path / "in.parquet")
    for ending in ("parquet", "csv", "jsonl", "jsonl"):  # and once more over our own
        recommend_table(trained, tmp_path / "in.parquet", tmp_path / f"out.{ending}", k=3)
    whole, lines = pl.read_parquet(tmp_path / "out.parquet"), pl.read_ndjson(tmp_path / "out.jsonl")
    assert lines.columns == whole.columns
    assert lines.cast(dict(whole.schema)).equals(whole)
    text = pl.read_csv(tmp_path / "out.csv")
    assert text.columns == whole.columns
    assert text["shop"].to_list() == whole["shop"].to_list()
    for name in ("history", "items", "scores", "place"):
        assert text[name].str.json_decode(whole.schema[name]).equals(whole[name])
    recommend_table(trained, tmp_path / "in.parquet", tmp_path / "out.csv", k=4)
    longer = pl.read_csv(tmp_path / "out.csv")["items"].str.json_decode(pl.List(pl.String))
    assert set(longer.list.len()) == {4}


def test_a_name_that_promises_another_kind_of_file(trained: Recommender, shop: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ends in \.xlsx, but .* \.parquet, \.csv or \.jsonl: call it 'r\.parquet'\."):
        recommend_table(trained, shop, tmp_path / "r.xlsx")
    assert list(tmp_path.iterdir()) == []
    for name, text in (("r.csv", "user_id,item_id\nu1,i1\n"), ("r.jsonl", '{"items": 1, "more": 2}\n'), ("s.csv", "")):
        (tmp_path / name).write_text(text)
        with pytest.raises(RunError, match="is there already and was not written by Forethought"):
            recommend_table(trained, shop, tmp_path / name)
        assert (tmp_path / name).read_text() == text


def test_a_time_that_cannot_be_read_is_not_sorted_to_the_front(trained: Recommender, tmp_path: Path) -> None:
    ids = trained.items.id_list([0, 1, 2])
    rows = {"user_id": [1, 1, 1], "item_id": ids, "position": [0, 1, 2]}
    for changed, said in (
        ({"timestamp": ["2020-01-01", "garbage", "2020-01-03"]}, r"'timestamp' cannot .*1 of 3.*first: 1.*'garbage'"),
        ({"timestamp": [10**9, None, 10**9]}, r"'timestamp' cannot be read in 1 of 3 rows \(first: 1; .*holds None"),
        ({"timestamp": [1e9, float("nan"), 1e9]}, r"'timestamp' cannot be read .*holds nan: give Unix seconds"),
        ({"timestamp": [10**9, 10**12, 10**9]}, r"'timestamp' mixes units: row 0 .*a datetime column\.$"),
        ({"timestamp": ["soon", "2020-01-01", "2020-01-03"]}, r"'soon', which is no ISO date.*a datetime column\.$"),
        ({"position": [0, None, 2]}, r"'position' is empty in 1 of 3 rows \(first: 1;"),
        ({"user_id": [1, None, 1]}, r"'user_id' is empty in 1 of 3 rows \(first: 1;"),
    ):
        pl.DataFrame(rows | changed).write_parquet(tmp_path / "in.parquet")
        with pytest.raises(DataError, match=said) as error:
            recommend_table(trained, tmp_path / "in.parquet", tmp_path / "out.parquet")
        assert "time=None" not in str(error.value)  # which is no choice here
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]
    pl.DataFrame(rows | {"timestamp": ["2020-01-03", "2020-01-01", "2020-01-02"]}).write_parquet(
        tmp_path / "in.parquet"
    )
    recommend_table(trained, tmp_path / "in.parquet", tmp_path / "out[1].parquet")
    with (tmp_path / "out[1].parquet").open("rb") as file:
        assert pl.read_parquet(file)["history"].to_list() == [[ids[1], ids[2], ids[0]]]


def test_broken_tables(trained: Recommender, histories: pl.DataFrame, tmp_path: Path) -> None:
    histories.write_parquet(tmp_path / "in.parquet")
    (tmp_path / "in.parquet").write_bytes((tmp_path / "in.parquet").read_bytes()[:-100])
    for name in ("in.parquet", "none.parquet"):
        with pytest.raises(DataError):
            recommend_table(trained, tmp_path / name, tmp_path / "out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_models_that_read_times(split: Split, shop: Path, quick: Training, tmp_path: Path) -> None:
    """Times come from rows, or from a list column beside the histories."""
    backbone = HSTU(width=16, layers=1, head_width=8, window=8)
    model = train(Recipe(method=backbone, training=replace(quick, epochs=1)), split, tmp_path / "run")
    recommend_table(model, shop, tmp_path / "out.parquet", k=5)
    found = pl.read_parquet(tmp_path / "out.parquet")
    data = split.data
    assert data.histories.times is not None
    times = [data.histories.times[rows].tolist() for rows in map(slice, data.histories.starts, data.histories.ends)]
    assert found["times"].to_list() == times
    assert_scored(found, model, k=5, times=times)
    found.select("history", "times").write_parquet(tmp_path / "in.parquet")
    recommend_table(model, tmp_path / "in.parquet", tmp_path / "again.parquet", k=5)
    assert pl.read_parquet(tmp_path / "again.parquet")["items"].equals(found["items"])
    found.select("history").write_parquet(tmp_path / "in.parquet")
    with pytest.raises(DataError, match="needs a list column 'times'"):
        recommend_table(model, tmp_path / "in.parquet", tmp_path / "none.parquet")


def test_uuids_stay_what_they_are(sasrec: SASRec, quick: Training, tmp_path: Path) -> None:
    made = Shop(users=60, items=30, seed=1).generate().interactions
    known = {item: uuid.uuid5(uuid.NAMESPACE_URL, item) for item in made["item_id"].unique()}
    ids = pl.Series("item_id", [known[item].bytes for item in made["item_id"]])
    made.with_columns(ids).write_parquet(tmp_path / "table.parquet")
    model = train(
        Recipe(method=sasrec, training=quick), leave_last_out(read(tmp_path / "table.parquet")), tmp_path / "run"
    )
    recommend_table(model, tmp_path / "table.parquet", tmp_path / "out.parquet", k=3)
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert found.schema["items"] == pl.List(pl.Binary)
    assert set(found["items"].explode()) <= set(ids)
    as_text = pl.DataFrame({"history": [[str(uuid.UUID(bytes=i)) for i in row] for row in found["history"]]})
    as_text.write_parquet(tmp_path / "text.parquet")
    recommend_table(model, tmp_path / "text.parquet", tmp_path / "text-out.parquet", k=3)
    texts = pl.read_parquet(tmp_path / "text-out.parquet")["items"]
    assert [[uuid.UUID(i).bytes for i in row] for row in texts] == found["items"].to_list()
    recommend_table(model, tmp_path / "table.parquet", tmp_path / "out.jsonl", k=3)
    recommend_table(model, tmp_path / "table.parquet", tmp_path / "out.csv", k=3)
    assert pl.read_ndjson(tmp_path / "out.jsonl")["items"].equals(texts)
    assert pl.read_csv(tmp_path / "out.csv")["items"].str.json_decode(pl.List(pl.String)).equals(texts)
    found.select("history", "user_id", seal=pl.lit(b"\x00\x01")).write_parquet(tmp_path / "sealed.parquet")
    for name in ("sealed.csv", "sealed.jsonl"):
        with pytest.raises(DataError, match="'seal' holds bytes that are no UUIDs, which text cannot hold"):
            recommend_table(model, tmp_path / "sealed.parquet", tmp_path / name, k=3)
        assert not (tmp_path / name).exists()
