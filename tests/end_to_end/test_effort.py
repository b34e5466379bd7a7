"""How much time a training may take: what `--effort` sets, what overrides it, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from shell import Shell

SMALL = ("--width", "16", "--layers", "1", "--window", "8", "--batch-positions", "4096")


def config_of(run: Path) -> Any:
    return json.loads((run / "config.json").read_text())["config"]


def test_help_shows_the_epochs_of_an_effort(shell: Shell) -> None:
    for words, epochs in [((), 28), (("--effort", "fast"), 14), (("--effort=best",), 42)]:
        assert f"(default: {epochs})" in shell.ok("train", "sasrec", *words, "--help").partition("--epochs")[2][:200]


def test_authors_settings_are_nobodys_effort(shell: Shell) -> None:
    """They stay as they are unless somebody asks for more."""
    for words, epochs in [((), 300), (("--effort", "default"), 600)]:
        help_text = shell.ok("train", "rearec-prl-authors", *words, "--help")
        assert f"(default: {epochs})" in help_text.partition("--epochs")[2][:200]


def test_the_best_effort_has_all_that_may_be_known_of_items(shell: Shell, shop: Path, tmp_path: Path) -> None:
    said = shell.run("train", "sasrec", "--data", shop, "--out", tmp_path / "run", "--effort", "best", *SMALL)
    assert said.code == 0, said.err
    assert "Effort best: 42 epochs at most, dropout 0.5, features auto, evidence auto." in said.err
    config = config_of(tmp_path / "run")
    assert (config["features"]["use"], config["evidence"]["use"]) == ("auto", "auto")
    assert (config["training"]["epochs"], config["training"]["patience"]) == (42, 12)


def test_what_is_said_overrides_an_effort(shell: Shell, shop: Path, tmp_path: Path) -> None:
    words = ("train", "sasrec", "--data", shop, *SMALL)
    small, own = tmp_path / "small", tmp_path / "own"
    assert "Effort default: 1 epoch at most, dropout 0.5." in shell.run(*words, "--out", small, "--epochs", 1).err
    config = config_of(small)
    assert (config["method"]["backbone"]["dropout"], config["training"]["patience"]) == (0.5, 8)
    said = shell.run(*words, "--out", own, "--epochs", 1, "--dropout", 0.1, "--patience", 3)
    assert "dropout 0.1" in said.err
    config = config_of(own)
    assert (config["method"]["backbone"]["dropout"], config["training"]["patience"]) == (0.1, 3)
    shell.ok(*words, "--out", own, "--epochs", 1, "--dropout", 0.1, "--patience", 3, "--resume")


@pytest.mark.parametrize(
    ("method", "words", "said"),
    [
        ("popular", ("--effort", "best"), "popular is fitted in closed form and has no epochs"),
        ("ease", ("--effort=fast",), "ease is fitted in closed form and has no epochs"),
        ("sasrec", ("--effort", "bets"), "--effort is 'bets', but must be one of fast, default, best. Did you mean"),
        ("sasrec", ("--effort",), "--effort needs a value"),
    ],
)
def test_an_effort_that_is_none_is_refused(
    shell: Shell, shop: Path, tmp_path: Path, method: str, words: tuple[str, ...], said: str
) -> None:
    assert said in shell.wrong("train", method, "--data", shop, "--out", tmp_path / "run", *words)
    assert not (tmp_path / "run").exists()
