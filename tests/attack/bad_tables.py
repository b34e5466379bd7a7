"""Malformed tables: cells of every kind in every column, text files of every sort, torn and mutated files."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from attack import attempts, calls
from attack.cases import Case
from attack.ground import Lane

KIND = "tables"
FOLDER = "tables"
HEAD = "user_id,item_id,timestamp\n"
GOOD = HEAD + "".join(f"u{n % 9},i{n % 7:05d},{1_600_000_000 + 3_600 * n}\n" for n in range(60))
ROLES = {
    "cells": ("doctor", "prepare", "train", "recommend"),
    "text": ("doctor", "prepare", "recommend"),
    "items": ("prepare items", "embed", "doctor items"),
    "histories": ("recommend",),
    "ids": ("allow", "deny"),
    "vectors": ("texts",),
}
MUTATED = {
    "good.csv": ROLES["text"],
    "good.parquet": ROLES["text"],
    "good.csv.gz": ROLES["text"],
    "histories.parquet": ROLES["histories"],
    "items.parquet": ROLES["items"],
    "items.csv": ROLES["items"],
    "vectors.npy": ROLES["vectors"],
}


def words(verb: str, table: str) -> tuple[str, ...]:
    """A call of the verb that reads the table."""
    from attack.fixtures import train

    run = "runs/sasrec"
    return {
        "doctor": ("doctor", table),
        "prepare": ("prepare", table, "--out", "out"),
        "train": tuple(train("sasrec", "out", data=table)),
        "recommend": ("recommend", run, "--input", table, "--out", "out.parquet"),
        "prepare items": ("prepare", "shop/interactions.parquet", "--items", table, "--out", "out"),
        "doctor items": ("doctor", "shop/interactions.parquet", "--items", table),
        "embed": ("embed", table, "--model", "encoder", "--out", "out.npy"),
        "allow": ("recommend", run, "--history", "i00001", "--allow", table),
        "deny": ("recommend", run, "--history", "i00001", "--deny", table),
        "texts": tuple(train("igr-sr", "out", "--intents", "texts", "--text-width", "8", "--texts", table)),
    }[verb]


def take(lane: Lane) -> None:
    lane.take("shop", ("runs/sasrec", "runs/sasrec"), "encoder")


def cases(lane: Lane, mutations: int, seed: int) -> list[Case]:
    """All tables that there are, each read by all that read such; and so many mutations of each good one."""
    if not (lane.master / FOLDER).exists():
        lane.clear()
        lane.take("shop")
        calls.make(lane, write_all)
        (lane.case / "made").rename(lane.master / FOLDER)
    made = []
    for path in sorted((lane.master / FOLDER).rglob("*")):
        role = path.parent.name
        for verb in ROLES.get(role, ()):
            name = str(path.relative_to(lane.master / FOLDER))
            must = (verb, name) in MUST_FAIL
            made.append(
                attempts.case(
                    KIND,
                    f"{verb} {ascii(name)[1:-1]}",
                    words(verb, str(path)),
                    prepare=take,
                    outputs=("out", "out.parquet", "out.npy"),
                    must_fail=must,
                    always=must,
                )
            )
    for good, verbs in MUTATED.items():
        for n in range(mutations):
            verb = verbs[n % len(verbs)]
            made.append(
                attempts.case(
                    KIND,
                    f"{verb} {good} mutated, draw {n}",
                    words(verb, good),
                    prepare=_mutated(good, f"{seed} {good} {n}"),
                    outputs=("out", "out.parquet", "out.npy"),
                )
            )
    return made


MUST_FAIL = {
    ("recommend", "cells/timestamp-one-garbage.parquet"),
    ("recommend", "text/times-garbage.csv"),
    ("prepare", "text/times-garbage.csv"),
    ("recommend", "text/empty.csv"),
    ("prepare", "text/empty.csv"),
    ("prepare", "text/header-only.csv"),
}


def _mutated(good: str, seed: str) -> Callable[[Lane], None]:
    def prepare(lane: Lane) -> None:
        take(lane)
        raw = (lane.master / FOLDER / "good" / good).read_bytes()
        (lane.case / good).write_bytes(mutate(raw, random.Random(seed)))

    return prepare


def mutate(raw: bytes, draw: random.Random) -> bytes:
    """A few bytes other, gone, doubled or in between; or an end that is missing."""
    changed = bytearray(raw)
    for _ in range(draw.choice((1, 1, 2, 5, 20))):
        at, what = draw.randrange(len(changed) or 1), draw.randrange(7)
        span = draw.choice((1, 1, 4, 50))
        if what == 0:
            changed[at : at + 1] = bytes([draw.randrange(256)])
        elif what == 1:
            del changed[at : at + span]
        elif what == 2:
            changed[at:at] = changed[at : at + span]
        elif what == 3:
            changed[at:at] = draw.choice((b"\x00", b'"', b"\n", b"\r", b",", b"\xff\xfe", b"nan", b"[", b"9" * 30))
        elif what == 4:
            changed[at : at + span] = bytes(span)
        elif what == 5 and draw.random() < 0.3:
            del changed[at:]
        elif what == 6:
            changed[at : at + 4] = draw.randbytes(4)
    return bytes(changed)


def write_all() -> None:
    """All tables, below `made/`."""
    top = Path("made")
    for folder in ("good", *ROLES):
        (top / folder).mkdir(parents=True)
    _cells(top)
    _text(top / "text")
    _ids(top / "ids")
    _vectors(top / "vectors", top / "good")


def odd_columns(n: int) -> Iterator[tuple[str, Any]]:
    """Name -> a column of n values of some odd kind."""
    import polars as pl

    day = datetime(2020, 1, 1)
    yield "nulls", pl.Series([None] * n)
    yield "null-strings", pl.Series([None] * n, dtype=pl.String)
    for name, odd in {
        "one-null": None,
        "one-empty": "",
        "one-blank": "  ",
        "one-garbage": "garbage",
        "one-nul": "a\0b",
        "one-escape": "\x1b[2J\x1b]0;x\x07",
        "one-newline": "a\nb\r\nc",
        "one-long": "x" * 1_000_000,
        "one-path": "../../../etc/passwd",
        "one-markup": "[/][link=file:///x]y[/link]<script>alert(1)</script>$_{",
        "one-bidi": "\u202eabc\u2066",
        "one-surrogate-like": "\\ud800",
        "one-number": "1e999",
    }.items():
        yield name, pl.Series([odd if at == n // 2 else f"v{at % 7}" for at in range(n)], dtype=pl.String)
    yield "dates-one-garbage", pl.Series(["garbage" if at == 1 else f"2020-01-{at % 28 + 1:02d}" for at in range(n)])
    yield "dates-mixed", pl.Series([f"2020-01-{at % 28 + 1:02d}" if at % 2 else "1600000000" for at in range(n)])
    yield (
        "times-with-zones",
        pl.Series(["2020-01-01T00:00:00+01:00" if at % 2 else "2020-01-01T00:00:00Z" for at in range(n)]),
    )
    for name, odd in {
        "nan": float("nan"),
        "inf": float("inf"),
        "minus-inf": float("-inf"),
        "huge": 1e308,
        "tiny": 5e-324,
        "half": 0.5,
        "2e53": 2.0**53 + 2,
    }.items():
        yield f"float-{name}", pl.Series([odd if at == n // 2 else float(at) for at in range(n)])
        yield f"float-all-{name}", pl.Series([odd] * n)
    for name, odd in {
        "least": -(2**63),
        "most": 2**63 - 1,
        "minus": -1,
        "millis": 1_600_000_000_000,
        "zero": 0,
    }.items():
        yield f"int-{name}", pl.Series([odd if at == n // 2 else 1_600_000_000 + at for at in range(n)], dtype=pl.Int64)
    yield "uint64", pl.Series([2**64 - 1 - at for at in range(n)], dtype=pl.UInt64)
    yield "int128", pl.Series([2**100 + at for at in range(n)], dtype=pl.Int128)
    yield "int8", pl.Series([at % 100 for at in range(n)], dtype=pl.Int8)
    yield "bools", pl.Series([at % 2 == 0 for at in range(n)])
    yield "bytes", pl.Series([b"\xff\xfe%d" % (at % 5) for at in range(n)])
    yield "bytes-16", pl.Series([bytes([at % 5]) * 16 for at in range(n)])
    yield "bytes-one-null", pl.Series([None if at == 1 else bytes([at % 5]) * 16 for at in range(n)])
    yield "lists", pl.Series([["a", None], [], None, ["b"]] * (n // 4) + [[]] * (n % 4))
    yield "lists-of-lists", pl.Series([[["a"]]] * n)
    yield "lists-of-numbers", pl.Series([[1.5, float("nan")]] * n)
    yield "arrays", pl.Series([[1, 2]] * n, dtype=pl.Array(pl.Int64, 2))
    yield "structs", pl.Series([{"a": 1, "b": None}] * n)
    yield "empty-structs", pl.Series([{"a": None}] * n)
    yield "dates", pl.Series([date(2020, 1, 1)] * n)
    yield "old-dates", pl.Series([date(1, 1, 1)] * n)
    yield "late-dates", pl.Series([date(9999, 12, 31)] * n)
    for unit in ("ns", "us", "ms"):
        yield f"datetime-{unit}", pl.Series([day + timedelta(hours=at) for at in range(n)], dtype=pl.Datetime(unit))
    yield "datetime-zone", pl.Series([datetime(2020, 1, 1, tzinfo=UTC)] * n)
    yield "datetime-one-null", pl.Series([None if at == 2 else day for at in range(n)])
    yield "durations", pl.Series([timedelta(days=at) for at in range(n)])
    yield "clock-times", pl.Series([(day + timedelta(seconds=at)).time() for at in range(n)])
    yield "decimals", pl.Series([f"{at}.25" for at in range(n)]).str.to_decimal(scale=2)
    yield "categories", pl.Series([f"c{at % 3}" for at in range(n)], dtype=pl.Categorical)
    yield "enums", pl.Series(["a", "b"] * (n // 2) + ["a"] * (n % 2), dtype=pl.Enum(["a", "b"]))


def _cells(top: Path) -> None:
    """Every odd column in every place of the tables that are read."""
    import polars as pl

    seen = pl.read_parquet("shop/interactions.parquet").head(120)
    seen = seen.with_columns(rating=pl.lit(3.0))
    items, draw = pl.read_parquet("shop/items.parquet"), random.Random(0)
    ids = items["item_id"].to_list()
    past = pl.DataFrame({"history": [draw.sample(ids, 3) for _ in range(30)], "times": [[1, 2, 3]] * 30})
    for folder, table, names in (
        ("cells", seen, ("user_id", "item_id", "timestamp", "position", "rating")),
        ("items", items, ("item_id", "title", "brand", "categories", "price")),
        ("histories", past, ("history", "times", "items", "who")),
    ):
        for name in names:
            for kind, column in odd_columns(table.height):
                table.with_columns(column.alias(name)).write_parquet(top / folder / f"{name}-{kind}.parquet")
                if folder == "histories" and name == "history":
                    nested = column.to_frame("c").select(pl.concat_list("c")).to_series()
                    table.with_columns(nested.alias(name)).write_parquet(top / folder / f"list-of-{kind}.parquet")
    past.with_columns(history=pl.Series([[]] * 30, dtype=pl.List(pl.String))).write_parquet(
        top / "histories/empty.parquet"
    )
    past.clear().write_parquet(top / "histories/no-rows.parquet")
    seen.clear().write_parquet(top / "cells/no-rows.parquet")
    seen.select(pl.all().name.prefix("x")).write_parquet(top / "cells/other-names.parquet")
    items.clear().write_parquet(top / "items/no-rows.parquet")
    pl.concat([items, items]).write_parquet(top / "items/doubled.parquet")
    items.head(2).write_parquet(top / "items/two-only.parquet")
    items.drop("item_id").write_parquet(top / "items/no-ids.parquet")
    seen.write_parquet(top / "good/good.parquet")
    items.write_parquet(top / "good/items.parquet")
    items.select("item_id", "title", "brand").write_csv(top / "good/items.csv")
    past.write_parquet(top / "good/histories.parquet")
    (top / "good/good.csv").write_text(GOOD)
    (top / "good/good.csv.gz").write_bytes(gzip.compress(GOOD.encode(), mtime=0))


def _text(folder: Path) -> None:
    """CSV and its relatives, and what is called so."""
    from attack.text_files import texts

    for name, raw in texts(GOOD, HEAD).items():
        (folder / name).write_bytes(raw)


def _ids(folder: Path) -> None:
    for name, raw in {
        "empty.txt": b"",
        "blank.txt": b"\n \n\t\n",
        "unknown.txt": b"nobody\n",
        "latin.txt": b"i0000\xff\n",
        "nul.txt": b"i00001\0\n",
        "utf16.txt": "i00001\n".encode("utf-16"),
        "long.txt": b"x" * 500_000,
        "escape.txt": b"\x1b[31mi00001\n",
        "doubled.txt": b"i00001\ni00001\n",
        "bom.txt": b"\xef\xbb\xbfi00001\n",
    }.items():
        (folder / name).write_bytes(raw)
    (folder / "folder.txt").mkdir()


def _vectors(folder: Path, good: Path) -> None:
    import numpy as np

    n, draw = 24, np.random.default_rng(0)
    right = draw.normal(size=(n, 8)).astype(np.float16)
    np.save(good / "vectors.npy", right)
    for name, value in {
        "one-row.npy": right[:1],
        "more-rows.npy": np.concatenate([right, right]),
        "flat.npy": right.ravel(),
        "deep.npy": right[None],
        "nan.npy": np.where(np.arange(8) == 3, np.nan, right),
        "inf.npy": np.where(np.arange(8) == 3, np.inf, right),
        "huge.npy": np.full((n, 8), 1e308),
        "zeros.npy": np.zeros((n, 8)),
        "ints.npy": np.ones((n, 8), np.int64),
        "bools.npy": np.ones((n, 8), bool),
        "complex.npy": np.ones((n, 8), complex),
        "strings.npy": np.full((n, 8), "x"),
        "none.npy": np.zeros((0, 8)),
        "no-width.npy": np.zeros((n, 0)),
        "scalar.npy": np.float32(1),
        "fortran.npy": np.asfortranarray(right),
        "records.npy": np.zeros(n, [("a", "f4"), ("b", "i4")]),
        "dates.npy": np.zeros((n, 8), "M8[s]"),
    }.items():
        np.save(folder / name, value)
    np.save(folder / "objects.npy", np.full((n, 8), None), allow_pickle=True)
    np.savez(folder / "archive.npz", a=right)
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f2', 'fortran_order': False, 'shape': (%s, 8), }"
    for name, shape in {"absurd.npy": b"999999999999", "negative.npy": b"-1", "no-number.npy": b"x"}.items():
        (folder / name).write_bytes((header % shape).ljust(127) + b"\n" + right.tobytes())
    (folder / "text.npy").write_bytes(b"1,2,3\n")
    (folder / "empty.npy").write_bytes(b"")
