"""Every kind of table gives the same rows; every kind of nonsense gives one sentence."""

from __future__ import annotations

import ast
import gzip
import json
import os
import sys
import uuid
from pathlib import Path

import polars as pl
import pytest

import forethought
from forethought.data import sources
from forethought.data.doctor import diagnose
from forethought.data.prepare import prepare
from forethought.data.reading import read
from forethought.data.sources import open_table, read_parquet, readable, scan, stem
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


def one(text: str) -> pl.DataFrame:
    return pl.DataFrame({"user_id": [text], "item_id": [1]})


def test_a_path_with_brackets_is_that_path(tmp_path: Path) -> None:
    for name in ("seed[1]", "seed1"):
        (tmp_path / name).mkdir()
        one(name).write_csv(tmp_path / name / "t.csv")
        for at in (tmp_path / f"{name}.parquet", tmp_path / name / "t.parquet"):
            with at.open("wb") as file:
                one(name).write_parquet(file)
    for name in ("seed[1]", "seed1"):
        for path in (f"{name}.parquet", f"{name}/t.parquet", f"{name}/t.csv", name):
            assert scan(tmp_path / path).collect()["user_id"].to_list() == [name], path
        assert read_parquet(tmp_path / f"{name}.parquet", ["user_id"])["user_id"].to_list() == [name]
    (tmp_path / "seed[1].parquet").unlink()
    assert scan(tmp_path / "seed[1].parquet").collect()["user_id"].to_list() == ["seed1"]  # now it is a pattern
    with pytest.raises(DataError, match=r"There is no file or folder .*seed\[2\]"):
        scan(tmp_path / "seed[2].parquet")


def test_a_folder_called_like_the_home_folder_is_that_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "~").mkdir()
    (tmp_path / "home").mkdir()
    TABLE.write_parquet(tmp_path / "~" / "t.parquet")
    TABLE[:1].write_parquet(tmp_path / "home" / "t.parquet")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert scan("~/t.parquet").collect().height == 3
    assert read_parquet(Path("~/t.parquet")).height == 3
    (tmp_path / "~" / "t.parquet").unlink()
    assert scan("~/*.parquet").collect().height == 1


def test_polars_expands_no_path_by_itself() -> None:
    """Brackets in a path mean something to it, so each call must say whether they may."""
    readers = {f"pl.{how}_{kind}" for how in ("read", "scan") for kind in ("parquet", "csv")}
    for path in Path(forethought.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) in readers]
        uses = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node) in readers]
        assert len(uses) == len(calls), f"{path.name} passes a reader of polars on: let read_parquet do it."
        for call in calls:
            assert any(word.arg == "glob" for word in call.keywords), f"{path.name}:{call.lineno} lets polars expand."


def test_what_is_neither_file_nor_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(DataError, match="is neither a file nor a folder"):
        read(tmp_path / "t.csv")


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


# ---- queries read, and do nothing else


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("COPY (SELECT 'x') TO 'owned.txt'", "another statement"),
        ("WITH x AS (COPY (SELECT 'x') TO 'owned.txt') SELECT * FROM x", "COPY inside it"),
        ("SELECT (WITH x AS (COPY (SELECT 1) TO 'owned.txt') SELECT 1) AS user_id", "COPY inside it"),
        ("SELECT 1; COPY (SELECT 'x') TO 'owned.txt'", "another statement"),
        ("SELECT 1 AS user_id; SELECT 2 AS user_id", "2 statements"),
        ("EXPLAIN ANALYZE COPY (SELECT 'x') TO 'owned.txt'", "another statement"),
        ("SELECT * FROM enable_logging(storage = 'file', storage_path = 'owned')", "table function 'enable_logging'"),
        ("SELECT * FROM query('SELECT 1')", "table function 'query'"),
        ("SELECT * FROM arrow_scan(1, 2, 3)", "table function 'arrow_scan'"),
        ("ATTACH 'owned.db'", "another statement"),
        ("EXPORT DATABASE 'owned'", "another statement"),
        ("INSTALL httpfs", "another statement"),
        ("LOAD httpfs", "another statement"),
        ("SET threads = 1", "another statement"),
        ("PRAGMA enable_profiling", "another statement"),
        ("CREATE TABLE owned AS SELECT 1", "another statement"),
        ("DROP TABLE owned", "another statement"),
        (" ", "no statements"),
        ("SELECT " + "-(" * 450 + "i" + ")" * 450 + " FROM range(3) r(i)", "nested too deeply|refused"),
        ("SELECT * FROM 'http://127.0.0.1:9/t.parquet'", "needs an extension .* nothing from the network"),
        ("SELECT * FROM 's3://bucket/t.parquet'", "needs an extension .* nothing from the network"),
        ("SELECT \udcff", "refused"),
    ],
)
def test_a_query_cannot_write_attach_or_fetch(
    query: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("duckdb")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=said) as error:
        read(f"sql: {query}")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_query_that_only_reads_may_be_as_it_likes(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    TABLE.write_parquet(tmp_path / "t.parquet")
    TABLE.write_csv(tmp_path / "t.csv")
    for query in (
        f"FROM '{tmp_path}/t.parquet'",
        f"WITH t AS MATERIALIZED (FROM read_csv('{tmp_path}/t.csv')) FROM t WHERE user_id IN (SELECT user_id FROM t);",
        f"FROM read_parquet('{tmp_path}/*.parquet') UNION ALL FROM '{tmp_path}/t.csv' WHERE false",
    ):
        assert scan(f"sql: {query}").collect().sort("timestamp").equals(TABLE)
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT i FROM n"
    assert scan(f"sql: {numbers}").collect()["i"].to_list() == [1, 2, 3]


def test_our_own_variables_are_no_tables() -> None:
    pytest.importorskip("duckdb")
    frame = TABLE
    with pytest.raises(DataError, match="frame does not exist"):
        scan("sql: SELECT * FROM frame")
    assert frame is TABLE


def test_a_query_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("duckdb")
    asked: list[str] = []
    monkeypatch.setattr(sources, "sql", lambda query: asked.append(query) or sql(query))
    drawn = "sql: SELECT i % 9 AS user_id, i // 9 AS item_id FROM range(900) t(i) WHERE random() < 0.5"
    prepare(drawn, tmp_path / "data")
    steps = json.loads((tmp_path / "data" / "prepared.json").read_text())["steps"]
    assert steps[0]["interactions"] == steps[1]["interactions"]
    assert len(asked) == 1
    diagnose(drawn)
    assert len(asked) == 2
    diagnose("sql: SELECT * FROM nowhere")
    assert len(asked) == 3
    table = open_table(drawn)
    assert scan(table).collect().equals(open_table(table).frame.collect())


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


def test_ctrl_c_while_polars_works_is_no_fault_of_the_data() -> None:
    with pytest.raises(KeyboardInterrupt), readable("shop"):
        raise pl.exceptions.ComputeError("KeyboardInterrupt: ")
