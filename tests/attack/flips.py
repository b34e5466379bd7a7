"""Flipped bits: one bit of one file of a run folder is other than it was written, and then the run is used.

Whoever reads the file must tell, in a sentence, or come to the very same result.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path

from attack import calls, fixtures
from attack.calls import Call, Outcome
from attack.cases import Case
from attack.contents import lasting, nameless
from attack.ground import Lane
from attack.verdict import Verdict, faults_of, plain

KIND = "flips"
WHOLE = ("runs/sasrec", "runs/dtrec", "runs/igr-sr")
HALF = tuple(f"{fixtures.STOPPED}/{method}" for method in fixtures.STAGED)
HISTORIES = ("i00001", "i00002,i00003", "i00004,i00005,i00006", "i00007,i00001,i00009,i00011", "i00020,i00021")

ACTIONS = {
    "recommend": ("recommend", "run", "--history", *HISTORIES, "--k", "24", "--json"),
    "approximate": ("recommend", "run", "--history", *HISTORIES, "--k", "8", "--approximate", "--json"),
    "evaluate": ("evaluate", "run", "--data", "shop", "--resamples", "20", "--json"),
    "explain": ("explain", "run", "--history", "i00001,i00002", "--k", "24", "--json"),
    "compare": ("compare", "a=run", "b=seed1", "--json"),
}
READERS = {
    "config.json": ("recommend", "evaluate", "resume"),
    "model.safetensors": ("recommend", "evaluate"),
    "items.parquet": ("recommend", "explain"),
    "metrics.json": ("compare",),
    "per_user.parquet": ("compare",),
    "README.md": ("recommend",),
    "log.jsonl": ("recommend", "resume"),
    "state": ("evaluate", "resume"),
    "index": ("approximate",),
}
OTHERWISE = ("recommend", "evaluate", "compare")


@dataclass(frozen=True)
class Base:
    """A run folder, and what each action comes to on it."""

    name: str
    files: tuple[str, ...]
    results: dict[str, dict[str, str]]

    @property
    def method(self) -> str:
        return self.name.rpartition("/")[2]


def readers(base: str, file: str) -> tuple[str, ...]:
    """What is asked of the run where this file of it is damaged."""
    if base in HALF:
        return ("resume",)
    if "index" in file:
        return READERS["index"]
    return READERS.get(file, READERS.get(file.partition("/")[0], OTHERWISE))


def bases(lane: Lane) -> list[Base]:
    """The runs, with the results of all that will be asked of them."""
    made = []
    for name in (*WHOLE, *HALF):
        folder = lane.master / name
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size]
        files = tuple(str(path.relative_to(folder)) for path in paths)
        results = {}
        for action in sorted({action for file in files for action in readers(name, file)}):
            _lay(lane, name)
            outcome = _ask(lane, name, action)
            if outcome.code:
                raise RuntimeError(f"{action} of {name} fails on the whole run: {outcome.err[-1500:]}")
            results[action] = _result(lane, action, outcome)
        made.append(Base(name, files, results))
    return made


def cases(known: list[Base], a_file: int, seed: int) -> list[Case]:
    """So many flips in each file of each run."""
    return [
        Case(KIND, f"{base.name}: {file}, draw {n}", lambda lane, b=base, f=file, n=n: _flipped(lane, b, f, n, seed))
        for base in known
        for file in base.files
        for n in range(a_file)
    ]


def _lay(lane: Lane, name: str) -> None:
    lane.clear()
    lane.take("shop", (name, "run"), "runs/seed1")


def _ask(lane: Lane, name: str, action: str) -> Outcome:
    resume = (*fixtures.train(name.rpartition("/")[2], "run"), "--resume")
    return calls.run(Call(ACTIONS.get(action, resume)), lane)


def _result(lane: Lane, action: str, outcome: Outcome) -> dict[str, str]:
    """What an action came to: what it printed, or a digest of all weights that it left."""
    if action == "resume":
        run = lane.case / "run"
        weights = sorted(run.rglob("*.safetensors"))
        return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in weights}
    try:
        return {"printed": json.dumps(lasting(json.loads(outcome.out)))}
    except ValueError:
        return {"printed": f"no JSON: {outcome.out}"}


def _same(found: dict[str, str], wanted: dict[str, str], base: str, file: str) -> bool:
    """Whether a result is the same; a damaged file that is only kept, and no longer needed, may stay as it is."""
    kept = {file} if base in WHOLE or file.startswith("state/") else set()
    return all(found.get(name) == wanted.get(name) for name in {*found, *wanted} - kept)


def _flipped(lane: Lane, base: Base, file: str, n: int, seed: int) -> Verdict:
    verdict = Verdict(counts={"flipped bits": 1})
    bit = random.Random(f"{seed} {base.name} {file} {n}").randrange(8 * (lane.master / base.name / file).stat().st_size)
    for action in readers(base.name, file):
        _lay(lane, base.name)
        flip(lane.case / "run" / file, bit)
        outcome = _ask(lane, base.name, action)
        what = f"{nameless(file)} of a {'stopped' if base.name in HALF else 'finished'} run, then {action}"
        for fault in faults_of(outcome):
            verdict.add(f"{what}: {fault.headline}", f"bit {bit}\n{fault.detail}")
        result = _result(lane, action, outcome)
        if outcome.code == 0 and not _same(result, base.results[action], base.name, file):
            verdict.add(f"{what}: another result in silence", f"bit {bit}; {plain(outcome.err)}")
        verdict.told |= outcome.code == 2
    return verdict


def flip(path: Path, bit: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(raw)
