"""/jobs/{id} as something to change: a waiting job's priority or time, or that it is forgotten."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from pq_daemon.errors import InvalidRequestError
from pq_daemon.server import queries, values
from pq_daemon.server.answers import json_answer
from pq_daemon.server.bodies import json_object
from pq_daemon.server.keys import STORE, WHO
from pq_daemon.server.resources.jobs import priority_in, reason_in
from pq_daemon.server.routing import delete, patch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pq_daemon.jobs.model import JobId
    from pq_daemon.jobs.order import Moment
    from pq_daemon.store.outputs import OutputFiles


async def amend(request: web.Request) -> web.Response:
    """Change a waiting job's priority, or when a scheduled or retrying one comes due."""
    number = queries.job_id(request.match_info["id"])
    body = await json_object(request, {"priority", "run_at"})
    priority, run_at = priority_in(body), _run_at(body)
    if priority is None and run_at is None:
        raise InvalidRequestError('"priority" or "run_at" is needed')
    job = await request.app[STORE].amend(
        number, request[WHO].actor, priority=priority, run_at=run_at
    )
    return json_answer(values.job(job))


def _run_at(body: Mapping[str, Any]) -> Moment | None:
    text = body.get("run_at")
    if text is None:
        return None
    try:
        return queries.moment(str(text))
    except (ValueError, OverflowError):
        raise InvalidRequestError("run_at: a time such as 2026-11-24T08:00:00Z is needed") from None


async def forget(request: web.Request) -> web.Response:
    """Forget a final job with its attempts and output. The ledger keeps what its file was."""
    number = queries.job_id(request.match_info["id"])
    reason = reason_in(await json_object(request, {"reason"}))
    store = request.app[STORE]
    attempts = await store.delete(number, request[WHO].actor, reason)
    await asyncio.to_thread(_remove_outputs, store.outputs, number, attempts)
    return web.Response(status=204)


def _remove_outputs(outputs: OutputFiles, job: JobId, attempts: int) -> None:
    for attempt in range(1, attempts + 1):
        outputs.remove(job, attempt)


ROUTES: Final = (
    patch("/jobs/{id}", amend, "operator"),
    delete("/jobs/{id}", forget, "manager"),
)
