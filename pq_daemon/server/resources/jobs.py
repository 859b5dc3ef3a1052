"""/jobs: the list, one job, a submission, and what people may ask of a job."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.errors import ConflictError, InvalidRequestError
from pq_daemon.jobs.model import QueueName
from pq_daemon.jobs.order import Priority
from pq_daemon.jobs.states import Event
from pq_daemon.server import inputs, queries, values
from pq_daemon.server.answers import json_answer, list_answer
from pq_daemon.server.bodies import json_object
from pq_daemon.server.keys import CONTROLS, STORE, WHO
from pq_daemon.server.problems import Problem
from pq_daemon.server.routing import API, get, post
from pq_daemon.store.protocol import Submission

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web
    from multidict import MultiMapping

    from pq_daemon.config import Settings
    from pq_daemon.config.settings import QueueSettings
    from pq_daemon.jobs.model import Job, JobId
    from pq_daemon.jobs.order import Moment
    from pq_daemon.store.protocol import JobFilter, Store

ACTIONS: Final[Mapping[str, Event]] = {
    "retry": Event.RETRY,
    "cancel": Event.CANCEL,
    "hold": Event.HOLD,
    "release": Event.RELEASE,
    "run-now": Event.RUN_NOW,
}
FIELDS: Final = frozenset(
    {"queue", "path", "path_b64", "payload", "priority", "run_at", "key", "hold"}
)
KEY_MOST: Final = 200
REASON_MOST: Final = 500


async def index(request: web.Request) -> web.Response:
    store, query = request.app[STORE], request.query
    wanted = await checked_filter(store, query)
    limit, cursor = queries.limit(query), queries.once(query, "cursor")
    page = await store.jobs(wanted, cursor, limit)
    controls = request.app[CONTROLS]
    return list_answer(
        [values.job(job, controls.progress(job.id)) for job in page.items], page.next
    )


async def checked_filter(store: Store, query: MultiMapping[str]) -> JobFilter:
    """Read a filter; queues and watches that were never here are errors, not empty lists."""
    wanted = queries.job_filter(query)
    if wanted.queues:
        known = {record.name for record in await store.queues(every=True)}
        known |= set((await store.totals()).by_queue)
        queries.refuse_unknown(wanted.queues, known, "queue")
    if wanted.watches:
        watches = {record.name for record in await store.watches()}
        queries.refuse_unknown(wanted.watches, watches, "watch")
    return wanted


async def show(request: web.Request) -> web.Response:
    job = await request.app[STORE].job(queries.job_id(request.match_info["id"]))
    return json_answer(values.job(job, request.app[CONTROLS].progress(job.id)))


# --- submitting ----------------------------------------------------------------------------------


async def submit(request: web.Request) -> web.Response:
    """Accept a job: 201, or 200 with the one that has the key already."""
    controls = request.app[CONTROLS]
    if controls.phase == "stopping":
        headers = {"Retry-After": "30"}
        raise Problem(503, "draining", "the daemon is stopping; submit again then", headers=headers)
    body = await json_object(request, FIELDS)
    wanted = await asyncio.to_thread(submission, body, controls.settings)
    job, is_new = await request.app[STORE].submit(wanted, request[WHO].actor)
    address = {"Location": f"{API}/jobs/{job.id}"}
    return json_answer(values.job(job), status=201 if is_new else 200, headers=address)


def submission(body: Mapping[str, Any], settings: Settings) -> Submission:
    """Read a submission. Blocks: the file is hashed.

    Raises:
        InvalidRequestError: a field is missing or not what it should be.

    """
    queue = _queue(body, settings)
    path = _path(body)
    if (path is None) == ("payload" not in body):
        raise InvalidRequestError('one of "path" and "payload" is needed, and not both')
    return Submission(
        queue=QueueName(queue.name),
        priority=priority_in(body) or queue.priority,
        max_attempts=queue.max_attempts,
        file=None if path is None else inputs.take(path, settings),
        payload=_payload(body) if "payload" in body else None,
        key=_key(body),
        run_at=_run_at(body),
        hold=_hold(body, queue.hold_new),
    )


def _queue(body: Mapping[str, Any], settings: Settings) -> QueueSettings:
    name = body.get("queue")
    if not isinstance(name, str) or name not in settings.queues:
        known = ", ".join(settings.queues) or "none"
        raise InvalidRequestError(f"queue: one of these is needed: {known}")
    return settings.queues[name]


def _path(body: Mapping[str, Any]) -> bytes | None:
    """Read the path, as text or as bytes in base64, the way a Job shows it."""
    text, coded = body.get("path"), body.get("path_b64")
    if coded is not None:
        try:
            return base64.b64decode(str(coded), validate=True)
        except (ValueError, binascii.Error):
            raise InvalidRequestError("path_b64: not base64") from None
    if text is None:
        return None
    if not isinstance(text, str) or not _is_utf8(text):
        raise InvalidRequestError("path: a text is needed; path_b64 takes names that are none")
    return os.fsencode(text)


def _payload(body: Mapping[str, Any]) -> str:
    text = json.dumps(body["payload"], ensure_ascii=False, separators=(",", ":"))
    if not _is_utf8(text):
        raise InvalidRequestError("payload: it contains half of a surrogate pair")
    return text


def priority_in(body: Mapping[str, Any]) -> Priority | None:
    word = body.get("priority")
    if word is None:
        return None
    if not isinstance(word, str) or word not in set(Priority):
        raise InvalidRequestError(f"priority: one of {', '.join(Priority)} is needed")
    return Priority(word)


def _key(body: Mapping[str, Any]) -> str | None:
    key = body.get("key")
    if key is None:
        return None
    fits = isinstance(key, str) and 0 < len(key) <= KEY_MOST and key.isprintable()
    if not fits:
        raise InvalidRequestError(f"key: 1 to {KEY_MOST} printable characters are needed")
    return str(key)


def _run_at(body: Mapping[str, Any]) -> Moment | None:
    text = body.get("run_at")
    if text is None:
        return None
    try:
        return queries.moment(str(text))
    except (ValueError, OverflowError):
        raise InvalidRequestError("run_at: a time such as 2026-11-24T08:00:00Z is needed") from None


def _hold(body: Mapping[str, Any], default: bool) -> bool:
    hold = body.get("hold", default)
    if not isinstance(hold, bool):
        raise InvalidRequestError("hold: true or false is needed")
    return hold


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in text


# --- what people ask of a job --------------------------------------------------------------------


async def act(request: web.Request, *, action: str) -> web.Response:
    number = queries.job_id(request.match_info["id"])
    reason = reason_in(await json_object(request, {"reason"}))
    job = await asked(request, number, action, reason)
    return json_answer(values.job(job, request.app[CONTROLS].progress(job.id)))


async def asked(request: web.Request, number: JobId, action: str, reason: str = "") -> Job:
    """Do what a person asks of a job, from the API or a page.

    Raises:
        ConflictError: the job's state, or its missing file, does not allow it.

    """
    store, event = request.app[STORE], ACTIONS[action]
    actor = request[WHO].actor
    if event is not Event.RETRY:
        return await store.act(number, event, actor, reason=reason)
    job = await store.job(number)
    queue = request.app[CONTROLS].settings.queues.get(job.queue)
    if queue is None:
        raise ConflictError(f"queue {job.queue} was removed from the configuration")
    if job.is_final:
        await asyncio.to_thread(inputs.insist_it_is_there, job)
    return await store.act(
        number,
        event,
        actor,
        reason=reason,
        priority=_fresh_priority(job, queue, request.app[CONTROLS].settings),
        max_attempts=queue.max_attempts,
    )


def _fresh_priority(job: Job, queue: QueueSettings, settings: Settings) -> Priority:
    """The priority the job would be accepted with today."""
    watch = job.file.watch if job.file else None
    own = next((w.priority for w in settings.watches if w.name == watch), None)
    return own or queue.priority


def reason_in(body: Mapping[str, Any]) -> str:
    reason = body.get("reason") or ""
    if not isinstance(reason, str) or len(reason) > REASON_MOST or not _is_utf8(reason):
        raise InvalidRequestError(f"reason: at most {REASON_MOST} characters of text")
    return reason


ROUTES: Final = (
    get("/jobs", index, *queries.JOB_PARAMETERS),
    post("/jobs", submit, "operator"),
    get("/jobs/{id}", show),
    *(
        post(f"/jobs/{{id}}/{action}", partial(act, action=action), "operator")
        for action in ACTIONS
    ),
)
