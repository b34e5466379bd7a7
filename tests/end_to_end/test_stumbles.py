"""Where people stumbled: advice that leads nowhere, a mistake told late, a file that only the project has."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from shell import Shell

from forethought import recipes
from forethought.cli import VERBS


def test_evaluate_advises_no_option_that_it_lacks(shell: Shell, run: Path, shop: Path, tmp_path: Path) -> None:
    rows = pl.read_parquet(shop / "interactions.parquet").rename({"item_id": "sku"})
    rows.write_parquet(tmp_path / "sales.parquet")
    said = shell.wrong("evaluate", run, "--data", tmp_path / "sales.parquet")
    assert "There is no item column 'item_id' in " in said
    assert "the run was trained on a table that has it, so give that one" in said
    assert "item=..." not in said


@pytest.mark.parametrize("tracker", ["mlflow", "wandb", "tensorboard"])
def test_a_tracker_that_is_not_installed_is_told_before_the_data_is_read(
    shell: Shell, tmp_path: Path, tracker: str
) -> None:
    if importlib.util.find_spec(tracker):
        pytest.skip(f"{tracker} is installed")
    words = ["--data", tmp_path / "none.parquet", "--out", tmp_path / "run", "--track", tracker]
    assert f"needs the package {tracker!r}" in shell.wrong("train", "sasrec", *words)


def test_a_study_writes_into_no_documentation_of_others(
    shell: Shell, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forethought.studies import runner

    asked: list[Path] = []

    def carry_out_all(study: Any, contexts: Any, *_: Any) -> Path:
        asked.extend(context.results for context in contexts)
        return asked[-1]

    monkeypatch.setattr(runner, "carry_out_all", carry_out_all)
    monkeypatch.chdir(tmp_path)
    words = ["study", "hps", "--data", shop]
    shell.ok(*words)
    shell.ok(*words, "--results", "mine")
    (tmp_path / "src" / "forethought" / "studies").mkdir(parents=True)
    shell.ok(*words)
    assert asked == [Path("results"), Path("mine"), Path("docs/results")]


@pytest.mark.parametrize(
    "words", [*([verb] for verb in VERBS if verb != "study"), *(["train", method] for method in recipes.METHODS)]
)
def test_help_names_no_file_that_only_the_project_has(shell: Shell, words: list[str]) -> None:
    found = re.findall(r"\b(?:docs|benchmarks|tests)/\S*", shell.ok(*words, "--help"))
    assert found == []


def test_an_unknown_data_set_is_told_of_in_a_line(shell: Shell) -> None:
    said = shell.wrong("download", "ml1m")
    assert said.endswith("`forethought download list` shows all. Did you mean 'ml-1m'?")
    assert len(said) < 140
