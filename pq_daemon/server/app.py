"""Builds the aiohttp application: the table of all addresses, and what stands before them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pq_daemon.runtime.assets import asset_dir
from pq_daemon.server import guards, keys, static
from pq_daemon.server.access import Access
from pq_daemon.server.bodies import SIZE_MOST
from pq_daemon.server.doorman import Doorman
from pq_daemon.server.identity import Asker
from pq_daemon.server.live import Hub
from pq_daemon.server.live_topics import Topics
from pq_daemon.server.pages import job, login, manager, ops
from pq_daemon.server.pages.rendering import set_up
from pq_daemon.server.password_desk import PasswordDesk
from pq_daemon.server.queries import refuse_parameters
from pq_daemon.server.resources import (
    amending,
    attempts,
    audit,
    configuration,
    events,
    explaining,
    health,
    inspecting,
    jobs,
    live,
    now,
    processing,
    queues,
    watches,
)
from pq_daemon.server.sessions import Sessions
from pq_daemon.server.static import Assets
from pq_daemon.server.statistics import Statistics

if TYPE_CHECKING:
    from pq_daemon.config import Settings
    from pq_daemon.server.controls import Controls
    from pq_daemon.server.identity import SocketRights
    from pq_daemon.server.routing import Handler, Route
    from pq_daemon.store.protocol import Store

ROUTES: Final[tuple[Route, ...]] = (
    *manager.ROUTES,
    *job.ROUTES,
    *ops.ROUTES,
    *login.ROUTES,
    *static.ROUTES,
    *health.ROUTES,
    *jobs.ROUTES,
    *amending.ROUTES,
    *attempts.ROUTES,
    *queues.ROUTES,
    *watches.ROUTES,
    *processing.ROUTES,
    *explaining.ROUTES,
    *inspecting.ROUTES,
    *now.ROUTES,
    *events.ROUTES,
    *audit.ROUTES,
    *configuration.ROUTES,
    *live.ROUTES,
)


def build(
    settings: Settings, store: Store, controls: Controls, rights: SocketRights, port: int
) -> web.Application:
    """Build the application for one daemon."""
    app = web.Application(
        middlewares=[guards.door, guards.host, guards.origin, guards.identify(rights)],
        client_max_size=SIZE_MOST,
        handler_args={"auto_decompress": False},
    )
    app.on_response_prepare.append(guards.harden)
    _furnish(app, settings, store, controls, port)
    set_up(app, asset_dir("web") / "templates")
    for route in ROUTES:
        handler = guarded(route)
        if route.method == "GET":
            app.router.add_get(route.path, handler)  # and HEAD
        else:
            app.router.add_route(route.method, route.path, handler)
    return app


def _furnish(
    app: web.Application, settings: Settings, store: Store, controls: Controls, port: int
) -> None:
    access = Access(settings)
    sessions = Sessions(store, access, port)
    statistics = Statistics(store, controls)
    topics = Topics(store, controls, statistics)
    app[keys.STORE] = store
    app[keys.CONTROLS] = controls
    app[keys.ACCESS] = access
    app[keys.SESSIONS] = sessions
    app[keys.DOORMAN] = Doorman()
    app[keys.PASSWORDS] = PasswordDesk()
    app[keys.STATISTICS] = statistics
    app[keys.READINESS] = health.Readiness(store)
    app[keys.HUB] = Hub(store.feed, topics, live.still_welcome(access, sessions))
    app[keys.ASSETS] = Assets(asset_dir("web") / "static")
    app[keys.STOPPING] = asyncio.Event()


def guarded(route: Route) -> Handler:
    """Put a route's own rules before its handler: who may, and with which parameters."""

    async def handle(request: web.Request) -> web.StreamResponse:
        asker = request.get(keys.WHO, Asker())
        guards.insist(asker, route.need, request.app[keys.ACCESS].ops_public)
        if route.parameters is not None:
            refuse_parameters(request.query, route.parameters)
        return await route.handler(request)

    return handle
