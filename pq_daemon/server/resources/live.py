"""/ws: the door of the live hub. Who is signed in sees all; others what ops_public shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from pq_daemon.server.keys import ACCESS, HUB, SESSIONS, WHO
from pq_daemon.server.live_client import Client
from pq_daemon.server.problems import Problem
from pq_daemon.server.routing import get

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pq_daemon.server.access import Access
    from pq_daemon.server.sessions import Sessions

CLIENTS_MOST: Final = 2000
HEARTBEAT_S: Final = 20.0
MESSAGE_MOST: Final = 16 * 1024


async def connect(request: web.Request) -> web.StreamResponse:
    hub, asker = request.app[HUB], request[WHO]
    sight = "full" if asker.role else request.app[ACCESS].ops_public
    if sight == "off":  # the route's own check let this through only a moment ago
        raise Problem(401, "unauthorized", "sign in first")
    if len(hub) >= CLIENTS_MOST:
        headers = {"Retry-After": "10"}
        raise Problem(503, "too_many_clients", "too many live connections", headers=headers)
    ws = web.WebSocketResponse(
        heartbeat=HEARTBEAT_S, compress=False, max_msg_size=MESSAGE_MOST, timeout=5.0,
        writer_limit=32 * 1024,
    )  # fmt: skip
    transport = request.transport
    if transport is None or not ws.can_prepare(request).ok:
        raise Problem(400, "upgrade_needed", "this address speaks WebSocket only")
    await ws.prepare(request)
    cookie = request.cookies.get(request.app[SESSIONS].cookie_name) if asker.token_hash else None
    client = Client(ws, transport, sight, asker, cookie)
    with hub.joined(client):
        await hub.converse(client)
    return ws


def still_welcome(access: Access, sessions: Sessions) -> Callable[[Client], Awaitable[bool]]:
    """Return the question whether a client may still see what it sees."""

    async def ask(client: Client) -> bool:
        if client.cookie is not None:
            signed_in = await sessions.find(client.cookie, touch=False)
            return signed_in is not None
        if client.asker.role is not None:
            return True  # the control socket: its rights do not change while it is open
        return access.ops_public in {client.sight, "full"}

    return ask


ROUTES: Final = (get("/ws", connect, need="ops"),)
