"""Malformed JSON: every key of every file of a run, a prepared folder and a study, dropped, retyped, grown absurd."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attack import attempts, fixtures
from attack.cases import Case, some
from attack.ground import Lane
from attack.seal import reseal

KIND = "json"
ENDLESS_S = 8.0
DROPPED = object()
VALUES: tuple[Any, ...] = (
    *(DROPPED, None, True, False, 0, 1, -1, 3, 1.5, 1e308, 5e-324, 2**31, -(2**31) - 1, 2**63, 2**64, 10**40),
    *(
        "",
        "x",
        "../../x",
        "\x1b[31m",
        "sql: COPY (SELECT 1) TO 'owned.txt'",
        "\ud800",
        "x\0y",
        "x" * 20_000,
        "1",
        "nan",
    ),
    *([], [[]], [None] * 3, {}, {"": None}, {"type": "x"}, {"a": {"a": {"a": 1}}}, float("nan"), float("inf")),
)
FILES = {
    "no-bytes": b"",
    "a-space": b" ",
    "null": b"null",
    "a-list": b"[]",
    "an-object": b"{}",
    "a-string": b'"x"',
    "a-number": b"1",
    "a-long-number": b"1" * 100_000,
    "nul": bytes(1_000),
    "bom": b"\xef\xbb\xbf{}",
    "utf16": "{}".encode("utf-16"),
    "bad-utf8": b'{"format": "\xff"}',
    "deep-lists": b"[" * 200_000 + b"]" * 200_000,
    "deep-objects": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "open": b'{"format": 1, "config": {',
    "big": b'{"x": "' + b"x" * 20_000_000 + b'"}',
    "doubled-keys": b'{"format": 1, "format": 2}',
}
LINES = {
    "bad-bytes": b"\xff\xfe\n",
    "nul": bytes(100) + b"\n",
    "no-json": b"x\n",
    "numbers": b"1\n2\n",
    "lists": b"[1]\n",
    "null": b"null\n",
    "no-step": b'{"loss": 1}\n',
    "step-text": b'{"step": "x"}\n',
    "step-null": b'{"step": null}\n',
    "step-list": b'{"step": [1]}\n',
    "step-inf": b'{"step": Infinity}\n',
    "step-nan": b'{"step": NaN}\n',
    "step-huge": b'{"step": 1e999}\n',
    "deep": b"[" * 100_000 + b"\n",
    "long-number": b'{"step": ' + b"1" * 5_000 + b"}\n",
    "one-line": b'{"step": 1}',
    "separators": '{"step": 1}\u2028{"step": 2}\x85\x0c\n'.encode(),
}


@dataclass(frozen=True)
class Place:
    """A JSON file, where it lies, and calls that read it."""

    source: str
    file: str
    readers: tuple[tuple[str, ...], ...]


def places() -> list[Place]:
    run, data = "bent", ("--data", "shop")
    recommend, evaluate = ("recommend", run, "--history", "i00001,i00002", "--json"), ("evaluate", run, *data)
    explain, compare = ("explain", run, "--history", "i00001"), ("compare", "a=bent", "b=seed1")
    made = [
        Place(
            f"runs/{method}",
            "config.json",
            (recommend, evaluate, explain, ("evaluate", run), (*fixtures.train(method, run), "--resume")),
        )
        for method in fixtures.methods()
    ]
    resume = (*fixtures.train("sasrec", run, *fixtures.EVIDENCE), "--resume")
    made.append(Place("runs/evidence", "config.json", (recommend, evaluate, explain, resume)))
    made += [
        Place(f"{fixtures.STOPPED}/{method}", file, ((*fixtures.train(method, run), "--resume"),))
        for method in fixtures.STAGED
        for file in ("state/state.json", "config.json")
    ]
    made += [Place(f"runs/{method}", "metrics.json", (compare,)) for method in ("sasrec", "dtrec")]
    made.append(Place("runs/dtrec", "state/state.json", (evaluate, recommend)))
    train = tuple(fixtures.train("sasrec", "out", data=run))
    made.append(Place("prep", "prepared.json", (train, ("doctor", run), ("evaluate", "prepared", "--data", run))))
    study = (
        "study",
        "hps",
        *data,
        "--only",
        "dtrec",
        "--results",
        f"{run}/results",
        "--runs",
        f"{run}/runs",
        "--quiet",
    )
    made.append(Place("study", "results/runs/dtrec-shop-file-0.json", (study,)))
    return made


def cases(lane: Lane, n: int, seed: int) -> list[Case]:
    """About n of all that can be wrong in a file, with checksums that fit and some with those of before."""
    made = []
    for place in places():
        parts = json.loads((lane.master / place.source / place.file).read_text(encoding="utf-8"))
        here = [
            _case(place, f"{'.'.join(map(str, path))}={_named(value)}", _bent, (path, value))
            for path in paths(parts)
            for value in VALUES
        ]
        whole = [_case(place, name, _written, (raw,)) for name, raw in FILES.items()]
        made += some(here, n // len(places()), seed) + whole[:: max(1, 600 // n)]
    for method in fixtures.STAGED[:2]:
        place = Place(f"{fixtures.STOPPED}/{method}", "log.jsonl", ((*fixtures.train(method, "bent"), "--resume"),))
        made += [_case(place, name, _written, (raw,)) for name, raw in LINES.items()]
    return made


def paths(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a JSON value; of a list the first alone."""
    inner: Sequence[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))[:1]
    for key, each in inner:
        yield (*at, key)
        yield from paths(each, (*at, key))


def _named(value: Any) -> str:
    return "dropped" if value is DROPPED else ascii(value)[:40]


def _case(place: Place, what: str, change: Any, given: tuple[Any, ...]) -> Case:
    """With a reader that is drawn by the case's own name."""
    name = f"{place.source}/{place.file}: {what}"
    draw = random.Random(name)
    words, sealed = draw.choice(place.readers), draw.random() < 0.8
    endless = words[0] == "train"

    def prepare(lane: Lane) -> None:
        lane.take("shop", (place.source, "bent"), "runs/seed1", ("runs/prepared", "prepared"))
        path = lane.case / "bent" / place.file
        before = path.read_bytes()
        change(path, *given)
        if sealed:
            reseal(lane.case / "bent", {path: before})

    return attempts.case(
        KIND,
        f"{name}, {' '.join(words[:2])}{'' if sealed else ', not resealed'}",
        words,
        prepare=prepare,
        outputs=("out", "bent", "prepared"),
        endless=endless,
        limit_s=ENDLESS_S if endless else 20.0,
    )


def _bent(path: Path, at: tuple[str | int, ...], value: Any) -> None:
    parts = json.loads(path.read_text(encoding="utf-8"))
    inner = parts
    for key in at[:-1]:
        inner = inner[key]
    if value is DROPPED:
        del inner[at[-1]]
    else:
        inner[at[-1]] = copy.deepcopy(value)
    path.write_text(json.dumps(parts, indent=2), encoding="utf-8")


def _written(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
