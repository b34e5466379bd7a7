"""What every request passes before and after it is answered: key, size, pace, figures, log, and no traceback.

Plain ASGI, around the application.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from forethought.errors import ForethoughtError
from forethought.files import short_of_memory
from forethought.serving.failures import OverloadedError, RequestError, TooLargeError
from forethought.serving.metrics import Metrics
from forethought.serving.service_log import ServiceLog
from forethought.serving.settings import Serving

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = ("/health", "/ready", "/")  # without a key, as the files of the page are, which hold no data
COSTLY = ("/recommend", "/explain", "/similar", "/items", "/events")  # what is refused under overload
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
]
JSON_HEADERS = [(b"content-type", b"application/json")]


def error_body(sentence: str) -> bytes:
    """An error as JSON, on one line."""
    return json.dumps({"error": " ".join(sentence.split())}).encode()


class Gate:
    """The application, guarded."""

    def __init__(
        self, app: App, settings: Serving, metrics: Metrics, log: ServiceLog, endpoints: frozenset[str]
    ) -> None:
        self.app, self.settings, self.metrics, self.log, self.endpoints = app, settings, metrics, log, endpoints
        self.key = settings.api_key.encode() if settings.api_key else None
        self.running = 0
        self.refused = {path: metrics.requests.labels(path, "503") for path in COSTLY}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.running >= self.settings.limits.requests and scope["path"] in COSTLY:
            self.refused[scope["path"]].inc()
            await send(BUSY_START)
            await send(BUSY_BODY)
            return
        begin = time.monotonic()
        headers = dict(scope["headers"])
        asked_id = headers.get(b"x-request-id", b"")
        request_id = asked_id if REQUEST_ID.fullmatch(asked_id) else secrets.token_hex(8).encode()
        scope["request_id"] = request_id.decode()
        costly = scope["path"] in COSTLY
        self.running += costly
        status = 0

        async def answering(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *HEADERS, (b"x-request-id", request_id)]
            await send(message)

        try:
            self._check(scope, headers)
            await self.app(scope, receive, answering)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, ForethoughtError):
                self.log.failure("failed", error, id=request_id.decode(), path=scope["path"])
            if not status:  # else the answer has begun, and breaks off
                await respond(answering, *error_reply(error, request_id.decode()))
        finally:
            self.running -= costly
            self._count(scope, status, begin, request_id)

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        length = headers.get(b"content-length", b"0")
        most = self.settings.limits.list_bytes if scope["path"].startswith("/lists/") else None
        most = most or self.settings.limits.body_bytes
        if length.isdigit() and (len(length) > 18 or int(length) > most):
            raise TooLargeError(f"The body is larger than the {most:,} bytes that are taken: send less at once.")
        asks_first = scope["method"] == "OPTIONS" and self.settings.cors  # a browser, which sends no key with that
        if asks_first or self.key is None or scope["path"] in OPEN or scope["path"].startswith("/page/"):
            return
        given = headers.get(b"x-api-key", b"")
        bearer = headers.get(b"authorization", b"")
        if bearer[:7].lower() == b"bearer ":
            given = bearer[7:].strip()
        if not hmac.compare_digest(given, self.key):
            raise KeyMissingError("This service asks for a key: send it as X-API-Key, or as Authorization: Bearer.")

    def _count(self, scope: Scope, status: int, begin: float, request_id: bytes) -> None:
        path = scope["path"]
        endpoint = next((each for each in self.endpoints if path == each or path.startswith(f"{each}/")), "other")
        took = time.monotonic() - begin
        self.metrics.requests.labels(endpoint, str(status)).inc()
        if endpoint in ("/recommend", "/explain", "/similar"):
            self.metrics.stages["total"].observe(took)
        self.log.request(
            id=request_id.decode(), method=scope["method"], path=path[:200], status=status, ms=round(1000 * took, 2)
        )


BUSY = error_body(str(OverloadedError(1)))
BUSY_START = {
    "type": "http.response.start",
    "status": 503,
    "headers": [*JSON_HEADERS, (b"content-length", str(len(BUSY)).encode()), (b"retry-after", b"1"), *HEADERS],
}
BUSY_BODY = {"type": "http.response.body", "body": BUSY}
"""Ready beforehand: under overload little time is left to say so."""


class KeyMissingError(RequestError):
    """The key is missing, or another one."""

    status = 401


class TooSlowError(RequestError):
    """A body did not come in time."""

    status = 408


async def body_from(receive: Receive, most: int, within_s: float) -> bytes:
    """The body of a request.

    Raises:
        TooLargeError: it is larger than that.
        TooSlowError: it did not come in time, or whoever sent it has left.
    """

    async def collected() -> bytes:
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise TooSlowError("The body ended before it was whole: send it again.")
            size += len(message.get("body", b""))
            if size > most:
                raise TooLargeError(f"The body is larger than the {most:,} bytes that are taken: send less at once.")
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(parts)

    try:
        return await asyncio.wait_for(collected(), within_s)
    except TimeoutError:
        raise TooSlowError(f"The body did not come within {within_s:g} s: send it faster.") from None


def error_reply(error: BaseException, request_id: str) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Status, body and headers of an error: one sentence, and nothing of how the service is made."""
    status, headers = 500, []
    sentence = f"The service failed over this request; its log says more, under {request_id}."
    if isinstance(error, ForethoughtError):
        status, sentence = getattr(error, "status", 400), str(error)
        if retry_after_s := getattr(error, "retry_after_s", None):
            headers.append((b"retry-after", str(retry_after_s).encode()))
    elif isinstance(error, Exception) and short_of_memory(error):
        status, sentence = 503, "The service has no memory left for this: ask for less, or try again later."
    if status in (408, 413):
        headers.append((b"connection", b"close"))  # what else comes of the body is not waited for
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return status, error_body(sentence), headers


async def respond(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """Send a whole answer of JSON."""
    sized = [*JSON_HEADERS, (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": sized})
    await send({"type": "http.response.body", "body": body})
