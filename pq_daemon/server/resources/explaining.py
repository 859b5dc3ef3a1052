"""/explain: why a path is a job, waits, or is left alone, as the daemon sees it."""

from __future__ import annotations

import base64
import binascii
import os
from typing import TYPE_CHECKING, Final

from pq_daemon.errors import InvalidRequestError
from pq_daemon.server import queries, values
from pq_daemon.server.answers import json_answer
from pq_daemon.server.keys import CONTROLS, STORE
from pq_daemon.server.routing import get
from pq_daemon.store.protocol import JobFilter

if TYPE_CHECKING:
    from aiohttp import web

    from pq_daemon.jobs.model import Job, WatchName
    from pq_daemon.store.protocol import Store

JOBS_LOOKED_AT: Final = 200
JOBS_SHOWN: Final = 5


async def explain(request: web.Request) -> web.Response:
    """Answer with what the disk, the ledger and the jobs say of a path."""
    path = _path(request)
    controls, store = request.app[CONTROLS], request.app[STORE]
    seen = dict(await controls.explain(path))
    real = base64.b64decode(seen["path_b64"]) if "path_b64" in seen else seen["path"].encode()
    entry = (await store.entries([real])).get(real) if seen["watch"] else None
    status = next((one for one in controls.watches() if one.name == seen["watch"]), None)
    jobs = [] if entry is None else await _jobs_of(store, entry.watch, real, seen["relpath"])
    return json_answer(
        {
            **seen,
            "watch_status": None if status is None else f"{status.state} {status.reason}".strip(),
            "ledger": None if entry is None else values.file(entry, os.fsencode(seen["root"])),
            "jobs": [values.job(job, controls.progress(job.id)) for job in jobs],
        }
    )


def _path(request: web.Request) -> bytes:
    text, coded = (queries.once(request.query, name) for name in ("path", "path_b64"))
    try:
        path = base64.b64decode(coded, validate=True) if coded else os.fsencode(text or "")
    except (ValueError, binascii.Error):
        raise InvalidRequestError("path: it is neither text nor base64") from None
    if not path.startswith(b"/") or b"\0" in path:
        raise InvalidRequestError("path: an absolute path is needed")
    return path


async def _jobs_of(store: Store, watch: WatchName, path: bytes, relpath: str) -> list[Job]:
    """Return the newest jobs of a path."""
    wanted = JobFilter(watches=frozenset({watch}), search=relpath[: queries.SEARCH_MOST])
    page = await store.jobs(wanted, None, JOBS_LOOKED_AT)
    return [job for job in page.items if job.file and job.file.origin == path][:JOBS_SHOWN]


ROUTES: Final = (get("/explain", explain, "path", "path_b64"),)
