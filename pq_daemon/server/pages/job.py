"""/manager/jobs/{id}: one job, its way so far, its attempts and what they printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.jobs.states import State
from pq_daemon.server import queries
from pq_daemon.server.keys import CONTROLS, STORE
from pq_daemon.server.pages.job_view import job_view
from pq_daemon.server.pages.rendering import banners, render
from pq_daemon.server.pages.showing import display_lines
from pq_daemon.server.resources.attempts import output_of
from pq_daemon.server.routing import page

if TYPE_CHECKING:
    from aiohttp import web

    from pq_daemon.jobs.model import Attempt, Job
    from pq_daemon.jobs.order import Moment
    from pq_daemon.store.protocol import Store

HEAD: Final = 32 * 1024
"""Bytes of an output that the page shows; the rest is a download away."""

SHOWN_ATTEMPTS: Final = 5
"""Of so many newest attempts the output stands on the page."""


@dataclass(frozen=True, slots=True)
class Output:
    text: str
    size: int
    is_cut: bool


@dataclass(frozen=True, slots=True)
class Step:
    """A point of a job's way."""

    word: str
    at: Moment | None
    icon: str
    note: str = ""


async def show(request: web.Request) -> web.Response:
    store, controls = request.app[STORE], request.app[CONTROLS]
    number = queries.job_id(request.match_info["id"])
    job = await store.job(number)
    attempts = sorted(await store.attempts(number), key=lambda one: one.number, reverse=True)
    view = job_view(job, controls.progress(number))
    queue = next((one for one in await store.queues() if one.name == job.queue), None)
    context: dict[str, Any] = {
        **await banners(request),
        "view": view,
        "job": job,
        "queue": queue,
        "attempts": attempts,
        "outputs": await _outputs(store, attempts),
        "steps": steps(job, attempts),
        "waits_because": _waits_because(
            job, queue.paused.reason if queue and queue.paused else None
        ),
    }
    return render(request, "job.html", context)


async def _outputs(store: Store, attempts: list[Attempt]) -> dict[int, Output]:
    return {
        attempt.number: readable(await output_of(store, attempt.job, attempt.number))
        for attempt in attempts[:SHOWN_ATTEMPTS]
    }


def readable(raw: bytes) -> Output:
    """Return the head of an output as text: line ends kept, what cannot be seen escaped."""
    text = display_lines(raw[:HEAD].decode("utf-8", "backslashreplace"))
    return Output(text, len(raw), len(raw) > HEAD)


def steps(job: Job, attempts: list[Attempt]) -> list[Step]:
    """Tell a job's way, the oldest first: accepted, each attempt, where it is now or ended."""
    told = [Step("accepted", job.created_at, "accepted")]
    for attempt in reversed(attempts):
        told.append(Step(f"attempt {attempt.number} began", attempt.started_at, "running"))
        if attempt.finished_at is not None:
            word = attempt.outcome.replace("_", " ") if attempt.outcome else "ended"
            icon = attempt.outcome or "failed"
            told.append(Step(word, attempt.finished_at, icon, attempt.reason or ""))
    return [*told, *_now(job, attempts)]


def _now(job: Job, attempts: list[Attempt]) -> list[Step]:
    """The last step, where the attempts alone do not tell it."""
    if job.state in {State.SCHEDULED, State.RETRYING}:
        word = "due" if job.state is State.SCHEDULED else f"attempt {job.attempt + 1} is due"
        return [Step(word, job.run_at, job.state.value)]
    if job.state in {State.QUEUED, State.HELD}:
        return [Step(f"{job.state} now", None, job.state.value)]
    last = attempts[0].finished_at if attempts else None
    if job.state is State.RUNNING or (job.finished_at == last and job.state is not State.FAILED):
        return []
    return [Step(job.state.value, job.finished_at, job.state.value, job.reason or "")]


def _waits_because(job: Job, pause_reason: str | None) -> str:
    """Say why a queued job does not run, when there is more to it than the line before it."""
    if job.state is not State.QUEUED or pause_reason is None:
        return ""
    return f"its queue is paused: {pause_reason}" if pause_reason else "its queue is paused"


ROUTES: Final = (page("/manager/jobs/{id}", show),)
