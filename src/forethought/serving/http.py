"""The paths of the service under FastAPI."""

# Annotations are values here: FastAPI reads those of the routes, whose names are imported inside a function.

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from forethought.errors import ForethoughtError, MissingExtraError
from forethought.serving.endpoints import Call, Endpoints, Handler
from forethought.serving.failures import RequestError, UnknownNameError
from forethought.serving.gate import Gate, body_from, error_reply
from forethought.serving.openapi import DOCS
from forethought.serving.service import Service
from forethought.serving.settings import Serving
from forethought.version import __version__

ROUTES: tuple[tuple[str, str, str, str], ...] = (
    ("POST", "/recommend", "recommend", "recommend"),
    ("POST", "/explain", "explain", "explain"),
    ("POST", "/similar", "similar", "similar"),
    ("GET", "/similar", "similar", "similar_query"),
    ("GET", "/items", "items", "items"),
    ("GET", "/models", "models", "models"),
    ("GET", "/models/{name}", "model", "model"),
    ("GET", "/lists", "lists", "lists"),
    ("PUT", "/lists/{name}", "put_list", "put_list"),
    ("DELETE", "/lists/{name}", "delete_list", "delete_list"),
    ("POST", "/events", "events", "events"),
    ("GET", "/health", "health", "health"),
    ("GET", "/ready", "ready", "ready"),
    ("GET", "/metrics", "metrics", "metrics"),
)
PAGES = (("/", "page"), ("/page/{name}", "page"))


def app_of(settings: Serving, service: Service | None = None) -> Any:
    """The application: FastAPI behind the gate. Without a service it makes its own when it starts.

    Raises:
        MissingExtraError: FastAPI is not installed.
    """
    try:
        from fastapi import FastAPI
    except ImportError as error:
        raise MissingExtraError("fastapi", "serve", "A service") from error
    service = service or Service(settings)
    endpoints = Endpoints(service)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(service.watch())
        service.log.info("ready", models=[model.name for model in service.models.all()])
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.to_thread(service.close)

    api = FastAPI(
        title="Forethought",
        version=__version__,
        description="Recommendations, and their reasons.",
        lifespan=lifespan,
        docs_url=None,  # they would come from another's address
        redoc_url=None,
        redirect_slashes=False,
    )

    answers = _Answers(service)
    for method, path, name, doc in ROUTES:
        most = settings.limits.list_bytes if name == "put_list" else settings.limits.body_bytes
        api.add_api_route(
            path,
            answers.route(getattr(endpoints, name), most),
            methods=[method],
            name=doc,
            summary=DOCS[doc].summary,
            openapi_extra=DOCS[doc].extra(),
        )
    pages = [(method, path, name) for path, name in PAGES for method in ("GET", "HEAD")]
    heads = [("HEAD", path, name) for method, path, name, _ in ROUTES if method == "GET"]
    for method, path, name in pages + heads:
        api.add_api_route(path, answers.route(getattr(endpoints, name), 0), methods=[method], include_in_schema=False)

    for status in (404, 405):
        api.add_exception_handler(status, answers.refused)
    app: Any = api
    if settings.cors:
        from fastapi.middleware.cors import CORSMiddleware

        allowed = ["content-type", "x-api-key", "authorization"]
        app = CORSMiddleware(
            app, allow_origins=list(settings.cors), allow_methods=["*"], allow_headers=allowed, max_age=600
        )
    names = frozenset(path.partition("/{")[0] for _, path, _, _ in ROUTES) | {"/page", "/openapi.json"}
    return Gate(app, settings, service.metrics, service.log, names)


class _Answers:
    """How endpoints become routes of FastAPI."""

    def __init__(self, service: Service) -> None:
        self.service, self.within_s = service, service.limits.slow_client_s

    def route(self, handler: Handler, most: int) -> Any:
        """A route that reads at most so many bytes."""
        from fastapi import Request, Response

        async def answer(request: Request) -> Response:
            try:
                body = b""
                if request.method in ("POST", "PUT"):
                    _check_kind(request.headers.get("content-type", ""))
                    body = await body_from(request.receive, most, self.within_s)
                reply = await handler(Call(body, request.path_params, request.query_params))
                return Response(reply.body(), status_code=reply.status, headers={"content-type": reply.kind})
            except Exception as error:
                return self.failed(request, error)

        return answer

    async def refused(self, request: Any, error: Any) -> Any:
        """For what no route takes."""
        if error.status_code == 405:
            return self.failed(request, MethodError(f"This address does not take {request.method}: see /openapi.json."))
        return self.failed(request, UnknownNameError("There is nothing under this address: see /openapi.json."))

    def failed(self, request: Any, error: Exception) -> Any:
        """One sentence for the client; where the fault is ours the log has all of it."""
        from fastapi import Response

        request_id = request.scope.get("request_id", "")
        if not isinstance(error, ForethoughtError):
            self.service.log.failure("failed", error, id=request_id, path=request.url.path)
        status, body, headers = error_reply(error, request_id)
        reply = Response(body, status_code=status, headers={"content-type": "application/json"})
        reply.raw_headers.extend(headers)
        return reply


def _check_kind(content_type: str) -> None:
    """A page of somebody else may have a browser send text, but not JSON without asking first."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise MediaTypeError("A body must be JSON: send it with Content-Type: application/json.")


class MediaTypeError(RequestError):
    """A body of another kind than JSON."""

    status = 415


class MethodError(RequestError):
    """A path that is asked in another way than it answers to."""

    status = 405
