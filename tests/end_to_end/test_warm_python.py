"""The Python that has its imports behind it behaves as one that starts: words, streams, environment, endings."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import warm_python
from warm_python import POSSIBLE

CALLS: dict[str, tuple[list[str], str]] = {
    "words": (["-c", "import sys; print(sys.argv, sys.path[0] == '')", "a", "b c"], ""),
    "streams": (["-c", "import sys; print(sys.stdin.read()); print('x', file=sys.stderr)"], "told\n"),
    "standard input": (["-", "a"], "import sys\nprint(sys.argv, __name__)\n"),
    "file": (["own.py", "a"], ""),
    "module": (["-m", "own", "a"], ""),
    "code": (["-c", "raise SystemExit(7)"], ""),
    "sentence": (["-c", "raise SystemExit('no')"], ""),
    "fault": (["-c", "1 / 0"], ""),
    "kill": (["-c", "import os; print(1, flush=True); os.kill(os.getpid(), 9)"], ""),
    "terminated": (["-c", "import os; os.kill(os.getpid(), 15)"], ""),
    "environment": (["-c", "import os; print(os.environ['MARK'], os.getcwd())"], ""),
    "at the end": (["-c", "import atexit; atexit.register(print, 'last'); print('first')"], ""),
}


@pytest.mark.parametrize("call", CALLS)
def test_it_ends_as_a_fresh_one(call: str, processes: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("import sys; print(sys.argv[1:], __name__, sys.path[0] != '')", encoding="utf-8")
    words, said = CALLS[call]
    own: dict[str, Any] = {"input": said, "cwd": tmp_path, "env": processes | {"MARK": call}}
    fresh, warm = (
        subprocess.run([python, *words], capture_output=True, text=True, timeout=60, check=False, **own)
        for python in (sys.executable, "python")
    )
    assert (warm.returncode, warm.stdout) == (fresh.returncode, fresh.stdout)
    assert warm.stderr.splitlines()[-1:] == fresh.stderr.splitlines()[-1:]


@pytest.mark.skipif(not POSSIBLE, reason="this system cannot wait for a caller and a child at once")
def test_a_caller_that_is_killed_takes_its_process_along(processes: dict[str, str]) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    caller = subprocess.Popen(["python", "-c", code], env=processes, stdout=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    child = int(caller.stdout.readline())
    caller.send_signal(signal.SIGKILL)
    assert caller.stdout.read() == ""  # which ends when nobody holds the stream any more
    caller.wait()
    assert not Path(f"/proc/{child}/fd/1").exists()


@pytest.mark.skipif(not POSSIBLE, reason="this system cannot wait for a caller and a child at once")
def test_the_waiting_process_ends_with_the_tests_that_started_it(processes: dict[str, str], tmp_path: Path) -> None:
    folder = Path(processes["PATH"].split(os.pathsep)[0])  # short enough for a socket
    (folder / "second").mkdir()
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(warm_python.__file__).parent)!r})
import warm_python
from pathlib import Path
warm_python.IMPORTED, warm_python._ours = (), list
parent = os.getpid()
if os.fork() == 0:
    warm_python.serve({str(folder / "second" / "socket")!r}, parent)
    Path({str(tmp_path / "ended")!r}).touch()
    os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    end = time.monotonic() + 60
    while not (tmp_path / "ended").exists():
        assert time.monotonic() < end
        time.sleep(0.1)
