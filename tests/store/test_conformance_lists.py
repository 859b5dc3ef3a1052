"""What every engine promises about lists, queues, people and configurations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pq_daemon.errors import InvalidRequestError, NotFoundError
from pq_daemon.jobs.model import QueueName, WatchName
from pq_daemon.jobs.order import Moment
from pq_daemon.jobs.states import Event, State
from pq_daemon.store.protocol import Claim, JobFilter, QueueEntry
from tests.support.builders import (
    FILES,
    PERSON,
    WATCH,
    a_claim,
    a_job,
    a_running_job,
    ending,
    found,
)

if TYPE_CHECKING:
    from pq_daemon.jobs.model import JobId
    from pq_daemon.store.protocol import Store


async def every(store: Store, wanted: JobFilter, limit: int = 3) -> list[JobId]:
    """Walk all pages."""
    seen: list[JobId] = []
    cursor = None
    while True:
        page = await store.jobs(wanted, cursor, limit)
        assert len(page.items) <= limit
        seen += [job.id for job in page.items]
        if (cursor := page.next) is None:
            return seen


async def test_pages_are_newest_first_and_complete_while_jobs_come_in(engine: Store) -> None:
    ids = [(await a_job(engine)).id for _ in range(7)]
    page = await engine.jobs(JobFilter(), None, 3)
    await a_job(engine)  # in front of the page: it must not shift what follows
    rest = await engine.jobs(JobFilter(), page.next, 10)
    assert [job.id for job in page.items + rest.items] == ids[::-1]


async def test_filters_by_state_and_queue_together(engine: Store) -> None:
    other = QueueName("other")
    await engine.configure_queues(
        [QueueEntry(FILES, "command", 0, False), QueueEntry(other, "command", 0, False)]
    )
    queued = [(await a_job(engine, queue=q)).id for q in (FILES, other, FILES)]
    held = await a_job(engine, queue=other, hold=True)
    both = frozenset({State.QUEUED, State.HELD})
    assert await every(engine, JobFilter(states=both)) == [held.id, *queued[::-1]]
    assert await every(engine, JobFilter(states=both, queues=frozenset({other}))) == [
        held.id, queued[1],
    ]  # fmt: skip
    assert await every(engine, JobFilter(queues=frozenset({QueueName("none")}))) == []


async def test_filters_by_watch_time_and_text(engine: Store) -> None:
    await a_job(engine)
    await engine.accept([found(b"Scans/INVOICE_7%.pdf"), found(b"photo.jpg")])
    photo, invoice, payload = (await engine.jobs(JobFilter(), None, 10)).items
    watched = JobFilter(watches=frozenset({WATCH}))
    assert await every(engine, watched) == [photo.id, invoice.id]
    assert await every(engine, replace(watched, states=frozenset({State.HELD}))) == []
    assert await every(engine, JobFilter(watches=frozenset({WatchName("x")}))) == []
    for text in ("invoice", "_7%", "scans/", str(invoice.id)):
        assert invoice.id in await every(engine, JobFilter(search=text)), text
    assert await every(engine, JobFilter(search="e_7%x")) == []
    now = engine.now()
    assert await every(engine, JobFilter(before=Moment(now + 1))) == [
        photo.id, invoice.id, payload.id,
    ]  # fmt: skip
    assert await every(engine, JobFilter(after=Moment(now + 1))) == []


async def test_search_finds_a_key_exactly(engine: Store) -> None:
    job = await a_job(engine, key="order-4711")
    assert await every(engine, JobFilter(search="order-4711")) == [job.id]
    assert await every(engine, JobFilter(search="order")) == []


@pytest.mark.parametrize("cursor", ["x", "Zm9v", "W10", "WzEsMl0", "é", "W1sxXSwieCJd"])
async def test_a_cursor_that_is_not_ours_is_refused(engine: Store, cursor: str) -> None:
    with pytest.raises(InvalidRequestError):
        await engine.jobs(JobFilter(), cursor, 10)


async def test_a_cursor_is_bound_to_its_filter(engine: Store) -> None:
    for _ in range(3):
        await a_job(engine)
    page = await engine.jobs(JobFilter(), None, 1)
    with pytest.raises(InvalidRequestError):
        await engine.jobs(JobFilter(states=frozenset({State.QUEUED})), page.next, 1)


# --- queues ------------------------------------------------------------------------------------


async def test_a_persons_word_wins_until_the_file_changes(engine: Store) -> None:
    def entry(concurrency: int, *, paused: bool) -> QueueEntry:
        return QueueEntry(FILES, "command", concurrency, paused)

    await engine.limit(FILES, 3, PERSON)
    await engine.pause(FILES, PERSON, "maintenance")
    await engine.configure_queues([entry(0, paused=False)])  # the same file again
    [queue] = await engine.queues()
    assert (queue.concurrency, queue.concurrency_by_file) == (3, 0)
    assert queue.paused is not None
    assert (queue.paused.by, queue.paused.reason) == ("anna", "maintenance")
    await engine.configure_queues([entry(5, paused=False)])
    [queue] = await engine.queues()
    assert (queue.concurrency, queue.paused is not None) == (5, True)
    await engine.configure_queues([entry(5, paused=True)])
    [queue] = await engine.queues()
    assert queue.paused is not None
    assert queue.paused.by == "config.toml"
    await engine.configure_queues([entry(5, paused=False)])
    [queue] = await engine.queues()
    assert queue.paused is None


async def test_a_persons_limit_steers_the_claim(engine: Store) -> None:
    for _ in range(4):
        await a_job(engine)
    await engine.limit(FILES, 1, PERSON)
    assert len((await engine.exchange([], a_claim(9, files=9))).claimed) == 1
    await engine.limit(FILES, None, PERSON)
    assert len((await engine.exchange([], a_claim(9, files=9))).claimed) == 3


async def test_a_removed_queue_stays_listed_while_it_has_live_jobs(engine: Store) -> None:
    running = await a_running_job(engine)
    await a_job(engine)
    await engine.configure_queues([QueueEntry(QueueName("new"), "command", 0, False)])
    by_name = {queue.name: queue for queue in await engine.queues()}
    assert by_name[FILES].removed
    exchange = await engine.exchange([ending(engine, running)], a_claim(9, files=9, new=9))
    assert (exchange.settled, exchange.claimed) == ([State.SUCCEEDED], [])
    [waiting] = (await engine.jobs(JobFilter(states=frozenset({State.QUEUED})), None, 9)).items
    await engine.act(waiting.id, Event.CANCEL, PERSON)
    assert [queue.name for queue in await engine.queues()] == ["new"]
    every = {queue.name: queue for queue in await engine.queues(every=True)}
    assert every[FILES].counts[State.SUCCEEDED] == 1


async def test_an_unknown_queue_cannot_be_paused(engine: Store) -> None:
    with pytest.raises(NotFoundError):
        await engine.pause(QueueName("nowhere"), PERSON)


async def test_totals_are_since_ever(engine: Store) -> None:
    running = await a_running_job(engine)
    await engine.exchange([ending(engine, running)], Claim())
    totals = (await engine.totals()).by_queue[FILES]
    assert totals == {"accepted": 1, "attempts": 1, "succeeded": 1}


# --- people, configurations, health --------------------------------------------------------------


async def test_sessions_open_touch_and_close(engine: Store) -> None:
    await engine.open_session(b"one", "anna")
    await engine.open_session(b"two", "anna")
    await engine.touch_session(b"one")
    session = await engine.session(b"one")
    assert session is not None
    assert session.user == "anna"
    assert session.seen_at >= session.created_at
    assert await engine.close_sessions(token_hash=b"one") == 1
    assert await engine.session(b"one") is None
    assert await engine.close_sessions(user="anna") == 1
    await engine.open_session(b"old", "anna")
    assert await engine.forget_sessions(Moment(engine.now() + 1)) == 1


async def test_a_configuration_is_kept_once_by_its_content(engine: Store) -> None:
    one, two = await engine.remember_config("a = 1"), await engine.remember_config("a = 2")
    assert await engine.remember_config("a = 1") == one != two
    assert await engine.config_text(two) == "a = 2"
    assert await engine.config_text(999) is None


async def test_audit_pages(engine: Store) -> None:
    for number in range(5):
        await engine.audit(PERSON, "login", detail={"number": number})
    page = await engine.audit_entries(None, 3)
    rest = await engine.audit_entries(page.next, 3)
    assert [entry.detail["number"] for entry in page.items + rest.items] == [4, 3, 2, 1, 0]
    assert rest.next is None


async def test_healthy(engine: Store) -> None:
    await engine.healthy()
    await engine.checkpoint()
