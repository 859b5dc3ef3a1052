"""Retention: the old goes in its time, the rest stays, and the sums stay right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pq_daemon.config.settings import RetentionSettings
from pq_daemon.errors import ConflictError, NotFoundError
from pq_daemon.jobs.model import OutputSize
from pq_daemon.jobs.states import Event, Outcome, State
from pq_daemon.store.protocol import After, Claim, JobFilter
from pq_daemon.upkeep import prune as module
from pq_daemon.upkeep.prune import forget_the_old
from tests.support.builders import (
    FILES,
    PERSON,
    ROOT,
    WATCH,
    a_claim,
    a_job,
    a_running_job,
    ending,
    found,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pq_daemon.jobs.model import Job
    from pq_daemon.store.sqlite.engine import SqliteStore

DAY = 86_400.0
SHORT = RetentionSettings(succeeded=7 * DAY, cancelled=7 * DAY, failed=30 * DAY, audit=400 * DAY)


class Time:
    def __init__(self) -> None:
        self.now = 2_000_000_000.0

    def __call__(self) -> float:
        return self.now

    def pass_days(self, days: float) -> None:
        self.now += days * DAY


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def store(open_a_store: Callable[..., Awaitable[SqliteStore]], time: Time) -> SqliteStore:
    return await open_a_store(wall=time)


async def finished(store: SqliteStore, outcome: Outcome, **how: object) -> Job:
    job = await a_running_job(store, max_attempts=1)
    await store.exchange([ending(store, job, outcome, **how)], Claim())
    return job


async def left(store: SqliteStore) -> set[int]:
    return {job.id for job in (await store.jobs(JobFilter(), None, 100)).items}


async def test_each_state_goes_after_its_own_time(store: SqliteStore, time: Time) -> None:
    succeeded = await finished(store, Outcome.SUCCEEDED)
    failed = await finished(store, Outcome.FAILED)
    cancelled = await a_job(store)
    await store.act(cancelled.id, Event.CANCEL, PERSON)
    waiting = await a_job(store)
    time.pass_days(6.9)
    await forget_the_old(store, SHORT)
    assert await left(store) == {succeeded.id, failed.id, cancelled.id, waiting.id}
    time.pass_days(0.2)
    await forget_the_old(store, SHORT)
    assert await left(store) == {failed.id, waiting.id}
    time.pass_days(30)
    await forget_the_old(store, SHORT)
    assert await left(store) == {waiting.id}
    [queue] = await store.queues()
    assert {state: n for state, n in queue.counts.items() if n} == {State.QUEUED: 1}
    assert (await store.totals()).by_queue[FILES]["succeeded"] == 1  # since ever
    assert await store.attempts(failed.id) == []


async def test_more_than_a_batch_goes_too(
    store: SqliteStore, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    for _ in range(7):
        await finished(store, Outcome.SUCCEEDED)
    time.pass_days(8)
    await forget_the_old(store, SHORT)
    assert await left(store) == set()


async def test_a_job_whose_file_is_still_to_be_put_away_stays(
    store: SqliteStore, time: Time
) -> None:
    await store.configure_watches([(WATCH, ROOT, FILES)])
    await store.accept([found()])
    [(_, job)] = (await store.exchange([], a_claim())).claimed
    await store.exchange([ending(store, job, on_success=After("delete"))], Claim())
    time.pass_days(8)
    await forget_the_old(store, SHORT)
    assert await left(store) == {job.id}
    with pytest.raises(ConflictError, match="about to be put away"):
        await store.delete(job.id, PERSON)
    await store.disposed(job.id, "done")
    await forget_the_old(store, SHORT)
    assert await left(store) == set()


async def test_the_ledger_outlives_its_jobs(store: SqliteStore, time: Time) -> None:
    await store.configure_watches([(WATCH, ROOT, FILES)])
    first = found()
    await store.accept([first])
    [(_, job)] = (await store.exchange([], a_claim())).claimed
    await store.exchange([ending(store, job)], Claim())
    time.pass_days(8)
    await forget_the_old(store, SHORT)
    assert await left(store) == set()
    await store.accept([first])
    assert await left(store) == set(), "a file that was done is not done again"
    await store.vanish([first.file.path])
    time.pass_days(31)
    await forget_the_old(store, SHORT)
    assert await store.entries([first.file.path]) == {}
    [watch] = await store.watches()
    assert sum(watch.counts.values()) == 0


async def test_outputs_over_the_total_go_oldest_success_first(store: SqliteStore) -> None:
    size = OutputSize(stdout=100)
    failed = await finished(store, Outcome.FAILED, output=size, inline=b"f")
    jobs = [
        await finished(store, Outcome.SUCCEEDED, output=size, inline=b"x%d" % n) for n in range(3)
    ]
    file = store.outputs.head(jobs[0].id, 1)
    file.write_bytes(b"")
    await forget_the_old(store, SHORT.model_copy(update={"output_total": 250}))
    kept = [await store.inline_output(job.id, 1) for job in [failed, *jobs]]
    assert kept == [b"f", None, None, b"x2"]
    assert not file.exists()
    assert len(await left(store)) == 4


async def test_a_person_deletes_a_final_job_and_only_such(store: SqliteStore) -> None:
    job = await finished(store, Outcome.SUCCEEDED)
    waiting = await a_job(store)
    with pytest.raises(ConflictError, match="only final jobs"):
        await store.delete(waiting.id, PERSON)
    assert await store.delete(job.id, PERSON, "private") == 1
    with pytest.raises(NotFoundError):
        await store.delete(job.id, PERSON)
    entry = (await store.audit_entries(None, 1)).items[0]
    assert (entry.action, entry.reason) == ("job.delete", "private")


async def test_audit_rows_go_after_their_time(store: SqliteStore, time: Time) -> None:
    await store.audit(PERSON, "login")
    time.pass_days(401)
    await forget_the_old(store, SHORT)
    assert (await store.audit_entries(None, 10)).items == []
