"""Chores: one a file, all run by the same periodic loop."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pq_daemon.runtime import systemd
from pq_daemon.runtime.periodic import periodically
from pq_daemon.runtime.tasks import beside
from pq_daemon.upkeep.checkpoint import CHECKPOINT_EVERY, checkpoint
from pq_daemon.upkeep.prune import PRUNE_EVERY, forget_the_old
from pq_daemon.upkeep.sessions import FORGET_EVERY, forget_old_sessions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pq_daemon.config.settings import RetentionSettings
    from pq_daemon.store.protocol import Store


@asynccontextmanager
async def run_upkeep(
    store: Store, retention: Callable[[], RetentionSettings]
) -> AsyncIterator[None]:
    """Run every chore while the block runs. `retention` gives the settings in force."""
    async with beside(_chores(store, retention), name="upkeep"):
        yield


async def _chores(store: Store, retention: Callable[[], RetentionSettings]) -> None:
    async def beat() -> None:
        systemd.beat()

    async def forget() -> None:
        await forget_the_old(store, retention())

    async def sweep_sessions() -> None:
        await forget_old_sessions(store)

    async def move_the_log() -> None:
        await checkpoint(store)

    async with asyncio.TaskGroup() as tasks:
        for chore, every in (
            (move_the_log, CHECKPOINT_EVERY),
            (sweep_sessions, FORGET_EVERY),
            (forget, PRUNE_EVERY),
        ):
            tasks.create_task(periodically(chore, every=every, name=chore.__name__))
        interval = systemd.watchdog_interval()
        if interval is not None:  # a task of the loop: a hung loop must stop beating
            tasks.create_task(periodically(beat, every=interval, name="watchdog"))
