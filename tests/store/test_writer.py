"""The write queue: one commit a batch, only the culprit refused, leaving callers change nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest

from pq_daemon.errors import ConflictError, StoreError
from pq_daemon.jobs.states import State
from pq_daemon.store.protocol import JobFilter
from pq_daemon.store.sqlite import writer as module
from pq_daemon.store.sqlite.connection import on_connection
from tests.support.builders import PERSON, a_job, a_submission

if TYPE_CHECKING:
    from collections.abc import Callable

    from pq_daemon.store.sqlite.engine import SqliteStore
    from pq_daemon.store.sqlite.transaction import Transaction


def put(name: str, value: int) -> Callable[[Transaction], int]:
    def change(transaction: Transaction) -> int:
        transaction.change("INSERT INTO meta (name, value) VALUES (?, ?)", (name, value))
        transaction.count(1, "queued", value)
        return value

    return change


def refuse(transaction: Transaction) -> int:
    transaction.change("INSERT INTO meta (name, value) VALUES ('refused', 1)")
    transaction.count(1, "queued", 1000)
    raise ConflictError("no")


async def stored(store: SqliteStore) -> dict[str, int]:
    def read(connection: sqlite3.Connection) -> dict[str, int]:
        own = "SELECT name, value FROM meta WHERE name NOT IN ('clock', 'output_bytes')"
        return dict(connection.execute(own).fetchall())

    return await on_connection(store._writing, read)


async def test_changes_that_wait_together_share_one_commit(store: SqliteStore) -> None:
    commits = store._writer.commits
    async with asyncio.TaskGroup() as tasks:
        for number in range(100):
            tasks.create_task(store._writer.write(put(f"n{number}", number)))
    assert store._writer.commits - commits < 10
    assert len(await stored(store)) == 100


async def test_only_the_culprit_of_a_batch_is_refused(store: SqliteStore) -> None:
    async with asyncio.TaskGroup() as tasks:
        good = [tasks.create_task(store._writer.write(put(f"n{n}", n))) for n in range(5)]
        bad = asyncio.ensure_future(store._writer.write(refuse))  # noqa: TID251 - awaited below
        more = [tasks.create_task(store._writer.write(put(f"m{n}", n))) for n in range(5)]
        with pytest.raises(ConflictError):
            await bad
    assert [task.result() for task in good + more] == [0, 1, 2, 3, 4] * 2
    assert "refused" not in await stored(store)
    [queue] = await store.queues()
    assert queue.counts[State.QUEUED] == 20  # the culprit's delta went with it


async def test_sqlites_own_trouble_is_told_as_the_stores(store: SqliteStore) -> None:
    await store._writer.write(put("once", 1))
    with pytest.raises(StoreError, match="UNIQUE"):
        await store._writer.write(put("once", 2))
    assert await stored(store) == {"once": 1}


@pytest.mark.parametrize("hops", range(6))
async def test_a_caller_that_leaves_changes_nothing(store: SqliteStore, hops: int) -> None:
    """Cancel before, during and after the commit: the change happens, whole, and once."""
    task = asyncio.ensure_future(store.submit(a_submission(), PERSON))  # noqa: TID251 - awaited below
    for _ in range(hops):
        await asyncio.sleep(0)
    task.cancel()
    left = False
    try:
        await task
    except asyncio.CancelledError:
        left = True
    await store.healthy()
    jobs = (await store.jobs(JobFilter(), None, 10)).items
    assert len(jobs) == (0 if left and hops == 0 else 1)


async def test_a_full_inbox_slows_its_source(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INBOX", 1)
    writer = module.Writer(store._writing, store._clock, store.feed)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.write(put("a", 1)))
        tasks.create_task(writer.write(put("b", 1)))
        for _ in range(5):
            await asyncio.sleep(0)
        assert "waiting=1" in repr(writer)  # the second caller stands outside
        running = tasks.create_task(writer.run())
        await writer.write(put("c", 1))
        await writer.close()
        await running
    assert await stored(store) == {"a": 1, "b": 1, "c": 1}


async def test_after_the_close_nothing_is_taken(store: SqliteStore) -> None:
    await store._writer.close()
    with pytest.raises(StoreError, match="closed"):
        await a_job(store)


async def test_a_commit_that_fails_is_told_to_everyone_and_the_next_one_works(
    store: SqliteStore,
) -> None:
    def break_off(transaction: Transaction) -> None:
        transaction.connection.execute("COMMIT")  # the batch's own COMMIT will find nothing open

    with pytest.raises(StoreError, match="could not commit"):
        await store._writer.write(break_off)
    await a_job(store)


async def test_the_reading_connection_cannot_write(store: SqliteStore) -> None:
    def write(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM meta")

    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await on_connection(store._reading, write)
