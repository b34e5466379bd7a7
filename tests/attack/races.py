"""Two at once: the same verb, writing to the same place. One is told, or one's whole result stands there in the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attack import calls, fixtures
from attack.calls import Call
from attack.cases import Case
from attack.contents import contents, differences
from attack.ground import Lane
from attack.verdict import Verdict, faults_of

KIND = "races"
NEW_FOLDER = "a new folder"
START = (
    "shop",
    "other",
    "prep",
    ("runs/dtrec", "run"),
    "runs/seed1",
    "runs/sasrec",
    "histories.parquet",
    "others.parquet",
)

PAIRS: dict[str, tuple[Sequence[str], Sequence[str], tuple[str, ...], bool]] = {
    "prepare, a new folder": (
        ("prepare", "shop", "--out", "out"),
        ("prepare", "other", "--out", "out"),
        ("out",),
        True,
    ),
    "simulate, a new folder": (
        ("simulate", "--out", "out", *fixtures.SHOP),
        ("simulate", "--out", "out", *fixtures.SHOP[:-1], "9"),
        ("out",),
        True,
    ),
    "train, a new folder": (fixtures.train("sasrec", "out"), fixtures.train("gru4rec", "out"), ("out",), True),
    "train --overwrite": (
        (*fixtures.train("sasrec", "seed1"), "--overwrite"),
        (*fixtures.train("gru4rec", "seed1"), "--overwrite"),
        ("seed1",),
        False,
    ),
    "recommend --out": (
        ("recommend", "run", "--input", "histories.parquet", "--out", "out.parquet"),
        ("recommend", "run", "--input", "others.parquet", "--out", "out.parquet"),
        ("out.parquet",),
        False,
    ),
    "evaluate --out": (
        ("evaluate", "run", "--data", "shop", "--resamples", "20", "--out", "out"),
        ("evaluate", "seed1", "--data", "shop", "--resamples", "20", "--out", "out"),
        ("out",),
        False,
    ),
    "compare --out": (
        ("compare", "a=run", "b=seed1", "--out", "out.html"),
        ("compare", "a=seed1", "b=run", "--out", "out.html"),
        ("out.html",),
        False,
    ),
    "explain --picture": (
        ("explain", "run", "--history", "i00001", "--picture", "out.png"),
        ("explain", "run", "--history", "i00002,i00003", "--picture", "out.png"),
        ("out.png",),
        False,
    ),
    "recommend --approximate": (
        ("recommend", "seed1", "--history", "i00001", "--approximate"),
        ("recommend", "seed1", "--history", "i00002", "--approximate"),
        ("seed1",),
        False,
    ),
}
"""Two calls, what they write to, and whether one of them must be told."""


def cases(times: int) -> list[Case]:
    return list(_cases(times))


def _cases(times: int) -> Iterator[Case]:
    for name in PAIRS:
        for n in range(times):
            yield Case(KIND, f"{name}, {n}", lambda lane, name=name: _raced(lane, name))


def _raced(lane: Lane, name: str) -> Verdict:
    one, two, outputs, exclusive = PAIRS[name]
    verdict = Verdict(counts={"races": 1})
    wholes = []
    for words in (one, two):
        lane.clear()
        lane.take(*START)
        if calls.run(Call(words, limit_s=60), lane).code == 0:
            wholes.append(contents(lane.case, outputs))
    lane.clear()
    lane.take(*START)
    both = [calls.begin(Call(words, limit_s=60), lane, number=n) for n, words in enumerate((one, two))]
    ends = [begun.end() for begun in both]
    for end in ends:
        for fault in faults_of(end):
            verdict.add(f"{name}: {fault.headline}", fault.detail)
    codes = sorted(end.code for end in ends)
    if exclusive and codes == [0, 0]:
        verdict.add(f"{name}: both succeed, nobody is told")
    if codes[0] != 0:
        verdict.add(f"{name}: neither succeeds", "\n".join(end.err for end in ends))
    elif (left := contents(lane.case, outputs)) not in wholes:
        verdict.add(f"{name}: what lies there is neither's", "\n".join(differences(left, wholes[0])))
    strays = [path.name for path in lane.case.iterdir() if path.name not in {*_taken(), *outputs}]
    if strays:
        verdict.add(f"{name}: left over beside it", str(strays))
    return verdict


def _taken() -> set[str]:
    return {each[1] if isinstance(each, tuple) else each.rpartition("/")[2] for each in START}
