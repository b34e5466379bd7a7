"""Kills: every verb that writes, stopped before any file operation, at a change in its folder, or at a random moment.

Then the next call is made as a user would make it: plainly, with --resume, with --overwrite. One must be accepted, and
what lies there afterwards must be what an undisturbed call leaves: the same files, weights and tables bit for bit,
nothing left over, nothing touched elsewhere.
"""

from __future__ import annotations

import random
import re
import signal
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from attack import calls, fixtures
from attack.calls import Call, Outcome, Stop
from attack.cases import Case, spread
from attack.contents import contents, differences, nameless
from attack.ground import Lane, changed, outside, summed
from attack.verdict import Fault, Verdict, faults_of

KIND = "kills"
ONCE_MORE = ((), ("--overwrite",))
TRAINED = ((), ("--resume",), ("--overwrite",))
LIMIT_S = 60.0


@dataclass(frozen=True)
class Scenario:
    """A call that writes.

    Attributes:
        start: what lies in the folder before: names in master, or (name in master, name here).
        words: the call.
        next_: what is added to it afterwards, one after the other until the call is accepted.
        outputs: what it may write.
        without: words that the first call has and the next ones do not.
        replaces: a whole output lies there before, and must still be there whole, or the new one.
        run: the output is a run folder.
    """

    name: str
    start: tuple[str | tuple[str, str], ...]
    words: tuple[str, ...]
    next_: tuple[tuple[str, ...], ...] = ((),)
    outputs: tuple[str, ...] = ("out",)
    without: tuple[str, ...] = ()
    replaces: bool = False
    run: bool = False

    def next_calls(self) -> Iterator[tuple[str, ...]]:
        kept = tuple(word for word in self.words if word not in self.without)
        yield from (kept + more for more in self.next_)


@dataclass(frozen=True)
class Reference:
    """An undisturbed call: what it leaves, how many operations and changes it took, how long, and what a run says."""

    left: dict[str, str]
    operations: int
    changes: int
    wall_s: float
    lists: str


def scenarios() -> list[Scenario]:
    """Every verb that writes, in every way that it does."""
    train = [
        Scenario(f"train {method}", ("shop",), tuple(fixtures.train(method, "out")), TRAINED, run=True)
        for method in fixtures.methods()
    ]
    train += [
        Scenario(
            f"train {method} --resume",
            ("shop", (f"{fixtures.STOPPED}/{method}", "out")),
            (*fixtures.train(method, "out"), "--resume"),
            (("--resume",), ("--overwrite",)),
            without=("--resume",),
            run=True,
        )
        for method in fixtures.STAGED
    ]
    train += [
        Scenario(
            f"train sasrec --overwrite {old}",
            ("shop", (old, "out")),
            (*fixtures.train("sasrec", "out"), "--overwrite"),
            TRAINED,
            without=("--overwrite",),
            run=True,
        )
        for old in ("runs/seed1", "runs/igr-sr", f"{fixtures.STOPPED}/sasrec")
    ]
    return [*_data(), *train, *_runs(), *_texts()]


def _data() -> list[Scenario]:
    simulate, prepare = ("simulate", "--out", "out", *fixtures.SHOP), ("prepare", "shop", "--out", "out")
    over = {"next_": ONCE_MORE, "without": ("--overwrite",), "replaces": True}
    return [
        Scenario("simulate", (), simulate, ONCE_MORE),
        Scenario("simulate --overwrite", (("other", "out"),), (*simulate, "--overwrite"), **over),
        Scenario("prepare", ("shop",), prepare, ONCE_MORE),
        Scenario("prepare --overwrite", ("shop", ("prep", "out")), (*prepare, "--overwrite"), **over),
    ]


def _runs() -> list[Scenario]:
    here, study = ("shop", ("runs/dtrec", "out")), ("study", "hps", "--only", "dtrec", "--data", "shop", "--quiet")
    own = ("evaluate", "out", "--data", "shop", "--resamples", "50")
    table = ("recommend", "out", "--input", "histories.parquet", "--out", "lists.parquet")
    compare = ("compare", "a=out", "b=seed1", "--out")
    explain = ("explain", "out", "--history", "i00001,i00002", "--picture")
    two = (("runs/sasrec", "out"), "runs/seed1")
    return [
        Scenario("evaluate", ("shop", ("runs/prepared", "out"), "prep"), (*own[:3], "prep", *own[4:]), run=True),
        Scenario("evaluate again", here, own, run=True),
        Scenario("evaluate --out", here, (*own, "--halt", "fixed", "--steps", "1", "--out", "one"), outputs=("one",)),
        Scenario(
            "evaluate --noise-curve",
            here,
            (*own, "--noise-curve", "--noise", "swap", "--noise-seeds", "1", "--out", "curve"),
            outputs=("curve",),
        ),
        Scenario("recommend --input", ("histories.parquet", ("runs/dtrec", "out")), table, outputs=("lists.parquet",)),
        Scenario("recommend --approximate", (("runs/seed1", "out"),), _approximate("out"), run=True),
        *(Scenario(f"compare --out .{e}", two, (*compare, f"page.{e}"), outputs=(f"page.{e}",)) for e in ENDINGS),
        Scenario("explain --picture .png", (("runs/dtrec", "out"),), (*explain, "p.png"), outputs=("p.png",)),
        Scenario("explain --picture .svg", (("runs/dtrec", "out"),), (*explain, "p.svg"), outputs=("p.svg",)),
        Scenario(
            "study",
            ("shop",),
            (*study, "--results", "results", "--runs", "runs"),
            outputs=("results", "runs"),
            run=True,
        ),
    ]


ENDINGS = ("html", "md", "json")


def _approximate(run: str) -> tuple[str, ...]:
    return ("recommend", run, "--history", "i00001", "--approximate")


def _texts() -> list[Scenario]:
    if find_spec("sentence_transformers") is None:
        return []
    embed, vectors = ("embed", "shop", "--model", "encoder"), "shop/item_text_embeddings.npy"
    return [
        Scenario("embed", ("shop", "encoder"), embed, ONCE_MORE, outputs=(vectors,)),
        Scenario(
            "embed --overwrite",
            ("shop", "encoder", ("older.npy", "stale.npy")),
            (*embed[:2], "--model", "encoder", "--out", "stale.npy", "--overwrite"),
            ONCE_MORE,
            outputs=("stale.npy",),
            without=("--overwrite",),
        ),
    ]


def reference(scenario: Scenario, lane: Lane) -> Reference:
    """Carry a scenario out undisturbed.

    Raises:
        RuntimeError: it does not succeed.
    """
    lane.clear()
    lane.take(*scenario.start)
    outcome = calls.run(Call(scenario.words, limit_s=LIMIT_S), lane, watch=True)
    if outcome.code:
        raise RuntimeError(f"{scenario.name} fails undisturbed, so it cannot be attacked: {outcome.err[-1500:]}")
    left = contents(lane.case, scenario.outputs)
    return Reference(left, outcome.operations, outcome.changes, outcome.wall_s, _lists(scenario, lane))


def _lists(scenario: Scenario, lane: Lane) -> str:
    """What a run recommends; nothing where there is none."""
    if not scenario.run or "out" not in scenario.outputs:
        return ""
    outcome = calls.run(Call(("recommend", "out", "--history", "i00001,i00003", "--json")), lane)
    return outcome.out if outcome.code == 0 else outcome.err


def cases(references: dict[str, Reference], operations: int, moments: int, seed: int) -> list[Case]:
    """For each scenario so many kills before operations, and so many at changes and at random times; and interrupts."""
    made = []
    for scenario in scenarios():
        if (known := references.get(scenario.name)) is None:
            continue
        made.append(Case(KIND, f"{scenario.name}: undisturbed", partial(_undisturbed, scenario, known)))
        for at, stop in enumerate(_stops(known, operations, moments, random.Random(f"{seed} {scenario.name}"))):
            made.append(Case(KIND, f"{scenario.name}: {_named(stop, at)}", partial(_killed, scenario, known, stop)))
    return made


def _stops(known: Reference, operations: int, moments: int, draw: random.Random) -> list[Stop]:
    """Fewer are a part of more, so that what a quick attack finds is found again."""
    shares = [draw.random() for _ in range(100)][:moments]
    changes = draw.sample(range(1, known.changes + 1), known.changes)[:moments]
    counted = list(range(1, known.operations + 1))
    ends = spread(counted, 4)[1:]
    return [
        *(Stop(after_s=share * known.wall_s) for share in shares),
        *(Stop(change=n) for n in changes),
        *(Stop(operation=n) for n in spread(counted, operations)),
        *(Stop(operation=n, signal=signal.SIGINT) for n in ends[:2]),
        *(Stop(operation=n, signal=signal.SIGTERM) for n in ends[2:]),
    ]


def _named(stop: Stop, at: int) -> str:
    """Random times are known by their number: how long they are depends on the machine."""
    return f"{signal.Signals(stop.signal).name} at random moment {at}" if stop.after_s is not None else str(stop)


def _undisturbed(scenario: Scenario, known: Reference, lane: Lane) -> Verdict:
    """Twice the same, and files have the rights that the user's mask gives."""
    verdict = Verdict()
    again = reference(scenario, lane)
    for said in differences(again.left, known.left):
        verdict.add(f"undisturbed, twice: {said}")
    for name in scenario.outputs:
        top = lane.case / name
        for path in (top, *top.rglob("*")) if top.is_dir() else (top,):
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode != (0o755 if path.is_dir() else 0o644):
                verdict.add(
                    f"its rights are not those of the mask: {nameless(str(path.relative_to(lane.case)))}", oct(mode)
                )
    return verdict


def _killed(scenario: Scenario, known: Reference, stop: Stop, lane: Lane) -> Verdict:
    verdict = Verdict()
    lane.clear()
    lane.take(*scenario.start)
    old, before = contents(lane.case, scenario.outputs), outside(lane, scenario.outputs)
    first = calls.run(Call(scenario.words, limit_s=LIMIT_S), lane, stop)
    fell = first.stopped and first.code != 0
    verdict.counts["kills" if stop.signal == signal.SIGKILL else "interrupts"] = int(fell)
    if not fell and first.code:
        verdict.faults += faults_of(first)
    if stop.signal != signal.SIGKILL:
        _interrupted(scenario, known, first, old, lane, verdict)
        for said in summed(changed(before, outside(lane, scenario.outputs), lane.root)):
            verdict.add(f"{_verb(scenario)}, interrupted, leaves {nameless(said)}", f"{scenario.name}; {stop}")
    _go_on(scenario, known, old, lane, verdict)
    for said in differences(contents(lane.case, scenario.outputs), known.left):
        verdict.add(f"{_verb(scenario)}, {said}", f"{scenario.name}; {stop}")
    if known.lists and not verdict.faults and _lists(scenario, lane) != known.lists:
        verdict.add(f"{_verb(scenario)}, the run recommends otherwise", str(stop))
    _forget_probes(lane)
    for said in summed(changed(before, outside(lane, scenario.outputs), lane.root)):
        verdict.add(
            f"{_verb(scenario)}, beside what it was told to write: {nameless(said)}", f"{scenario.name}; {stop}"
        )
    return verdict


def _forget_probes(lane: Lane) -> None:
    """Python tries a folder for temporary files with one of eight letters that says "blat"; killed, it leaves that."""
    for path in (lane.folder / "tmp").iterdir():
        if re.fullmatch(r"[a-z0-9_]{8}", path.name) and path.is_file() and path.read_bytes() in (b"", b"blat"):
            path.unlink()


def _verb(scenario: Scenario) -> str:
    return scenario.words[0]


def _interrupted(
    scenario: Scenario, known: Reference, first: Outcome, old: dict[str, str], lane: Lane, verdict: Verdict
) -> None:
    """Ctrl-C and SIGTERM end a verb at once and in words; all but a training leave what was there, or the whole."""
    if "Traceback" in first.err or first.hung or first.code not in (0, 130, 143, -signal.SIGTERM):
        verdict.add(f"{_verb(scenario)}, interrupted: exit code {first.code}", first.err)
    if scenario.words[0] in ("train", "study") or first.code == 0:
        return
    left = contents(lane.case, scenario.outputs)
    for said in differences(left, known.left if set(known.left) - set(old) & set(left) else old):
        if said.startswith("left over"):
            verdict.add(f"{_verb(scenario)}, interrupted: {said}", scenario.name)


def _go_on(scenario: Scenario, known: Reference, old: dict[str, str], lane: Lane, verdict: Verdict) -> None:
    """The next call, until one is accepted."""
    refused: list[str] = []
    for words in scenario.next_calls():
        outcome = calls.run(Call(words, limit_s=LIMIT_S), lane)
        verdict.faults += [Fault(f"the next call: {fault.headline}", fault.detail) for fault in faults_of(outcome)]
        if outcome.code == 0:
            if scenario.replaces and "--overwrite" not in words:
                verdict.add(f"{_verb(scenario)} --overwrite, killed: what lay there before is gone at the next call")
            return
        refused.append(outcome.err)
        if scenario.replaces and (left := contents(lane.case, scenario.outputs)) not in (old, known.left):
            verdict.add(
                f"{_verb(scenario)} --overwrite, killed: neither the old nor the new", "\n".join(differences(left, old))
            )
    verdict.add(f"{_verb(scenario)}, killed: no next call is accepted", "\n".join(refused))
