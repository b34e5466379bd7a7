"""A Python that has its imports behind it: a process of its own for every call, without seconds of importing each.

Torch and its company take two to six seconds of processor time before a verb does anything, and the pages of the
documentation have a hundred commands. One process imports everything and waits; for each call it forks a child, which
gets the caller's arguments, folder, environment and streams, and ends as Python would. What is said here of `python`
and `forethought` is true in a shell whose PATH begins with `WarmPython.folder`.

Where a start from nothing is what a test is about (signals, the installed package), it has no place.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

IMPORTED = ("numpy", "polars", "torch", "torch._dynamo", "lightning_fabric", "scipy.stats", "scipy.optimize")
POSSIBLE = hasattr(os, "fork") and hasattr(os, "pidfd_open")
COMMAND = """#!{python} -IS
import array, json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
call = {{"words": {words!r} + sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}
streams = array.array("i", [0, 1, 2])
server.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
server.sendall(json.dumps(call).encode() + b"\\n")
code = int(server.makefile().readline())
if code < 0:
    if -code not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class WarmPython:
    """The waiting process, and a folder with the commands that ask it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        address = str(folder / "socket")
        for name, words in {"python": [], "python3": [], "forethought": ["-m", "forethought"]}.items():
            text = COMMAND.format(python=sys.executable, address=address, words=words)
            (folder / name).write_text(text, encoding="utf-8")
            (folder / name).chmod(0o755)
        self.log = (folder / "log").open("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, __file__, address, str(os.getpid())],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stderr=self.log,
        )
        end = time.monotonic() + 300
        while not Path(address).exists():
            assert self.process.poll() is None, (folder / "log").read_text(encoding="utf-8")
            assert time.monotonic() < end
            time.sleep(0.05)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()


def serve(address: str, parent: int) -> None:
    """Until the parent has ended: tests that were killed close nothing."""
    for name in (*IMPORTED, *_ours()):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a child that collects would copy all of it
    waiting = socket.socket(socket.AF_UNIX)
    waiting.bind(f"{address}.made")
    waiting.listen(8)
    os.rename(f"{address}.made", address)
    waiting.settimeout(5)
    while os.getppid() == parent:
        try:
            caller, _ = waiting.accept()
        except TimeoutError:
            continue
        caller.settimeout(None)
        if os.fork() == 0:
            waiting.close()
            _look_after(caller)
        caller.close()
        with contextlib.suppress(ChildProcessError):  # those that ended meanwhile
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _ours() -> list[str]:
    """Every module of the package but the one that runs when it is imported."""
    import forethought

    (root,) = forethought.__path__
    files = [path.relative_to(root).with_suffix("") for path in Path(root).rglob("*.py")]
    names = [".".join(("forethought", *file.parts)).removesuffix(".__init__") for file in files]
    return sorted(name for name in names if not name.endswith("__main__"))


def _look_after(caller: socket.socket) -> NoReturn:
    """Tell the caller how its child ended; a caller that is gone takes its child along."""
    streams = array.array("i")
    _, beside, _, _ = caller.recvmsg(1, socket.CMSG_SPACE(3 * streams.itemsize))
    streams.frombytes(beside[0][2])
    call = json.loads(caller.makefile().readline())
    child = os.fork()
    if child == 0:
        caller.close()
        _run(call, list(streams))
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(child)
    done, _, _ = select.select([ended, caller], [], [])
    if ended not in done:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        caller.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _run(call: dict[str, Any], streams: list[int]) -> NoReturn:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(call["folder"])
    os.environ.clear()
    os.environ.update(call["environment"])
    coding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    sys.stdin = open(0, encoding=coding, closefd=False)  # noqa: SIM115  open until the end
    sys.stdout = open(1, "w", encoding=coding, errors=errors or "strict", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding=coding, errors="backslashreplace", closefd=False)  # noqa: SIM115
    code = 0
    try:
        _execute(call["words"])
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # as Python does: threads are waited for
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = 120
    os._exit(code & 0xFF)


def _execute(words: list[str]) -> None:
    """As the command line of Python has it: -m MODULE, -c CODE, - or nothing for standard input, or a file."""
    if words[:1] == ["-m"]:
        sys.argv = words[1:]
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return
    if words[:1] == ["-c"]:
        sys.argv = ["-c", *words[2:]]
        sys.path.insert(0, "")
        _code(words[1])
        return
    if words[:1] in ([], ["-"]):
        sys.argv = ["-", *words[1:]]
        sys.path.insert(0, "")
        _code(sys.stdin.read())
        return
    sys.argv = words
    sys.path.insert(0, str(Path(words[0]).parent))
    _code(Path(words[0]).read_text(encoding="utf-8"), words[0])


def _code(text: str, file: str = "<string>") -> None:
    main = sys.modules["__main__"] = ModuleType("__main__")
    main.__dict__["__file__"] = file
    exec(compile(text, file, "exec"), main.__dict__)


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, which is none of the callers'
    serve(sys.argv[1], int(sys.argv[2]))
