"""The server's life: its sockets are bound first, then it serves; it stops in the opposite order.

    async with serve(settings, store, controls) as server: ...

Stopping has limits: no new connections, the live ones are told 1012, long polls and requests that
run have some seconds, then everything is closed.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pq_daemon.config.socket import socket_path
from pq_daemon.runtime.periodic import periodically
from pq_daemon.server import keys, listening
from pq_daemon.server.app import build
from pq_daemon.server.identity import SocketRights
from pq_daemon.server.statistics import SAMPLE_EVERY_S

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pq_daemon.config import Settings
    from pq_daemon.server.controls import Controls
    from pq_daemon.store.protocol import Store

log = logging.getLogger(__name__)

SHUTDOWN_S: Final = 3.0
KEEPALIVE_S: Final = 15.0
"""How long a connection may idle, and how long a request's head may take."""

HEAD_MOST: Final = 8190
HEADERS_MOST: Final = 64


@dataclass(frozen=True, slots=True)
class Server:
    """A server that listens. `url` is where the pages are; None without TCP."""

    app: web.Application
    url: str | None
    socket: Path
    port: int

    def configure(self, settings: Settings) -> None:
        """Put a reload's users, hosts and ops_public in force; whoever lost their rights is out."""
        self.app[keys.ACCESS].configure(settings)
        self.app[keys.HUB].doubt()


@asynccontextmanager
async def serve(
    settings: Settings, store: Store, controls: Controls, *, tcp: bool = True
) -> AsyncIterator[Server]:
    """Serve pages, API and live hub until the block ends.

    Raises:
        ListenError: an address cannot be listened on; nothing is left bound then.

    """
    with ExitStack() as doors:
        group = listening.group_number(settings.server.socket_group)
        found = []
        if tcp:
            found = await asyncio.to_thread(listening.tcp_sockets, settings.server.listen)
            for door in found:
                doors.callback(door.close)
        path = socket_path(settings)
        found.append(doors.enter_context(listening.unix_socket(path, group)))
        port = found[0].getsockname()[1] if tcp else 0
        rights = SocketRights(settings.daemon.state_dir.stat().st_uid, group)
        app = build(settings, store, controls, rights, port)
        async with _serving(app, found):
            server = Server(app, _url(found[0]) if tcp else None, path, port)
            log.info("server listens", extra={"url": server.url, "socket": str(path)})
            yield server


@asynccontextmanager
async def _serving(app: web.Application, found: list[socket.socket]) -> AsyncIterator[None]:
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=SHUTDOWN_S,
        keepalive_timeout=KEEPALIVE_S,
        lingering_time=2.0,
        max_line_size=HEAD_MOST,
        max_field_size=HEAD_MOST,
        max_headers=HEADERS_MOST,
    )
    async with asyncio.TaskGroup() as tasks, app[keys.HUB].running():
        sampling = tasks.create_task(
            periodically(app[keys.STATISTICS].sample, every=SAMPLE_EVERY_S, name="statistics")
        )
        await runner.setup()
        try:
            sites = [web.SockSite(runner, door, backlog=listening.BACKLOG) for door in found]
            for site in sites:
                await site.start()
            yield
            app[keys.STOPPING].set()
            for site in sites:
                await site.stop()
            await app[keys.HUB].say_goodbye()
        finally:
            app[keys.STOPPING].set()
            await runner.cleanup()
            sampling.cancel()


def _url(door: socket.socket) -> str:
    host, port = door.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
