"""The recipes with their authors' settings: told of, and trained as the page says."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from shell import Shell
from test_readme import ROOT, blocks

from forethought.config import to_json
from forethought.recipes import AUTHORS, recipe
from forethought.recommender import load

OPTIONS = {
    "rearec-prl": {
        *("--count-from", "--loss.no-cosine", "--loss.temperature", "--contrast-negatives", "--contrast-rereads"),
        *("--contrast-weight", "--temperature-scale", "--no-draw-step", "--no-norm-first", "--norm-epsilon"),
        *("--reasoning-dropout", "--input-dropout", "--dropout", "--attention-dropout", "--ffn-dropout"),
        *("--step-weights", "--contrast-steps", "--progressive-weight", "--no-step-positions"),
    },
    "lares": {
        *("--embedding-norm", "--no-closing-norms", "--align-negatives", "--align-views", "--align-step"),
        *("--state-init", "--reinforcement.epochs", "--attention-dropout"),
    },
}
"""What the page names."""
PAGE = ROOT / "docs/methods.md"


def test_the_commands_of_the_page_train_them(shell: Shell, shop: Path, tmp_path: Path) -> None:
    (block,) = (each for each in blocks(PAGE.read_text(encoding="utf-8")) if "-authors" in each.code)
    commands = [shlex.split(line) for line in block.code.splitlines()]
    assert sorted(words[2] for words in commands) == sorted(AUTHORS)
    for _, *words in commands:
        out = tmp_path / words[words.index("--out") + 1]
        few = ["--batch-positions", "1024"]
        shell.ok(*words, "--data", shop, "--out", out, *few)
        wanted = to_json(recipe(words[1]).method)
        if "reinforcement" in wanted:
            wanted["reinforcement"]["epochs"] = 1
        assert to_json(load(out).config.method) == wanted


def test_help_says_whose_settings_they_are(shell: Shell) -> None:
    assert f"{', '.join(AUTHORS)} have their authors' settings" in shell.ok("train", "--help")
    for name in AUTHORS:
        told = " ".join(shell.ok("train", name, "--help").split())
        assert f"Defaults are the settings of {name.removesuffix('-authors')}'s authors" in told


@pytest.mark.parametrize("name", OPTIONS)
def test_the_options_named_on_the_page_are_there(name: str, shell: Shell) -> None:
    page, told = PAGE.read_text(encoding="utf-8"), shell.ok("train", name, "--help")
    for option in OPTIONS[name]:
        assert option in page
        assert option in told
