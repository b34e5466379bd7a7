"""The folder of a run before it trains: whether a training may begin there or go on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forethought.config import RunConfig, from_json, to_json
from forethought.errors import ConfigError, DataError, RunError
from forethought.files import LOCK_FILE, alone, read_json
from forethought.recommender import CONFIG_FILE, Recommender, write_about, write_items
from forethought.training import state


@contextmanager
def begun(run: Recommender, *, resume: bool, overwrite: bool) -> Iterator[None]:
    """The folder is the training's own meanwhile, and holds what is known before it.

    Raises:
        RunError: something lies there already, or what is to be resumed is not there or was configured otherwise;
            or another training is at work there.
    """
    assert run.folder is not None
    _check(run, run.folder, resume=resume, overwrite=overwrite)
    with alone(run.folder):
        if not resume:
            for path in _contents(run.folder):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            write_about(run.folder, run.config, run.items.kind, run.about)
            write_items(run.folder, run.items, run.item_table)
        yield


def _check(run: Recommender, folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Whether a training may begin there, or go on; nothing is written."""
    if resume:
        _check_resumable(run, folder)
        return
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, but a run needs a folder.")
    if any(_contents(folder)):
        if not overwrite:
            raise RunError(
                f"The folder {str(folder)!r} is not empty: choose another, or add --resume to go on with a stopped run "
                "or --overwrite to begin anew."
            )
        if not (folder / CONFIG_FILE).is_file():
            raise RunError(f"The folder {str(folder)!r} holds something other than a run, which is not overwritten.")


def _contents(folder: Path) -> list[Path]:
    """Of a run; not what a killed process was about to write, and not the lock."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return [path for path in paths if path.suffix != ".part" and path.name != LOCK_FILE]


def _check_resumable(run: Recommender, folder: Path) -> None:
    parts = read_json(folder / CONFIG_FILE, "there is nothing to resume here; train without --resume")
    if not isinstance(parts, dict) or not {"config", "about"} <= parts.keys() or "data_hash" not in parts["about"]:
        raise RunError(f"{folder / CONFIG_FILE} is damaged: copy the run again, or train it anew with --overwrite.")
    if not state.exists(folder / "state"):
        raise RunError(f"{folder} has no saved state yet: train it anew with --overwrite.")
    before = to_json(from_json(RunConfig, parts["config"]))  # options that are newer than the run are as they were
    changed = _differences(before, to_json(run.config))
    if changed:
        raise ConfigError(f"The run in {folder} was configured otherwise ({', '.join(changed)}): resume it unchanged.")
    if parts["about"]["data_hash"] != run.about["data_hash"]:
        raise DataError(f"The run in {folder} was trained on other data ({parts['about']['data']!r}): resume on that.")


def _differences(before: Any, now: Any, path: str = "") -> list[str]:
    """Settings that changed, each as `name: before -> now`."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = {**before, **now}
        return [d for key in keys for d in _differences(before.get(key), now.get(key), f"{path}.{key}".strip("."))]
    return [] if before == now else [f"{path}: {before!r} -> {now!r}"]
