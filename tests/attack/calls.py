"""A call of the command line, or of the library, in a forked process that is watched, limited and may be killed.

All modules are imported once, by the parent, which computes nothing: a fork of it is a fresh start in a few
milliseconds. The child has its own limits of memory and time, cannot reach the network, and, where the attack is run
by root, is nobody: nothing outside the attack's own folder can be changed by it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import io
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attack.ground import Lane, names
from attack.guard import CONNECTION, Guard

LIMIT_S = 20.0
GRACE_S = 5.0  # for a call that was asked by Ctrl-C to stop
MEMORY = 6 << 30  # bytes of address space above the parent's
NOBODY = 65534
TOLD = ("out", "err", "tell")  # files that a call's outputs go to
SAID_INTERRUPTED = 130
CONSOLE = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")  # colours, and what moves about in the last lines
DIES_WITH_PARENT, KEEP_CAPABILITIES = 1, 8  # of prctl
CAPABILITIES_VERSION, MAY_READ = 0x20080522, 1 << 2  # of capset: CAP_DAC_READ_SEARCH


@dataclass(frozen=True)
class Stop:
    """When a call is to be stopped: before its n-th file operation, after so many seconds, or at the n-th change seen
    in its folder; and how."""

    operation: int | None = None
    after_s: float | None = None
    change: int | None = None
    signal: int = signal.SIGKILL

    def __str__(self) -> str:
        name = signal.Signals(self.signal).name
        if self.operation is not None:
            return f"{name} before operation {self.operation}"
        return f"{name} after {self.after_s:.3f} s" if self.after_s is not None else f"{name} at change {self.change}"


@dataclass(frozen=True)
class Call:
    """What is called, and how.

    Attributes:
        words: of the command line, without `forethought`; paths are relative to the case's folder.
        python: instead of words: a function.
        stdout: its encoding, or one of closed, full, terminal.
        before: done in the child before the call, unwatched.
        may_connect: it names what lies on the hub, so it may try to reach that.
        endless: it was asked for so much that it may go on until Ctrl-C.
    """

    words: Sequence[str] = ()
    python: Callable[[], Any] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    stdout: str = "utf-8"
    before: Callable[[], Any] | None = None
    limit_s: float = LIMIT_S
    endless: bool = False
    may_connect: bool = False


@dataclass
class Outcome:
    """How a call ended.

    Attributes:
        code: its exit code; minus the signal's number if it died of one.
        stopped: we stopped it, as asked.
        hung: it went beyond its time.
        heeds: having gone on for too long, it ended at Ctrl-C, saying so, and was allowed to.
        told: what the guard saw that must not be.
        operations, changes: file operations counted by the guard, changes seen in the folder.
    """

    code: int
    out: str
    err: str
    wall_s: float
    stopped: bool = False
    hung: bool = False
    heeds: bool = False
    told: list[str] = field(default_factory=list)
    operations: int = 0
    changes: int = 0


def run(call: Call, lane: Lane, stop: Stop | None = None, *, watch: bool = False) -> Outcome:
    """Carry a call out in the lane's case folder."""
    return begin(call, lane, stop).end(watch=watch)


def begin(call: Call, lane: Lane, stop: Stop | None = None, *, number: int = 0) -> Begun:
    """Start a call and come back at once; calls beside each other have numbers of their own."""
    files = tuple(lane.folder / f"{name}{number}" for name in TOLD)
    for file in files:
        file.write_bytes(b"")
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(call, lane, stop, files)
    return Begun(pid, call, lane, stop, files, started)


@dataclass(frozen=True)
class Begun:
    """A call that is under way; `files` are those of its outputs and of what its guard tells."""

    pid: int
    call: Call
    lane: Lane
    stop: Stop | None
    files: tuple[Path, ...]
    started: float

    def end(self, *, watch: bool = False) -> Outcome:
        """Wait for it, or bring its end about."""
        status, stopped, hung, changes = _attend(self, watch)
        out, err, tell = self.files
        outcome = Outcome(
            code=os.waitstatus_to_exitcode(status),
            out=_read(out, 2_000_000, self.call),
            err=_read(err, 200_000, self.call),
            wall_s=time.monotonic() - self.started,
            stopped=stopped,
            hung=hung,
            changes=changes,
        )
        for line in tell.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("operations "):
                outcome.operations = int(line.split()[1])
            elif not (self.call.may_connect and line.startswith(CONNECTION)):
                outcome.told.append(line)
        if self.stop is not None and self.stop.operation is not None:
            outcome.stopped = outcome.operations == 0 or outcome.operations >= self.stop.operation
        outcome.heeds = self.call.endless and hung and outcome.code == SAID_INTERRUPTED
        return outcome


def _read(file: Path, most: int, call: Call) -> str:
    """What a call wrote, in the encoding that it was told to use, and without what is for a terminal alone where it was
    told to take it for one."""
    encoding = "utf-16" if call.stdout == "utf-16" else "utf-8"
    text = file.read_bytes()[:most].decode(encoding, "backslashreplace")
    return CONSOLE.sub("", text) if "FORCE_COLOR" in call.env else text


def make(lane: Lane, do: Callable[[], Any]) -> None:
    """Let a child make files for a case: what uses threads must never run in the parent.

    Raises:
        RuntimeError: it failed, which is a fault of the attack's own.
    """
    outcome = run(Call(python=do, limit_s=300), lane)
    if outcome.code:
        raise RuntimeError(f"The attack could not make its own files: {outcome.err[-2000:]}")


def _attend(begun: Begun, watch: bool) -> tuple[int, bool, bool, int]:
    """Wait for the end, or bring it about: the exit status, whether we stopped it, whether it hung, changes seen."""
    pid, stop, lane = begun.pid, begun.stop, begun.lane
    stopped = hung = False
    seen, changes = names(lane.case) if watch or _at_change(stop) else {}, 0
    patience = _Patience(pid, begun.call.limit_s)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status, stopped, hung, changes
        now = time.monotonic()
        if watch or _at_change(stop):
            if (now_seen := names(lane.case)) != seen:
                seen, changes = now_seen, changes + 1
        elif stop is None or stop.after_s is None:
            time.sleep(0.002)
        if stop is not None and not stopped:
            due = stop.after_s is not None and now - begun.started >= stop.after_s
            if due or (stop.change is not None and changes >= stop.change):
                os.kill(pid, stop.signal)
                stopped = True
        if patience.ended(now):
            os.kill(pid, signal.SIGKILL if hung else signal.SIGINT)
            hung, patience = True, _Patience(pid, GRACE_S)


class _Patience:
    """How long a process is waited for: so long by its own clock or, where that stands still, by ours."""

    def __init__(self, pid: int, limit_s: float) -> None:
        self.pid, self.limit_s = pid, limit_s
        self.begin = self.looked = time.monotonic()
        self.first = self.cpu = self._used()

    def ended(self, now: float) -> bool:
        if now - self.begin < self.limit_s or now - self.looked < GRACE_S / 2:
            return False
        before, self.cpu, self.looked = self.cpu, self._used(), now
        idle = self.cpu - before < 0.02
        return idle or self.cpu - self.first >= self.limit_s or now - self.begin > 8 * self.limit_s

    def _used(self) -> float:
        """Seconds of processor time."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _at_change(stop: Stop | None) -> bool:
    return stop is not None and stop.change is not None


def _child(call: Call, lane: Lane, stop: Stop | None, files: tuple[Path, ...]) -> None:
    """Never returns."""
    code = 70
    try:
        out, err, tell = files
        tell_fd = os.open(tell, os.O_WRONLY | os.O_APPEND)
        _streams(call, out, err)
        _limits(lane)
        os.environ.update(lane.environment() | dict(call.env))
        tempfile.tempdir = None  # it remembers where temporary files went before TMPDIR was set
        sys.dont_write_bytecode = True
        if call.before is not None:
            call.before()
        at = None if stop is None else stop.operation
        guard = Guard(lane.root, tell_fd, at, signal.SIGKILL if stop is None else stop.signal)
        guard.install()
        code = _called(call)
        guard.busy = True
        with contextlib.suppress(OSError):  # where no file may grow
            os.write(tell_fd, f"operations {guard.operations}\n".encode())
    except BaseException:
        traceback.print_exc()
        code = 71
    finally:
        os._exit(code)


def _called(call: Call) -> int:
    """As the interpreter ends a program: exit codes, tracebacks, what is to be done at exit, the last flush."""
    code = 0
    try:
        if call.python is not None:
            call.python()
        else:
            from forethought.cli import main

            sys.argv = ["forethought", *call.words]
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        traceback.print_exc()
        code = 120
    return code


def _streams(call: Call, out: Path, err: Path) -> None:
    kind = call.stdout
    file = "/dev/full" if kind == "full" else str(out)
    for target, path in ((0, os.devnull), (1, file), (2, str(err))):
        fd = os.open(path, os.O_RDONLY if target == 0 else os.O_WRONLY | os.O_APPEND)
        os.dup2(fd, target)
        os.close(fd)
    encoding = kind if kind not in ("closed", "full", "terminal") else "utf-8"
    sys.stderr = io.TextIOWrapper(
        open(2, "wb", closefd=False),  # noqa: SIM115
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=True,
    )
    sys.stdout = Terminal(open(1, "wb", closefd=False), encoding=encoding)  # noqa: SIM115
    sys.stdout.terminal = kind == "terminal"
    if kind == "closed":
        os.close(1)
        sys.stdout = None  # type: ignore[assignment]
    sys.stdin = io.TextIOWrapper(open(0, "rb", closefd=False))  # noqa: SIM115


class Terminal(io.TextIOWrapper):
    """A stream that may say it is a terminal."""

    terminal = False

    def isatty(self) -> bool:
        return self.terminal


def _limits(lane: Lane) -> None:
    most = _address_space() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.umask(0o022)
    if os.geteuid() == 0:
        _become_nobody()
    ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)
    os.chdir(lane.case)


def _become_nobody() -> None:
    """Without the right to write what is not its own, but with that to read: Python may lie in root's home."""
    libc = ctypes.CDLL(None)
    libc.prctl(KEEP_CAPABILITIES, 1)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_VERSION, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)(MAY_READ, MAY_READ, 0, 0, 0, 0))


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Nothing of what is done inside is shown."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield
