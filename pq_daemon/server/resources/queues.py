"""/queues: how each line stands; pause, resume, and how many of it may run at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pq_daemon.errors import InvalidRequestError, NotFoundError
from pq_daemon.jobs.model import QueueName
from pq_daemon.server import values
from pq_daemon.server.answers import json_answer, list_answer
from pq_daemon.server.bodies import json_object
from pq_daemon.server.keys import STORE, WHO
from pq_daemon.server.resources.jobs import reason_in
from pq_daemon.server.routing import get, patch, post

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from pq_daemon.store.protocol import QueueRecord

CONCURRENCY_MOST: Final = 1024


async def index(request: web.Request) -> web.Response:
    return list_answer([values.queue(record) for record in await request.app[STORE].queues()])


async def show(request: web.Request) -> web.Response:
    return json_answer(values.queue(await known(request)))


async def known(request: web.Request) -> QueueRecord:
    """Return the queue of the address.

    Raises:
        NotFoundError: there is none.

    """
    name = request.match_info["name"]
    for record in await request.app[STORE].queues():
        if record.name == name:
            return record
    raise NotFoundError(f'no queue "{name}"')


async def pause(request: web.Request) -> web.Response:
    reason = reason_in(await json_object(request, {"reason"}))
    return json_answer(values.queue(await paused(request, reason)))


async def resume(request: web.Request) -> web.Response:
    reason = reason_in(await json_object(request, {"reason"}))
    return json_answer(values.queue(await resumed(request, reason)))


async def paused(request: web.Request, reason: str) -> QueueRecord:
    record = await known(request)
    return await request.app[STORE].pause(record.name, request[WHO].actor, reason)


async def resumed(request: web.Request, reason: str) -> QueueRecord:
    record = await known(request)
    return await request.app[STORE].resume(record.name, request[WHO].actor, reason)


async def limit(request: web.Request) -> web.Response:
    """Set a person's limit; null goes back to the file's."""
    body = await json_object(request, {"concurrency", "reason"})
    concurrency = _concurrency(body)
    name = QueueName((await known(request)).name)
    actor, reason = request[WHO].actor, reason_in(body)
    record = await request.app[STORE].limit(name, concurrency, actor, reason)
    return json_answer(values.queue(record))


def _concurrency(body: Mapping[str, Any]) -> int | None:
    found = body.get("concurrency", "")
    if found is None:
        return None
    is_number = isinstance(found, int) and not isinstance(found, bool)
    if not is_number or not 0 <= found <= CONCURRENCY_MOST:
        raise InvalidRequestError(f"concurrency: 0 to {CONCURRENCY_MOST}, or null, is needed")
    return int(found)


ROUTES: Final = (
    get("/queues", index),
    get("/queues/{name}", show),
    patch("/queues/{name}", limit, "manager"),
    post("/queues/{name}/pause", pause, "manager"),
    post("/queues/{name}/resume", resume, "manager"),
)
