"""A route says who may use it and which parameters it knows; what it does not say is refused.

Every address of the daemon is in such a table, so nothing is open by having been forgotten.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Need = Literal["nobody", "ops", "viewer", "operator", "manager"]
"""`nobody`: no login. `ops`: a viewer, or as far as ops_public allows, anybody."""

API: Final = "/api/v1"


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    handler: Handler
    need: Need
    parameters: frozenset[str] | None = frozenset()
    """Query parameters it knows; None: the page looks for itself."""


def get(path: str, handler: Handler, *parameters: str, need: Need = "viewer") -> Route:
    return Route("GET", API + path, handler, need, frozenset(parameters))


def post(path: str, handler: Handler, need: Need) -> Route:
    return Route("POST", API + path, handler, need)


def patch(path: str, handler: Handler, need: Need) -> Route:
    return Route("PATCH", API + path, handler, need)


def delete(path: str, handler: Handler, need: Need) -> Route:
    return Route("DELETE", API + path, handler, need)


def page(path: str, handler: Handler, need: Need = "viewer") -> Route:
    return Route("GET", path, handler, need, None)


def form(path: str, handler: Handler, need: Need) -> Route:
    return Route("POST", path, handler, need, None)
