"""A run folder that cannot be written to: what was computed is shown, and a sentence says that it is not kept."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from shell import Shell, tree

import forethought.noise_curves  # noqa: F401  # its name in the package is that of a function
from forethought.recommender import load


@pytest.fixture
def read_only(run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As root ignores permissions, it is the renaming into this folder that fails."""
    replace = os.replace

    def refuse(source: Any, target: Any, **choices: Any) -> None:
        if Path(target).parent == run:
            raise OSError(30, "Read-only file system", str(target))
        replace(source, target, **choices)

    monkeypatch.setattr("os.replace", refuse)
    return run


def test_evaluate_throws_its_work_away_where_it_cannot_be_kept(shell: Shell, read_only: Path, tmp_path: Path) -> None:
    before = tree(read_only)
    for words in ([], ["--json"]):
        said = shell.run("evaluate", read_only, "--resamples", 20, *words)
        assert said.code == 0
        assert "ndcg" in said.out
        assert "The evaluation is not kept, --out FOLDER would keep it elsewhere: " in said.err
        assert "Read-only file system" in said.err
        assert said.err.count("\n") == 1
        assert tree(read_only) == before
    said = shell.run("evaluate", read_only, "--resamples", 20, "--out", tmp_path / "elsewhere")
    assert f"Written to {tmp_path / 'elsewhere'}" in said.err
    assert (tmp_path / "elsewhere" / "metrics.json").is_file()


def test_evaluate_says_what_it_kept(shell: Shell, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = shell.run("evaluate", run, "--resamples", 20)
    assert said.err == f"Kept in {run}, and told of in its README.md.\n"
    assert "| ndcg |" in (run / "README.md").read_text()
    replace, card = os.replace, (run / "README.md").read_bytes()

    def no_card(source: Any, target: Any) -> None:
        if Path(target).name == "README.md":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr("os.replace", no_card)
    said = shell.run("evaluate", run, "--resamples", 20, "--seed", 5)
    assert said.code == 0
    assert said.err.startswith(f"The evaluation is kept in {run}, but its README.md does not tell of it: ")
    assert (run / "README.md").read_bytes() == card


def test_evaluate_learns_only_at_the_end_that_out_cannot_be_written(
    shell: Shell, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("forethought.runs.evaluate", lambda *_, **__: pytest.fail("it was evaluated first"))
    monkeypatch.setattr(sys.modules["forethought.noise_curves"], "robustness", lambda *_, **__: pytest.fail("likewise"))
    for words in ([], ["--noise-curve"]):
        said = shell.wrong("evaluate", run, *words, "--out", tmp_path / "file" / "x")
        assert "is a file, but a folder is to be written to" in said


def test_a_refused_evaluation_leaves_an_empty_folder(shell: Shell, run: Path, tmp_path: Path) -> None:
    for words in (["--batch", 0], ["--noise-curve", "--sampled", 5]):
        shell.wrong("evaluate", run, *words, "--out", tmp_path / "new")
        assert not (tmp_path / "new").exists()


def test_an_evaluation_is_kept_though_nobody_reads_what_is_shown(run: Path) -> None:
    from test_command_line import start  # a process of its own, whose output nobody takes

    reader, writer = os.pipe()
    os.close(reader)
    process = start("evaluate", run, "--resamples", 20, stdout=writer)
    os.close(writer)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert (run / "metrics.json").is_file()


def test_approximate_recommendations_are_refused_on_a_read_only_run(
    shell: Shell, read_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forethought.catalogue.ann.EXACT_BELOW", 0)
    before = tree(read_only)
    words = ["recommend", read_only, "--history", "i00001,i00002", "--k", 4]
    plain = shell.json(*words)
    said = shell.run(*words, "--approximate", "--json")
    assert said.code == 0
    assert said.err.startswith("The index is not kept and will be built anew next time. ")
    assert said.err.count("\n") == 1
    assert shell.json(*words, "--approximate")[0]["items"] == plain[0]["items"]
    assert tree(read_only) == before
    model = load(read_only)
    with pytest.warns(UserWarning, match="The index is not kept"):
        index = model.build_index()
    assert model.index is index


def test_an_index_that_is_kept_says_nothing(
    shell: Shell, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forethought.catalogue.ann.EXACT_BELOW", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(shutil.copytree(run, tmp_path / "other")).build_index()
    assert shell.run("recommend", run, "--history", "i00001", "--approximate").err == ""


def test_a_comparison_that_cannot_be_written_is_shown(shell: Shell, run: Path, tmp_path: Path) -> None:
    shell.ok("evaluate", run, "--resamples", 20)
    (tmp_path / "file").touch()
    other = shutil.copytree(run, tmp_path / "other")
    said = shell.run("compare", f"a={run}", f"b={other}", "--out", tmp_path / "file" / "x.md")
    assert said.code == 2
    assert "ndcg@10" in said.out
    assert "could not be written" in said.err
