"""What goes wrong, as the asker reads it: problem+json (RFC 9457) for programs, a page for people.

The `code` is stable and is what programs look at; the words are for people. Nothing of our inside
is told: an error nobody expected has a trace id here and its traceback in the log.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from pq_daemon.config.problems import ConfigurationError
from pq_daemon.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PqError,
    StoreError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS: Final[tuple[tuple[type[PqError], int], ...]] = (
    (NotFoundError, 404),
    (ConflictError, 409),
    (InvalidRequestError, 400),
    (ConfigurationError, 422),
    (StoreError, 503),
)
CODES: Final = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    413: "too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    500: "internal",
    503: "unavailable",
}
DISK_FULL: Final = "disk_full"
RETRY_AFTER_S: Final = "5"


class Problem(Exception):
    """An answer that is not what was asked for. Raised anywhere, written once, at the door."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra = extra

    @property
    def title(self) -> str:
        return HTTPStatus(self.status).phrase

    def response(self) -> web.Response:
        body = {
            "type": f"urn:pq-daemon:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            **self.extra,
        }
        return web.Response(
            status=self.status,
            body=json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace"),
            content_type="application/problem+json",
            headers=self.headers,
        )


def from_pq(error: PqError) -> Problem:
    """Translate an error of the house."""
    if error.code == DISK_FULL:
        return Problem(507, error.code, str(error))
    status = next((status for kind, status in KINDS if isinstance(error, kind)), 500)
    headers = {"Retry-After": RETRY_AFTER_S} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    extra = {"errors": problem_list(error)} if isinstance(error, ConfigurationError) else {}
    return Problem(status, error.code, str(error), headers=headers, **extra)


def from_http(error: web.HTTPException) -> Problem:
    """Translate what aiohttp itself raises: unknown routes and methods, bodies that are too big."""
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    code = CODES.get(error.status, "refused")
    detail = DETAILS.get(error.status, HTTPStatus(error.status).phrase)
    return Problem(error.status, code, detail, headers=headers)


def problem_list(error: ConfigurationError) -> list[dict[str, Any]]:
    return [
        {
            "key": problem.key,
            "line": problem.line,
            "found": problem.found,
            "allowed": problem.allowed,
            "hint": problem.hint,
        }
        for problem in error.problems
    ]


DETAILS: Final = {
    404: "there is nothing at this address",
    405: "this address does not know that method",
    413: "the body is larger than is taken here",
}
