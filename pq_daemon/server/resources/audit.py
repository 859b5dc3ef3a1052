"""/audit: who did what, from where, when and why. For managers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pq_daemon.server import queries, values
from pq_daemon.server.answers import list_answer
from pq_daemon.server.keys import STORE
from pq_daemon.server.routing import get

if TYPE_CHECKING:
    from aiohttp import web


async def index(request: web.Request) -> web.Response:
    query = request.query
    job = queries.once(query, "job")
    limit, cursor = queries.limit(query), queries.once(query, "cursor")
    page = await request.app[STORE].audit_entries(
        cursor, limit, job=None if job is None else queries.job_id(job)
    )
    return list_answer([values.audit(entry) for entry in page.items], page.next)


ROUTES: Final = (get("/audit", index, "job", "limit", "cursor", need="manager"),)
