"""/watches: the watched directories, their ledgers of files, and a scan when somebody wants one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pq_daemon.errors import NotFoundError
from pq_daemon.server import queries, values
from pq_daemon.server.answers import json_answer, list_answer
from pq_daemon.server.bodies import json_object
from pq_daemon.server.keys import CONTROLS, STORE, WHO
from pq_daemon.server.resources.jobs import reason_in
from pq_daemon.server.routing import get, post
from pq_daemon.store.protocol import FileState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from pq_daemon.server.controls import Controls
    from pq_daemon.store.protocol import WatchRecord


async def index(request: web.Request) -> web.Response:
    records = await request.app[STORE].watches()
    return list_answer(watch_values(records, request.app[CONTROLS]))


def watch_values(records: Sequence[WatchRecord], controls: Controls) -> list[dict[str, Any]]:
    """Show the configured watches: what the store knows, with how the producer finds them now."""
    statuses = {status.name: status for status in controls.watches()}
    return [values.watch(one, statuses.get(one.name)) for one in records if not one.removed]


async def show(request: web.Request) -> web.Response:
    record = await known(request)
    return json_answer(watch_values([record], request.app[CONTROLS])[0])


async def known(request: web.Request) -> WatchRecord:
    """Return the watch of the address.

    Raises:
        NotFoundError: there is none.

    """
    name = request.match_info["name"]
    for record in await request.app[STORE].watches():
        if record.name == name and not record.removed:
            return record
    raise NotFoundError(f'no watch "{name}"')


async def files(request: web.Request) -> web.Response:
    query = request.query
    states = queries.words(query, "state", FileState)
    limit, cursor = queries.limit(query), queries.once(query, "cursor")
    record = await known(request)
    page = await request.app[STORE].files(record.name, states, cursor, limit)
    return list_answer([values.file(entry, record.root) for entry in page.items], page.next)


async def rescan(request: web.Request) -> web.Response:
    """Have a watch scanned now; the answer does not wait for the scan."""
    reason = reason_in(await json_object(request, {"reason"}))
    record, controls = await known(request), request.app[CONTROLS]
    controls.rescan(record.name)
    await request.app[STORE].audit(request[WHO].actor, "watch.rescan", record.name, reason)
    return json_answer(watch_values([record], controls)[0], status=202)


ROUTES: Final = (
    get("/watches", index),
    get("/watches/{name}", show),
    get("/watches/{name}/files", files, "state", "limit", "cursor"),
    post("/watches/{name}/rescan", rescan, "operator"),
)
