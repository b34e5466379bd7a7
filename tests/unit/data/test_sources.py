"""Every kind of table gives the same rows; every kind of nonsense gives one sentence."""

from __future__ import annotations

import gzip
import sys
import uuid
from pathlib import Path

import polars as pl
import pytest

from forethought.data.reading import read
from forethought.data.sources import scan, stem
from forethought.data.sql import sql
from forethought.errors import DataError, MissingExtraError

TABLE = pl.DataFrame({"user_id": [1, 1, 2], "item_id": ["a", "b", "a"], "timestamp": [10, 20, 30]})


def test_files_of_every_kind_read_alike(tmp_path: Path) -> None:
    TABLE.write_parquet(tmp_path / "t.parquet")
    TABLE.write_csv(tmp_path / "t.csv")
    TABLE.write_csv(tmp_path / "semicolons.csv", separator=";")
    TABLE.write_csv(tmp_path / "t.tsv", separator="\t")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
    for name in ("t.parquet", "t.csv", "semicolons.csv", "t.tsv", "t.csv.gz"):
        assert scan(tmp_path / name).collect().equals(TABLE), name
        assert scan(str(tmp_path / name)).collect().equals(TABLE), name


def test_folders_and_globs_are_read_in_order_of_names(tmp_path: Path) -> None:
    for part in range(3):
        TABLE[part : part + 1].write_parquet(tmp_path / f"part{part}.parquet")
    assert scan(tmp_path).collect().equals(TABLE)
    assert scan(str(tmp_path / "part[01].parquet")).collect().equals(TABLE[:2])


def test_frames_of_every_kind_read_alike() -> None:
    assert scan(TABLE).collect().equals(TABLE)
    assert scan(TABLE.lazy()).collect().equals(TABLE)
    pytest.importorskip("pyarrow")
    assert scan(TABLE.to_arrow()).collect().equals(TABLE)
    pytest.importorskip("pandas")
    assert scan(TABLE.to_pandas()).collect().equals(TABLE)


def test_sql_reads_files_databases_and_relations(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    TABLE.write_parquet(tmp_path / "t.parquet")
    assert scan(f"sql: SELECT * FROM '{tmp_path}/t.parquet' ORDER BY timestamp").collect().equals(TABLE)
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as shop:
        shop.execute(f"CREATE TABLE seen AS SELECT * FROM '{tmp_path}/t.parquet'")
    assert sql("SELECT * FROM seen ORDER BY timestamp", str(tmp_path / "shop.duckdb")).collect().equals(TABLE)
    relation = duckdb.sql(f"SELECT * FROM '{tmp_path}/t.parquet' ORDER BY timestamp")
    assert scan(relation).collect().equals(TABLE)


def test_a_long_query_is_not_taken_for_a_path() -> None:
    pytest.importorskip("duckdb")
    query = "sql: SELECT 1 AS user_id, 2 AS item_id" + " -- as long as this" * 50
    assert len(read(query)) == 1


def test_a_refused_query_says_why() -> None:
    pytest.importorskip("duckdb")
    with pytest.raises(DataError, match=r"refused the query.*nowhere"):
        scan("sql: SELECT * FROM nowhere")


def test_without_duckdb_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingExtraError, match=r"forethought\[data\]"):
        scan("sql: SELECT 1")


def test_text_is_typed_by_all_its_values(tmp_path: Path) -> None:
    rows = ["code,count,price,word"] + [f"{i},{i},{i}.5,{i}" for i in range(20_000)] + ["007,1,,x"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    frame = scan(tmp_path / "t.csv").collect()
    assert frame.schema == {"code": pl.String, "count": pl.Int64, "price": pl.Float64, "word": pl.String}
    assert frame["code"][-1] == "007"
    assert frame["price"][-1] is None


def test_uuids_travel_as_bytes(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    duckdb = pytest.importorskip("duckdb")
    ids = [uuid.UUID(int=3), uuid.uuid4()]
    raw = [one.bytes for one in ids]
    tables = [
        pl.DataFrame({"user_id": ids}),
        pandas.DataFrame({"user_id": ids}),
        pyarrow.table({"user_id": pyarrow.array(raw, pyarrow.uuid())}),
        duckdb.sql(f"SELECT unnest([{', '.join(f'uuid {str(one)!r}' for one in ids)}]) AS user_id"),
    ]
    for table in tables:
        assert scan(table).collect()["user_id"].to_list() == raw


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere/t.parquet", "There is no file or folder 'nowhere/t.parquet'"),
        (__file__, "ending of .* is not known"),
        ({"user_id": [1]}, "table cannot be made of the builtins dict"),
        (pl.DataFrame({"user_id": [object()]}), "'user_id' holds Python objects"),
    ],
)
def test_nonsense_is_refused_in_words(source: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        scan(source)


def test_broken_files_are_told_in_words(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    TABLE.write_parquet(whole)
    (tmp_path / "cut.parquet").write_bytes(whole.read_bytes()[:-20])
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"user_id,item_id\n" + b"1,2\n" * 5000)[:40])
    (tmp_path / "nothing").mkdir()
    for name in ("cut.parquet", "empty.csv", "cut.csv.gz", "nothing"):
        with pytest.raises(DataError, match=name):
            read(tmp_path / name)


def test_mixed_pandas_columns_are_told_in_words() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(DataError, match="give every column one type"):
        read(pandas.DataFrame({"user_id": [1, "a"], "item_id": [1, 2]}))


def test_names_of_data() -> None:
    assert stem("data/beauty/interactions.parquet") == "beauty"
    assert stem("clicks.csv.gz") == "clicks"
    assert stem("sql: SELECT 1") is None
    assert stem(TABLE) is None
