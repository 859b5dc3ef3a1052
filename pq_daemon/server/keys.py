"""What hangs in the application and on a request, each under one typed key."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from pq_daemon.server.access import Access
    from pq_daemon.server.controls import Controls
    from pq_daemon.server.doorman import Doorman
    from pq_daemon.server.identity import Asker
    from pq_daemon.server.live import Hub
    from pq_daemon.server.password_desk import PasswordDesk
    from pq_daemon.server.resources.health import Readiness
    from pq_daemon.server.sessions import Sessions
    from pq_daemon.server.static import Assets
    from pq_daemon.server.statistics import Statistics
    from pq_daemon.store.protocol import Store

STORE: Final[web.AppKey[Store]] = web.AppKey("store")
CONTROLS: Final[web.AppKey[Controls]] = web.AppKey("controls")
ACCESS: Final[web.AppKey[Access]] = web.AppKey("access")
SESSIONS: Final[web.AppKey[Sessions]] = web.AppKey("sessions")
DOORMAN: Final[web.AppKey[Doorman]] = web.AppKey("doorman")
READINESS: Final[web.AppKey[Readiness]] = web.AppKey("readiness")
PASSWORDS: Final[web.AppKey[PasswordDesk]] = web.AppKey("passwords")
STATISTICS: Final[web.AppKey[Statistics]] = web.AppKey("statistics")
HUB: Final[web.AppKey[Hub]] = web.AppKey("hub")
ASSETS: Final[web.AppKey[Assets]] = web.AppKey("assets")
STOPPING: Final[web.AppKey[asyncio.Event]] = web.AppKey("stopping", asyncio.Event)

WHO: Final[web.RequestKey[Asker]] = web.RequestKey("who")
