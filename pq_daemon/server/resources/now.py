"""/consumers and /stats: what runs at this moment, and the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pq_daemon.server import values
from pq_daemon.server.answers import json_answer, list_answer
from pq_daemon.server.keys import CONTROLS, HUB, STATISTICS
from pq_daemon.server.routing import get

if TYPE_CHECKING:
    from aiohttp import web


async def consumers(request: web.Request) -> web.Response:
    return list_answer([values.consumer(slot) for slot in request.app[CONTROLS].slots()])


async def stats(request: web.Request) -> web.Response:
    summary = await request.app[STATISTICS].summary()
    return json_answer({**summary, "clients": len(request.app[HUB])})


ROUTES: Final = (get("/consumers", consumers), get("/stats", stats))
