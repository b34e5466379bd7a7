"""Copies of run folders that a service reads from, one a version, whatever happens to the folders meanwhile.

Weights are mapped and not read into memory, so the file must never change under the processes that hold it. The first
process that meets a version copies it into the folder that they share; the copy appears whole, and all map that one.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path

from safetensors import SafetensorError

from forethought.errors import DataError, RunError
from forethought.files import first_line
from forethought.folders import replace_folder
from forethought.recommender import load
from forethought.run_files import CONFIG_FILE, ITEMS_FILE, MODEL_FILE
from forethought.serving.served_model import ServedModel
from forethought.serving.settings import ModelPlace
from forethought.tensor_files import stated_checksum

COPIED = (CONFIG_FILE, ITEMS_FILE, MODEL_FILE)
KEPT = 3  # copies of a model: that which serves, one that another process still holds, and the newest

Signature = tuple[tuple[int, int, int], ...]


def signature(folder: Path) -> Signature | None:
    """What tells without reading that a run was replaced; None while a file of it is missing."""
    try:
        seen = [(folder / name).stat() for name in COPIED]
    except OSError:
        return None
    return tuple((each.st_mtime_ns, each.st_ino, each.st_size) for each in seen)


def read_version(place: ModelPlace, state: Path) -> ServedModel:
    """The version that lies in a run folder now, tested.

    Raises:
        RunError: the folder is missing, damaged, changed while it was copied, or does not pass the self-test.
    """
    folder = Path(place.folder)
    before = signature(folder)
    if before is None:
        load(folder)  # says in a sentence what is missing
        raise RunError(f"The run folder {folder} changed while it was read: try again.")
    try:
        version = stated_checksum(folder / MODEL_FILE)
    except (SafetensorError, OSError) as error:
        raise RunError(f"The run folder {folder} is damaged ({first_line(error)}): copy or train it again.") from error
    mark = hashlib.sha256(repr((version, before)).encode()).hexdigest()[:16]
    copy = state / "models" / f"{place.name}-{mark}"
    if not copy.is_dir():
        _copy(folder, copy)
        if signature(folder) != before:
            shutil.rmtree(copy, ignore_errors=True)
            raise RunError(f"The run folder {folder} changed while it was read: try again.")
    try:
        model = ServedModel(place.name, load(copy, device="cpu", mapped=True), version[:12])
        model.self_test()
    except RunError as error:
        shutil.rmtree(copy, ignore_errors=True)
        raise RunError(str(error).replace(str(copy), str(folder))) from error
    model.run.folder = folder
    return model


def _copy(folder: Path, copy: Path) -> None:
    try:
        with replace_folder(copy) as part:
            for name in COPIED:
                shutil.copyfile(folder / name, part / name)
    except DataError:
        if not copy.is_dir():  # else another process was faster, with the same files
            raise


def drop_old_copies(name: str, state: Path) -> None:
    """Remove copies of versions that went; who still maps one keeps its pages until he lets them go."""
    with contextlib.suppress(OSError):
        copies = [path for path in (state / "models").iterdir() if path.name.rpartition("-")[0] == name]
        copies.sort(key=lambda path: path.stat().st_mtime_ns)
        for path in copies[:-KEPT]:
            shutil.rmtree(path, ignore_errors=True)
