"""PATCH and DELETE of /jobs/{id}, and submissions to a queue with hold_new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pq_daemon.config import QueueSettings
from pq_daemon.errors import NotFoundError
from pq_daemon.jobs.model import OutputSize
from pq_daemon.jobs.order import Priority
from pq_daemon.jobs.states import State
from pq_daemon.store.outputs import Stream, framed
from pq_daemon.store.protocol import Claim
from tests.support.builders import a_job, a_running_job, ending
from tests.support.serving import a_site, some_settings

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from pq_daemon.store.sqlite.engine import SqliteStore
    from tests.support.serving import Site


async def patched(
    session: aiohttp.ClientSession, job: object, body: dict[str, Any], status: int = 200
) -> Any:
    async with session.patch(f"/api/v1/jobs/{job}", json=body) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json(content_type=None)


async def test_a_waiting_job_gets_another_priority(site: Site) -> None:
    job = await a_job(site.store)
    async with site.signed_in("olga") as session:
        changed = await patched(session, job.id, {"priority": "urgent"})
    assert changed["priority"] == "urgent"
    assert (await site.store.job(job.id)).rank < job.rank
    [entry] = (await site.store.audit_entries(None, 1)).items
    assert (entry.action, entry.actor.name) == ("job.amend", "olga")


async def test_a_scheduled_job_gets_another_time(site: Site) -> None:
    job = await a_job(site.store, run_at=site.store.now() + 3_600_000)
    async with site.signed_in("olga") as session:
        changed = await patched(session, job.id, {"run_at": "2099-01-31T08:00:00Z"})
    assert changed["run_at"] == "2099-01-31T08:00:00.000Z"
    assert changed["state"] == "scheduled"


@pytest.mark.parametrize(
    "body",
    [{}, {"priority": "soon"}, {"priority": []}, {"run_at": "tomorrow"}, {"state": "failed"}],
)
async def test_what_is_no_change_is_refused(site: Site, body: dict[str, Any]) -> None:
    job = await a_job(site.store)
    async with site.signed_in("olga") as session:
        await patched(session, job.id, body, 400)
        await patched(session, 4711, {"priority": "low"}, 404)
    assert (await site.store.job(job.id)).priority is Priority.NORMAL


async def test_a_job_that_runs_is_not_changed(site: Site) -> None:
    job = await a_running_job(site.store)
    async with site.signed_in("olga") as session:
        problem = await patched(session, job.id, {"priority": "low"}, 409)
    assert "only waiting jobs" in problem["detail"]


async def test_a_final_job_is_forgotten_with_its_outputs(site: Site) -> None:
    store = site.store
    job = await a_running_job(store)
    head = store.outputs.head(job.id, 1)
    head.write_bytes(framed(Stream.STDOUT, b"said"))
    async with site.signed_in("mara") as session:
        async with session.delete(f"/api/v1/jobs/{job.id}") as answer:
            assert answer.status == 409
        assert head.exists()
        await store.exchange([ending(store, job, output=OutputSize(4, 0, 0))], Claim())
        async with session.delete(f"/api/v1/jobs/{job.id}", json={"reason": "private"}) as answer:
            assert answer.status == 204
        async with session.delete(f"/api/v1/jobs/{job.id}") as answer:
            assert answer.status == 404
    assert not head.exists()
    with pytest.raises(NotFoundError):
        await store.job(job.id)
    [entry] = (await store.audit_entries(None, 1)).items
    assert (entry.action, entry.reason) == ("job.delete", "private")


async def test_a_queue_may_hold_what_is_new(store: SqliteStore, tmp_path: Path) -> None:
    queue = QueueSettings(name="slow", command=("true",), hold_new=True)
    async with (
        a_site(some_settings(tmp_path, queues={"slow": queue}), store) as site,
        site.signed_in("olga") as session,
    ):
        for said, state in (({}, State.HELD), ({"hold": False}, State.QUEUED)):
            body = {"queue": "slow", "payload": 1, **said}
            async with session.post("/api/v1/jobs", json=body) as answer:
                assert answer.status == 201
                assert (await answer.json(content_type=None))["state"] == state
