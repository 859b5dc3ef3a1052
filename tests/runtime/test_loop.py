"""Signals, chores and tasks beside a block: everything has an owner and an end."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from pq_daemon.runtime.periodic import periodically
from pq_daemon.runtime.signals import received
from pq_daemon.runtime.tasks import beside
from tests.support.waiting import wait_until


async def test_signals_come_in_their_order_and_the_default_is_back_after() -> None:
    with received(signal.SIGUSR1, signal.SIGUSR2) as signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert await signals.next() is signal.SIGUSR1
        os.kill(os.getpid(), signal.SIGUSR2)
        async for number in signals:
            assert number is signal.SIGUSR2
            break
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


async def test_a_chore_runs_at_once_again_when_nudged_and_after_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nudge = asyncio.Event()
    turns: list[int] = []

    async def chore() -> None:
        turns.append(len(turns))
        if len(turns) == 1:
            raise ValueError("a bad turn")

    async with beside(periodically(chore, every=3600, name="test", nudge=nudge), name="test"):
        await wait_until(lambda: turns == [0])
        nudge.set()
        await wait_until(lambda: turns == [0, 1])
    assert [record.message for record in caplog.records] == ["chore failed"]


async def test_a_chore_runs_again_after_its_interval() -> None:
    turns = []

    async def chore() -> None:
        turns.append(1)

    async with beside(periodically(chore, every=0.01, name="test"), name="test"):
        await wait_until(lambda: len(turns) >= 3)


async def test_the_blocks_error_comes_out_as_itself() -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    with pytest.raises(KeyError):
        async with beside(work(), name="test"):
            raise KeyError("mine")


async def test_a_crash_beside_the_block_ends_the_block() -> None:
    async def crash() -> None:
        raise ZeroDivisionError

    with pytest.raises(BaseExceptionGroup) as group:
        async with beside(crash(), name="test"):
            await asyncio.Event().wait()
    assert group.group_contains(ZeroDivisionError)


async def test_a_stop_lets_the_work_end_by_itself() -> None:
    asked, done = asyncio.Event(), []

    async def work() -> None:
        await asked.wait()
        done.append(True)

    async def stop() -> None:
        asked.set()

    async with beside(work(), name="test", stop=stop):
        pass
    assert done == [True]
