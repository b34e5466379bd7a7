"""pytest in a process of its own that has torch imported already: most of a short test is imports."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

from mutants import ROOT

PRELOADED = ["torch", "polars", "pydantic", "scipy.stats", "faiss", "lightning_fabric", "hypothesis", "pytest"]
"""What takes seconds to import and never changes: imported once, and every test is run by a fork of that process."""
PASSED, FAILED = 0, 1  # of pytest; whatever else it says is neither
HANGS, ELSEWHERE = -1, 99


def run_pytest(copy: Path, tests: list[str], limit: float) -> tuple[int, str]:
    """The exit code of pytest in a process of its own, and what it said."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(PRELOADED)
    said = copy / "said.txt"
    process = processes.Process(target=_inside, args=(copy, said, tests))
    process.start()
    process.join(limit)
    if process.is_alive():
        process.kill()
        process.join()
        return HANGS, said.read_text(encoding="utf-8", errors="replace")
    return process.exitcode or 0, said.read_text(encoding="utf-8", errors="replace")


def _inside(copy: Path, said: Path, tests: list[str]) -> None:
    """What the forked process does, in the copy of the tree and with the package that lies there."""
    with said.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(copy)
    os.environ |= {"PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    sys.dont_write_bytecode = True
    sys.path[:] = [str(copy / "src"), *(path for path in sys.path if not Path(path).is_relative_to(ROOT / "tests"))]
    import pytest

    import forethought

    if not Path(forethought.__file__).is_relative_to(copy):
        print(f"Not the copy is imported, but {forethought.__file__}.")
        sys.exit(ELSEWHERE)
    options = ("-x", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider")
    sys.exit(pytest.main([*options, *(f"tests/{test}" for test in tests)]))
