"""What the Makefile, the hooks and CONTRIBUTING.md promise."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def make(*words: str) -> str:
    done = subprocess.run(
        ["make", "--no-print-directory", *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_make_help_lists_every_chore() -> None:
    """All that is declared to be no file, but the four parts of `lint`."""
    done = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    listed = [line.split()[0] for line in done.stdout.splitlines()]
    phony = " ".join(re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)).split()
    assert sorted(listed) == sorted(name for name in phony if not name.startswith("lint-"))


def test_hooks_run_what_make_lint_runs_out_of_the_environment() -> None:
    yaml = pytest.importorskip("yaml")
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert repo["repo"] == "local"  # nothing is fetched
    commands = [hook["entry"].split()[0] for hook in repo["hooks"]]
    assert {command.removeprefix(".venv/bin/") for command in commands} == {"ruff", "pyright", "lint-imports"}
    assert all(command.startswith(".venv/bin/") for command in commands)
    linted = re.findall(r"^lint-\w+: .venv/.ready\n\t(\S+)", MAKEFILE, re.MULTILINE)
    assert set(linted) == {command.removeprefix(".venv/bin/") for command in commands}
    hooks = {hook["id"]: hook for hook in repo["hooks"]}
    assert set(hooks) == set(re.findall(r"^lint-(\w+):", MAKEFILE, re.MULTILINE))


TOOLS = ("ruff", "pyright", "lint-imports", "pytest")


@pytest.mark.parametrize("broken", [None, *TOOLS])
def test_make_test_says_what_every_tool_says_and_fails_with_any(broken: str | None, tmp_path: Path) -> None:
    """With tools that only say their name; a browser is there, so that none is fetched."""
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    for name in (*TOOLS, "chromium", "chromedriver"):
        (tools / name).write_text(f"#!/bin/sh\necho {name} said so\nexit {int(name == broken)}\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    (tmp_path / ".venv" / ".ready").touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run([tmp_path / ".ci" / "run"], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode == 0) == (broken is None), done.stderr
    assert [name for name in TOOLS if f"{name} said so" not in done.stdout] == []


def test_contributing_names_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:src|tests|docs)/[\w./]+)`", text)
    assert len(named) > 5
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_whoever_develops_has_the_hooks() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert any(wanted.startswith("pre-commit") for wanted in extras["dev"])


def test_every_benchmark_can_be_imported() -> None:
    """They are run by hand and seldom, so that a renamed room was noticed late."""
    folder = ROOT / "benchmarks"
    names = ", ".join(path.stem for path in folder.glob("*.py"))
    command = [sys.executable, "-c", f"import {names}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_quick_benchmark_shows_what_it_measured_and_nothing_else() -> None:
    """It leaves variants out, and its page had a row for each of them."""
    thinking = ["prl_epoch_s", "prl_drawn_epoch_s", "dtrec_epoch_s", "dtrec_32_epoch_s", "prl_floor_epoch_s"]
    thinking += ["dtrec_floor_epoch_s", "prl_over_floor", "dtrec_over_floor", "dtrec_32_over_floor"]
    intents = ["sasrec_epoch_s", "sasrec_32_epoch_s"]
    for name in ("causal", "causal_32"):
        intents += [f"{name}_epoch_s", f"{name}_over_sasrec", f"{name}_over_sasrec_32"]
    code = f"import bench; print('\\n'.join(bench._reasoning(dict.fromkeys({thinking}, 2.0))))"
    code += f"; print('\\n'.join(bench._intents(dict.fromkeys({intents}, 2.0))))"
    decoding = [f"{name}_tables_per_s" for name in ("top10", "ranks", "one_user", "floor")]
    decoding += ["top10_over_floor", "gathered_over_top10"]
    code += f"; print('\\n'.join(bench._decoding({{'12101': dict.fromkeys({decoding}, 2.0)}})))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT / "benchmarks", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| 12,101 | **2** | 2 | 2 | 2 | **2.0** | **2.0** |" in done.stdout
    rows = [line for line in done.stdout.splitlines() if " 2.0 s " in line]
    assert len(rows) == 4 + 4
    assert {row.count("|") for row in rows} == {5}
