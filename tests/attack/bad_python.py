"""The library called wrongly: settings of every wrong sort in every configuration, arguments of every wrong sort."""

from __future__ import annotations

import dataclasses
import json
import math
import traceback
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any

from attack import calls
from attack.calls import Call
from attack.cases import Case
from attack.ground import Lane, changed, outside
from attack.verdict import Verdict, crash, faults_of, plain

KIND = "Python"
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 10**6, 2**31, 2**63, 2**64, 10**400, 1.5, 0.5, -0.5, 1e308, -1e308, 5e-324),
    *(math.nan, math.inf, -math.inf, "", "x", "1", "auto", "\x1b[31m", b"x", [], [1], (1, 2), {}, {1}, 1j, object, len),
)
Asked = Callable[[Any], Any]


def cases() -> list[Case]:
    made = [
        Case(KIND, f"{cls.__name__}.{field.name}", lambda lane, c=cls, f=field.name: _settings(lane, c, f), always=True)
        for cls in configurations()
        for field in dataclasses.fields(cls)
        if field.init
    ]
    groups = {"recommend": recommend_calls, "evaluate": evaluate_calls, "data": data_calls, "train": train_calls}
    return made + [
        Case(KIND, name, lambda lane, g=group: _called(lane, g), always=True) for name, group in groups.items()
    ]


def configurations() -> list[type]:
    """All frozen dataclasses that people write in Python, and those inside them."""
    import forethought as ft
    from forethought import config
    from forethought.data.prepare import Filters
    from forethought.data.splits import SplitConfig
    from forethought.evaluation.sampled import Sample

    found: dict[str, type] = {}
    public = [getattr(ft, name) for name in ft.__all__ if name[0].isupper()]
    todo = [*config.TYPES.values(), config.RunConfig, SplitConfig, Filters, Sample, *public]
    todo = [cls for cls in todo if dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen]  # type: ignore[attr-defined]
    while todo:
        cls = todo.pop(0)
        if cls.__name__ not in found and _made(cls, {}) is not None:
            found[cls.__name__] = cls
            hints = typing.get_type_hints(cls)
            todo += [inner for hint in hints.values() for inner in (hint, *typing.get_args(hint)) if _is_config(inner)]
    return list(found.values())


def _is_config(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


NEEDED = {"RunConfig": lambda: {"method": _made_of("NextItem")}, "Sample": lambda: {"negatives": 3}}


def _made_of(name: str) -> Any:
    import forethought as ft

    return getattr(ft, name)()


def _made(cls: type, settings: dict[str, Any]) -> Any:
    """One with some settings; None where it cannot be made without others."""
    try:
        return cls(**{**NEEDED.get(cls.__name__, dict)(), **settings})
    except TypeError:
        return None


def _settings(lane: Lane, cls: type, field: str) -> Verdict:
    """Each value is refused in a sentence, or fits what the field is declared to be."""
    hint = typing.get_type_hints(cls)[field]

    def ask() -> None:
        from forethought.errors import ForethoughtError

        for value in VALUES:
            try:
                cls(**{**NEEDED.get(cls.__name__, dict)(), field: value})
            except ForethoughtError as error:
                _sentence(str(error), f"{cls.__name__}({field}={_short(value)})")
            except Exception:
                _tell(f"{cls.__name__}({field}=...): {crash(traceback.format_exc())}", _short(value))
            else:
                if not _fits(hint, value):
                    _tell(f"{cls.__name__}({field}=...) takes what is no {_named(hint)}", _short(value))

    return _asked(lane, ask, len(VALUES))


def _fits(hint: Any, value: Any) -> bool:
    if _is_config(hint) or (
        typing.get_origin(hint) in (typing.Union, UnionType) and _is_config(typing.get_args(hint)[0])
    ):
        return dataclasses.is_dataclass(value) or (value is None and type(None) in typing.get_args(hint))
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(hint).validate_python(value, strict=True)
    except ValidationError:
        return False
    return not isinstance(value, float) or math.isfinite(value)


def _named(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint)).replace("typing.", "")


def _called(lane: Lane, group: Callable[[], Iterator[tuple[str, Callable[[], Any], bool]]]) -> Verdict:
    """Each call ends well or in a ForethoughtError, and those that must not end well do not."""

    def ask() -> None:
        from forethought.errors import ForethoughtError

        n = 0
        for name, do, must_fail in group():
            n += 1
            try:
                do()
            except ForethoughtError as error:
                _sentence(str(error), name)
            except Exception:
                _tell(f"{name}: {crash(traceback.format_exc())}", traceback.format_exc())
            else:
                if must_fail:
                    _tell(f"{name}: accepted, but must be refused")
        print(json.dumps({"asked": n}))

    return _asked(lane, ask, 0)


def _sentence(text: str, what: str) -> None:
    if "\n" in text or not text.rstrip().endswith((".", "?", "!")):
        _tell(f"no sentence: {plain(text)}", what)


def _tell(headline: str, detail: str = "") -> None:
    print(json.dumps({"headline": headline, "detail": detail}))


def _short(value: Any) -> str:
    text = f"{'-' if value < 0 else ''}10**{len(str(abs(value))[:400]) - 1}" if _is_big(value) else repr(value)
    return ascii(text)[1:-1][:60]


def _is_big(value: Any) -> bool:
    return isinstance(value, int) and abs(value) > 2**64


def _asked(lane: Lane, ask: Callable[[], None], n: int) -> Verdict:
    """Carry out in a child, which prints what is wrong."""
    lane.clear()
    lane.take("shop", "prep", ("runs/dtrec", "run"), "runs/hstu", "histories.parquet")
    before = outside(lane, ("out",))
    outcome = calls.run(Call(python=ask, limit_s=120), lane)
    verdict = Verdict(counts={"wrong calls from Python": n})
    verdict.faults += list(faults_of(outcome))
    for line in outcome.out.splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if "asked" in told:
            verdict.counts["wrong calls from Python"] += told["asked"]
        elif "headline" in told:
            verdict.add(told["headline"], told["detail"])
    for said in changed(before, outside(lane, ("out",)), lane.root):
        verdict.add(f"beside what it was told to write: {said}")
    return verdict


def recommend_calls() -> Iterator[tuple[str, Callable[[], Any], bool]]:
    import numpy as np
    import polars as pl

    import forethought as ft

    model, timed, good = ft.load("run"), ft.load("hstu"), ["i00001", "i00002"]
    histories: dict[str, Any] = {
        **{
            f"histories={_short(value)}": value
            for value in (None, 1, "i1", b"x", [], [[]], {}, [None], [1], ["i00001"])
        },
        "histories of text": ["i00001"],
        "a set of histories": {("i00001",)},
        "a set for a history": [{"i00001", "i00002"}],
        "a dict for a history": [{"i00001": 1}],
        "a frozenset for a history": [frozenset(good)],
        "None among items": [["i00001", None]],
        "a list among items": [[["i00001"]]],
        "numbers for text": [[1, 2]],
        "nan among items": [[math.nan]],
        "an array": np.array([["i00001"]]),
        "an array of numbers": np.array([[1.5]]),
        "a series": pl.Series([["i00001"]]),
        "a generator": (each for each in [good]),
        "bytes": [[b"i00001"]],
        "a surrogate": [["\ud800"]],
    }
    refused = {"a set for a history", "a frozenset for a history", "a set of histories", "a dict for a history"}
    for name, value in histories.items():
        yield f"recommend, {name}", lambda value=value: model.recommend(value), name in refused
        yield f"recommend dropping, {name}", lambda value=value: model.recommend(value, unknown="drop"), name in refused
    arguments: dict[str, tuple[Any, ...]] = {
        "k": (0, -1, 1.5, True, None, "3", 2**63, math.nan, [1]),
        "exclude_history": ("no", "yes", 0, 1, [], math.nan),
        "allow": (1, "i00001", ["nobody"], [None], [["i00001"]], b"x", [1.5], {1: 2}),
        "deny": (1, "i00001", ["nobody"], [None], [["i00001"]], b"x"),
        "unknown": ("x", None, 1, True),
        "halting": ("x", 1, {}, []),
        "times": (1, "x"),
    }
    fine = {("allow", "i00001"), ("deny", "i00001")}
    for argument, values in arguments.items():
        for value in values:
            must = argument != "times" and (argument, value if isinstance(value, str) else 0) not in fine
            call = lambda a=argument, v=value: model.recommend([good], **{a: v})  # noqa: E731
            yield (
                f"recommend({argument}={_short(value)})",
                call,
                must and argument in ("k", "exclude_history", "unknown"),
            )
            yield (
                f"explain({argument}={_short(value)})",
                lambda a=argument, v=value: model.explain(good, **{a: v}),
                False,
            )
    for value in (None, 1, "x", [], [[]], [["x", "y"]], [[1.5, 2]], [[1]], [[None, 1]], [[2**63, 1]], [[math.nan, 1]]):
        yield f"recommend(times={_short(value)}) of hstu", lambda v=value: timed.recommend([good], times=v), True
    for folder in (None, 1, "", "missing", "shop", "/", "\0", "run/config.json", b"run"):
        yield f"load({folder!r})", lambda folder=folder: ft.load(folder), True  # type: ignore[arg-type]


def evaluate_calls() -> Iterator[tuple[str, Callable[[], Any], bool]]:
    import forethought as ft

    model = ft.load("run")
    split, other = ft.leave_last_out(ft.read("shop")), ft.temporal(ft.read("shop"), valid_from=0.8, test_from=0.9)
    arguments: dict[str, tuple[Any, ...]] = {
        "part": ("x", None, 1, "train"),
        "exclude_history": ("no", 1),
        "batch": (0, -1, 1.5, True, None, "x"),
        "resamples": (0, -1, 1.5, None, "x", True),
        "seed": (-1, 1.5, "x", None, True),
        "halting": ("x", 1),
        "noise": ("x", 1),
        "sample": ("x", 1),
        "lists": ("no",),
    }
    for argument, values in arguments.items():
        for value in values:
            call = lambda a=argument, v=value: ft.evaluate(model, split, **{a: v})  # noqa: E731
            yield f"evaluate({argument}={_short(value)})", call, (argument, value) != ("halting", None)
    yield "evaluate another split", lambda: ft.evaluate(model, other), True
    for value in (None, "shop", 1):
        yield f"evaluate(split={value!r})", lambda v=value: ft.evaluate(model, v), True
        yield f"evaluate(run={value!r})", lambda v=value: ft.evaluate(v, split), True


def data_calls() -> Iterator[tuple[str, Callable[[], Any], bool]]:
    import numpy as np
    import polars as pl

    import forethought as ft

    for value in (
        None,
        1,
        b"x",
        [],
        {},
        "",
        "\0",
        "missing.csv",
        "*",
        object(),
        Path("missing"),
        np.zeros(3),
        pl.Series([1]),
    ):
        yield f"read({_short(value)})", lambda v=value: ft.read(v), True
        yield f"diagnose({_short(value)})", lambda v=value: ft.diagnose(v), False
        yield f"sql({_short(value)})", lambda v=value: ft.sql(v), True
        yield f"open_prepared({_short(value)})", lambda v=value: ft.open_prepared(v), True
        yield f"embed({_short(value)})", lambda v=value: ft.embed(v, model="encoder"), True
    for argument in ("user", "item", "time", "position", "items", "name", "minimum_rating", "cache"):
        for value in ("x", "", 1, True, [], b"x", math.nan, "\0"):
            if argument != "cache" or value != "x":
                yield f"read({argument}={_short(value)})", lambda a=argument, v=value: ft.read("shop", **{a: v}), False
    data = ft.read("shop")
    for name in ("valid_from", "test_from"):
        for value in (None, -1, 0, 1, 2, 1.5, math.nan, math.inf, "", "x", "2020-13-01", [], True, 10**400):
            given = {"valid_from": 0.8, "test_from": 0.9, name: value}
            yield f"temporal({name}={_short(value)})", lambda g=given: ft.temporal(data, **g), False
    for name in ("ties", "seed", "targets"):
        for value in ("x", -1, 1.5, None, True, []):
            yield (
                f"leave_last_out({name}={_short(value)})",
                lambda n=name, v=value: ft.leave_last_out(data, **{n: v}),
                False,
            )
    for value in (None, 1, "shop", []):
        yield f"leave_last_out({_short(value)})", lambda v=value: ft.leave_last_out(v), True
        yield f"leakage({_short(value)})", lambda v=value: ft.leakage(v), True
        yield f"compare({_short(value)})", lambda v=value: ft.compare(v), True


def train_calls() -> Iterator[tuple[str, Callable[[], Any], bool]]:
    import forethought as ft

    split, small = ft.leave_last_out(ft.read("shop")), ft.SASRec(width=8, layers=1, heads=2, window=6)
    quick = ft.Training(epochs=1)
    arguments: dict[str, tuple[Any, ...]] = {
        "method": (None, "sasrec", 1, ft.SASRec, ft.Training()),
        "split": (None, "shop", 1),
        "out": (None, 1, "\0", "shop/interactions.parquet/x"),
        "training": ("x", 1, {}, ft.Training),
        "seed": (-1, 1.5, "x", None, True, 2**64, 2**128),
        "exclude_history": ("no", 1, []),
        "noise": ("x", 1, {}),
        "resume": ("no",),
        "overwrite": ("no",),
        "track": ("x", ["x"], 1, None),
    }
    for argument, values in arguments.items():
        for value in values:
            given = {"method": small, "split": split, "out": f"out/{argument}{_short(value)[:20]}".replace("/x", "x")}
            given |= {"training": quick, argument: value}
            yield f"train({argument}={_short(value)})", lambda g=given: ft.train(**g), True
