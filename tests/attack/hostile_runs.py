"""Hostile folders: stored statements and addresses, names that are patterns, and folders of somebody else's where one
of ours is to be replaced."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attack import attempts, fixtures
from attack.calls import Outcome
from attack.cases import Case
from attack.contents import contents
from attack.ground import Lane, own, own_all
from attack.hostile_links import EVALUATE, HISTORY, KIND, RUN, in_place_of_files, links
from attack.seal import reseal
from attack.verdict import Verdict

STATEMENTS = (
    "sql: COPY (SELECT 'x') TO '{here}/owned.txt'",
    " \tSQL:COPY (SELECT 'x') TO '{here}/owned.txt'",
    "sql: SELECT 1; COPY (SELECT 'x') TO '{here}/owned.txt'",
    "sql: ATTACH '{here}/owned.db' AS x",
    "sql: EXPORT DATABASE '{here}/owned'",
    "sql: INSTALL httpfs",
    "sql: LOAD '{here}/owned.duckdb_extension'",
    "sql: CREATE TABLE x AS SELECT * FROM read_text('{here}/../precious/*')",
    "sql: SELECT * FROM read_parquet('{master}/shop/interactions.parquet')",
    "sql: SET temp_directory='{here}/owned'",
    "sql: PRAGMA database_list",
    "sql:",
)
ADDRESSES = (
    "http://127.0.0.1:{port}/interactions.parquet",
    "HTTP://127.0.0.1:{port}/interactions.csv",
    "https://127.0.0.1:{port}/interactions.parquet",
    "s3://bucket/interactions.parquet",
    "gs://bucket/interactions.parquet",
    "az://bucket/interactions.parquet",
    "hf://datasets/x/y/interactions.parquet",
    "ftp://127.0.0.1:{port}/x.csv",
    "file://{master}/shop/interactions.parquet",
)
PATTERNS = ("{master}/sho*", "{master}/sho[p]", "{master}/shop/*.parquet", "{master}/shop/interactions.parque?")
OTHERS = ("{here}/fifo.parquet", "/dev/zero", "/dev/stdin", "/proc/self/environ", "", ".", "\0", "{here}/bent")


def cases() -> list[Case]:
    return [*_stored(), *links(), *in_place_of_files(), *_names(), *_replaced(), *_sql(), *_data_names()]


def bend(lane: Lane, source: str, path: Sequence[str], value: Any, file: str = "config.json") -> None:
    """A copy of a run, called `bent`, with another value in its JSON, checksums that fit, and what it may need."""
    lane.take("shop", (source, RUN))
    at = lane.case / RUN / file
    before = at.read_bytes()
    parts = json.loads(before)
    inner = parts
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    at.write_text(json.dumps(parts, indent=2), encoding="utf-8")
    reseal(lane.case / RUN, {at: before})


def _stored() -> Iterator[Case]:
    """Sources that a run folder names."""
    for path in (("about", "data_path"), ("about", "columns", "items")):
        for text in (*STATEMENTS, *ADDRESSES, *PATTERNS, *OTHERS):
            listener = Listener()

            def prepare(lane: Lane, path: tuple[str, ...] = path, text: str = text, at: Listener = listener) -> None:
                value = text.format(here=lane.case, master=lane.master, port=at.open())
                os.mkfifo(lane.case / "fifo.parquet")
                own(lane.case / "fifo.parquet")
                bend(lane, "runs/sasrec", path, value)

            ours = "{master}/shop" in text and text.startswith("sql") is False
            env = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "x"}
            yield attempts.case(
                KIND,
                f"{'.'.join(path)} of a run is {ascii(text)[1:-1]}",
                EVALUATE,
                prepare=prepare,
                outputs=(RUN,),
                must_fail=not ours or text in PATTERNS,
                check=listener.check,
                env=env,
                always=True,
            )


class Listener:
    """A place on this machine where a connection would be noticed; nobody answers there."""

    def __init__(self) -> None:
        self.socket: socket.socket | None = None

    def open(self) -> int:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.setblocking(False)
        return self.socket.getsockname()[1]

    def check(self, lane: Lane, outcome: Outcome, verdict: Verdict) -> None:
        assert self.socket is not None
        with contextlib.suppress(BlockingIOError):
            self.socket.accept()
            verdict.add("a connection was made")
        self.socket.close()


def _names() -> Iterator[Case]:
    """Folders whose names mean something to somebody: what exists under a name is what the name means."""
    names = (
        "seed[1]",
        "seed?",
        "seed*",
        "se{e}d",
        "sql:x",
        "http:x",
        "a=b",
        "new\nline",
        "ünï",
        " ",
        "x" * 250,
        "~",
        "#",
    )
    for name in (*names, "seed1.parquet", "$HOME", "%s", "\udcff", "..."):

        def prepare(lane: Lane, name: str = name) -> None:
            lane.take("shop", ("runs/dtrec", name), "runs/seed1", "runs/sasrec", ("histories.parquet", "h[1].parquet"))
            lane.take(("others.parquet", "h1.parquet"), ("shop", "shop[1]"), ("other", "shop1"))

        def same(lane: Lane, outcome: Outcome, verdict: Verdict, name: str = name) -> None:
            if outcome.code == 0 and not _of_run(outcome.out, lane.master / "runs/dtrec"):
                verdict.add("recommend: lists of another run", ascii(name))

        shown = ascii(name)[1:-1][:40]
        yield attempts.case(KIND, f"a run called {shown}", ("recommend", name, *HISTORY), prepare=prepare, check=same)
        out = fixtures.train("sasrec", name)
        yield attempts.case(
            KIND,
            f"train --out {shown}",
            out,
            prepare=lambda lane: lane.take("shop"),
            outputs=(name,),
            must_fail=False,
            check=_accepted,
        )
        table = ("recommend", name, "--input", "h[1].parquet", "--out", f"o{name[:100]}.parquet")
        yield attempts.case(
            KIND, f"recommend {shown} --input h[1]", table, prepare=prepare, outputs=(table[-1],), check=_accepted
        )
        shop = ("prepare", "shop[1]", "--out", name[:100])
        yield attempts.case(KIND, f"prepare --out {shown}", shop, prepare=_shops, outputs=(shop[-1],), check=_accepted)


def _shops(lane: Lane) -> None:
    lane.take(("shop", "shop[1]"), ("other", "shop1"))


def _accepted(lane: Lane, outcome: Outcome, verdict: Verdict) -> None:
    if outcome.code != 0 and not verdict.faults and "\\udc" not in ascii(outcome.err) and "250" not in outcome.err:
        verdict.add("a name that a file system allows is refused", outcome.err)


def _of_run(out: str, run: Path) -> bool:
    """Whether lists hold items of the shop; those of another are told by their number."""
    try:
        told = json.loads(out)
    except ValueError:
        return False
    return all(item.startswith("i000") for one in told for item in one["items"]) and run.exists()


def _replaced() -> Iterator[Case]:
    """What --overwrite must not replace, and what of it must stay."""
    verbs = {
        "prepare": ("prepare", "shop", "--out", "there", "--overwrite"),
        "simulate": ("simulate", "--out", "there", *fixtures.SHOP, "--overwrite"),
        "train": (*fixtures.train("sasrec", "there"), "--overwrite"),
    }
    own_kind = {"prepare": "prep", "simulate": "other", "train": "runs/seed1"}
    for verb, words in verbs.items():
        for what in (
            "photos",
            "one hidden file",
            "a file",
            "a link to a folder",
            "prep",
            "other",
            "runs/seed1",
            "prepared.json alone",
            "config.json alone",
            "shop.json alone",
        ):
            if own_kind[verb] == what:
                continue
            yield attempts.case(
                KIND,
                f"{verb} --overwrite on {what}",
                words,
                prepare=lambda lane, what=what: _there(lane, what),
                outputs=(),
                must_fail=True,
                always=True,
            )
        for extra in ("notes.txt", "photos/a.jpg", ".git/config"):

            def prepare(lane: Lane, verb: str = verb, extra: str = extra) -> None:
                lane.take("shop", (own_kind[verb], "there"))
                path = lane.case / "there" / extra
                path.parent.mkdir(exist_ok=True)
                path.write_text("mine")
                own_all(lane.case / "there")

            def kept(lane: Lane, outcome: Outcome, verdict: Verdict, verb: str = verb, extra: str = extra) -> None:
                path = lane.case / "there" / extra
                if not path.is_file() or path.read_text() != "mine":
                    verdict.add(f"{verb} --overwrite: somebody's file in our folder is gone", extra)

            yield attempts.case(
                KIND,
                f"{verb} --overwrite where {extra} lies too",
                words,
                prepare=prepare,
                outputs=("there",),
                check=kept,
                always=True,
            )
    yield attempts.case(
        KIND,
        "prepare --overwrite on its own source",
        ("prepare", "shop", "--out", "shop", "--overwrite"),
        prepare=lambda lane: lane.take("shop"),
        outputs=(),
        must_fail=True,
        always=True,
    )
    yield attempts.case(
        KIND,
        "prepare --overwrite on .",
        ("prepare", "shop", "--out", ".", "--overwrite"),
        prepare=lambda lane: lane.take("shop"),
        outputs=(),
        must_fail=True,
        always=True,
    )


def _there(lane: Lane, what: str) -> None:
    lane.take("shop")
    there = lane.case / "there"
    if what in ("prep", "other", "runs/seed1"):
        lane.take((what, "there"))
    elif what == "a file":
        there.write_text("mine")
    elif what == "a link to a folder":
        there.symlink_to(lane.precious / "photos")
    else:
        name = {"photos": "a.jpg", "one hidden file": ".hidden"}.get(what, what.partition(" ")[0])
        there.mkdir()
        (there / name).write_text("{}")
    if not there.is_symlink():
        own_all(there)


def _sql() -> Iterator[Case]:
    """What a user's own query may not do either: write, attach, export, install."""
    for statement in STATEMENTS[:7]:
        for verb in ("doctor", "prepare", "train"):
            words = {
                "doctor": lambda text: ("doctor", text),
                "prepare": lambda text: ("prepare", text, "--out", "out"),
                "train": lambda text: tuple(fixtures.train("sasrec", "out", data=text)),
            }[verb]
            yield attempts.case(
                KIND,
                f"{verb} {ascii(statement)[1:-1]}",
                lambda lane, words=words, text=statement: words(text.format(here=lane.case, master=lane.master)),
                must_fail=verb != "doctor",
                always=True,
            )


def _data_names() -> Iterator[Case]:
    """What data is called is no path."""
    study = ("study", "hps", "--only", "dtrec", "--data", RUN, "--results", "r/results", "--runs", "r/runs", "--quiet")
    names = (
        "../../x",
        "../x",
        "beauty/2014",
        "/tmp/x",
        "..",
        ".",
        "",
        "x\0y",
        "new\nline",
        "<script>alert(1)</script>",
        "[/]",
    )
    for name in (*names, "\x1b[31m", "x" * 300, "con|x", "-x"):

        def prepare(lane: Lane, name: str = name) -> None:
            bend(lane, "prep", ("name",), name, "prepared.json")

        def found(lane: Lane, outcome: Outcome, verdict: Verdict, name: str = name) -> None:
            left = contents(lane.case, ("r",))
            if outcome.code == 0 and not any(path.startswith("r/results/runs/") for path in left):
                verdict.add("study: its result is not where it is looked for", ascii(name))
            for path in (lane.case / "r").rglob("*.md"):
                if "<script>" in path.read_text(encoding="utf-8", errors="replace"):
                    verdict.add("study: markup of the data's name stands in the page", str(path.name))

        yield attempts.case(
            KIND,
            f"study of data called {ascii(name)[1:-1][:40]}",
            study,
            prepare=prepare,
            outputs=("r",),
            check=found,
            always=True,
        )
        if "\0" not in name and "\udcff" not in name:
            yield attempts.case(
                KIND,
                f"prepare --name {ascii(name)[1:-1][:40]}",
                ("prepare", "shop", "--out", "out", "--name", name),
                prepare=lambda lane: lane.take("shop"),
            )
