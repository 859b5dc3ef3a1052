"""/manager: the queues, the jobs, and what a person may do about them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode

from multidict import MultiDict

from pq_daemon.errors import InvalidRequestError
from pq_daemon.jobs.states import State
from pq_daemon.server import queries
from pq_daemon.server.bodies import form as form_of
from pq_daemon.server.keys import CONTROLS, STORE
from pq_daemon.server.pages.errors import local, see_other
from pq_daemon.server.pages.job_view import WHEN, JobView, actions, job_view
from pq_daemon.server.pages.rendering import banners, render
from pq_daemon.server.problems import Problem
from pq_daemon.server.resources import queues as queue_resource
from pq_daemon.server.resources.jobs import ACTIONS, asked, checked_filter, reason_in
from pq_daemon.server.routing import form, page
from pq_daemon.store.protocol import Page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiohttp import web
    from multidict import MultiMapping

    from pq_daemon.store.protocol import QueueRecord

ORDER: Final = (
    State.QUEUED,
    State.RUNNING,
    State.RETRYING,
    State.SCHEDULED,
    State.HELD,
    State.SUCCEEDED,
    State.FAILED,
    State.CANCELLED,
)
FILTERS: Final = ("state", "queue", "watch", "search", "after", "before", "limit")
PARAMETERS: Final = frozenset((*FILTERS, "cursor"))
AGAIN: Final = re.compile(r"/manager(?:[/?].*)?")


class Tab(NamedTuple):
    state: State | None
    jobs: int
    address: str
    is_open: bool


async def home(_request: web.Request) -> web.Response:
    return see_other("/manager")


async def show(request: web.Request) -> web.Response:
    store, controls = request.app[STORE], request.app[CONTROLS]
    query = without_blanks(request.query)
    records = await store.queues()
    trouble = ""
    jobs: Page[JobView] = Page([], None)
    try:
        jobs = await _jobs(request, query)
    except InvalidRequestError as error:
        trouble = str(error)
    context = {
        **await banners(request),
        "trouble": trouble,
        "jobs": jobs.items,
        "older": address(query, cursor=jobs.next) if jobs.next else None,
        "newest": address(query, cursor=None) if "cursor" in query else None,
        "queues": records,
        "tabs": _tabs(query, await store.queues(every=True)),
        "filter": _kept(query),
        "is_filtered": any(
            name in query for name in ("queue", "watch", "search", "after", "before")
        ),
        "watches": controls.settings.watches,
        "slots": len(controls.slots()),
        "row_actions": {state: actions(state) for state in State},
        "when_words": WHEN,
    }
    return render(request, "manager.html", context, status=400 if trouble else 200)


def without_blanks(query: MultiMapping[str]) -> MultiMapping[str]:
    """Drop parameters without a value: a form sends every field, also the ones left empty."""
    return MultiDict((name, value) for name, value in query.items() if value)


async def _jobs(request: web.Request, query: MultiMapping[str]) -> Page[JobView]:
    queries.refuse_parameters(query, PARAMETERS)
    store, controls = request.app[STORE], request.app[CONTROLS]
    wanted = await checked_filter(store, query)
    limit, cursor = queries.limit(query), queries.once(query, "cursor")
    found = await store.jobs(wanted, cursor, limit)
    return Page([job_view(job, controls.progress(job.id)) for job in found.items], found.next)


def address(query: MultiMapping[str], **changes: str | None) -> str:
    """Return the address of the list with some parameters changed, None ones dropped."""
    kept = [(name, value) for name, value in query.items() if name not in changes]
    added = [(name, value) for name, value in changes.items() if value is not None]
    text = urlencode(kept + added)
    return f"/manager?{text}" if text else "/manager"


def _tabs(query: MultiMapping[str], records: Sequence[QueueRecord]) -> list[Tab]:
    chosen = query.getall("queue", [])
    counted = [one for one in records if not chosen or one.name in chosen]
    counts = {state: sum(one.counts.get(state, 0) for one in counted) for state in State}
    open_states = query.getall("state", [])
    tabs = [
        Tab(state, counts[state], address(query, state=state, cursor=None), state in open_states)
        for state in ORDER
    ]
    every = Tab(
        None, sum(counts.values()), address(query, state=None, cursor=None), not open_states
    )
    return [every, *tabs]


def _kept(query: MultiMapping[str]) -> dict[str, list[str]]:
    return {name: query.getall(name, []) for name in FILTERS}


# --- actions -------------------------------------------------------------------------------------


async def act(request: web.Request) -> web.Response:
    """Do what a job's button says, then show the page it was pressed on again."""
    fields = await form_of(request)
    action = request.match_info["action"]
    if action not in ACTIONS:
        raise Problem(404, "not_found", f'a job has no action "{action}"')
    number = queries.job_id(request.match_info["id"])
    await asked(request, number, action, reason_in(fields))
    return see_other(_again(fields))


async def act_on_queue(request: web.Request) -> web.Response:
    fields = await form_of(request)
    action, reason = request.match_info["action"], reason_in(fields)
    if action == "pause":
        await queue_resource.paused(request, reason)
    elif action == "resume":
        await queue_resource.resumed(request, reason)
    else:
        raise Problem(404, "not_found", f'a queue has no action "{action}"')
    return see_other(_again(fields))


def _again(fields: Mapping[str, Any]) -> str:
    back = local(fields.get("back"))
    return back if AGAIN.fullmatch(back) else "/manager"


ROUTES: Final = (
    page("/", home, "nobody"),
    page("/manager", show),
    form("/manager/jobs/{id}/{action}", act, "operator"),
    form("/manager/queues/{name}/{action}", act_on_queue, "manager"),
)
