"""What `train auto` has tried, kept beside what becomes the run until it has: a stopped command goes on from it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from forethought.errors import RunError
from forethought.evaluation.storage import plain
from forethought.files import (
    BESIDE,
    check_local,
    checked,
    read_json,
    sha256_of,
    sweep,
    temporary,
    to_the_end,
    verified,
    write_json,
)
from forethought.folders import LOCK_FILE, alone, writable
from forethought.run_files import MODEL_FILE, STATE_FOLDER
from forethought.run_folder import check_new, differences
from forethought.settings import Between, Count, check_keys
from forethought.training import state

TRIED_FILE, ENDING = "tried.json", ".tried"
MEND = "begin anew with --overwrite"
Quality = Annotated[float, Between(-1, 1)]
KINDS: dict[str, Any] = {
    **{"asked": dict, "closed_form": dict[str, Quality], "rungs": dict[str, dict]},
    **{"epochs": int | None, "chosen": str | None, "spent_s": Annotated[float, Between(0, 1e12)]},
}
STANDING = {"valid": Quality, "epochs": Count}


@dataclass
class Tried:
    """How far the candidates came, and what the command was asked for.

    Attributes:
        asked: all that decides what is tried, which must be the same where it goes on.
        closed_form: NDCG@10 on the validation part of what was fitted, by its name.
        epochs: of a whole training, once it is known how long one takes; what comes to the same must plan the same.
        rungs: by the epoch that a rung ends with, how each candidate stood there: `valid` and `epochs`.
        spent_s: seconds in all sittings, up to what was written last.
        chosen: the folder of the candidate that becomes the run.
    """

    folder: Path
    asked: dict[str, Any]
    closed_form: dict[str, float] = field(default_factory=dict)
    epochs: int | None = None
    rungs: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    spent_s: float = 0.0
    chosen: str | None = None

    def __post_init__(self) -> None:
        self._began = time.time() - self.spent_s

    def until(self, minutes: float) -> float:
        """The moment, as `time.time()` has it, at which the minutes of all sittings together are over."""
        return self._began + 60 * minutes

    def write(self) -> None:
        self.spent_s = time.time() - self._began
        parts = {name: value for name, value in asdict(self).items() if name != "folder"}
        write_json(self.folder / TRIED_FILE, checked(parts))


def tried_folder(out: Path) -> Path:
    """Where it is kept: beside the run, under its name."""
    out = out.resolve()
    return out.with_name(out.name + ENDING)


@contextmanager
def keeping_tried(out: Path, asked: Mapping[str, Any], *, resume: bool, overwrite: bool) -> Iterator[Tried]:
    """The record of this command, which is alone with it; it is gone when all went well, or nothing was trained yet.

    Raises:
        RunError: it is there and is not to be gone on with, or the other way round; it was of another command or is
            damaged; or something lies where the run shall be.
    """
    check_local(out)
    folder = tried_folder(out)
    tried = _gone_on_with(folder, asked) if resume else _begun(folder, asked, overwrite)
    if not is_made_of(out, tried):
        check_new(out, overwrite=overwrite, resumable=False)
    if not resume and folder.is_dir():
        with alone(folder):
            _remove(folder)
    with writable(folder), alone(folder):
        try:
            sweep(folder)
            tried.write()
            yield tried
        except BaseException:
            if not _is_useful(folder):
                to_the_end(lambda: _remove(folder))
            raise
        _remove(folder)


def is_made_of(out: Path, tried: Tried) -> bool:
    """Whether the run is there already: a kill came before the record could go."""
    try:
        return tried.chosen is not None and sha256_of(out / MODEL_FILE) == sha256_of(
            tried.folder / tried.chosen / MODEL_FILE
        )
    except OSError:
        return False


def _begun(folder: Path, asked: Mapping[str, Any], overwrite: bool) -> Tried:
    there = [path for path in folder.iterdir() if path.name != LOCK_FILE] if folder.is_dir() else []
    if there and not (folder / TRIED_FILE).is_file():
        raise RunError(
            f"{folder} is where it would be kept what was tried, but it holds something else: move it away, or choose "
            "another OUT."
        )
    if there and not overwrite:
        raise RunError(
            f"{folder} holds what was tried before it was stopped: add --resume to go on with it, or --overwrite to "
            "begin anew."
        )
    return Tried(folder, plain(asked))


def _gone_on_with(folder: Path, asked: Mapping[str, Any]) -> Tried:
    path = folder / TRIED_FILE
    if not folder.is_dir():
        raise RunError(f"There is nothing to resume, as {folder} is not there: leave --resume out.")
    parts = verified(read_json(path, MEND), path, MEND)
    check_keys(parts, KINDS, str(path))
    for rung in parts["rungs"].values():
        for name, standing in rung.items():
            check_keys(standing, STANDING, f"{path}: {name}")
    if changed := differences(parts["asked"], plain(asked)):
        raise RunError(f"{folder} holds what was tried otherwise ({changed[0]}): resume it unchanged, or {MEND}.")
    return Tried(folder, **{name: parts[name] for name in KINDS})


def _remove(folder: Path) -> None:
    """At once: a kill meanwhile leaves all of it, or what whoever writes beside it next removes."""
    if not folder.is_dir():
        return
    with temporary(folder.parent) as part:
        beside = part.with_suffix(BESIDE)
        try:
            folder.rename(beside)
        finally:
            to_the_end(lambda: shutil.rmtree(beside, ignore_errors=True))


def _is_useful(folder: Path) -> bool:
    """Whether there is anything to go on from."""
    return any(state.exists(path / STATE_FOLDER) for path in folder.iterdir())
