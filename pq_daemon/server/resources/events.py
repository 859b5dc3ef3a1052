"""/events: what has happened after a place in the feed, waiting for it if need be."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pq_daemon.errors import InvalidRequestError
from pq_daemon.server import queries, values
from pq_daemon.server.answers import json_answer
from pq_daemon.server.keys import STOPPING, STORE
from pq_daemon.server.routing import get
from pq_daemon.store.feed import RING

if TYPE_CHECKING:
    from aiohttp import web

    from pq_daemon.store.feed import Feed, Told

PLACE: Final = re.compile(r"([0-9A-Za-z_-]{1,64}):([0-9]{1,18})")
WAIT_MOST_S: Final = 60
AT_ONCE: Final = 1000
LATEST: Final = 200


async def index(request: web.Request) -> web.Response:
    """Answer with the events after EPOCH:SEQ; without a place, with the latest ones.

    `gap` says that events in between are no longer known (or another daemon's): the items then
    begin with the oldest that are.
    """
    feed, query = request.app[STORE].feed, request.query
    place = _place(queries.once(query, "after"))
    wait = queries.number(query, "wait", 0, 0, WAIT_MOST_S)
    if place is None:
        return _answer(feed, _last(feed, LATEST), gap=False)
    epoch, seq = place
    if epoch == feed.epoch and seq == feed.seq and wait:
        await _something_new(feed, request.app[STOPPING], wait)
    told = feed.since(seq) if epoch == feed.epoch else None
    return _answer(feed, _last(feed, RING) if told is None else told, gap=told is None)


def _place(text: str | None) -> tuple[str, int] | None:
    if text is None:
        return None
    parts = PLACE.fullmatch(text)
    if not parts:
        raise InvalidRequestError(f'after: "{text}" is not a place such as EPOCH:SEQ')
    return parts[1], int(parts[2])


def _last(feed: Feed, count: int) -> list[Told]:
    return feed.since(max(0, feed.seq - count)) or []


def _answer(feed: Feed, told: list[Told], *, gap: bool) -> web.Response:
    part = told[:AT_ONCE]
    return json_answer(
        {
            "items": [values.event(one, feed.epoch) for one in part],
            "epoch": feed.epoch,
            "seq": part[-1].seq if part else feed.seq,
            "gap": gap,
        }
    )


async def _something_new(feed: Feed, stopping: asyncio.Event, wait: float) -> None:
    """Wait for an event, the time, or the end of the daemon."""
    more = asyncio.Event()

    async def stop_waiting() -> None:
        await stopping.wait()
        more.set()

    with feed.listening(lambda _: more.set()), suppress(TimeoutError):
        async with asyncio.timeout(wait), asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(stop_waiting(), name="long poll")
            await more.wait()
            watching.cancel()


ROUTES: Final = (get("/events", index, "after", "wait"),)
