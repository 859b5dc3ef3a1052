"""/healthz: the process answers. /readyz: it can do its work. For probes, without login."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from pq_daemon.errors import StoreError
from pq_daemon.jobs.status import WatchState
from pq_daemon.server.answers import json_answer
from pq_daemon.server.keys import CONTROLS, READINESS
from pq_daemon.server.problems import Problem
from pq_daemon.server.routing import Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from pq_daemon.server.controls import Controls
    from pq_daemon.store.protocol import Store

ASK_EVERY_S: Final = 1.0


class Readiness:
    """Whether the store takes writes, asked once a second however many probes come."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._asked_at = float("-inf")
        self._trouble = ""

    async def trouble(self) -> str:
        if self._clock() - self._asked_at >= ASK_EVERY_S:
            self._asked_at = self._clock()
            try:
                await self._store.healthy()
                self._trouble = ""
            except StoreError as error:
                self._trouble = str(error)
        return self._trouble


async def healthz(_request: web.Request) -> web.Response:
    return json_answer({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    trouble = _phase_or_watches(request.app[CONTROLS])
    if not trouble and await request.app[READINESS].trouble():
        trouble = "the store does not take writes"
    if trouble:
        raise Problem(503, "not_ready", trouble, headers={"Retry-After": "5"})
    return json_answer({"status": "ready"})


def _phase_or_watches(controls: Controls) -> str:
    if controls.phase != "running":
        return f"the daemon is {controls.phase}"
    watches = controls.watches()
    if watches and all(watch.state is WatchState.MISSING for watch in watches):
        return "no watched directory is there"
    return ""


ROUTES: Final = (
    Route("GET", "/healthz", healthz, "nobody", None),
    Route("GET", "/readyz", readyz, "nobody", None),
)
