"""Malformed options: every option of every verb with values of every wrong sort, and words in the wrong places."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Sequence
from importlib.util import find_spec

from attack import attempts, calls, fixtures
from attack.calls import Call, Outcome
from attack.cases import Case, some
from attack.ground import Lane, own
from attack.verdict import Verdict

KIND = "options"
OPTION = re.compile(r"^[│\s]*(?:-\w, )?(--[a-zA-Z][\w.-]*)((?:, --[\w.-]+)*)\s*(\S?.*)$", re.MULTILINE)
VALUES = (
    *("", " ", "x", "ü日\u202e", "\udcff", "a\nb", "\x1b[31mred", "[/]", "x" * 3_000, "none", "null", "true", "'"),
    *("-1", "0", "1", "2", "00", "+1", "1_000", "٣", "0x10", "1.5", "0.5", "1e3", "-0.0", "1,2", "1 2", "[]", "{}"),
    *("2147483648", "-2147483649", "9223372036854775808", "1" + "0" * 40, "1e308", "-1e308", "1e-320"),
    *("inf", "-inf", "nan", "--", "-", "=", "*", "?", "[a]"),
)
PLACES = (
    *(".", "..", "shop", "shop/interactions.parquet", "missing/deep/er", "shop/interactions.parquet/x", "run"),
    *(
        "/dev/null",
        "/dev/full",
        "/dev/stdin",
        "/proc/self/mem",
        "/etc/passwd",
        "/",
        "~",
        "fifo",
        "null",
        "loop",
        "dangling",
    ),
    *(
        "nul\0byte",
        "x" * 300,
        "sql:",
        "sql: SELECT",
        "sql: COPY (SELECT 1) TO 'owned.txt'",
        "s3://",
        "file:///etc/passwd",
    ),
)
PLACED = {
    "--out",
    "--data",
    "--items",
    "--input",
    "--picture",
    "--story",
    "--results",
    "--runs",
    "--texts",
    "--encoder-run",
}
PLACED |= {"--model", "--allow", "--deny", "--from", "--features", "--evidence"}
ENDLESS = ("--epochs", "--encoder-epochs", "--reinforcement.epochs")
SLOW = {"--compile", "--no-compile"}  # a compiler of its own, minutes a run
FLAGS = (
    "--json",
    "--quiet",
    "--overwrite",
    "--resume",
    "--approximate",
    "--noise-curve",
    "--across-noise",
    "--strict-lists",
    "--evidence-gate",
)

BASES: dict[str, tuple[str, ...]] = {
    "simulate": ("simulate", "--out", "out", *fixtures.SHOP),
    "doctor": ("doctor", "shop"),
    "prepare": ("prepare", "shop", "--out", "out"),
    "evaluate": ("evaluate", "run", "--data", "shop", "--resamples", "20"),
    "compare": ("compare", "a=run", "b=seed1"),
    "recommend": ("recommend", "run", "--history", "i00001", "--k", "3"),
    "recommend table": ("recommend", "run", "--input", "histories.parquet", "--out", "out.parquet"),
    "explain": ("explain", "run", "--history", "i00001,i00002"),
    "study": (
        *("study", "hps", "--only", "dtrec", "--data", "shop", "--results", "results", "--runs", "runs", "--quiet"),
    ),
    "tokenize": (*("tokenize", "--data", "shop", "--out", "out", "--codebooks", "2", "--size", "4", "--epochs", "1"),),
    "embed": ("embed", "shop/items.parquet", "--model", "encoder", "--out", "out.npy"),
}
OUTPUTS = ("out", "out.parquet", "out.npy", "results", "runs", "run/metrics.json", "run/per_user.parquet")
WRITTEN = ("run/README.md", "run/exactindex.bin", "run", "shop/item_text_embeddings.npy")

ALWAYS = {
    "simulate": (
        *[("--interactions-per-user", value) for value in ("nan", "inf", "1e308", "-1")],
        *[
            (name, value)
            for name in ("--items", "--seed", "--users")
            for value in ("9223372036854775808", "2147483648")
        ],
        ("--noise", "nan"),
    ),
    "train sasrec": (
        *[
            (name, value)
            for name in ("--checkpoint-every-s", "--clip-norm", "--weight-decay", "--learning-rate")
            for value in ("inf", "nan")
        ],
        *[
            ("--window", "1000000000"),
            ("--rounds", "2147483648"),
            ("--layers", "2147483648"),
            ("--width", "2147483648"),
        ],
        ("--out", "out[0.003]"),
        ("--tie-seed", "3"),
        *[
            ("--evidence", value)
            for value in ("text", "price", "auto,text", "repeat,repeat", "x.npy", "run/model.safetensors", "other.npy")
        ],
        ("--evidence-fit", "training"),
    ),
    "train dtrec": (("--base-weight", "1e308"), ("--evidence-fit", "validation")),
    "train rearec-prl": (("--temperature_scale", "1e308"),),
    "doctor": (("SOURCE", "sql:"), ("SOURCE", "sql: COPY (SELECT 1) TO 'owned.txt'"), ("SOURCE", "fifo")),
    "prepare": (("--k-core", "-1 5"), ("--tie-seed", "3"), ("SOURCE", "fifo"), ("--name", "../../x")),
    "recommend table": (("--out", "."), ("--out", "fifo"), ("--input", "fifo"), ("--out", "null")),
    "compare": (("--out", "fifo.json"), ("--out", "null.json"), ("--metric", "x"), ("--seed", "-1")),
}


def cases(lane: Lane, n: int, seed: int) -> list[Case]:
    """About n of all that can be said wrongly, half of them to `train`."""
    verbs = {name: words for name, words in BASES.items() if name != "embed" or find_spec("sentence_transformers")}
    verbs |= {f"train {method}": tuple(fixtures.train(method, "out")) for method in fixtures.methods()}
    trains, others = [], _misplaced(verbs)
    for name, words in verbs.items():
        made = trains if name.startswith("train") else others
        always = ALWAYS.get(name, ())
        made += [_case(name, words, option, value, always=True) for option, value in always]
        for option in _options(lane, words):
            values = VALUES + (PLACES if option in PLACED | {"SOURCE"} else ())
            if option not in SLOW:
                made += [_case(name, words, option, value) for value in values if (option, value) not in always]
    return some(others, n // 2, seed) + some(trains, n - n // 2, seed)


def _options(lane: Lane, words: Sequence[str]) -> list[str]:
    """All that the verb's help names, and the words that stand without a name."""
    lane.clear()
    asked = [*words[:2], "--help"] if words[0] in ("train", "study") else [words[0], "--help"]
    outcome = calls.run(Call(asked, env={"COLUMNS": "300"}), lane)
    found = {first for first, _, _ in OPTION.findall(outcome.out)} - {"--help"}
    if not found:
        raise RuntimeError(f"The help of {words[0]} names no options: {outcome.out[-500:]} {outcome.err[-500:]}")
    return [*sorted(found), "SOURCE"] if words[0] not in ("simulate", "train", "study") else sorted(found)


def _case(name: str, words: Sequence[str], option: str, value: str, *, always: bool = False) -> Case:
    given = _replaced(words, option, value)
    outputs = [*OUTPUTS, *WRITTEN]
    if option in ("--out", "--results", "--runs", "--picture") and value and "\0" not in value:
        outputs.append(value)
    if option == "SOURCE":
        outputs.append(f"{value}/item_text_embeddings.npy")
    return attempts.case(
        KIND,
        f"{name} {option}={ascii(value)[1:-1][:60]}",
        given,
        prepare=_take,
        outputs=outputs,
        always=always,
        check=_special,
        endless=option in ENDLESS,
        may_connect=option == "--model" and value not in PLACES,
        limit_s=8.0 if option in ENDLESS else calls.LIMIT_S,
    )


def _replaced(words: Sequence[str], option: str, value: str) -> tuple[str, ...]:
    """The words with another value for an option, or with one more; SOURCE is the first that has no name."""
    if option == "SOURCE":
        return (words[0], value, *words[2:])
    if option in words:
        at = words.index(option)
        return (*words[: at + 1], *_parts(option, value), *words[at + (1 if option in FLAGS else 2) :])
    return (*words, option, *_parts(option, value))


def _parts(option: str, value: str) -> tuple[str, ...]:
    return tuple(value.split(" ")) if option == "--k-core" and value.strip() else (value,)


def _misplaced(verbs: dict[str, tuple[str, ...]]) -> list[Case]:
    """Options without a value, given twice, unknown, abbreviated; words too many and too few."""
    made = []
    for name, words in verbs.items():
        named = [word for word in words if word.startswith("--")]
        bent = {
            "nothing at all": words[:1],
            "no value": (*words, named[0]) if named else words[:1],
            "unknown option": (*words, "--no-such-option"),
            "unknown option with a value": (*words, "--no-such-option=1"),
            "misspelt option": (*words, f"{named[0][:-1]}z") if named else words[:1],
            "a word too many": (*words, "word"),
            "two dashes": (*words, "--"),
            "one dash": (*words, "-"),
            "a short option": (*words, "-z"),
            "a bad byte": (*words, "--\udcff"),
            "an escape": (*words, "--\x1b[31m"),
            "twice": (*words, *words[-2:]),
            "thousands of words": (*words, *("x",) * 5_000),
        }
        made += [
            attempts.case(KIND, f"{name}, {what}", given, prepare=_take, outputs=[*OUTPUTS, *WRITTEN])
            for what, given in bent.items()
        ]
    for words in (
        (),
        ("",),
        ("trian",),
        ("--no",),
        ("\udcff",),
        ("x" * 5_000,),
        ("train",),
        ("train", "sasrek"),
        ("study",),
        ("study", "x"),
    ):
        made.append(attempts.case(KIND, f"forethought {ascii(' '.join(words))[1:-1][:50]}", words, prepare=_take))
    for name in ("", "x", "../x", "ml-1", "\udcff", "list/../x", "http://127.0.0.1:1/x"):
        made.append(attempts.case(KIND, f"download {ascii(name)[1:-1]}", ("download", name, "--out", "out")))
    return made


SPECIAL = {"fifo": stat.S_ISFIFO, "fifo.json": stat.S_ISFIFO, "null": stat.S_ISCHR, "null.json": stat.S_ISCHR}


def _take(lane: Lane) -> None:
    lane.take("shop", "histories.parquet", ("runs/dtrec", "run"), "runs/seed1", "encoder")
    for name in SPECIAL:
        with contextlib.suppress(PermissionError):  # only root makes devices
            if name.startswith("null"):
                os.mknod(lane.case / name, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            else:
                os.mkfifo(lane.case / name)
            own(lane.case / name)
    for name, target in (("loop", "loop"), ("dangling", "nowhere")):
        (lane.case / name).symlink_to(target)
        own(lane.case / name)


def _special(lane: Lane, outcome: Outcome, verdict: Verdict) -> None:
    """Pipes and devices are written to or refused, never replaced."""
    for name, is_still in SPECIAL.items():
        path = lane.case / name
        if path.exists() and not is_still(path.stat().st_mode):
            verdict.add("a special file was replaced", f"{name}: {outcome.err}")
