"""Chores: one a file, all run by the same periodic loop."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pq_daemon.runtime import systemd
from pq_daemon.runtime.periodic import periodically
from pq_daemon.runtime.tasks import beside
from pq_daemon.upkeep.checkpoint import CHECKPOINT_EVERY, checkpoint
from pq_daemon.upkeep.sessions import FORGET_EVERY, forget_old_sessions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pq_daemon.store.protocol import Store


@asynccontextmanager
async def run_upkeep(store: Store) -> AsyncIterator[None]:
    """Run every chore while the block runs."""
    async with beside(_chores(store), name="upkeep"):
        yield


async def _chores(store: Store) -> None:
    async def beat() -> None:
        systemd.beat()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(
            periodically(lambda: checkpoint(store), every=CHECKPOINT_EVERY, name="checkpoint")
        )
        tasks.create_task(
            periodically(lambda: forget_old_sessions(store), every=FORGET_EVERY, name="sessions")
        )
        interval = systemd.watchdog_interval()
        if interval is not None:  # a task of the loop: a hung loop must stop beating
            tasks.create_task(periodically(beat, every=interval, name="watchdog"))
