"""A run folder keeps the evaluation of its own run: neither another run's, nor another program's."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from shell import Shell, tree


@pytest.fixture
def scores(tmp_path: Path, shop: Path) -> Path:
    """A table in which every user is given the same items."""
    table = pl.read_parquet(shop / "interactions.parquet")
    items = table.select("item_id").unique(maintain_order=True).with_row_index("rank", 1)
    table.select("user_id").unique().join(items, how="cross").write_parquet(tmp_path / "scores.parquet")
    return tmp_path / "scores.parquet"


def test_a_run_folder_keeps_its_own_evaluation(
    shell: Shell, run: Path, shop: Path, scores: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    before = tree(other)
    for words in (
        ["--scores", scores, "--data", shop],
        [run],
        [other, "--sampled", 5],
        [other, "--part", "valid"],
    ):
        said = shell.wrong("evaluate", *words, "--resamples", 5, "--out", other)
        assert "keeps the evaluation of that run as it is" in said
    assert tree(other) == before
    said = shell.run("evaluate", other, "--resamples", 5, "--out", other)
    assert said.code == 0
    assert "told of in its README.md" in " ".join(said.err.split()), "as without --out, and not compared with itself"


def test_what_scores_of_another_program_do_not_read_is_refused(
    shell: Shell, shop: Path, scores: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("of somebody else")
    for words, sentence in (
        (["--noise-seeds", 3], "leave sampling, noise and precision out"),
        (["--device", "cpu"], "leave --device and --batch out"),
        (["--batch", 3], "leave --device and --batch out"),
        (["--unknown-users"], "leave --unknown-users out"),
        (["--users-id", "who"], "--users-id would change nothing without --users"),
        (["--out", tmp_path / "file"], "is a file, but a folder is to be written to"),
    ):
        assert sentence in shell.wrong("evaluate", "--scores", scores, "--data", shop, *words)
