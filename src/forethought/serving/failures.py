"""Why a request is not answered: a status of HTTP, and one sentence."""

from __future__ import annotations

from forethought.errors import ForethoughtError


class RequestError(ForethoughtError):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        retry_after_s: when to try again; None where that would change nothing.
    """

    status = 400
    retry_after_s: int | None = None


class UnknownNameError(RequestError):
    """A model, a list or a page that is not there."""

    status = 404


class TooLargeError(RequestError):
    """A body, a list or a number beyond what the service takes."""

    status = 413


class OverloadedError(RequestError):
    """More requests wait than may."""

    status = 503

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"The service has more to do than it can: try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class ExpiredError(RequestError):
    """The answer would have come after the deadline."""

    status = 504

    def __init__(self, deadline_ms: float) -> None:
        super().__init__(f"The answer was not ready within {deadline_ms:g} ms: ask for less, or allow more time.")
