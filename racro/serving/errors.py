"""What a client is told when a request fails: OpenAI's error object, an HTTP status, and nothing about this machine."""

from __future__ import annotations

import re
from typing import Any

PLACES = re.compile(r"[a-z][a-z0-9+.-]*://\S+|(?<![\w\\])~?/[\w.+-]+(?:/[\w.+-]*)+")
"""Addresses and paths of files. One slash between words or numbers is none."""


class ApiError(Exception):
    """A request that gets no answer, and why."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """`kind`, `param` and `code` are OpenAI's `type`, `param` and `code`; `retry_after` is in seconds."""
        super().__init__(message)
        self.status, self.kind, self.param, self.code, self.retry_after = status, kind, param, code, retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The JSON that every OpenAI client understands."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to the status."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return headers | {401: {"WWW-Authenticate": "Bearer"}, 408: {"Connection": "close"}}.get(self.status, {})


def invalid(message: str, param: str | None = None, code: str | None = None, status: int = 400) -> ApiError:
    """The request is wrong; the same request will fail again."""
    return ApiError(status, public(message), param=param, code=code)


def busy(waiting: int) -> ApiError:
    """The queue is full. About a second for each request that waits."""
    seconds = max(1, min(60, waiting))
    message = f"{waiting} requests are waiting already; try again in {seconds} s"
    return ApiError(429, message, kind="rate_limit_error", code="queue_full", retry_after=seconds)


def unavailable(message: str, code: str, retry_after: int = 5) -> ApiError:
    """The server cannot answer now; the same request may succeed later."""
    return ApiError(503, public(message), kind="server_error", code=code, retry_after=retry_after)


def internal() -> ApiError:
    """Something that nobody foresaw."""
    return ApiError(500, "the server failed; its log says why", kind="server_error", code="internal_error")


def too_late(seconds: float) -> ApiError:
    """The time limit of a request is over."""
    message = f"no answer within {seconds:g} s; ask for less (max_tokens), or again when the server has less to do"
    return ApiError(504, message, kind="server_error", code="timeout")


def public(text: str) -> str:
    """One line without addresses and paths of this machine."""
    return PLACES.sub("...", " ".join(text.split()))
