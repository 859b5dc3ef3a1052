"""Behind a daemon that died: survivors ended, orphans closed, published outputs honoured."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pq_daemon.config.settings import RetentionSettings
from pq_daemon.jobs.states import Outcome, Reason, State
from pq_daemon.runtime.processes import find_by_token
from pq_daemon.store.engines import open_store
from pq_daemon.store.outputs import Stream, framed
from pq_daemon.store.protocol import Orphan, Publication, QueueEntry
from pq_daemon.upkeep import run_upkeep
from pq_daemon.upkeep.rescue import rescue
from tests.support.builders import FILES, a_claim, a_job, a_running_job, an_identity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pq_daemon.jobs.model import Job
    from pq_daemon.store.protocol import Epoch, Store
    from pq_daemon.store.sqlite.engine import SqliteStore


@asynccontextmanager
async def life(state_dir: Path, *, dies: bool = False) -> AsyncIterator[SqliteStore]:
    """One epoch; `dies` leaves it as kill -9 would: never ended."""
    async with open_store(state_dir) as store:
        await store.configure_queues([QueueEntry(FILES, "command", 0, False)])
        yield store
        if dies:
            await store._writer.write(
                lambda transaction: transaction.change(
                    "CREATE TEMP TRIGGER never BEFORE UPDATE OF ended_at ON epochs"
                    " BEGIN SELECT raise(IGNORE); END"
                )
            )


async def clean_up(store: Store, *, published: bool = False) -> int:
    def was_published(_: Orphan) -> bool:
        return published

    return await rescue(store, was_published=was_published, afters=lambda _: (None, None))


async def left_running(state_dir: Path) -> tuple[Job, Epoch]:
    async with life(state_dir, dies=True) as store:
        return await a_running_job(store), store.epoch


async def test_a_running_job_is_closed_as_lost_and_queued_again(tmp_path: Path) -> None:
    job, _ = await left_running(tmp_path / "state")
    async with life(tmp_path / "state") as store:
        assert await clean_up(store) == 1
        again = await store.job(job.id)
        [attempt] = await store.attempts(job.id)
        assert (again.state, again.spent) == (State.QUEUED, 0)
        assert (attempt.outcome, attempt.reason) == (Outcome.LOST, "the daemon died")
        assert await store.dead_epochs() == []
        assert await clean_up(store) == 0


async def test_the_output_so_far_is_kept(tmp_path: Path) -> None:
    job, _ = await left_running(tmp_path / "state")
    half = framed(Stream.STDOUT, b"page 1\n")
    (tmp_path / "state/output" / f"{job.id}-1.out").write_bytes(half + half[:4])
    async with life(tmp_path / "state") as store:
        await clean_up(store)
        assert await store.inline_output(job.id, 1) == half
        assert not (tmp_path / "state/output" / f"{job.id}-1.out").exists()
        [attempt] = await store.attempts(job.id)
        assert attempt.output.stdout == len(b"page 1\n")


async def test_the_third_death_in_a_row_quarantines_its_job(tmp_path: Path) -> None:
    job, _ = await left_running(tmp_path / "state")
    for last in (False, False, True):
        async with life(tmp_path / "state", dies=not last) as store:
            await clean_up(store)
            if not last:
                await store.exchange([], a_claim())
    async with life(tmp_path / "state") as store:
        ended = await store.job(job.id)
        assert (ended.state, ended.reason) == (State.FAILED, Reason.QUARANTINED)


async def test_survivors_are_ended_by_their_token(tmp_path: Path) -> None:
    """Also one that left its session, and one whose job has ended: the token tells."""
    _, epoch = await left_running(tmp_path / "state")
    sleeping = [sys.executable, "-c", "import time, sys; print(flush=True); time.sleep(600)"]
    environment = {**os.environ, "PQ_TOKEN": f"{epoch.token}.77.1"}
    with subprocess.Popen(  # noqa: ASYNC220 - a survivor is not ours to await
        sleeping, env=environment, start_new_session=True, stdout=subprocess.PIPE
    ) as survivor:
        assert survivor.stdout is not None
        survivor.stdout.readline()
        async with life(tmp_path / "state") as store:
            await clean_up(store)
        survivor.wait(10)
    assert find_by_token(epoch.token) == []


async def test_a_published_output_makes_the_orphan_a_success(tmp_path: Path) -> None:
    async with life(tmp_path / "state", dies=True) as store:
        job = await a_running_job(store)
        await store.publishing(job.id, 1, Publication(b"/x/.pq-1", b"/x/a", an_identity(), 0))
    async with life(tmp_path / "state") as store:
        [orphan] = await store.orphans()
        assert orphan.publication is not None
        assert orphan.publication.target == b"/x/a"
        await clean_up(store, published=True)
        assert (await store.job(job.id)).state is State.SUCCEEDED


async def test_a_clean_stop_leaves_nothing_to_rescue(tmp_path: Path) -> None:
    async with life(tmp_path / "state") as store:
        await a_job(store)
    async with life(tmp_path / "state") as store:
        assert await clean_up(store) == 0


async def test_the_chores_run_beside_and_end_with_the_block(store: SqliteStore) -> None:
    async with run_upkeep(store, RetentionSettings):
        await store.healthy()
