"""A new backbone is a file and a line, a new method a file and two: in a copy of the package, which then runs them."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import forethought

PACKAGE = Path(forethought.__file__).parent
TOYS = Path(__file__).parents[1] / "support" / "toys"
OURS = "# isort: on\n"  # the end of a table

RUN = """
import json, sys
import forethought as ft
from forethought.cli import main

shop, out = sys.argv[1:]
small = ["--epochs", "2", "--batch-positions", "128", "--width", "16", "--window", "8", "--device", "cpu", "--quiet"]

def say(*words):
    try:
        main(list(words))
    except SystemExit as stop:
        assert not stop.code, words

def train(name, *words):
    say("train", name, "--data", shop, "--out", f"{out}/{'-'.join([name, *words])}", *small, *words)

train("recency", "--decay", "0.25")
train("averaged", "--backbone", "recency")
train("averaged", "--backbone", "hstu")
train("rearec-prl", "--backbone", "recency")
split = ft.leave_last_out(ft.read(shop))
history = split.data.items.id_list(split.test.history[0])
lists = {}
for name in ("recency---decay-0.25", "averaged---backbone-recency", "averaged---backbone-hstu"):
    run = ft.load(f"{out}/{name}", device="cpu")
    times = split.test.history.histories.dated()[split.test.history.starts[0] : split.test.history.ends[0]]
    lists[name] = run.recommend([history], k=5, times=[times.tolist()])[0].items
recipe = ft.Recipe(method=ft.Averaged(backbone=ft.Recency(width=8)), training=ft.Training(epochs=1))
model = ft.train(recipe, split, f"{out}/python")
lists["python"] = model.recommend([history], k=5)[0].items
assert {"Recency", "Averaged", "SASRec"} <= set(dir(ft))
say("evaluate", f"{out}/averaged---backbone-recency")
print(json.dumps(lists))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, to be worked on."""
    return Path(
        shutil.copytree(PACKAGE, tmp_path / "src" / "forethought", ignore=shutil.ignore_patterns("__pycache__"))
    )


def add(path: Path, before: str, line: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1
    path.write_text(text.replace(before, f"{line}\n{before}"), encoding="utf-8")


def add_backbone(package: Path) -> None:
    shutil.copy(TOYS / "recency.py", package / "backbones")
    add(package / "backbones/all.py", OURS, "from forethought.backbones.recency import Recency")


def add_method(package: Path) -> None:
    shutil.copy(TOYS / "averaged.py", package / "methods")
    add(package / "methods/all.py", OURS, "from forethought.methods.averaged import Averaged")
    add(package / "recipes.py", '    "dtrec": ', '    "averaged": lambda: Recipe(method=methods.Averaged()),')


def changes(package: Path) -> tuple[list[str], dict[str, list[str]]]:
    """New files, and the lines that went out of or came into old ones."""
    new, touched = [], {}
    for path in sorted(package.rglob("*.py")):
        name = str(path.relative_to(package))
        old = PACKAGE / name
        if not old.exists():
            new.append(name)
        elif (before := old.read_text(encoding="utf-8")) != (after := path.read_text(encoding="utf-8")):
            lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
            touched[name] = [line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")]
    return new, touched


def test_a_new_backbone_is_one_file_and_one_line(package: Path) -> None:
    add_backbone(package)
    new, touched = changes(package)
    assert new == ["backbones/recency.py"]
    assert {name: len(lines) for name, lines in touched.items()} == {"backbones/all.py": 1}


def test_a_new_method_is_one_file_and_two_lines(package: Path) -> None:
    add_method(package)
    new, touched = changes(package)
    assert new == ["methods/averaged.py"]
    assert {name: len(lines) for name, lines in touched.items()} == {"methods/all.py": 1, "recipes.py": 1}


def test_both_train_save_load_and_recommend(package: Path, shop: Path, tmp_path: Path) -> None:
    """From the command line and from Python, one on the other, and a method that reasons on the new backbone."""
    add_backbone(package)
    add_method(package)
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(shop), str(tmp_path / "runs")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(package.parent)},
    )
    assert done.returncode == 0, done.stderr
    lists = json.loads(done.stdout.splitlines()[-1])
    assert [len(items) for items in lists.values()] == [5, 5, 5, 5]
    config = json.loads((tmp_path / "runs/averaged---backbone-recency/config.json").read_text())["config"]["method"]
    assert config == {"type": "averaged", "backbone": {"type": "recency", "width": 16, "window": 8, "decay": 0.5}}
    assert (tmp_path / "runs/rearec-prl---backbone-recency/model.safetensors").is_file()
