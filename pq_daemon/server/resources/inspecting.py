"""/check and /doctor: what the daemon finds around it, with its own rights and in its sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pq_daemon.server.answers import list_answer
from pq_daemon.server.keys import CONTROLS
from pq_daemon.server.routing import get

if TYPE_CHECKING:
    from aiohttp import web


async def check(request: web.Request) -> web.Response:
    return list_answer(await request.app[CONTROLS].check())


async def doctor(request: web.Request) -> web.Response:
    return list_answer(await request.app[CONTROLS].diagnose())


ROUTES: Final = (get("/check", check, need="operator"), get("/doctor", doctor, need="manager"))
