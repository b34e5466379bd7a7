"""An ensemble by the command line: made, evaluated, compared, asked and explained."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from shell import TINY, Shell, tree


def test_several_runs_are_averaged(shell: Shell, shop: Path, tmp_path: Path) -> None:
    runs, out = [tmp_path / "a", tmp_path / "b"], tmp_path / "both"
    for seed, run in enumerate(runs):
        shell.ok("train", "sasrec", "--data", shop, "--out", run, *TINY, "--seed", seed)
    before = [tree(run) for run in runs]
    made = shell.json("ensemble", *runs, "--out", out)
    assert made == {"run": str(out), "members": ["a", "b"], "weights": [0.5, 0.5]}
    assert [tree(run) for run in runs] == before
    fitted = shell.json("ensemble", *runs, "--out", tmp_path / "fitted", "--fit-weights")
    assert abs(sum(fitted["weights"]) - 1) < 1e-3
    for run in (runs[0], out):
        shell.ok("evaluate", run)
    assert "recall@10" in shell.ok("compare", runs[0], out)
    assert shell.json("recommend", out, "--history", "i00001,i00002", "--k", 3)[0]["items"]
    assert "i00001" in shell.ok("explain", out, "--history", "i00001,i00002")
    pl.DataFrame({"history": [["i00001"], ["i00002", "i00003"]]}).write_parquet(tmp_path / "histories.parquet")
    shell.ok("recommend", out, "--input", tmp_path / "histories.parquet", "--out", tmp_path / "found.parquet")
    assert pl.read_parquet(tmp_path / "found.parquet")["items"].list.len().to_list() == [10, 10]
    assert "from 2 to 64 members" in shell.wrong("ensemble", runs[0], "--out", tmp_path / "x")
    assert "read to fit weights alone" in shell.wrong("ensemble", *runs, "--data", shop, "--out", tmp_path / "x")
    assert "There is no run folder" in shell.wrong("ensemble", runs[0], tmp_path / "y", "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()
