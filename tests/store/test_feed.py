"""The feed tells what is durable, in order, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pq_daemon.errors import ConflictError
from pq_daemon.jobs.order import Moment
from pq_daemon.jobs.states import Event
from pq_daemon.store.feed import RING, Fact, Feed
from tests.support.builders import PERSON, a_claim, a_job, a_running_job, ending

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pq_daemon.store.feed import Told
    from pq_daemon.store.protocol import Store

NOW = Moment(0)


async def test_a_jobs_life_is_told_after_each_commit(store: Store) -> None:
    told: list[str] = []

    def listen(batch: Sequence[Told]) -> None:
        told.extend(one.fact.type for one in batch)

    with store.feed.listening(listen):
        running = await a_running_job(store)
        await store.act(running.id, Event.CANCEL, PERSON)
        await store.exchange([ending(store, running)], a_claim())
    await a_job(store)
    assert told == ["job.accepted", "job.started", "job.cancel_requested", "job.succeeded"]


async def test_a_change_that_failed_tells_nothing(store: Store) -> None:
    job = await a_job(store)
    before = store.feed.seq
    with pytest.raises(ConflictError):
        await store.act(job.id, Event.RETRY, PERSON)
    assert store.feed.seq == before


def test_since_gives_exactly_what_was_missed() -> None:
    feed = Feed("e")
    feed.tell([Fact("a"), Fact("b"), Fact("c")], NOW)
    assert [one.fact.type for one in feed.since(1) or []] == ["b", "c"]
    assert feed.since(3) == []
    assert feed.since(4) is None


def test_since_knows_what_the_ring_has_lost() -> None:
    feed = Feed("e")
    for _ in range(RING + 5):
        feed.tell([Fact("a")], NOW)
    assert feed.since(4) is None
    kept = feed.since(5)
    assert kept is not None
    assert (len(kept), kept[0].seq, kept[-1].seq) == (RING, 6, RING + 5)


async def test_waiting_ends_with_the_next_event_or_the_limit() -> None:
    feed = Feed("e")
    assert not await feed.wait_beyond(0, 0.01)
    feed.tell([Fact("a")], NOW)
    assert await feed.wait_beyond(0, 10)
