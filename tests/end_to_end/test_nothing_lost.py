"""What verbs may replace, what a kill leaves, and that a flipped bit is told."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from run_tools import edit_json
from shell import TINY, Shell, tree

from forethought.recommender import load

# ---- every verb replaces only what it wrote itself


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a").write_text("a")
    return tmp_path / "photos"


@pytest.mark.parametrize("verb", ["prepare", "simulate", "train"])
def test_overwrite_deletes_no_folder_of_others(shell: Shell, shop: Path, run: Path, photos: Path, verb: str) -> None:
    words = {
        "prepare": ["prepare", shop / "interactions.parquet"],
        "simulate": ["simulate", "--users", 20],
        "train": ["train", "sasrec", "--data", shop, *TINY],
    }[verb]
    others = [photos, photos / "a"]
    others += [run] if verb != "train" else []
    others += [Path(shutil.copytree(shop, photos.parent / "shop"))] if verb != "simulate" else []
    before = tree(photos.parent)
    for out in others:
        shell.wrong(*words, "--out", out, "--overwrite")
        assert tree(photos.parent) == before


def test_a_shop_prepared_in_place_stays(shell: Shell, shop: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(shop, tmp_path / "shop")
    before = tree(tmp_path)
    assert "is not a prepared folder" in shell.wrong(
        "prepare", mine / "interactions.parquet", "--out", mine, "--overwrite"
    )
    assert tree(tmp_path) == before


def test_a_strangers_file_in_a_folder_of_ours_stays(shell: Shell, shop: Path, run: Path, tmp_path: Path) -> None:
    shell.ok("prepare", shop / "interactions.parquet", "--out", tmp_path / "data")
    shell.ok("simulate", "--users", 20, "--items", 20, "--out", tmp_path / "shop")
    for folder, words in (
        (tmp_path / "data", ["prepare", shop / "interactions.parquet"]),
        (tmp_path / "shop", ["simulate", "--users", 20, "--items", 20]),
        (run, ["train", "sasrec", "--data", shop, *TINY]),
    ):
        (folder / "notes.txt").write_text("mine")
        before = tree(folder)
        assert "'notes.txt', which overwriting would lose" in shell.wrong(*words, "--out", folder, "--overwrite")
        assert tree(folder) == before
        (folder / "notes.txt").unlink()
        shell.ok(*words, "--out", folder, "--overwrite")


def test_a_file_of_others_is_not_replaced(shell: Shell, run: Path, shop: Path, tmp_path: Path) -> None:
    words = ["recommend", run, "--input", shop, "--k", 2, "--out"]
    pl.DataFrame({"mine": [1]}).write_parquet(tmp_path / "mine.parquet")
    before = tree(tmp_path)
    assert "was not written by Forethought" in shell.wrong(*words, tmp_path / "mine.parquet")
    assert "no ordinary file" in shell.wrong(*words, "/dev/null")
    assert tree(tmp_path) == before
    for _ in range(2):
        shell.ok(*words, tmp_path / "ours.parquet")
    assert Path("/dev/null").is_char_device()


def test_metrics_of_others_are_not_replaced(shell: Shell, run: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"mine": 1}')
    shell.run("evaluate", run, "--resamples", 5, "--out", tmp_path)
    assert (tmp_path / "metrics.json").read_text() == '{"mine": 1}'


# ---- links


def test_a_link_in_a_run_folder_is_not_followed(shell: Shell, run: Path, tmp_path: Path) -> None:
    for name in ("README.md.part", "metrics.json.part", "per_user.parquet.part"):
        (tmp_path / f"target of {name}").write_text("precious")
        (run / name).symlink_to(tmp_path / f"target of {name}")
    shell.ok("evaluate", run, "--resamples", 5)
    assert {path.read_text() for path in tmp_path.glob("target of *")} == {"precious"}


# ---- kills


def test_a_kill_inside_train_overwrite_leaves_what_can_be_overwritten(
    shell: Shell, run: Path, shop: Path, processes: dict[str, str]
) -> None:
    words = ["train", "sasrec", "--data", str(shop), "--out", str(run), *TINY, "--overwrite"]
    code = """
import os, pathlib, shutil, signal, sys
left, unlink, rmtree = [int(sys.argv[1])], pathlib.Path.unlink, shutil.rmtree
def counting(call):
    def counted(path, *more, **others):
        if sys.argv[2] in str(path) and ".forethought-" not in str(path):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
        return call(path, *more, **others)
    return counted
pathlib.Path.unlink, shutil.rmtree = counting(unlink), counting(rmtree)
from forethought.cli import main
main(sys.argv[3:])
"""
    for nth in (1, 3, 6):
        command = ["python", "-c", code, str(nth), str(run), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=processes)
        if done.returncode == 0:
            continue
        assert done.returncode == -9, done.stderr
        tried = [shell.run(*words[:-1], *more).code for more in ([], ["--resume"], ["--overwrite"])]
        assert 0 in tried
        load(run)
    assert not [path for path in run.rglob("*") if path.name.startswith((".forethought", ".tmp"))]


# ---- flipped bits


def test_a_flipped_bit_in_a_run_is_told(shell: Shell, run: Path, shop: Path, tmp_path: Path) -> None:
    """At 8 drawn places of every file that is read; `make attack` does thousands."""
    shell.ok("evaluate", run, "--resamples", 5)
    other = shutil.copytree(run, tmp_path / "other")
    ask = ["recommend", run, "--history", "i00001,i00002", "--json"]
    wanted = shell.ok(*ask)
    resumed = ["train", "sasrec", "--data", shop, "--out", run]
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.name not in (".lock", "README.md"))
    assert len(files) == 8
    dice = random.Random(0)
    for path in files:
        whole = path.read_bytes()
        for bit in dice.sample(range(8 * len(whole)), 8):
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            if path.name in ("metrics.json", "per_user.parquet"):
                said = shell.wrong("compare", f"a={run}", f"b={other}")
            elif path.parent.name == "state" or path.name == "log.jsonl":
                said = shell.wrong(*resumed, *as_trained(), "--resume")
            else:
                said = shell.wrong(*ask)
            assert "damaged" in said or "another version" in said or "not a run of this version" in said, (path, bit)
        path.write_bytes(whole)
    assert shell.ok(*ask) == wanted


def as_trained() -> list[str]:
    """How tests/conftest.py trained the run."""
    shape = ["--width", "16", "--layers", "1", "--heads", "2", "--window", "8", "--ffn-width", "32", "--dropout", "0.2"]
    loop = [
        "--epochs",
        "2",
        "--batch-positions",
        "128",
        "--learning-rate",
        "0.005",
        "--warmup-steps",
        "5",
        "--patience",
        "4",
    ]
    return [*shape, *loop, "--checkpoint-every-s", "0"]


def test_weights_of_another_run_are_told(shell: Shell, run: Path, shop: Path, tmp_path: Path) -> None:
    shell.ok("train", "sasrec", "--data", shop, "--out", tmp_path / "other", *TINY, "--seed", 7)
    shutil.copy(tmp_path / "other/model.safetensors", run)
    assert "config.json is not the one that its weights were trained with" in shell.wrong(
        "recommend", run, "--history", "i00001"
    )


def test_a_changed_log_is_told_when_a_run_goes_on(shell: Shell, run: Path, shop: Path) -> None:
    log = run / "log.jsonl"
    log.write_bytes(b"\xff" + log.read_bytes())
    words = ["train", "sasrec", "--data", shop, "--out", run, *as_trained(), "--resume"]
    assert "remove it, and resume again" in shell.wrong(*words)
    log.unlink()
    shell.ok(*words)


def test_a_hostile_state_names_no_file_elsewhere(shell: Shell, run: Path, shop: Path, tmp_path: Path) -> None:
    (tmp_path / "state-mine").write_text("precious")
    edit_json(run / "state/state.json", lambda parts: parts | {"tensors": "../../state-mine"})
    assert "is damaged" in shell.wrong("train", "sasrec", "--data", shop, "--out", run, *as_trained(), "--resume")
    assert (tmp_path / "state-mine").read_text() == "precious"


def test_pages_and_pictures_of_others_are_not_replaced(shell: Shell, run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    for folder in (run, other):
        shell.ok("evaluate", folder, "--resamples", 5)
    writers = [
        (name, ["compare", f"a={run}", f"b={other}", "--out", tmp_path / name]) for name in ("x.md", "x.html", "x.json")
    ]
    explain = ["explain", run, "--history", "i00001,i00002", "--picture"]
    writers += [(name, [*explain, tmp_path / name]) for name in ("x.png", "x.svg")]
    curve = ["evaluate", run, "--noise-curve", "--noise", "swap", "--noise-seeds", 1, "--resamples", 5]
    writers += [("noise.json", [*curve, "--out", tmp_path])]
    for name, words in writers:
        (tmp_path / name).write_text("mine")
        assert "was not written by Forethought" in shell.wrong(*words)
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
        for _ in range(2):
            shell.ok(*words)


# ---- nothing silent


def test_one_run_given_twice_is_no_second_seed(shell: Shell, run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    (tmp_path / "link").symlink_to(run)
    for folder in (run, other):
        shell.ok("evaluate", folder, "--resamples", 5)
    for twice in (run, f"{run}/", tmp_path / "link", run.parent / "other" / ".." / run.name):
        assert "are one run, which would count twice" in shell.wrong("compare", f"a={run}", f"a={twice}", f"b={other}")


def test_runs_of_two_recipes_are_no_seeds_of_one_method(shell: Shell, run: Path, shop: Path, tmp_path: Path) -> None:
    plain, other = (tmp_path / name for name in ("itemknn", "ease"))
    for folder in (plain, other):
        shell.ok("train", folder.name, "--data", shop, "--out", folder)
    for folder in (run, plain, other):
        shell.ok("evaluate", folder, "--resamples", 5)
    said = shell.wrong("compare", f"a={run}", f"a={plain}", f"b={other}")
    assert "are both called 'a', as seeds of one method are, but differ in method.type" in said
    assert "give each a name" in said
    assert shell.ok("compare", run, f"a={plain}", f"b={other}")


def test_a_seed_of_ties_without_a_shuffle_is_refused(shell: Shell, shop: Path, tmp_path: Path) -> None:
    words = ["prepare", shop / "interactions.parquet", "--out", tmp_path / "data", "--tie-seed", 3]
    assert "--tie-seed would change nothing without a shuffle" in shell.wrong(*words)
    assert "--tie-seed would change nothing without a shuffle" in shell.wrong(*words, "--ties", "file")
    shell.ok(*words, "--ties", "shuffle")


def test_a_core_of_minus_one_is_refused(shell: Shell, shop: Path, tmp_path: Path) -> None:
    said = shell.run("prepare", shop / "interactions.parquet", "--out", tmp_path / "data", "--k-core", -1, 5)
    assert said.code == 2
    assert "Traceback" not in said.err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_kill_leaves_nothing(shop: Path, tmp_path: Path, number: signal.Signals) -> None:
    """While a shop is being written."""
    command = [sys.executable, "-m", "forethought", "simulate", "--out", "shop", "--users", "300000"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.iterdir()):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
