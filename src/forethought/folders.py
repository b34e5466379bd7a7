"""Folders that appear whole or not at all, that one process works in at a time, and that replace only their like."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from forethought.errors import DataError, ForethoughtError, RunError
from forethought.files import (
    BESIDE,
    OURS,
    check_local,
    first_line,
    restore,
    short_of_memory,
    temporary,
    to_the_end,
)

LOCK_FILE = ".lock"


@contextlib.contextmanager
def replace_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to write in, beside `out`; it takes its name when all went well and vanishes otherwise.

    With `overwrite` an earlier folder goes once the new one is whole; it must have been checked before
    (`check_own`). A process killed between the two renames leaves the earlier folder beside `out`, and whoever writes
    there next puts it back.

    Raises:
        DataError: it cannot be written, or another process was faster.
    """
    check_local(out)
    out = out.resolve()
    if out == Path.cwd() or out in Path.cwd().parents:
        raise DataError(f"{str(out)!r} is the folder you are in: give the name of a new one.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with temporary(out.parent) as part:
            beside = part.with_suffix(BESIDE)
            part.write_bytes(os.fsencode(out.name))  # whose place it takes, should we be killed
            try:
                (beside / "new").mkdir(parents=True)
                yield beside / "new"
                if overwrite and out.exists():
                    out.rename(beside / "old")
                _take_place(beside / "new", out)
            finally:
                to_the_end(lambda: restore(beside, out))
    except ForethoughtError:
        raise
    except Exception as error:
        if short_of_memory(error) or isinstance(error, OURS):
            raise
        said = getattr(error, "strerror", None) or first_line(error)
        raise DataError(f"{str(out)!r} could not be written ({said}); nothing was left behind.") from error


def check_empty(folder: Path, mend: str = "choose another folder") -> None:
    """Whether a folder is absent or empty.

    Raises:
        DataError: it is not.
    """
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{str(folder)!r} is already there and not empty: {mend}.")


def check_own(
    folder: Path,
    names: Collection[str],
    written_by_us: Callable[[Path], bool],
    what: str,
    *,
    overwrite: bool,
) -> None:
    """Whether a folder may be written: absent, empty, or to be replaced and nothing but what the same verb wrote there.

    Args:
        names: what that verb writes, files in folders as `folder/file`.
        written_by_us: whether the folder's own description says so.
        what: what such a folder is called, such as "a prepared folder".

    Raises:
        DataError: it is in use and not to be replaced, is something else, or holds something else as well.
    """
    if not overwrite:
        check_empty(folder, "choose another folder, or say overwrite")
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise DataError(f"{str(folder)!r} is a file and not {what}: choose another name.")
    there = [path.relative_to(folder) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    if there and not written_by_us(folder):
        raise DataError(f"{str(folder)!r} is not {what}, so it is not overwritten: choose another name.")
    foreign = sorted(str(path) for path in there if str(path) not in names)
    if foreign:
        raise DataError(
            f"{str(folder)!r} also holds {foreign[0]!r}, which overwriting would lose: move it away, or choose another "
            "name."
        )


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Whoever else asks to be alone in this folder meanwhile, on this machine, is refused. The folder is made.

    Raises:
        RunError: another process is at work there, or nothing can be written there.
    """
    check_local(folder)
    lock = FileLock(folder / LOCK_FILE, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise RunError(f"Another training is at work in {folder}: wait for its end, or choose another one.") from error
    except NotImplementedError:
        pass  # a file system without locks tells nobody apart
    except OSError as error:
        raise RunError(f"{folder} cannot be written to ({first_line(error)}): choose another folder.") from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def writable(*folders: Path) -> Iterator[None]:
    """Folders for the outcome of long work: refused before it where nothing can be written there, and made.

    Those that were made for it and are empty after it, as where the work failed, are taken away again.

    Raises:
        RunError: nothing can be written in one of them.
    """
    made: list[Path] = []
    try:
        for folder in folders:
            check_local(folder)
            made += (missing := _missing(folder))
            above = missing[-1].parent if missing else folder
            if not above.is_dir():
                raise RunError(f"{str(above)!r} is a file, but a folder is to be written to: choose another folder.")
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with temporary(folder):
                    pass  # a trial: it leaves nothing, whatever comes in between
            except OSError as error:
                raise RunError(
                    f"{folder} cannot be written to ({first_line(error)}): choose another folder."
                ) from error
        yield
    finally:
        to_the_end(lambda: _remove_empty(made))


def _missing(folder: Path) -> list[Path]:
    """The folder and those above it, as far as they are not there; the innermost first."""
    return list(itertools.takewhile(lambda path: not os.path.lexists(path), (folder, *folder.parents)))


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):  # it holds something
            folder.rmdir()


def _take_place(new: Path, out: Path) -> None:
    try:
        new.rename(out)  # the system refuses unless there is nothing, or an empty folder
    except OSError as error:
        if not os.path.lexists(out):
            raise
        raise DataError(
            f"{str(out)!r} was written by somebody else meanwhile, and stays as it is: choose another name."
        ) from error
