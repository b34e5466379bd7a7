"""Files that appear whole or not at all, under a temporary name that nobody else has meanwhile.

A temporary file is made exclusively, in the folder of the file it will become, and is locked as long as its writer
lives. What a killed writer left behind is known by its broken lock, and is removed by whoever writes there next.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from forethought.errors import ForethoughtError, RunError
from forethought.version import MARK

try:
    import fcntl
except ImportError:  # no POSIX: nothing can be told about other writers, so nothing of theirs is removed
    fcntl = None

OURS = (TypeError, AttributeError, LookupError, AssertionError)  # no disk makes these: they are faults in the code
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
SHORT_OF_MEMORY = (
    *("allocate memory", "out of memory", "memoryerror", "unable to allocate"),
    "could not create a primitive",  # oneDNN, which has no other words for it
)
NEAR_ENDS = 1 << 16  # bytes at either end of a file in which the mark is looked for
PARQUET = b"PAR1"  # at both ends of such a file
TEMPORARY, ENDING, BESIDE = ".forethought-", ".part", ".folder"


def replace_file(path: Path, write_to: Callable[[Path], Any]) -> None:
    """Write beside the file and rename: a reader sees the old one or the new one, never half.

    Raises:
        RunError: the folder cannot be written (no permission, disk full), or something other than a file lies there;
            nothing half-written stays.
    """
    path = Path(path)
    try:
        refuse_special(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary(path.parent) as part:
            write_to(part.absolute())  # polars would take ~ for the home folder
            _flush(part)
            os.replace(part, path)
    except ForethoughtError:
        raise
    except Exception as error:
        if short_of_memory(error) or isinstance(error, OURS):
            raise
        raise RunError(
            f"{path} could not be written ({first_line(error)}): make room or choose another folder."
        ) from error


@contextlib.contextmanager
def temporary(folder: Path) -> Iterator[Path]:
    """An empty locked file of a new name in this folder, gone afterwards unless it was renamed.

    What killed writers left in the folder is removed first, and a folder that one of them was about to replace is put
    back.
    """
    sweep(folder)
    while True:
        path, handle = folder / f"{TEMPORARY}{secrets.token_hex(8)}{ENDING}", -1
        try:  # the name is known before the file is made, so that a signal in between leaves nothing either
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
            _lock(handle)
            if os.fstat(handle).st_nlink:  # else somebody swept it between its making and its locking
                yield path
                return
        finally:
            to_the_end(partial(path.unlink, missing_ok=True))
            if handle >= 0:
                os.close(handle)


def to_the_end(tidy: Callable[[], Any]) -> None:
    """Tidy up even where Ctrl-C comes meanwhile; it counts once that is done. What is called may begin again."""
    pressed: KeyboardInterrupt | None = None
    while True:
        try:
            tidy()
            break
        except KeyboardInterrupt as error:
            pressed = error
    if pressed is not None:
        raise pressed


def sweep(folder: Path) -> None:
    """Remove what killed writers left in this folder; files of those alive are locked and stay."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        left = [Path(entry) for entry in entries if entry.name.startswith(TEMPORARY) and entry.name.endswith(ENDING)]
        for path in left:
            with contextlib.suppress(OSError):
                _sweep(path)


def restore(beside: Path, target: Path) -> None:
    """Put back the folder that was moved away to be replaced, if nothing has taken its place; remove the rest."""
    with contextlib.suppress(OSError):
        if (beside / "old").exists() and not os.path.lexists(target):
            (beside / "old").rename(target)
    if beside.is_dir() and not beside.is_symlink():
        shutil.rmtree(beside, ignore_errors=True)


def check_path(path: Path) -> None:
    """Refuse a name that holds a NUL byte, which no system takes, or is no UTF-8, which no table is written under.

    Raises:
        RunError: it does, or is not.
    """
    try:
        takes = "\0" not in str(path) and str(path).encode() is not None
    except UnicodeEncodeError:
        takes = False
    if not takes:
        raise RunError(f"{str(path)!r} holds a NUL, or bytes that are no UTF-8: choose another name.")


def check_local(path: Path) -> None:
    """Refuse an address where something is to be written: nothing is sent elsewhere, and no folder is to be called so.

    Raises:
        RunError: it is one, or no name that a system takes.
    """
    check_path(path)
    if ADDRESS.match(str(path)):
        raise RunError(f"{str(path)!r} is an address, but files are written to this machine: give a path.")


def refuse_special(path: Path) -> None:
    """Refuse a path that is a folder, device, pipe or socket: replacing it would not write to it but remove it.

    Raises:
        RunError: it is one.
    """
    check_local(path)
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):  # a link to a file is itself replaced; what it leads to stays as it is
            mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:  # a link to itself, a name that is too long
        raise RunError(f"{str(path)!r} cannot be written ({first_line(error)}): choose another name.") from error
    if stat.S_ISDIR(mode):
        raise RunError(f"{str(path)!r} is a folder, but a file is to be written: give it a name of its own.")
    if not stat.S_ISREG(mode):
        raise RunError(f"{str(path)!r} is no ordinary file but a device or pipe: choose another name.")


def check_ordinary(path: Path) -> None:
    """Refuse to open a pipe, which would be waited for without end, or another thing that is no file.

    Raises:
        OSError: it is one, or nothing is there.
        RunError: it has a name that no file has.
    """
    check_path(path)
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(f"{str(path)!r} is no ordinary file")


def check_replaceable(path: Path) -> None:
    """Refuse to replace a file that we did not write, known by its lack of `MARK`.

    Raises:
        RunError: something lies there that is not ours.
    """
    refuse_special(path)
    if not path.exists():
        return
    try:
        with path.open("rb") as file:
            head = file.read(NEAR_ENDS)
            file.seek(max(0, os.path.getsize(path) - NEAR_ENDS))
            ours = MARK.encode() in head or MARK.encode() in file.read()
    except OSError as error:
        raise RunError(f"{path} cannot be read ({first_line(error)}): choose another name.") from error
    if not ours:
        raise RunError(f"{str(path)!r} is there already and was not written by Forethought: choose another name.")


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable JSON; the file appears whole or not at all."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    replace_file(path, lambda part: part.write_text(text, encoding="utf-8"))


def read_json(path: Path, mend: str) -> Any:
    """The value in a JSON file.

    Raises:
        RunError: missing or damaged; `mend` says what to do about it.
    """
    try:
        check_ordinary(path)
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path.parent} has no {path.name}: {mend}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({first_line(error)}): {mend}.") from error


def checked(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value with a checksum over all of it, for `write_json`; `verified` takes it off again."""
    return {**value, "sha256": _sum_of(value)}


def verified(value: Any, path: Path, mend: str) -> dict[str, Any]:
    """What `checked` was given, once its checksum fits.

    Raises:
        RunError: it does not, or there is none.
    """
    parts = dict(value) if isinstance(value, Mapping) else {}
    if parts.pop("sha256", None) != _sum_of(parts):
        raise RunError(f"{path} is damaged (its content does not fit its checksum): {mend}.")
    return parts


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex.

    Raises:
        OSError: nothing is there, or no file; or what should be Parquet is none by its ends, however long it is.
    """
    check_ordinary(path)
    with path.open("rb") as file:
        if path.suffix == ".parquet":
            begin = file.read(len(PARQUET))
            file.seek(-min(len(PARQUET), os.path.getsize(path)), os.SEEK_END)
            if not begin == file.read() == PARQUET:
                raise OSError(f"{path.name} is no Parquet file")
            file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


def first_line(error: BaseException) -> str:
    """The first line of an error's text, so that ours stays one sentence."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def short_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, which no file is to blame for."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(words in said for words in SHORT_OF_MEMORY)


def _lock(handle: int) -> None:
    """Held until the file is closed, which a kill does as well."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks: then nobody's files are swept either
            fcntl.flock(handle, fcntl.LOCK_EX)


def _sweep(path: Path) -> None:
    assert fcntl is not None
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: its writer is alive
        target = os.read(handle, 4096).decode(errors="surrogateescape")
        if (beside := path.with_suffix(BESIDE)).is_dir():
            plain = bool(target) and target not in (".", "..") and "/" not in target and "\0" not in target
            restore(beside, path.with_name(target) if plain else beside)
        path.unlink()
    finally:
        os.close(handle)


def _flush(path: Path) -> None:
    """Onto the disk before the name changes, so that a power cut leaves no empty file under the good name."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sum_of(parts: Mapping[str, Any]) -> str:
    plain = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(plain.encode(errors="surrogatepass")).hexdigest()
