"""A link in a run folder that was followed, a refusal that changed what lay there, a folder left for nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stopping import StopsAt

from forethought import SASRec, runs
from forethought.config import Recipe
from forethought.data.batches import plan, windows
from forethought.data.splits import Split
from forethought.errors import RunError
from forethought.folders import writable
from forethought.recommender import Recommender, load
from forethought.reporting import report
from forethought.run_folder import unfinished
from forethought.training.interrupt import Interrupted
from forethought.training.settings import Training


@pytest.fixture
def stopped(trained: Recommender, tmp_path: Path) -> Path:
    assert trained.folder is not None
    return Path(shutil.copytree(trained.folder, tmp_path / "run"))


def resume(folder: Path, trained: Recommender, split: Split) -> Recommender:
    config = trained.config
    recipe = Recipe(method=config.method, training=config.training, seed=config.seed)
    return runs.train(recipe, split, folder, resume=True)


def as_it_is(folder: Path) -> dict[str, Any]:
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_fifo()]
    return {str(path): (path.lstat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in paths}


@pytest.mark.parametrize("name", ["state", "tensorboard", "wandb"])
def test_a_folder_that_is_a_link_is_not_written_to_when_training_goes_on(
    stopped: Path, trained: Recommender, split: Split, tmp_path: Path, name: str
) -> None:
    elsewhere = tmp_path / "photos"
    (stopped / name).rename(elsewhere) if (stopped / name).exists() else elsewhere.mkdir()
    (elsewhere / "state-of-the-art.jpg").write_text("mine")
    (stopped / name).symlink_to(elsewhere)
    before = as_it_is(tmp_path)
    with pytest.raises(RunError, match=rf"{name} is a link, and nothing is changed where it leads"):
        resume(stopped, trained, split)
    assert as_it_is(tmp_path) == before


@pytest.mark.parametrize("name", ["model.safetensors", "log.jsonl", "README.md", "state/state.json"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path.name)])
def test_a_training_that_is_refused_changes_nothing_in_its_folder(
    stopped: Path, trained: Recommender, split: Split, name: str, make: Callable[[Path], Any]
) -> None:
    (stopped / "state" / "state-old.safetensors").write_text("would be tidied away")
    (stopped / name).unlink()
    make(stopped / name)
    before = as_it_is(stopped)
    with pytest.raises(RunError):
        resume(stopped, trained, split)
    assert as_it_is(stopped) == before


@pytest.mark.parametrize("file", ["config.json", "items.parquet", "state/state-", "model.safetensors"])
def test_a_training_that_could_not_begin_leaves_nothing(
    split: Split, sasrec: SASRec, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    def full(source: Path, target: Path, move: Callable[..., None] = os.replace) -> None:
        if f"run/{file}" in str(target):
            raise OSError(28, "No space left on device")
        move(source, target)

    monkeypatch.setattr("os.replace", full)
    often = 0 if file == "model.safetensors" else 1e-9
    with pytest.raises(RunError, match="No space left on device"):
        runs.train(
            Recipe(method=sasrec, training=replace(quick, checkpoint_every_s=often)), split, tmp_path / "a" / "run"
        )
    assert list(tmp_path.iterdir()) == []


def test_weights_of_an_epoch_are_no_run_where_no_state_can_be_written(
    split: Split, sasrec: SASRec, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be taken for a trained run's, and nothing could go on from them."""

    def full(source: Path, target: Path, move: Callable[..., None] = os.replace) -> None:
        if "run/state/" in str(target):
            assert (tmp_path / "run" / "model.safetensors").exists()
            raise OSError(28, "No space left on device")
        move(source, target)

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(RunError, match="No space left on device"):
        runs.train(Recipe(method=sasrec, training=replace(quick, checkpoint_every_s=1e6)), split, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_gone_are_not_asked_of_a_training_that_ended(
    stopped: Path, trained: Recommender, split: Split
) -> None:
    (stopped / "model.safetensors").unlink()
    before = as_it_is(stopped)
    for ask in (lambda: load(stopped), lambda: resume(stopped, trained, split)):
        with pytest.raises(RunError, match="though its training has found weights: copy the run again"):
            ask()
    assert as_it_is(stopped) == before


def test_a_training_that_ends_after_its_first_state_is_kept(
    split: Split, sasrec: SASRec, quick: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RunError("README.md could not be written.")

    monkeypatch.setattr(runs, "write_card", full)
    with pytest.raises(RunError, match=r"README\.md"):
        runs.train(Recipe(method=sasrec, training=quick), split, tmp_path / "run")
    monkeypatch.undo()
    assert runs.train(Recipe(method=sasrec, training=quick), split, tmp_path / "run", resume=True).outcome()


def test_a_folder_made_for_work_that_failed_goes_with_those_above_it(tmp_path: Path) -> None:
    def work(fails: bool) -> None:
        with writable(tmp_path / "a" / "b", tmp_path / "c"):
            (tmp_path / "c" / "kept").touch()
            if fails:
                raise ValueError

    with pytest.raises(ValueError):
        work(fails=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["c", "kept"]
    inside = tmp_path / "c" / "kept" / "x"
    with pytest.raises(RunError, match="is a file, but a folder is to be written to"), writable(tmp_path / "d", inside):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["c", "kept"]


def test_a_trial_of_a_folder_is_not_left_behind_when_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []

    def pressed(path: Path, missing_ok: bool = False, unlink: Callable[..., None] = Path.unlink) -> None:
        if not calls:
            calls.append(path)
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", pressed)
    with pytest.raises(KeyboardInterrupt), writable(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_items_that_is_a_long_hole_is_refused_at_once(trained: Recommender, tmp_path: Path) -> None:
    assert trained.folder is not None
    folder = Path(shutil.copytree(trained.folder, tmp_path / "run"))
    os.truncate(folder / "items.parquet", 0)
    os.truncate(folder / "items.parquet", 1 << 40)
    with pytest.raises(RunError, match=r"is damaged \(items\.parquet is no Parquet file\)"):
        load(folder)


def test_a_training_that_has_not_ended_is_said_where_it_is_measured(
    sasrec: SASRec, split: Split, quick: Training, tmp_path: Path
) -> None:
    recipe, folder = Recipe(method=sasrec, training=replace(quick, epochs=3)), tmp_path / "run"
    steps = len(plan(windows(split.train, sasrec.window).lengths - 1, quick.batch_positions, 0, 0))
    with pytest.raises(Interrupted):
        runs.train(recipe, split, folder, observer=StopsAt(steps + 1))
    said = unfinished(load(folder))
    assert said is not None
    assert "has not ended (it stands in epoch 2)" in said
    assert f"run: {said}" in report([folder], examples=0).notes
    runs.train(recipe, split, folder, resume=True)
    assert unfinished(load(folder)) is None
    assert not any("not ended" in note for note in report([folder], examples=0).notes)
