"""Adverse circumstances: odd encodings, closed and full outputs, variables of the environment, limits, rights."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from attack import attempts, fixtures
from attack.bad_options import BASES, OUTPUTS, WRITTEN
from attack.calls import Outcome
from attack.cases import Case
from attack.ground import Lane
from attack.verdict import Verdict

KIND = "circumstances"
STREAMS = ("ascii", "latin-1", "closed", "full", "terminal", "utf-16")
VARIABLES = {
    "RANK": ("abc", "", "-1", "1", "1.5"),
    "WORLD_SIZE": ("abc", "0"),
    "LOCAL_RANK": ("abc",),
    "COLUMNS": ("0", "1", "abc", "-1", "100000"),
    "LINES": ("0",),
    "TERM": ("", "dumb", "unknown"),
    "NO_COLOR": ("1",),
    "FORCE_COLOR": ("1",),
    "TMPDIR": ("/nonexistent", "/proc"),
    "HOME": ("/nonexistent", ""),
    "MPLCONFIGDIR": ("/nonexistent",),
    "MPLBACKEND": ("nonsense",),
    "LANG": ("xx_XX",),
    "TZ": ("nonsense", "America/New_York"),
    "CUDA_VISIBLE_DEVICES": ("abc",),
    "POLARS_FMT_MAX_ROWS": ("abc",),
    "POLARS_MAX_THREADS": ("abc",),
    "TQDM_DISABLE": ("x",),
    "KINETO_LOG_LEVEL": ("x",),
}
CALLS = {
    **BASES,
    "train": tuple(fixtures.train("sasrec", "out")),
    "train igr-sr": tuple(fixtures.train("igr-sr", "out")),
    "explain picture": ("explain", "run", "--history", "i00001", "--picture", "out.png"),
}


SAID = {"evaluate": "Kept in run, and told of in its README.md.", "explain picture": "Drawn to out.png."}


def _kept(name: str, lane: Lane, outcome: Outcome) -> bool:
    """An outcome that is whole, and said to be, though its figures reach nobody; a training that can go on."""
    if name in SAID:
        return SAID[name] in outcome.err
    runs = {"study": "runs/*", "train": "out", "train igr-sr": "out"}.get(name)
    return runs is not None and any(lane.case.glob(f"{runs}/state/state.json"))


def cases() -> list[Case]:
    return list(_cases())


def _cases() -> Iterator[Case]:
    for name, words in CALLS.items():
        if name == "embed" and not _encoder():
            continue
        for stream in STREAMS:
            yield _case(
                f"{name}, standard output is {stream}",
                words,
                stdout=stream,
                must_fail=stream == "full" and name == "doctor",
            )
        for variable, values in VARIABLES.items():
            for value in values:
                yield _case(f"{name}, {variable}={value!r}", words, env={variable: value})
        for what, before in LIMITS.items():
            yield _case(f"{name}, {what}", words, before=before, check=_memory if "memory" in what else None)
        for folder in ("run", "seed1", "shop", "."):
            yield _read_only(name, words, folder)


def _encoder() -> bool:
    from importlib.util import find_spec

    return find_spec("sentence_transformers") is not None


def _case(name: str, words: tuple[str, ...], **how: Any) -> Case:
    outputs, kept = [*OUTPUTS, *WRITTEN, "out.png"], partial(_kept, name.partition(", ")[0])
    return attempts.case(KIND, name, words, prepare=_take, outputs=outputs, kept=kept, **how)


def _take(lane: Lane) -> None:
    lane.take("shop", "histories.parquet", ("runs/dtrec", "run"), "runs/seed1", "encoder")


def _at_most(kind: int, most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (most, most))


def _little_memory(more: int) -> Callable[[], None]:
    def limit() -> None:
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + more, now + more))

    return limit


LIMITS: dict[str, Callable[[], None]] = {
    "8 open files": _at_most(resource.RLIMIT_NOFILE, 8),
    "16 open files": _at_most(resource.RLIMIT_NOFILE, 16),
    "files of 1,000 bytes": _at_most(resource.RLIMIT_FSIZE, 1_000),
    "files of 10,000 bytes": _at_most(resource.RLIMIT_FSIZE, 10_000),
    "memory: 64 MB more": _little_memory(64 << 20),
    "memory: 256 MB more": _little_memory(256 << 20),
    "a umask of 077": lambda: (os.umask(0o077), None)[1],
}


def _memory(lane: Lane, outcome: Outcome, verdict: Verdict) -> None:
    """Short memory is no damage."""
    if outcome.code == 2 and "damaged" in outcome.err:
        verdict.add("short memory is called damage", outcome.err)


def _read_only(name: str, words: tuple[str, ...], folder: str) -> Case:
    """Nothing can be written there; what was computed is printed all the same."""

    def prepare(lane: Lane) -> None:
        _take(lane)
        for path in (lane.case / folder, *(lane.case / folder).rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)

    def printed(lane: Lane, outcome: Outcome, verdict: Verdict) -> None:
        if name == "evaluate" and folder == "run" and not outcome.out.strip():
            verdict.add("evaluate: computed, and not printed", outcome.err)

    return attempts.case(
        KIND,
        f"{name}, {folder} is read-only",
        words,
        prepare=prepare,
        outputs=[*OUTPUTS, *WRITTEN, "out.png"],
        check=printed,
        always=True,
    )
