"""Calls of the library with mistakes that people make: other types, other ranges, paths where objects are meant."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Asked = tuple[str, Callable[[], Any], bool]
"""What is asked, in words; the call; whether it must be refused."""
Group = Callable[[], Iterator[Asked]]


def short(value: Any) -> str:
    """A value in few printable characters; a number of hundreds of digits by its size."""
    big = isinstance(value, int) and abs(value) > 2**64
    text = f"{'-' if value < 0 else ''}2**{value.bit_length()}" if big else repr(value)
    return ascii(text)[1:-1][:60]


def _each(name: str, call: Callable[..., Any], wrong: Mapping[str, tuple[Any, ...]], fine: str = "") -> Iterator[Asked]:
    """Every argument with every value; those named in `fine` may succeed."""
    for argument, values in wrong.items():
        for value in values:
            yield f"{name}({argument}={short(value)})", lambda a=argument, v=value: call(**{a: v}), argument not in fine


def recommend_calls() -> Iterator[Asked]:
    import numpy as np
    import polars as pl

    import forethought as ft

    model, timed, good = ft.load("run"), ft.load("hstu"), ["i00001", "i00002"]
    must: dict[str, Any] = {
        **{f"histories={short(value)}": value for value in (None, 1, "i1", b"x", [[]], [None], [1], ["i00001"])},
        "a set of histories": {("i00001",)},
        "a set for a history": [{"i00001", "i00002"}],
        "a frozenset for a history": [frozenset(good)],
        "a dict for a history": [{"i00001": 1}],
    }
    may: dict[str, Any] = {
        "no history": [],
        "None among items": [["i00001", None]],
        "a list among items": [[["i00001"]]],
        "numbers for text": [[1, 2]],
        "nan among items": [[math.nan]],
        "an array": np.array([["i00001"]]),
        "an array of numbers": np.array([[1.5]]),
        "a series": pl.Series([["i00001"]]),
        "bytes": [[b"i00001"]],
        "a surrogate": [["\ud800"]],
    }
    for name, value in {**must, **may}.items():
        yield f"recommend, {name}", lambda v=value: model.recommend(v), name in must
        yield f"recommend dropping, {name}", lambda v=value: model.recommend(v, unknown="drop"), name in must
    wrong: dict[str, tuple[Any, ...]] = {
        "k": (0, -1, 1.5, True, None, "3", math.nan, [1]),
        "exclude_history": ("no", "yes", 0, 1, [], math.nan),
        "unknown": ("x", None, 1, True),
        "halting": ("arh", "fixed", {}, 1),
    }
    lists: dict[str, tuple[Any, ...]] = {
        "allow": ("i00001", ["nobody"], [None], [["i00001"]], [1.5], 1),
        "deny": ("i00001", ["nobody"], [None], [["i00001"]], [1.5], 1),
    }
    yield from _each("recommend", lambda **given: model.recommend([good], **given), wrong | lists, fine="allow deny")
    yield from _each("explain", lambda **given: model.explain(good, **given), wrong)
    yield "recommend(k=2**63)", lambda: model.recommend([good], k=2**63), False
    for value in (None, "x", [], [[]], [["x", "y"]], [[1.5, 2]], [[1]], [[None, 1]], [[2**63, 1]], [[math.nan, 1]], 1):
        yield f"recommend(times={short(value)}) of hstu", lambda v=value: timed.recommend([good], times=v), True
    for folder in ("", "missing", "shop", "/", "\0", "run/config.json", Path("missing")):
        yield f"load({folder!r})", lambda folder=folder: ft.load(folder), True


def evaluate_calls() -> Iterator[Asked]:
    import forethought as ft

    model, data = ft.load("run"), ft.read("shop")
    split, other = ft.leave_last_out(data), ft.temporal(data, valid_from=0.8, test_from=0.9)
    wrong: dict[str, tuple[Any, ...]] = {
        "part": ("x", None, 1, "train"),
        "exclude_history": ("no", 1),
        "batch": (0, -1, 1.5, True, None, "x"),
        "resamples": (0, -1, 1.5, None, "x", True),
        "seed": (-1, 1.5, "x", None, True),
        "halting": ("arh", "fixed", {}),
        "noise": ("replace", 0.2),
        "sample": (100, "x"),
        "lists": ("no",),
    }
    yield from _each("evaluate", lambda **given: ft.evaluate(model, split, ft.EvaluationConfig(**given)), wrong)
    yield "evaluate, a dict for its configuration", lambda: ft.evaluate(model, split, {"part": "test"}), True  # type: ignore[arg-type]
    yield "evaluate another split", lambda: ft.evaluate(model, other), True
    yield "evaluate, a path for a split", lambda: ft.evaluate(model, "shop"), True  # type: ignore[arg-type]
    yield "evaluate a shop", lambda: ft.evaluate("shop", split), True


def data_calls() -> Iterator[Asked]:
    import numpy as np
    import polars as pl

    import forethought as ft

    sources = (None, 1, [], {}, "", "\0", "missing.csv", "*", Path("missing"), np.zeros(3), pl.Series([1]), b"x")
    for value in sources:
        name = type(value).__name__ if isinstance(value, np.ndarray | pl.Series) else short(value)
        yield f"read({name})", lambda v=value: ft.read(v), True
        yield f"diagnose({name})", lambda v=value: ft.diagnose(v), False
        yield f"embed({name})", lambda v=value: ft.embed(v, model="encoder"), True
    for text in ("", " ", "\0", "missing.csv", "*", "SELECT", "COPY (SELECT 1) TO 'owned'"):
        yield f"sql({text!r})", lambda text=text: ft.sql(text), True
    for folder in ("", "\0", "missing", "shop", Path("missing"), "/"):
        yield f"open_prepared({folder!r})", lambda folder=folder: ft.open_prepared(folder), True
    columns = ("user", "item", "time", "position")
    wrong: dict[str, tuple[Any, ...]] = dict.fromkeys(columns, ("x", "", 1, True, math.nan, ["user_id"], "\0"))
    wrong |= {"items": ("x", "", 1, "\0"), "name": ("", 1, "\0"), "minimum_rating": ("x", math.nan, True)}
    yield from _each("read", lambda **given: ft.read("shop", **given), wrong, fine="name")
    data = ft.read("shop")
    moments = (None, -1, 0, 1, 2, 1.5, math.nan, math.inf, "", "x", "2020-13-01", [], True, 10**400)
    for name in ("valid_from", "test_from"):
        for value in moments:
            given = {"valid_from": 0.8, "test_from": 0.9, name: value}
            yield f"temporal({name}={short(value)})", lambda g=given: ft.temporal(data, **g), False
    wrong = {"ties": ("x", None, True), "seed": (-1, 1.5, "x", None, True)}
    yield from _each("leave_last_out", lambda **given: ft.leave_last_out(data, **{"ties": "shuffle", **given}), wrong)
    yield "leave_last_out, a path for data", lambda: ft.leave_last_out("shop"), True  # type: ignore[arg-type]
    yield "compare one", lambda: ft.compare({"a": ft.Evaluation.read("run")}), True
    yield "compare paths", lambda: ft.compare({"a": "run", "b": "hstu"}), True  # type: ignore[dict-item]


def train_calls() -> Iterator[Asked]:
    import forethought as ft

    split, small = ft.leave_last_out(ft.read("shop")), ft.SASRec(width=8, layers=1, heads=2, window=6)
    wrong: dict[str, tuple[Any, ...]] = {
        "method": (None, "sasrec", ft.SASRec, ft.Training()),
        "split": ("shop",),
        "out": ("\0", "shop/interactions.parquet/x"),
        "training": ("x", {}, {"epochs": 1}, ft.Training),
        "seed": (-1, 1.5, "x", None, True, 2**64, 2**128),
        "exclude_history": ("no", 1, []),
        "noise": ("replace", 0.2, {}),
        "resume": ("no",),
        "overwrite": ("no",),
        "track": ("x", ["x"], 1),
    }
    settings = {"method", "training", "seed", "exclude_history", "noise"}

    def call(given: dict[str, Any]) -> None:
        recipe = {name: value for name, value in given.items() if name in settings}
        ft.train(ft.Recipe(**recipe), **{name: value for name, value in given.items() if name not in settings})

    for argument, values in wrong.items():
        for n, value in enumerate(values):
            given = {"method": small, "split": split, "out": f"out/{argument}{n}", "training": ft.Training(epochs=1)}
            yield f"train({argument}={short(value)})", lambda g=given, a=argument, v=value: call(g | {a: v}), True
    for value in (None, "sasrec", ft.SASRec, ft.Training()):
        yield f"train({short(value)})", lambda v=value: ft.train(v, split, "out/bare"), True
