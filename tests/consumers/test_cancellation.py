"""Cancellation of the pool itself, at any moment: every job is handed back, nothing lives on."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from pq_daemon.consumers.pool import run_consumers
from pq_daemon.consumers.threads import own_threads
from pq_daemon.jobs.states import State
from pq_daemon.runtime import processes
from pq_daemon.store.engines import open_store
from tests.consumers.shop import Shop, a_shop, configure_store, python, settings_for, shell, written

if TYPE_CHECKING:
    from pathlib import Path

    from pq_daemon.config.settings import Settings
    from pq_daemon.store.sqlite.engine import SqliteStore


async def a_life(settings: Settings, store: SqliteStore, jobs: int) -> None:
    """Run a pool with jobs until cancelled."""
    async with run_consumers(settings, store, 1) as pool:
        shop = Shop(settings.directory, store, pool, settings)
        for number in range(jobs):
            await shop.submit(("files", "loop", "output", "worker")[number % 4])
        await asyncio.Event().wait()


@pytest.mark.parametrize("seed", range(8))
async def test_cancelled_at_a_random_moment(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    source = (
        "import asyncio\nasync def work(job):\n    job.log('x')\n    await asyncio.sleep(0.02)\n"
    )
    queues = {
        "files": shell("echo on; sleep 0.03"),
        "loop": python(source, tmp_path),
        "output": shell('echo x > "$PQ_OUTPUT"', output="made/{job_id}"),
        "worker": python(source, tmp_path, isolation="process"),
    }
    settings = settings_for(tmp_path, queues, workers=4)
    async with open_store(tmp_path / "state") as store:
        await configure_store(store, settings)
        for _ in range(4):
            life = asyncio.ensure_future(a_life(settings, store, 12))  # noqa: TID251
            await asyncio.sleep(chance.random() * 0.15)
            life.cancel()
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() * 0.01)
                life.cancel()
            with suppress(asyncio.CancelledError):
                await life
            records = await store.queues()
            assert sum(record.counts.get(State.RUNNING, 0) for record in records) == 0
            assert processes.find_by_token(store.epoch.token) == []
        async with run_consumers(settings, store, 1) as pool:
            await pool.drain(60)
            pool._dispatcher.claims = True
            pool._dispatcher.wake()
            await _until_all_ended(store)
        records = await store.queues()
        assert all(
            record.counts.get(State.SUCCEEDED, 0) == sum(record.counts.values())
            for record in records
        )
    assert not [p for p in (tmp_path / "made").iterdir() if p.name.startswith(".pq-")]


async def _until_all_ended(store: SqliteStore) -> None:
    async with asyncio.timeout(30):
        while True:
            records = await store.queues()
            live = {State.QUEUED, State.RUNNING, State.RETRYING, State.SCHEDULED}
            if not sum(r.counts.get(state, 0) for r in records for state in live):
                return
            await store.healthy()


async def test_what_must_be_seen_through_is(tmp_path: Path) -> None:
    begun, done = asyncio.Event(), []
    loop = asyncio.get_running_loop()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def work() -> str:
        loop.call_soon_threadsafe(begun.set)
        fifo.read_bytes()
        done.append(True)
        return "done"

    async with own_threads() as threads, asyncio.TaskGroup() as tasks:
        task = tasks.create_task(threads.see_through(work))
        await begun.wait()
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        await asyncio.to_thread(fifo.write_bytes, b"go")
        assert await task == "done"
        assert task.cancelling() == 1


async def test_a_cancelled_pool_ends_commands_and_tells_so(tmp_path: Path) -> None:
    async with open_store(tmp_path / "state") as store:
        settings = settings_for(tmp_path, {"files": shell("echo on; sleep 60")})
        await configure_store(store, settings)
        job = None
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5), run_consumers(settings, store, 1) as pool:
                shop = Shop(tmp_path, store, pool, settings)
                job = await shop.submit()
                await asyncio.Event().wait()
        assert job is not None
        assert (await store.job(job.id)).state is State.QUEUED
        assert processes.find_by_token(store.epoch.token) == []


async def test_the_state_of_files_after_a_cancelled_copy(tmp_path: Path) -> None:
    """The input stays as it was, and the next pool does the whole work."""
    path = written(tmp_path / "in" / "a", b"content")
    queue = shell('cp "$PQ_PATH" "$PQ_OUTPUT"; echo on; [ $PQ_ATTEMPT = 1 ] && sleep 60; exit 0',
                  output="made/a")  # fmt: skip
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.submit_file(path)
        await shop.says(job, b"on")
    async with a_shop(tmp_path, queue) as shop:
        assert (await shop.ended(job)).state is State.SUCCEEDED
    assert (tmp_path / "made" / "a").read_bytes() == b"content"
