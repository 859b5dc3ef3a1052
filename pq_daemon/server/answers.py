"""Answers of the API in the two forms it has: one value, or part of a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from pq_daemon.server.values import encoded

if TYPE_CHECKING:
    from collections.abc import Mapping


def json_answer(
    value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        status=status,
        body=encoded(value),
        content_type="application/json",
        headers=headers,
    )


def list_answer(items: list[dict[str, Any]], following: str | None = None) -> web.Response:
    return json_answer({"items": items, "next": following})
