"""Break each line of the list in a copy of the tree, and see whether its test fails.

    make mutants                                    all of them
    PYTHONPATH=tests python -m mutants icr kmeans   those with one of these words in what they break

The exit status is 0 only if every mutant was killed. One is killed by a test that fails, not by one that cannot be
imported or takes for ever.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

from mutants import ROOT, Mutant, Stale, everything
from mutants.forked import FAILED, HANGS, PASSED, run_pytest

COPIED = ("src", "tests", "benchmarks", "pyproject.toml")


def main() -> int:
    arguments = argparse.ArgumentParser(prog="mutants", description=__doc__)
    arguments.add_argument("words", nargs="*", help="only mutants whose description or file has one of these words")
    arguments.add_argument("--jobs", type=int, default=2, help="how many at once (2)")
    arguments.add_argument("--limit", type=float, default=180.0, help="seconds that one may take (180)")
    given = arguments.parse_args()
    words = [word.lower() for word in given.words]
    chosen = [m for m in everything() if not words or any(w in f"{m.what} {m.file}".lower() for w in words)]
    if stale := list(_stale(chosen)):
        print("\n".join(stale))
        return 2
    begin = time.perf_counter()
    with _copies(given.jobs) as copies, ThreadPoolExecutor(given.jobs) as pool:
        if told := _unbroken(copies, chosen, given.limit * 10):
            print(f"The tests fail without any mutant, so they prove nothing:\n{told}")
            return 2
        verdicts = list(pool.map(lambda mutant: _try(mutant, copies, given.limit), chosen))
    alive = [mutant.what for mutant, verdict in zip(chosen, verdicts, strict=True) if verdict != "killed"]
    print(f"\n{len(chosen) - len(alive)} of {len(chosen)} mutants killed in {time.perf_counter() - begin:.0f} s.")
    print("".join(f"\nNot killed: {what}" for what in alive))
    return 1 if alive or not chosen else 0


def _stale(mutants: list[Mutant]) -> Iterator[str]:
    for mutant in mutants:
        try:
            mutant.broken()
        except Stale as error:
            yield str(error)


@contextmanager
def _copies(n: int) -> Iterator[Queue[Path]]:
    """As many copies of the tree as work at once; the working tree itself is never touched."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies: Queue[Path] = Queue()
        for number in range(n):
            copy = Path(folder) / str(number)
            copy.mkdir()
            for name in COPIED:
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
                else:
                    shutil.copy(ROOT / name, copy / name)
            copies.put(copy)
        yield copies


def _unbroken(copies: Queue[Path], mutants: list[Mutant], limit: float) -> str | None:
    """What pytest says where the tests fail in a tree that nobody broke; None where all is well."""
    copy = copies.get()
    try:
        code, said = run_pytest(copy, sorted({mutant.test for mutant in mutants}), limit)
        return None if code == PASSED else f"(code {code})\n{said[-4000:]}"
    finally:
        copies.put(copy)


def _try(mutant: Mutant, copies: Queue[Path], limit: float) -> str:
    copy = copies.get()
    path, begin = mutant.path(copy), time.perf_counter()
    whole = path.read_text(encoding="utf-8")
    try:
        path.write_text(mutant.broken(copy), encoding="utf-8")
        code, said = run_pytest(copy, [mutant.test], limit)
    finally:
        path.write_text(whole, encoding="utf-8")
        copies.put(copy)
    verdict = {FAILED: "killed", PASSED: "SURVIVED", HANGS: "HANGS"}.get(code, "BROKEN")
    took = time.perf_counter() - begin
    print(f"{verdict:8} {took:5.1f} s  {mutant.file:27} {mutant.what}  [{mutant.test}]", flush=True)
    if verdict == "BROKEN":
        print(said[-2000:])
    return verdict


if __name__ == "__main__":
    sys.exit(main())
