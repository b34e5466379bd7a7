"""What is asked for in a body, checked key by key before anything is computed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

from forethought.data.times import YEAR_1990, YEAR_2100
from forethought.errors import nearest, shown
from forethought.serving.failures import RequestError, TooLargeError
from forethought.serving.settings import Limits
from forethought.settings import Second, described, fits

T = TypeVar("T")
Id = str | int
Unknown = Literal["drop", "error"]
Columns = Mapping[str, Any]
"""Conditions by the name of a column: a value, several values, or {"min": 5, "max": 20}."""


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """What may be recommended, of all items.

    Attributes:
        allow, deny: ids.
        allow_list, deny_list: names of registered lists.
        only_category, never_category: labels.
        where: conditions on columns of the items.
        forbid_tokens, only_tokens: pairs of a codebook and a token.
    """

    allow: list[Id] | None = None
    deny: list[Id] | None = None
    allow_list: str | None = None
    deny_list: str | None = None
    only_category: tuple[str, ...] = ()
    never_category: tuple[str, ...] = ()
    where: Columns | None = None
    forbid_tokens: tuple[tuple[int, int], ...] = ()
    only_tokens: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Question:
    """A request for recommendations or for an explanation.

    Attributes:
        histories: item ids, oldest first.
        times: Unix seconds beside each item.
        target: an item whose rank an explanation follows.
        user: who asks; decides which model answers where several share the work.
        deadline_ms: shorter than the service's own.
    """

    histories: list[list[Id]]
    k: int = 10
    times: list[list[int]] | None = None
    narrowing: Narrowing = Narrowing()
    exclude_history: bool | None = None
    unknown: Unknown = "drop"
    explain: bool = False
    target: Id | None = None
    model: str | None = None
    user: Id | None = None
    deadline_ms: float | None = None


@dataclass(frozen=True)
class Event:
    """Something that a user did.

    Attributes:
        time: Unix seconds; None: now.
        kind: such as click or purchase.
        model: whose recommendation it was.
    """

    user: Id
    item: Id
    time: int | None = None
    kind: str = "click"
    model: str | None = None


def body_of(text: bytes) -> dict[str, Any]:
    """The object in a body of JSON.

    Raises:
        RequestError: it is no JSON, or no object, or names a key twice.
    """
    try:
        value = json.loads(text, parse_constant=_no_number, object_pairs_hook=_each_once)
    except RecursionError:
        raise RequestError("The body is nested too deeply to be read: give one that is flat.") from None
    except ValueError as error:
        reason = str(error).split(":")[0].rstrip(".")
        raise RequestError(f"The body is no JSON ({shown(reason)}): see /openapi.json for examples.") from None
    if not isinstance(value, dict):
        raise RequestError(f"The body is {_kind(value)}, but must be an object of JSON: see /openapi.json.")
    return value


NARROWING = frozenset(field.name for field in fields(Narrowing))
RECOMMEND = NARROWING | {
    *("history", "histories", "k", "times", "exclude_history", "unknown"),
    *("explain", "model", "user", "deadline_ms"),
}
EXPLAIN = NARROWING | {"history", "k", "times", "exclude_history", "unknown", "target", "model", "user", "deadline_ms"}


def question_of(body: dict[str, Any], limits: Limits, *, explaining: bool = False) -> Question:
    """What a body asks for.

    Raises:
        RequestError: a key is unknown, missing, of the wrong kind or out of its range.
        TooLargeError: there are more histories or items than are taken.
    """
    _known_keys(body, EXPLAIN if explaining else RECOMMEND)
    histories, times = _histories(body, limits), body.get("times")
    if "history" in body and times is not None:
        times = [times]
    explain = explaining or _checked(body, "explain", bool, False)
    if explain and len(histories) > limits.explained:
        raise TooLargeError(
            f"At most {limits.explained} histories are explained at once, and there are {len(histories)}: ask in parts."
        )
    k = body.get("k", 5 if explaining else 10)
    if not fits(k, int) or k < 1:
        raise RequestError(f"k is {as_json(k)}, but must be a whole number from 1 to {limits.k:,}.")
    if k > limits.k:
        raise TooLargeError(f"k is {as_json(k)}, but at most {limits.k:,} items are listed.")
    return Question(
        histories=histories,
        k=k,
        times=None if times is None else _times(times, histories),
        narrowing=_narrowing(body, limits),
        exclude_history=_checked(body, "exclude_history", bool | None, None),
        unknown=_checked(body, "unknown", Unknown, "drop"),
        explain=explain,
        target=_checked_by(body, "target", lambda value: value is None or _is_id(value), "an id"),
        model=_checked(body, "model", str | None, None),
        user=_checked_by(body, "user", lambda value: value is None or _is_id(value), "an id"),
        deadline_ms=_deadline(body, limits),
    )


def events_of(body: dict[str, Any], limits: Limits) -> list[Event]:
    """The events in a body.

    Raises:
        RequestError: there are none, or one is not as it should be.
        TooLargeError: there are too many.
    """
    _known_keys(body, {"events"})
    events = body.get("events")
    if not isinstance(events, list) or not events:
        raise RequestError('events must be a list such as [{"user": "u1", "item": "i1"}].')
    if len(events) > limits.history:
        raise TooLargeError(f"At most {limits.history:,} events are taken at once, and there are {len(events):,}.")
    return [_event(event, place) for place, event in enumerate(events)]


def ids_of(body: dict[str, Any], limits: Limits) -> list[Id]:
    """The ids of a list that is registered.

    Raises:
        RequestError, TooLargeError: likewise.
    """
    _known_keys(body, {"items"})
    if "items" not in body:
        raise RequestError('The body has no items: give {"items": ["i1", "i2"]}.')
    return _ids(body["items"], "items", limits.list_ids)


def _event(event: Any, place: int) -> Event:
    if not isinstance(event, dict):
        raise RequestError(f'Event {place} is {_kind(event)}, but must be an object such as {{"user": 1, "item": 2}}.')
    _known_keys(event, {field.name for field in fields(Event)}, f"Event {place}")
    for key in ("user", "item"):
        if not _is_id(event.get(key)) or event[key] == "":
            raise RequestError(f"Event {place} has no {key}, which is text or a whole number, and not empty.")
    time = event.get("time")
    if time is not None and not (fits(time, int) and YEAR_1990 <= time < YEAR_2100):  # else it is read in another unit
        raise RequestError(
            f"Event {place} has the time {as_json(time)}, which is no moment from 1990 to 2099: give Unix seconds, "
            "such as 1700000000."
        )
    checks: dict[str, Any] = {"kind": str, "model": str | None}
    chosen = {key: _checked(event, key, hint, getattr(Event, key)) for key, hint in checks.items()}
    if not chosen["kind"]:
        raise RequestError(f"Event {place} has an empty kind: give a word, such as click, or leave kind out.")
    if any(isinstance(word, str) and len(word) > 256 for word in (*event.values(),)):
        raise TooLargeError(f"Event {place} has a text of more than 256 characters.")
    return Event(event["user"], event["item"], time, **chosen)


def as_json(value: Any) -> str:
    """A value as whoever asks has written it, text as our sentences have it; what is longer than a line is cut."""
    if isinstance(value, str):
        return shown(value)
    try:
        text = json.dumps(value)
    except RecursionError:
        return f"{_kind(value)} too deep to show"
    return text if len(text) <= 80 else f"{text[:80]}..."


def _histories(body: dict[str, Any], limits: Limits) -> list[list[Id]]:
    if ("history" in body) == ("histories" in body):
        raise RequestError('Give either history, such as ["i1", "i2"], or histories, a list of such lists.')
    if "history" in body:
        return [_ids(body["history"], "history", limits.history)]
    rows = body["histories"]
    if not isinstance(rows, list) or not rows:
        raise RequestError('histories must be a list of lists of ids, such as [["i1", "i2"]].')
    if len(rows) > limits.histories:
        raise TooLargeError(f"At most {limits.histories} histories are taken at once, and there are {len(rows)}.")
    return [_ids(row, f"history {place}", limits.history) for place, row in enumerate(rows)]


def _ids(values: Any, name: str, most: int) -> list[Id]:
    if not isinstance(values, list):
        raise RequestError(f'{name} is {_kind(values)}, but must be a list of ids such as ["i1", "i2"].')
    if len(values) > most:
        raise TooLargeError(f"{name} has {len(values):,} ids, but at most {most:,} are taken.")
    for value in values:
        if not _is_id(value):
            raise RequestError(f"{name} has {as_json(value)} in it, but ids are text or whole numbers.")
    return values


def _times(times: Any, histories: list[list[Id]]) -> list[list[int]]:
    if not isinstance(times, list) or len(times) != len(histories):
        raise RequestError("times must hold Unix seconds beside each history, in lists as the histories are.")
    for place, (row, history) in enumerate(zip(times, histories, strict=True)):
        if not isinstance(row, list) or len(row) != len(history):
            raise RequestError(f"The times of history {place} must be a list of {len(history)} Unix seconds.")
        if not all(fits(second, Second) for second in row):
            raise RequestError(f"The times of history {place} are not all whole numbers: give Unix seconds.")
    return times


def _narrowing(body: dict[str, Any], limits: Limits) -> Narrowing:
    if NARROWING.isdisjoint(body):
        return Narrowing()
    ids = {key: None if body.get(key) is None else _ids(body[key], key, limits.list_ids) for key in ("allow", "deny")}
    where = body.get("where")
    if where is not None and (not isinstance(where, dict) or not where):
        raise RequestError('where must be an object by column, such as {"brand": "Acme", "price": {"max": 20}}.')
    return Narrowing(
        **ids,
        allow_list=_checked(body, "allow_list", str | None, None),
        deny_list=_checked(body, "deny_list", str | None, None),
        only_category=_labels(body, "only_category"),
        never_category=_labels(body, "never_category"),
        where=where,
        forbid_tokens=_tokens(body, "forbid_tokens"),
        only_tokens=_tokens(body, "only_tokens"),
    )


def _labels(body: dict[str, Any], name: str) -> tuple[str, ...]:
    value = body.get(name)
    labels = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels) or len(labels) > 1000:
        raise RequestError(f"{name} must be the name of a category, or a list of names.")
    return tuple(dict.fromkeys(labels))


def _tokens(body: dict[str, Any], name: str) -> tuple[tuple[int, int], ...]:
    value = body.get(name)
    pairs = [] if value is None else value
    if not isinstance(pairs, list) or len(pairs) > 1000 or not all(_is_pair(pair) for pair in pairs):
        raise RequestError(f"{name} must be a list of pairs of a codebook and a token, such as [[3, 17]].")
    return tuple(dict.fromkeys((book, token) for book, token in pairs))


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(type(part) is int for part in pair)


def _deadline(body: dict[str, Any], limits: Limits) -> float | None:
    asked = body.get("deadline_ms")
    if asked is None:
        return None
    if not isinstance(asked, int | float) or isinstance(asked, bool) or not 1 <= asked <= limits.deadline_ms:
        raise RequestError(f"deadline_ms is {as_json(asked)}, but must be a number from 1 to {limits.deadline_ms:g}.")
    return float(asked)


def _checked(body: Mapping[str, Any], key: str, hint: Any, otherwise: T) -> T:
    if key not in body:
        return otherwise
    if not fits(body[key], hint):
        what = described(hint).replace("True or False", "true or false").replace("None", "null")
        raise RequestError(f"{key} is {as_json(body[key])}, but must be {what}.")
    return body[key]


def _checked_by(body: Mapping[str, Any], key: str, good: Callable[[Any], bool], what: str) -> Any:
    if not good(body.get(key)):
        raise RequestError(f"{key} is {as_json(body[key])}, but must be {what}.")
    return body.get(key)


def _known_keys(body: Mapping[str, Any], known: set[str] | frozenset[str], name: str = "The body") -> None:
    for key in body:
        if key not in known:
            raise RequestError(f"{name} has a key {shown(key)} that is not known.{nearest(key, known)}")


def _is_id(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))


def _kind(value: Any) -> str:
    kinds = {list: "a list", dict: "an object", str: "text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held = dict(pairs)
    if len(held) < len(pairs):
        keys = [key for key, _ in pairs]
        doubled = next(key for key in keys if keys.count(key) > 1)
        raise RequestError(f"The body has the key {shown(doubled)} twice in one object: give it once.")
    return held


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")
