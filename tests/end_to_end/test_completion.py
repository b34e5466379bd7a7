"""Shells complete verbs, methods, options and values."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from shell import Shell

from forethought import recipes
from forethought.cli import VERBS


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from contextlib import redirect_stdout

    from forethought.cli import main

    path = tmp_path_factory.mktemp("completion") / "forethought"
    with path.open("w") as out, redirect_stdout(out):
        main(["completion", "bash"])
    return path


def completed(script: Path, *words: str, folder: Path | None = None) -> list[str]:
    """What bash offers when TAB is pressed behind the last word."""
    line = " ".join(f"'{word}'" for word in ("forethought", *words))
    asked = f"source '{script}'; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _forethought"
    asked += "; printf '%s\\n' \"${COMPREPLY[@]}\""
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True, cwd=folder)
    assert not done.stderr
    return done.stdout.split()


def test_bash_knows_that_it_completes_the_command(bash: Path) -> None:
    asked = f"source '{bash}'; complete -p forethought"
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert "-F _forethought forethought" in done.stdout


def test_bash_completes_verbs_and_methods(bash: Path) -> None:
    assert set(completed(bash, "")) == set(VERBS)
    assert completed(bash, "ev") == ["evaluate"]
    assert completed(bash, "train", "") == list(recipes.METHODS)
    assert completed(bash, "train", "dt") == ["dtrec"]
    assert "ml-1m" in completed(bash, "download", "ml")
    assert "latent-reasoning" in completed(bash, "study", "latent")


def test_bash_completes_options_of_a_method_and_their_values(bash: Path) -> None:
    assert "--most-clusters" in completed(bash, "train", "dtrec", "--most")
    assert completed(bash, "train", "sasrec", "--most") == []
    assert completed(bash, "train", "dtrec", "--data", "x", "--effort", "") == ["fast", "default", "best"]
    assert completed(bash, "evaluate", "runs/x", "--halt", "en") == ["entropy"]
    assert completed(bash, "doctor", "x", "--us") == ["--user"]
    assert completed(bash, "evaluate", "run") == []  # a path: bash's own completion takes over


@pytest.mark.parametrize("kind", ["zsh", "fish"])
def test_other_shells_get_theirs(kind: str, shell: Shell, tmp_path: Path) -> None:
    script = shell.ok("completion", kind)
    assert "dtrec" in script
    assert "most-clusters" in script
    if program := shutil.which(kind):
        (tmp_path / "script").write_text(script, encoding="utf-8")
        subprocess.run([program, "-n", tmp_path / "script"], check=True)


def test_another_shell_is_refused_in_a_sentence(shell: Shell) -> None:
    assert "bash" in shell.wrong("completion", "tcsh")
    shell.wrong("completion")
