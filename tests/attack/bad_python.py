"""The library called wrongly: settings of every wrong sort in every configuration, arguments of every wrong sort."""

from __future__ import annotations

import dataclasses
import json
import math
import traceback
import typing
from collections.abc import Callable
from types import UnionType
from typing import Any

from attack import calls
from attack.bad_calls import Group, data_calls, evaluate_calls, recommend_calls, short, train_calls
from attack.calls import Call
from attack.cases import Case
from attack.ground import Lane, changed, outside, summed
from attack.verdict import Verdict, crash, faults_of, plain

KIND = "Python"
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 10**6, 2**31, 2**63, 2**64, 10**400, 1.5, 0.5, -0.5, 1e308, -1e308, 5e-324),
    *(math.nan, math.inf, -math.inf, "", "x", "1", "auto", "\x1b[31m", b"x", [], [1], (1, 2), {}, {1}, 1j, object, len),
)


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
                _sentence(str(error), f"{cls.__name__}({field}={short(value)})")
            except Exception:
                _tell(f"{cls.__name__}(...): {crash(traceback.format_exc())}", f"{field}={short(value)}")
            else:
                if not _fits(hint, value):
                    said = f"{cls.__name__}({field}={short(value)}), but it is declared as {_named(hint)}"
                    _tell(f"{cls.__name__}(...) takes settings that are of another type, or no finite number", said)

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


def _called(lane: Lane, group: Group) -> Verdict:
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
    for said in summed(changed(before, outside(lane, ("out",)), lane.root)):
        verdict.add(f"beside what it was told to write: {said}")
    return verdict
