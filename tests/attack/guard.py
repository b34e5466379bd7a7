"""What is installed in a call's process: it counts file operations, kills before the n-th, tells of what must not be.

Python says what it is about to do by audit events, and a hook sees them before they happen. What compiled code does to
files by itself is not seen here: the snapshots before and after a call show it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

ONE_PATH = {"os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.chown", "os.utime"}
TWO_PATHS = {"os.rename", "os.link", "os.symlink"}
STARTS = {"os.system", "os.exec", "os.posix_spawn", "os.startfile"}
NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.gethostbyname"}
ADDRESSED = {"socket.connect", "socket.sendto"}  # what they are told begins with the socket
CONNECTION = "connection attempted: "
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
HARMLESS = ("/dev/null", "/dev/tty", "/proc/self/", "/dev/pts/", "/dev/fd/")
PROGRAMS = {"git", "uname", "fc-list", "lscpu", "nvidia-smi"}  # asked by us or our libraries what is what
BLOCKED = PermissionError(1, "kept out by the attack's guard")


class Guard:
    """An audit hook.

    Attributes:
        operations: counted so far: files opened for writing, renamed, removed; folders made or removed.
    """

    def __init__(self, home: Path, tell_fd: int, stop_at: int | None, with_signal: int) -> None:
        self.home, self.tell_fd = str(home), tell_fd
        self.stop_at, self.with_signal = stop_at, with_signal
        self.operations = 0
        self.busy = False

    def install(self) -> None:
        sys.addaudithook(self.hook)

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.busy:
            return
        self.busy = True  # what the hook does itself is not looked at
        try:
            self._look(event, args)
        finally:
            self.busy = False

    def _look(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(flags, int) and flags & WRITING and isinstance(path, str | bytes | os.PathLike):
                self._operation(event, path)
        elif event in ONE_PATH:
            self._operation(event, args[0])
        elif event in TWO_PATHS:
            self._operation(event, *(args[1:2] if event == "os.symlink" else args[:2]))
        elif event in NETWORK:
            self.tell(f"{CONNECTION}{event} {_short(args[1] if event in ADDRESSED else args[:2])}")
            raise BLOCKED
        elif event == "pickle.find_class":
            self.tell(f"unpickled: {args[0]}.{args[1]}")
        elif event == "exec":
            self._executed(getattr(args[0], "co_filename", ""))
        elif event == "subprocess.Popen":
            self._started(args[0])
        elif event in STARTS:
            self.tell(f"started a program: {event} {_short(args)}")

    def _operation(self, event: str, *paths: Any) -> None:
        named = [path for path in (_plain(path) for path in paths) if path is not None]
        if named and all(path.startswith(HARMLESS) for path in named):
            return
        if event == "os.mkdir" and os.path.isdir(named[0]):
            return
        for path in named:
            if path.startswith("/") and not (path + "/").startswith(self.home + "/") and not path.startswith(HARMLESS):
                if not (event == "open" and _is_probe(path)):
                    self.tell(f"touched outside: {event} {path}")
                raise BLOCKED
        self.operations += 1
        if self.operations == self.stop_at:
            os.kill(os.getpid(), self.with_signal)
            if self.with_signal == signal.SIGKILL:
                signal.pause()

    def _executed(self, file: str) -> None:
        if file.startswith(self.home + "/"):
            self.tell(f"code executed: {file}")

    def _started(self, program: Any) -> None:
        name = (
            os.path.basename(os.fsdecode(program)) if isinstance(program, str | bytes | os.PathLike) else str(program)
        )
        if name not in PROGRAMS:
            self.tell(f"started a program: {name}")

    def tell(self, line: str) -> None:
        with contextlib.suppress(OSError):  # where no file may grow
            os.write(self.tell_fd, line.replace("\n", " ").encode("utf-8", "backslashreplace") + b"\n")


def _is_probe(path: str) -> bool:
    """Whether Python itself tries one place after the other for its temporary folder, because TMPDIR is none."""
    caller = sys._getframe(4)  # whoever opens: this, _operation, _look and hook are between
    while caller is not None and caller.f_code.co_filename != tempfile.__file__:
        caller = caller.f_back
    return caller is not None and caller.f_code.co_name == "_get_default_tempdir" and PROBE.search(path) is not None


PROBE = re.compile(r"/[a-z0-9_]{8}$")  # what it calls the files that it tries with


def _plain(path: Any) -> str | None:
    """The path as it is followed from here; relative to a folder's descriptor it stays as it is, numbers are none."""
    if not isinstance(path, str | bytes | os.PathLike):
        return None
    return os.path.abspath(os.fsdecode(path))


def _short(value: Any) -> str:
    return ascii(value)[:200]
