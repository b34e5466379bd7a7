"""Where the verbs take their data from, and what they say of it."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from shell import TINY, Shell, tree

from forethought.recommender import load


def test_a_run_folder_cannot_execute_sql(
    shell: Shell, run: Path, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("duckdb")
    monkeypatch.chdir(tmp_path)
    theirs = load(run)
    query = "sql: WITH x AS (COPY (SELECT 'x') TO 'owned.txt') SELECT * FROM x"
    for about, said in (
        ({"data_path": query}, "is not executed: repeat it if you trust it (on the command line --data)"),
        ({"columns": {"items": query}}, "is not executed: repeat it if you trust it (on the command line --items)"),
        ({"data_path": "https://127.0.0.1:9/t.parquet"}, "is not fetched: repeat it if you trust it"),
    ):
        theirs.about = load(run).about | about
        assert said in shell.wrong("evaluate", theirs.save(tmp_path / "theirs"))
    assert "COPY inside it" in shell.wrong("evaluate", run, "--data", query)
    data = ["--data", f"sql: SELECT * FROM '{shop}/interactions.parquet'"]
    asked = [*data, "--items", shop / "items.parquet", "--resamples", 20]
    assert shell.json("evaluate", run, *asked)["protocol"]["n_cases"] == 80
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "theirs"]


def test_queries_that_are_none(shell: Shell, tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    for query, said in (("sql:", "no statements"), ("sql: COPY (SELECT 1) TO 'x'", "takes one SELECT")):
        assert said in shell.run("doctor", query).out
        assert said in shell.wrong("prepare", query, "--out", tmp_path / "data")
        assert said in shell.wrong("train", "sasrec", "--data", query, "--out", tmp_path / "run")
    longest = "sql: SELECT 1 AS user_id, 2 AS item_id" + " -- as long as this" * 300
    assert shell.run("doctor", longest).code == 0
    assert "Leave-last-out needs" in shell.wrong("prepare", longest, "--out", tmp_path / "data")
    assert "Leave-last-out needs" in shell.wrong("train", "sasrec", "--data", longest, "--out", tmp_path / "run")
    assert "is no data folder" in shell.wrong("embed", longest)
    assert list(tmp_path.iterdir()) == []


def test_every_verb_takes_paths_with_brackets(shell: Shell, shop: Path, tmp_path: Path) -> None:
    data, run, out = tmp_path / "data[1]", tmp_path / "lr[0.003]", tmp_path / "recs[1].parquet"
    shell.ok("simulate", "--out", tmp_path / "shop[2]", "--users", 20, "--items", 10)
    shell.ok("prepare", shop, "--out", data)
    shell.ok("doctor", data)
    shell.ok("train", "sasrec", "--data", data, "--out", run, *TINY)
    shell.ok("evaluate", run, "--resamples", 20)
    shell.ok("evaluate", run, "--resamples", 20, "--out", tmp_path / "again[1]")
    shell.ok("compare", f"a={run}", f"b={tmp_path / 'again[1]'}")
    shell.ok("recommend", run, "--input", data, "--out", out)
    shell.ok("explain", run, "--history", "i00001")
    (tmp_path / "data1").mkdir()  # whose tables nobody asked for
    pl.DataFrame({"user_id": [1]}).write_parquet(tmp_path / "data1" / "interactions.parquet")
    shell.ok("evaluate", run, "--resamples", 20)


def test_a_folder_called_like_the_home_folder_is_written_and_read(
    shell: Shell, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As --out=~/runs names one: no shell expands ~ in the midst of a word."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    shell.ok("prepare", shop, "--out=~/data")
    shell.ok("train", "sasrec", "--data=~/data", "--out=~/run", *TINY)
    shell.ok("evaluate", "~/run", "--resamples", 20)
    shell.ok("recommend", "~/run", "--input", "~/data", "--out=~/recs.parquet")
    assert {"data", "run", "recs.parquet"} <= {path.name for path in (tmp_path / "here" / "~").iterdir()}
    assert list((tmp_path / "home").iterdir()) == []


def test_a_name_that_is_a_path_is_refused(shell: Shell, shop: Path, tmp_path: Path) -> None:
    for name in ("beauty/2014", "../../x"):
        said = shell.wrong("prepare", shop, "--out", tmp_path / "data", "--name", name)
        assert f"The name of the data is '{name}', but files are called after it" in said
    assert list(tmp_path.iterdir()) == []
    shell.ok("prepare", shop, "--out", tmp_path / "data", "--name", "Beauty 2014")
    facts = json.loads((tmp_path / "data" / "prepared.json").read_text())
    (tmp_path / "data" / "prepared.json").write_text(json.dumps(facts | {"name": "../../x"}))
    places = ["--results", tmp_path / "a" / "results", "--runs", tmp_path / "a" / "runs"]
    before = tree(tmp_path)
    assert "prepared.json' is '../../x'" in shell.wrong("study", "hps", "--data", tmp_path / "data", *places)
    assert tree(tmp_path) == before


def test_times_that_may_be_wrong_are_told_by_prepare_and_train(shell: Shell, shop: Path, tmp_path: Path) -> None:
    rows = pl.read_parquet(shop / "interactions.parquet")
    at, told = pl.int_range(pl.len()) == 7, pl.col("timestamp")
    rows.with_columns(timestamp=pl.when(at).then(20140701).otherwise(told)).write_parquet(tmp_path / "early.parquet")
    rows.with_columns(timestamp=pl.when(at).then(told * 1000).otherwise(told)).write_parquet(tmp_path / "mixed.parquet")
    doubt = f"- 1 of {rows.height:,} times lie before 1990 (the earliest: 1970-08-22"
    train = ["train", "sasrec", "--out", tmp_path / "run", *TINY, "--data"]
    for verb in (["prepare", tmp_path / "early.parquet", "--out", tmp_path / "data"], [*train, tmp_path / "data"]):
        said = shell.run(*verb)
        assert said.code == 0
        assert doubt in said.err
    assert doubt not in shell.run(*train, shop, "--overwrite").err
    assert "before 1990" not in shell.run(*train, tmp_path / "early.parquet", "--overwrite", "--quiet").err
    for verb in (
        ["prepare", tmp_path / "mixed.parquet", "--out", tmp_path / "new"],
        [*train, tmp_path / "mixed.parquet"],
    ):
        assert "mixes units: row 0 " in shell.wrong(*verb)
    diagnosis = shell.run("doctor", tmp_path / "mixed.parquet")
    assert diagnosis.code == 2
    assert diagnosis.out.startswith("problem: The time column 'timestamp' mixes units: row 0 ")


def test_the_last_session_of_each_user_is_held_out(shell: Shell, shop: Path, tmp_path: Path) -> None:
    visits, data, out = tmp_path / "visits.parquet", tmp_path / "data", tmp_path / "run"
    truth = pl.read_parquet(shop / "truth" / "interactions.parquet").select(visit="session")
    rows = pl.read_parquet(shop / "interactions.parquet").hstack(truth)
    rows.write_parquet(visits)
    asked = ("--split", "leave_last_session_out", "--session-column", "visit")
    shell.ok("train", "sasrec", "--data", visits, "--out", out, *asked, *TINY)
    by_user = rows.group_by("user_id").agg(pl.col("visit").n_unique().alias("n"), pl.col("visit").max().alias("last"))
    last = rows.join(by_user.filter(pl.col("n") >= 3), on="user_id").filter(pl.col("visit") == pl.col("last"))
    found = shell.json("evaluate", out, "--resamples", 20)["protocol"]
    n_cases = last.select("user_id", "item_id").unique().height
    assert (found["split"], found["n_cases"]) == ("leave_last_session_out", n_cases)
    assert shell.json("prepare", visits, "--out", data, *asked)["test"] == n_cases
    shell.ok("train", "sasrec", "--data", data, "--out", tmp_path / "second", *TINY)
    shell.ok("evaluate", tmp_path / "second", "--resamples", 20)
    shell.ok("compare", out, tmp_path / "second")
    words = ("train", "sasrec", "--data", visits, "--out", tmp_path / "none", *TINY)
    assert "There is no session column 'session'" in shell.wrong(*words, *asked[:2])
    for split in ((), ("--split", "column")):
        said = shell.wrong(*words, *split, *asked[2:])
        assert "--session-column would change nothing without --split leave_last_session_out" in said
    assert not (tmp_path / "none").exists()
