"""Files appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from forethought.errors import ForethoughtError, RunError

LOCK_FILE = ".lock"


def replace_file(path: Path, write_to: Callable[[Path], Any]) -> None:
    """Write beside the file and rename: a reader sees the old one or the new one, never half.

    Raises:
        RunError: the folder cannot be written (no permission, disk full); nothing half-written stays.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_to(part)
        os.replace(part, path)
    except BaseException as error:  # Ctrl-C too leaves nothing behind
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(error, ForethoughtError) or not isinstance(error, Exception):
            raise
        raise RunError(
            f"{path} could not be written ({first_line(error)}): make room or choose another folder."
        ) from error


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Whoever else asks to be alone in this folder meanwhile, on this machine, is refused. The folder is made.

    Raises:
        RunError: another process is at work there, or nothing can be written there.
    """
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


def check_writable(folder: Path) -> None:
    """To be asked before hours of work whose outcome goes there; the folder is made.

    Raises:
        RunError: nothing can be written there.
    """
    trial = folder / ".trial"
    replace_file(trial, lambda part: part.touch())
    trial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    replace_file(path, lambda part: part.write_text(text, encoding="utf-8"))


def read_json(path: Path, mend: str) -> Any:
    """The value in a JSON file.

    Raises:
        RunError: missing or damaged; `mend` says what to do about it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path.parent} has no {path.name}: {mend}.") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged ({first_line(error)}): {mend}.") from error


def first_line(error: BaseException) -> str:
    """The first line of an error's text, so that ours stays one sentence."""
    return (str(error).splitlines() or [type(error).__name__])[0]
