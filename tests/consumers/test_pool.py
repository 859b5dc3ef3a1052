"""The pool: slots, limits, order, reload, drain, and what happens when something breaks."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from pq_daemon.config.settings import BackoffSettings
from pq_daemon.consumers.handlers import command
from pq_daemon.consumers.pool import run_consumers
from pq_daemon.errors import StoreError
from pq_daemon.jobs.model import QueueName
from pq_daemon.jobs.order import Moment, Priority
from pq_daemon.jobs.states import Event, Outcome, State
from pq_daemon.jobs.status import SlotState
from pq_daemon.runtime import processes
from pq_daemon.store.engines import open_store
from tests.consumers.shop import Shop, a_queue, a_shop, configure_store, python, settings_for, shell
from tests.support.builders import PERSON
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from pq_daemon.store.protocol import Exchange

GATED = """
import asyncio
running = 0
most = 0
begun = []
gate = asyncio.Event()
async def work(job):
    global running, most
    begun.append(job.id)
    running += 1
    most = max(most, running)
    await gate.wait()
    running -= 1
async def tell(job):
    return {"most": most, "begun": begun}
async def open_gate(job):
    gate.set()
"""


def gated(directory: Path, **limits: int) -> dict[str, Any]:
    """Queues whose jobs wait until the queue `gate` has run a job."""
    (directory / "gated.py").write_text(GATED)
    queues = {
        name: a_queue(python="gated:work", isolation="loop", concurrency=limit)
        for name, limit in limits.items()
    }
    queues["gate"] = a_queue(python="gated:open_gate", isolation="loop")
    queues["tell"] = a_queue(python="gated:tell", isolation="loop")
    return queues


async def test_no_more_run_than_there_are_slots(tmp_path: Path) -> None:
    async with a_shop(tmp_path, shell("sleep 0.02"), workers=3) as shop:
        jobs = [await shop.submit() for _ in range(12)]
        most = 0
        while not all([(await shop.job(job)).is_final for job in jobs]):
            most = max(most, shop.pool.busy)
            assert len(shop.pool.slots()) == 3
        attempts = [await shop.only_attempt(job) for job in jobs]
    assert most == 3
    assert {attempt.slot for attempt in attempts} == {1, 2, 3}


async def test_a_queues_limit_holds(tmp_path: Path) -> None:
    async with a_shop(tmp_path, queues=gated(tmp_path, narrow=2), workers=6) as shop:
        jobs = [await shop.submit("narrow") for _ in range(5)]
        await wait_until(lambda: shop.pool.busy == 2, what="two running")
        await shop.run("gate")
        for job in jobs:
            await shop.ended(job)
        assert '"most": 2' in ((await shop.run("tell")).result or "")


async def test_a_persons_limit_wins_at_once(tmp_path: Path) -> None:
    async with a_shop(tmp_path, queues=gated(tmp_path, wide=0), workers=6) as shop:
        await shop.store.limit(QueueName("wide"), 1, PERSON)
        for _ in range(4):
            await shop.submit("wide")
        await wait_until(lambda: shop.pool.busy == 1, what="one running")
        await shop.store.limit(QueueName("wide"), 3, PERSON)
        await wait_until(lambda: shop.pool.busy == 3, what="three running")
        await shop.run("gate")


async def test_a_paused_queue_waits_for_its_resumption(tmp_path: Path) -> None:
    async with a_shop(tmp_path, shell("true")) as shop:
        await shop.store.pause(QueueName("files"), PERSON)
        job = await shop.submit()
        await shop.store.healthy()
        assert (await shop.job(job)).state is State.QUEUED
        await shop.store.resume(QueueName("files"), PERSON)
        assert (await shop.ended(job)).state is State.SUCCEEDED


async def test_priorities_go_across_queues(tmp_path: Path) -> None:
    """One slot: whichever queue's head has the lowest rank goes next."""
    log = tmp_path / "log"
    queues = {name: shell(f"echo $PQ_JOB_ID >> {log}") for name in ("first", "second", "third")}
    queues["blocker"] = shell("echo on; sleep 60")
    async with a_shop(tmp_path, queues=queues, workers=1) as shop:
        blocker = await shop.submit("blocker")
        await shop.says(blocker, b"on")
        idle = await shop.submit("first", priority=Priority.IDLE)
        normal = await shop.submit("second")
        urgent = await shop.submit("third", priority=Priority.URGENT)
        high = await shop.submit("first", priority=Priority.HIGH)
        later = await shop.submit("third")
        await shop.store.act(blocker.id, Event.CANCEL, PERSON)
        for job in (idle, normal, urgent, high, later):
            await shop.ended(job)
    assert log.read_text().split() == [str(job.id) for job in (urgent, high, normal, later, idle)]


async def test_a_scheduled_job_runs_when_it_is_due(tmp_path: Path) -> None:
    async with a_shop(tmp_path, shell("true")) as shop:
        due = Moment(shop.store.now() + 150)
        job = await shop.submit(run_at=due)
        assert job.state is State.SCHEDULED
        job = await shop.ended(job)
        attempt = await shop.only_attempt(job)
    assert due <= attempt.started_at < due + 1000


async def test_a_slot_tells_what_it_does(tmp_path: Path) -> None:
    async with a_shop(tmp_path, shell("echo on; sleep 60"), workers=2) as shop:
        job = await shop.submit()
        await shop.says(job, b"on")
        running, idle = shop.pool.slots()
        assert (running.slot, running.state, running.job) == (1, SlotState.RUNNING, job.id)
        assert (running.queue, running.attempt, running.name) == ("files", 1, None)
        assert running.since == (await shop.job(job)).started_at
        assert (idle.slot, idle.state, idle.job) == (2, SlotState.IDLE, None)
        await shop.store.act(job.id, Event.CANCEL, PERSON)
        await shop.ended(job)


# --- reload --------------------------------------------------------------------------------------


async def test_more_slots_are_there_at_once(tmp_path: Path) -> None:
    queues = gated(tmp_path, wide=0)
    async with a_shop(tmp_path, queues=queues, workers=1) as shop:
        for _ in range(3):
            await shop.submit("wide")
        await wait_until(lambda: shop.pool.busy == 1, what="one running")
        await shop.pool.configure(settings_for(tmp_path, queues, workers=4), 1)
        await wait_until(lambda: shop.pool.busy == 3, what="three running")
        assert len(shop.pool.slots()) == 4


async def test_slots_that_are_too_many_go_when_they_become_idle(tmp_path: Path) -> None:
    queue = shell("echo on; sleep 60")
    async with a_shop(tmp_path, queue, workers=3) as shop:
        jobs = [await shop.submit() for _ in range(3)]
        for job in jobs:
            await shop.says(job, b"on")
        await shop.pool.configure(settings_for(tmp_path, {"files": queue}, workers=1), 1)
        assert shop.pool.busy == 3  # what runs is not touched
        for job in jobs:
            await shop.store.act(job.id, Event.CANCEL, PERSON)
            await shop.ended(job)
        await wait_until(lambda: len(shop.pool.slots()) == 1, what="one slot")
        late = await shop.submit()
        await shop.says(late, b"on")
        assert (await shop.only_attempt(late)).slot == 1


async def test_a_running_attempt_keeps_its_configuration(tmp_path: Path) -> None:
    before = shell("echo on; read x < fifo; exit 3", cwd=tmp_path, max_attempts=1)
    after = shell("exit 0", max_attempts=1)
    os.mkfifo(tmp_path / "fifo")
    async with a_shop(tmp_path, before) as shop:
        job = await shop.submit()
        await shop.says(job, b"on")
        config = await shop.store.remember_config("another")
        await shop.pool.configure(settings_for(tmp_path, {"files": after}), config)
        (tmp_path / "fifo").write_text("go\n")
        job = await shop.ended(job)
        new = await shop.run()
        assert (job.error, new.state) == ("exit 3", State.SUCCEEDED)
        assert (await shop.only_attempt(job)).config == 1
        assert (await shop.only_attempt(new)).config == config


async def test_a_queue_that_is_gone_from_the_configuration_claims_nothing(tmp_path: Path) -> None:
    queues = {"files": shell("true"), "other": shell("true")}
    async with a_shop(tmp_path, queues=queues) as shop:
        settings = settings_for(tmp_path, {"files": queues["files"]})
        await configure_store(shop.store, settings)
        await shop.pool.configure(settings, 1)
        assert (await shop.run()).state is State.SUCCEEDED


# --- drain ---------------------------------------------------------------------------------------


async def test_a_drain_waits_for_what_runs_and_claims_nothing(tmp_path: Path) -> None:
    async with a_shop(tmp_path, shell("echo on; sleep 0.3"), workers=1) as shop:
        first = await shop.submit()
        second = await shop.submit()
        await shop.says(first, b"on")
        assert await shop.pool.drain(10) == 0
        assert (await shop.job(first)).state is State.SUCCEEDED
        assert (await shop.job(second)).state is State.QUEUED
        assert shop.pool.busy == 0


async def test_ten_long_commands_are_interrupted_within_the_limit(tmp_path: Path) -> None:
    async with a_shop(tmp_path, shell("echo on; sleep 60", kill_grace=10), workers=10) as shop:
        jobs = [await shop.submit() for _ in range(10)]
        for job in jobs:
            await shop.says(job, b"on")
        begun = time.monotonic()
        assert await shop.pool.drain(0.2) == 10
        took = time.monotonic() - begun
        assert processes.find_by_token(shop.store.epoch.token) == []
        for job in jobs:
            job = await shop.job(job)  # noqa: PLW2901 - the same job, later
            assert (job.state, job.spent) == (State.QUEUED, 0)
            assert (await shop.only_attempt(job)).outcome is Outcome.INTERRUPTED
    assert took < 5


async def test_a_command_that_ignores_the_drain_is_killed(tmp_path: Path) -> None:
    script = "trap '' TERM; echo on; while :; do sleep 0.1; done"
    async with a_shop(tmp_path, shell(script, kill_grace=0.3)) as shop:
        job = await shop.submit()
        await shop.says(job, b"on")
        assert await shop.pool.drain(0.0) == 1
        assert processes.find_by_token(shop.store.epoch.token) == []
        attempt = await shop.only_attempt(job)
    assert (attempt.outcome, attempt.signal) == (Outcome.INTERRUPTED, 9)


async def test_the_second_signal_kills_at_once(tmp_path: Path) -> None:
    script = "trap '' TERM; echo on; while :; do sleep 0.1; done"
    async with a_shop(tmp_path, shell(script, kill_grace=60)) as shop:
        job = await shop.submit()
        await shop.says(job, b"on")
        begun = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            drained = tasks.create_task(shop.pool.drain(60))
            await asyncio.sleep(0)
            shop.pool.kill_now()
        assert drained.result() == 1
        assert (await shop.job(job)).state is State.QUEUED
    assert time.monotonic() - begun < 5


async def test_a_block_that_ends_without_a_drain_leaves_nothing(tmp_path: Path) -> None:
    async with a_shop(tmp_path, shell("echo on; sleep 60")) as shop:
        job = await shop.submit()
        await shop.says(job, b"on")
        store, token = shop.store, shop.store.epoch.token
    assert processes.find_by_token(token) == []
    assert not store.outputs.tails(job.id, 1)[0].exists()
    async with open_store(tmp_path / "state") as store:
        assert (await store.job(job.id)).state is State.QUEUED


# --- trouble -------------------------------------------------------------------------------------


async def test_an_error_of_the_block_comes_out_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="of the block"):  # noqa: PT012
        async with a_shop(tmp_path, shell("echo on; sleep 60")) as shop:
            await shop.says(await shop.submit(), b"on")
            raise RuntimeError("of the block")


async def test_a_crash_of_the_pool_comes_out_and_every_job_is_handed_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(tmp_path / "state") as store:
        settings = settings_for(
            tmp_path, {"files": shell("echo on; sleep 60"), "bad": shell("true")}
        )
        await configure_store(store, settings)
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
            async with run_consumers(settings, store, await store.remember_config("x")) as pool:
                shop = Shop(tmp_path, store, pool, settings)
                jobs = [await shop.submit() for _ in range(2)]
                for job in jobs:
                    await shop.says(job, b"on")

                def broken(*_: object) -> None:
                    raise LookupError("a bug")

                monkeypatch.setattr(command, "exited", broken)
                jobs.append(await shop.submit("bad"))
                await asyncio.sleep(30)
        assert caught.group_contains(LookupError, match="a bug")
        assert processes.find_by_token(store.epoch.token) == []
        for job in jobs:
            assert (await store.job(job.id)).state is State.QUEUED
            [attempt] = await store.attempts(job.id)
            assert attempt.outcome is Outcome.INTERRUPTED


async def test_what_a_failing_store_could_not_take_is_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit happened or not, nobody knows: each job still ends once, and none is forgotten."""
    monkeypatch.setattr("pq_daemon.consumers.dispatcher.AGAIN", 0.05)
    async with a_shop(tmp_path, shell("true"), workers=2) as shop:
        real = shop.store.exchange
        fails = iter(["before", None, "after", None, None, "after", "before"])

        async def failing(*given: Any) -> Exchange:
            how = next(fails, None)
            if how == "before":
                raise StoreError("the disk is full")
            answer = await real(*given)
            if how == "after":
                raise StoreError("it may or may not be kept")
            return answer

        monkeypatch.setattr(shop.store, "exchange", failing)
        jobs = [await shop.submit() for _ in range(10)]
        for job in jobs:
            assert (await shop.ended(job)).state is State.SUCCEEDED
            outcomes = [attempt.outcome for attempt in await shop.attempts(job)]
            assert outcomes[-1] is Outcome.SUCCEEDED
            assert set(outcomes[:-1]) <= {Outcome.INTERRUPTED}
            assert (await shop.job(job)).spent == 0


async def test_a_store_that_fails_for_good_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pq_daemon.consumers.dispatcher.AGAIN", 0.02)
    monkeypatch.setattr("pq_daemon.consumers.pool.GIVE_UP", 0.1)
    begun = time.monotonic()
    async with a_shop(tmp_path, shell("echo on; sleep 60")) as shop:
        job = await shop.submit()
        await shop.says(job, b"on")

        async def failing(*_: Any) -> Exchange:
            raise StoreError("the disk is full")

        monkeypatch.setattr(shop.store, "exchange", failing)
    assert time.monotonic() - begun < 15
    async with open_store(tmp_path / "state") as store:
        [orphan] = await store.orphans()
    assert orphan.job.id == job.id  # the next start will close it


async def test_backoff_grows(tmp_path: Path) -> None:
    backoff = BackoffSettings(base=0.05, factor=4.0, max=10.0, jitter=0.0)
    async with a_shop(tmp_path, shell("exit 1", max_attempts=3, backoff=backoff)) as shop:
        job = await shop.run()
        first, second, third = await shop.attempts(job)
    assert second.started_at - (first.finished_at or 0) >= 50
    assert third.started_at - (second.finished_at or 0) >= 200


async def test_thousands_of_functions_run_once_each(tmp_path: Path) -> None:
    source = """
seen = []
async def work(job):
    seen.append(job.payload)
async def tell(job):
    return len(seen), len(set(seen))
"""
    queue = python(source, tmp_path)
    module = (queue.python or "").partition(":")[0]
    queues = {"files": queue, "tell": a_queue(python=f"{module}:tell", isolation="loop")}
    async with a_shop(tmp_path, queues=queues, workers=32) as shop:
        for start in range(0, 2000, 100):
            async with asyncio.TaskGroup() as tasks:
                for number in range(start, start + 100):
                    tasks.create_task(shop.submit(payload=str(number)))

        async def all_ended() -> bool:
            [record, _] = await shop.store.queues()
            return record.counts.get(State.SUCCEEDED) == 2000

        await wait_until(all_ended, timeout=30, what="the end of all")
        assert (await shop.run("tell")).result == "[2000, 2000]"
