"""Workers that carry cases out side by side, each in its own lane."""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from attack.cases import Case
from attack.ground import Lane
from attack.verdict import Fault, Verdict

TOKEN = struct.Struct("I")
MOST = 16_000  # tokens that a pipe holds

Report = Callable[[Case, Verdict, float], None]


def work(cases: Sequence[Case], root: Path, workers: int, report: Report, *, until: float) -> int:
    """Carry all cases out; those that are not begun `until` (of `time.monotonic`) are left.

    Returns:
        How many were left.
    """
    todo, give = os.pipe()
    assert len(cases) <= MOST
    os.write(give, b"".join(TOKEN.pack(at) for at in range(len(cases))))
    os.close(give)
    lanes, left = {}, 0
    for number in range(workers):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            _serve(cases, Lane(root, number), todo, write)
        os.close(write)
        lanes[read] = pid
    buffers = dict.fromkeys(lanes, b"")
    try:
        while lanes:
            ready, _, _ = select.select(list(lanes), [], [], 1.0)
            if time.monotonic() > until:
                left += len(os.read(todo, MOST * TOKEN.size)) // TOKEN.size
            for pipe in ready:
                if chunk := os.read(pipe, 1 << 16):
                    buffers[pipe] = _heard(buffers[pipe] + chunk, cases, report)
                else:
                    os.waitpid(lanes.pop(pipe), 0)
                    os.close(pipe)
    finally:
        for pid in lanes.values():
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(todo)
    return left


def _heard(text: bytes, cases: Sequence[Case], report: Report) -> bytes:
    """Pass whole lines on; what is left of the last."""
    *lines, rest = text.split(b"\n")
    for line in lines:
        told = json.loads(line)
        faults = [Fault(**fault) for fault in told["verdict"]["faults"]]
        report(cases[told["case"]], Verdict(**told["verdict"] | {"faults": faults}), told["wall_s"])
    return rest


def _serve(cases: Sequence[Case], lane: Lane, todo: int, write: int) -> None:
    """Never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while token := os.read(todo, TOKEN.size):
        (at,) = TOKEN.unpack(token)
        begin = time.monotonic()
        verdict = carried_out(cases[at], lane)
        told = {"case": at, "verdict": asdict(verdict), "wall_s": time.monotonic() - begin}
        data = json.dumps(told).encode() + b"\n"
        while data:
            data = data[os.write(write, data) :]
    os._exit(0)


def carried_out(case: Case, lane: Lane) -> Verdict:
    """What came of a case; a fault of the attack's own is one too."""
    try:
        return case.do(lane)
    except Exception:
        said = traceback.format_exc()
        verdict = Verdict()
        verdict.add(f"the attack itself failed: {said.splitlines()[-1][:120]}", said)
        return verdict
