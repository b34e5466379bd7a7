"""New items and new interactions by the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
from shell import TINY, Shell, tree

from forethought.methods.items import held_back
from forethought.recommender import load

FEATURES = ["--features", "categories,brand,price"]


def test_a_run_is_extended_and_recommends_what_is_new(shell: Shell, shop: Path, tmp_path: Path) -> None:
    run, out, more = tmp_path / "run", tmp_path / "out", tmp_path / "new.parquet"
    shell.ok("train", "sasrec", "--data", shop, "--out", run, *TINY, *FEATURES)
    before = tree(run)
    new = pl.read_parquet(shop / "items.parquet").head(2).with_columns(item_id=pl.Series(["n1", "n2"]))
    new.write_parquet(more)
    assert shell.json("extend", run, "--items", more, "--out", out) == {"run": str(out), "items": 42, "new": 2}
    assert tree(run) == before
    (tmp_path / "stock.txt").write_text("n2\nn1\n")
    (found,) = shell.json("recommend", out, "--history", "i00001,n1", "--allow", tmp_path / "stock.txt")
    assert found["items"] == ["n2"]
    assert "n1" in shell.ok("explain", out, "--history", "i00001", "--target", "n1")
    assert "already there and not empty" in shell.wrong("extend", run, "--items", more, "--out", out)
    assert "knows 2 of the 2 new items already" in shell.wrong("extend", out, "--items", more, "--out", tmp_path / "x")
    shell.ok("train", "sasrec", "--data", shop, "--out", tmp_path / "bare", *TINY)
    assert "reads no features" in shell.wrong("extend", tmp_path / "bare", "--items", more, "--out", tmp_path / "x")
    assert "There is no run folder" in shell.wrong("extend", tmp_path / "y", "--items", more, "--out", tmp_path / "x")
    assert "There is no file" in shell.wrong("extend", run, "--items", tmp_path / "z.csv", "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_held_out_items_are_evaluated_apart_and_say_how_far_new_ones_are_lifted(
    shell: Shell, shop: Path, tmp_path: Path
) -> None:
    run, held = tmp_path / "run", ["--hold-out-items", 0.2, "--hold-out-seed", 1]
    shell.ok("train", "sasrec", "--data", shop, "--out", run, *TINY, *FEATURES, *held)
    said = " ".join(shell.ok("evaluate", run).split())
    assert "20% of the items held out of training (seed 1)" in said
    assert "recall@10 by chance" in said
    whole, more = tmp_path / "whole", tmp_path / "new.parquet"
    shell.ok("train", "sasrec", "--data", shop, "--out", whole, *TINY, *FEATURES)
    pl.read_parquet(shop / "items.parquet").head(1).with_columns(item_id=pl.lit("n1")).write_parquet(more)
    words = ["extend", whole, "--items", more, "--out", tmp_path / "more"]
    assert "give one" in shell.wrong(*words, "--lift", 1, "--lift-from", run)
    assert "--hold-out-items" in shell.wrong(*words, "--lift-from", whole)
    told = " ".join(shell.run(*words, "--lift-from", run).err.split())
    lift = load(tmp_path / "more").about["extended"][-1]["lift"]
    assert f"by {abs(lift):g} nats" in told
    assert lift == -held_back(load(run).method)
    groups = shell.json("evaluate", run)["groups"]["target"]
    assert set(groups) == {"warm", "cold"}
    assert groups["cold"]["chance"] > 0
    for words, sentence in (
        (["--hold-out-items", 1], "hold_out_items is 1"),
        (["--hold-out-seed", 1], "hold_out_seed=1 would change nothing"),
    ):
        assert sentence in shell.wrong("train", "sasrec", "--data", shop, "--out", tmp_path / "x", *TINY, *words)
    shell.ok("prepare", shop, "--out", tmp_path / "prepared", *held)
    shell.ok("train", "sasrec", "--data", tmp_path / "prepared", "--out", tmp_path / "again", *TINY, *FEATURES)
    first, again = (pl.read_parquet(path / "items.parquet")["train_count"] for path in (run, tmp_path / "again"))
    assert first.to_list() == again.to_list()


def test_new_interactions_are_learned_from_the_weights_of_a_run(shell: Shell, shop: Path, tmp_path: Path) -> None:
    older = Path(shutil.copytree(shop, tmp_path / "older"))
    rows = pl.read_parquet(older / "interactions.parquet")
    rows.filter(pl.col("item_id") != "i00001").write_parquet(older / "interactions.parquet")
    shell.ok("train", "sasrec", "--data", older, "--out", tmp_path / "run", *TINY, *FEATURES)
    train = ["train", "sasrec", "--data", shop, *TINY, *FEATURES, "--from", tmp_path / "run"]
    said = shell.run(*train, "--out", tmp_path / "more")
    assert said.code == 0
    assert "whose training may have held what is tested here" in " ".join(said.err.split())
    assert "whose training may have held" in " ".join(shell.ok("evaluate", tmp_path / "more").split())
    assert "width: 16 -> 32" in shell.wrong(*train, "--out", tmp_path / "x", "--width", 32)
    back = ["train", "sasrec", "--data", older, *TINY, *FEATURES, "--from", tmp_path / "more"]
    assert "knows items that the data lacks ('i00001')" in shell.wrong(*back, "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_run_is_held_against_what_came_later(shell: Shell, shop: Path, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log.parquet"
    shell.ok("train", "sasrec", "--data", shop, "--out", run, *TINY, *FEATURES)
    rows = pl.read_parquet(shop / "interactions.parquet")
    later = rows.group_by("user_id", maintain_order=True).last().select(rows.columns)
    items = pl.Series("item_id", ["i00001" if at % 2 else "n1" for at in range(len(later))])
    later = later.with_columns(items, timestamp=pl.lit(rows["timestamp"].max() + 60).cast(rows.schema["timestamp"]))
    pl.concat([rows, later]).write_parquet(log)
    since = ["--data", log, "--since", load(run).about["seen_until"]]
    assert "has seen interactions until" in shell.wrong("evaluate", run, *since)
    since[-1] = f"{1 - len(later) / (len(rows) + len(later)):.6f}"
    before = tree(run)
    told = shell.run("evaluate", run, *since, "--targets", "last")
    assert told.code == 0, told.err
    assert "are with items that the run does not know" in " ".join(told.err.split())
    assert tree(run) == before
    new = pl.read_parquet(shop / "items.parquet").head(1).with_columns(item_id=pl.lit("n1"))
    new.write_parquet(tmp_path / "new.parquet")
    shell.ok("extend", run, "--items", tmp_path / "new.parquet", "--out", tmp_path / "more")
    told = shell.json("evaluate", tmp_path / "more", *since, "--targets", "last", "--out", tmp_path / "kept")
    assert told["protocol"]["split"] == "later"
    assert told["protocol"]["test"] == {"cases": len(later), "without_history": 0, "unknown_items": 0}
    assert (tmp_path / "kept/metrics.json").is_file()
    assert "or this one on what came later" in shell.wrong("evaluate", tmp_path / "more")
    for words, sentence in (
        (["--since", "2030-01-01"], "--since needs --data"),
        ([*since, "--part", "valid"], "has no validation part"),
        ([*since, "--ties", "shuffle"], "leave the names of columns and the split out"),
        ([*since, "--rating", "stars"], "leave --rating out"),
        ([*since, "--user", "nobody"], "nobody"),
        (["--targets", "last"], "leave the names of columns and the split out"),
        (["--data", log, "--since", "soon"], "no ISO date"),
    ):
        assert sentence in shell.wrong("evaluate", run, *words)
    scores = ["evaluate", "--scores", log, "--data", shop, "--since", "2030-01-01"]
    assert "--since is of a run" in shell.wrong(*scores)
