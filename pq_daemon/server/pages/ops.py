"""/ops: how all of it does, for a wall. Reads only; without login as far as ops_public says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pq_daemon.server import values
from pq_daemon.server.keys import ACCESS, CONTROLS, STATISTICS, STORE, WHO
from pq_daemon.server.pages.rendering import render
from pq_daemon.server.pages.showing import NOTHING, age, relative
from pq_daemon.server.resources.watches import watch_values
from pq_daemon.server.routing import page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from pq_daemon.jobs.order import Moment
    from pq_daemon.jobs.status import SlotStatus
    from pq_daemon.store.feed import Told

FEED: Final = 40
LOOK_BACK: Final = 400
"""Events to look through for the names of jobs: not every event of a job tells its name."""


async def show(request: web.Request) -> web.Response:
    store, controls = request.app[STORE], request.app[CONTROLS]
    named = request[WHO].role is not None or request.app[ACCESS].ops_public == "full"
    told = store.feed.since(max(0, store.feed.seq - LOOK_BACK)) or [] if named else []
    slots, records, now = controls.slots(), await store.queues(), store.now()
    oldest = min((one.oldest_queued_at for one in records if one.oldest_queued_at), default=None)
    context = {
        "named": named,
        "stats": await request.app[STATISTICS].summary(named=named),
        "oldest": _age(oldest, now),
        "consumers": [values.consumer(slot, named=named) for slot in slots],
        "slot_ages": {slot.slot: _age(slot.since if slot.job else None, now) for slot in slots},
        "queues": [values.queue(one, named=named) for one in records],
        "watches": watch_values(await store.watches(), controls) if named else [],
        "scans": {watch.name: _ago(watch.last_scan, now) for watch in controls.watches()},
        "events": [values.event(one, store.feed.epoch) for one in _latest(told)],
        "names": _names(told, slots) if named else {},
        "feed_rows": FEED,
    }
    return render(request, "ops.html", context)


def _latest(told: Sequence[Told]) -> list[Told]:
    """The newest events first; progress is shown by the slots, not told line by line."""
    return [one for one in reversed(told) if one.fact.type != "job.progress"][:FEED]


def _names(told: Sequence[Told], slots: Sequence[SlotStatus]) -> dict[str, str]:
    names = {str(slot.job): slot.name for slot in slots if slot.job and slot.name}
    for one in told:
        if one.fact.job and one.fact.data.get("name"):
            names[str(one.fact.job)] = str(one.fact.data["name"])
    return names


def _age(since: Moment | None, now: Moment) -> str:
    return NOTHING if since is None else age(now - since)


def _ago(moment: Moment | None, now: Moment) -> str:
    return NOTHING if moment is None else relative(moment, now)


ROUTES: Final = (page("/ops", show, "ops"),)
