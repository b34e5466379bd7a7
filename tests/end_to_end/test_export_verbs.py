"""docs/export.md does what it says: its commands, one after the other; and wrong ones end in a sentence."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import polars as pl
import pytest
from shell import Shell, tree

from forethought.recommender import Recommender

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
pytest.importorskip("onnxruntime")


def test_the_commands_of_the_page_run(processes: dict[str, str], tmp_path: Path) -> None:
    found = re.findall(r"(<!-- not run: .+? -->\n)?^```bash\n(.*?)^```$", PAGE, re.M | re.S)
    for skipped, code in found:
        lines = "" if skipped else code
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", lines],
            cwd=tmp_path,
            env=processes,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if "export" in lines:
            assert len(re.findall(r"scores differ by \d\.\de[-+]\d\d at most", done.stderr)) == 2
            assert len(re.findall(r"A single history takes \d+\.\d\d ms", done.stderr)) == 2
    assert (tmp_path / "first-onnx" / "model.onnx").is_file()
    assert (tmp_path / "first-torch" / "model.pt2").is_file()
    assert (tmp_path / "first-vectors" / "neighbours.parquet").is_file()
    assert (tmp_path / "runs" / "fetched" / "model.safetensors").is_file()


def test_the_options_named_on_the_page_are_there(shell: Shell) -> None:
    told = ""
    for verb in ("export", "push", "pull", "train"):
        extra = ["rpg"] if verb == "train" else []
        told += shell.ok(verb, *extra, "--help")
    elsewhere = {"--users", "--items", "--input", "--state-init"}  # of simulate, recommend and another method
    assert set(re.findall(r"--[a-z][a-z-]+", PAGE)) - elsewhere <= set(re.findall(r"--[a-z][a-z-]+", told))


def test_wrong_exports_end_in_a_sentence(shell: Shell, trained: Recommender, tmp_path: Path) -> None:
    run, out = trained.folder, tmp_path / "out"
    assert run is not None
    before = tree(run)
    assert "There is no run folder" in shell.wrong("export", tmp_path / "no", "--out", out)
    assert "knows 40 items" in shell.wrong("export", run, "--out", out, "--k", 41)
    assert "parquet alone" in shell.wrong("export", run, "--out", out, "--histories", "x.parquet")
    assert "k would change nothing" in shell.wrong("export", run, "--out", out, "--to", "parquet", "--k", 3)
    assert "nosuch" in shell.wrong("export", run, "--out", out, "--data", tmp_path / "nosuch")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "t.parquet")
    words = shell.wrong("export", run, "--out", out, "--to", "parquet", "--histories", tmp_path / "t.parquet")
    assert "needs a list column 'history'" in words
    assert "names no repository" in shell.wrong("push", run, "hf://first")
    assert "There is no run folder" in shell.wrong("pull", tmp_path / "no", "--out", out)
    assert not out.exists()
    assert tree(run) == before
