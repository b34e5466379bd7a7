"""What the service is asked over HTTP: paths, what they take, and the answers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from forethought.data.vocabulary import IdKind
from forethought.errors import nearest, shown
from forethought.serving import requests
from forethought.serving.failures import RequestError, TooLargeError, UnknownNameError
from forethought.serving.page_files import PAGE_FILES, page_file
from forethought.serving.requests import NARROWING, Id, body_of
from forethought.serving.run_report import report_of
from forethought.serving.service import Service

LONG_BODY = 100_000  # bytes that are parsed beside the loop, so that others do not wait for it
WHOLE = re.compile("-?[0-9]{1,24}")


@dataclass(frozen=True)
class Call:
    """A request as it came: parts of its path, its query and its body."""

    body: bytes = b""
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """An answer: a value for JSON, or text of another kind."""

    value: Any = None
    status: int = 200
    text: bytes | None = None
    kind: str = "application/json"

    def body(self) -> bytes:
        """As it is sent; ASCII alone, so that no text of others is anything but text."""
        if self.text is not None:
            return self.text
        return json.dumps(self.value, separators=(",", ":"), allow_nan=False).encode()


Handler = Callable[[Call], Awaitable[Reply]]


class Endpoints:
    """The paths of a service."""

    def __init__(self, service: Service) -> None:
        self.service, self.limits = service, service.limits

    async def recommend(self, call: Call) -> Reply:
        body = await _parsed(call.body)
        return Reply(await self.service.recommend(requests.question_of(body, self.limits)))

    async def explain(self, call: Call) -> Reply:
        body = await _parsed(call.body)
        return Reply(await self.service.explain(requests.question_of(body, self.limits, explaining=True)))

    async def similar(self, call: Call) -> Reply:
        """By a body, or by a query, whose ids are read as the model's are."""
        if call.body:
            body = await _parsed(call.body)
        else:
            _known(call.query, {"item", "k", "model"})
            body: dict[str, Any] = dict(call.query)
            body["k"] = _whole(call.query, "k", 10)
            if "item" in body:
                model = await asyncio.to_thread(self.service.models.alike, call.query.get("model"))
                body["item"] = typed_id(call.query["item"], model.run.items.kind)
        if not isinstance(body.get("item"), str | int) or isinstance(body["item"], bool):
            raise RequestError('Name an item, such as {"item": "i1"}: text or a whole number.')
        _known(body, {"item", "k", "model", *NARROWING})
        question = requests.question_of(
            {"history": [], **{key: value for key, value in body.items() if key != "item"}}, self.limits
        )
        return Reply(await self.service.similar(body["item"], question.k, question.model, question.narrowing))

    async def items(self, call: Call) -> Reply:
        _known(call.query, {"q", "k", "model"})
        words, k = call.query.get("q", ""), _whole(call.query, "k", 20)
        if len(words) > 200 or k > self.limits.k:
            raise TooLargeError(f"A search takes at most 200 characters and lists at most {self.limits.k} items.")
        return Reply(await self.service.search(words, k, call.query.get("model")))

    async def models(self, call: Call) -> Reply:
        return Reply(self.service.state())

    async def model(self, call: Call) -> Reply:
        """One model, with the figures of its run and what is known of its data."""
        model = self.service.models.named(call.path["name"])
        place = self.service.models.place(model.name)
        return Reply(model.about() | await asyncio.to_thread(report_of, model, place.folder))

    async def lists(self, call: Call) -> Reply:
        return Reply({"lists": self.service.lists.names()})

    async def put_list(self, call: Call) -> Reply:
        ids = requests.ids_of(await _parsed(call.body), self.limits)
        await asyncio.to_thread(self.service.lists.register, call.path["name"], ids)
        return Reply({"list": call.path["name"], "items": len(ids)})

    async def delete_list(self, call: Call) -> Reply:
        self.service.lists.remove(call.path["name"])
        return Reply({"list": call.path["name"], "items": 0})

    async def events(self, call: Call) -> Reply:
        body = await _parsed(call.body)
        return Reply({"kept": await self.service.keep(requests.events_of(body, self.limits))})

    async def health(self, call: Call) -> Reply:
        return Reply({"status": "alive"})

    async def ready(self, call: Call) -> Reply:
        ready = self.service.ready
        return Reply({"status": "ready" if ready else "stopping"}, status=200 if ready else 503)

    async def metrics(self, call: Call) -> Reply:
        text, kind = await asyncio.to_thread(self.service.metrics.text)
        return Reply(text=text, kind=kind)

    async def page(self, call: Call) -> Reply:
        name = call.path.get("name", "index.html")
        if name not in PAGE_FILES:
            raise UnknownNameError(f"There is no page {shown(name)}.")
        return Reply(text=page_file(name), kind=PAGE_FILES[name])


async def _parsed(body: bytes) -> dict[str, Any]:
    return body_of(body) if len(body) < LONG_BODY else await asyncio.to_thread(body_of, body)


def typed_id(word: str, kind: IdKind) -> Id:
    """An id of a query, which has text only, as the model's ids are."""
    return int(word) if kind == "integer" and WHOLE.fullmatch(word) else word


def _known(query: Mapping[str, Any], known: set[str]) -> None:
    for key in query:
        if key not in known:
            raise RequestError(f"There is no parameter {shown(key)}.{nearest(key, known)}")


def _whole(query: Mapping[str, str], key: str, otherwise: int) -> int:
    word = query.get(key, str(otherwise))
    if not (word.isascii() and word.isdecimal() and 0 < len(word) < 10 and int(word) > 0):
        raise RequestError(f"{key} is {shown(word)}, but must be a whole number of at least 1.")
    return int(word)
