"""A new configuration is loaded whole, compared and applied, or the old one stays in force.

Nothing is touched before the file has been validated. Keys that need a restart keep their old
value in the configuration in force and are named in the answer. Reloads go one after the other.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pq_daemon.config.difference import Changes, changes, with_restart_keys_of
from pq_daemon.config.loading import check_in_force
from pq_daemon.config.problems import ConfigurationError
from pq_daemon.jobs.model import QueueName
from pq_daemon.runtime import logs
from pq_daemon.server.controls import Reloaded
from pq_daemon.store.feed import Fact
from pq_daemon.store.protocol import QueueEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from pq_daemon.config import Settings
    from pq_daemon.consumers.pool import Pool
    from pq_daemon.producer.folders import Producer
    from pq_daemon.server.serving import Server
    from pq_daemon.store.protocol import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rooms:
    """What a reload tells about a new configuration."""

    store: Store
    server: Server
    pool: Pool
    producer: Producer


class Reloader:
    """The configuration in force, and the way to the next one."""

    def __init__(self, settings: Settings, load: Callable[[], Settings]) -> None:
        self.settings = settings
        self.last: Reloaded | None = None
        self._load = load
        self._turn = asyncio.Lock()

    async def reload(self, rooms: Rooms) -> Reloaded:
        """Apply the file as it is now, or say what is wrong with it."""
        async with self._turn:
            try:
                changed, settings = await asyncio.to_thread(self._next)
            except ConfigurationError as error:
                self.last = self._refuse(rooms.store, error)
            else:
                self.last = await self._apply(rooms, changed, settings)
            return self.last

    def _next(self) -> tuple[Changes, Settings]:
        """Load, compare, and check once more what would be in force: in a thread, it blocks."""
        wanted = self._load()
        settings = with_restart_keys_of(self.settings, wanted)
        check_in_force(settings)
        return changes(self.settings, wanted), settings

    def _refuse(self, store: Store, error: ConfigurationError) -> Reloaded:
        for line in error.lines():
            log.error("configuration refused", extra={"problem": line})
        store.feed.tell(
            [Fact("config.refused", data={"problems": len(error.problems)})], store.now()
        )
        return Reloaded(store.now(), problems=error.problems)

    async def _apply(self, rooms: Rooms, changed: Changes, settings: Settings) -> Reloaded:
        await apply(rooms, settings)
        self.settings = settings
        done = Reloaded(rooms.store.now(), changed.live, changed.restart)
        log.info(
            "configuration reloaded",
            extra={"changed": ", ".join(done.changed), "restart": ", ".join(done.restart)},
        )
        rooms.store.feed.tell(
            [Fact("config.reloaded", data={"changed": list(done.changed)})], rooms.store.now()
        )
        return done


async def apply(rooms: Rooms, settings: Settings) -> None:
    """Tell every room, those that take work in last: what they accept has a place to go."""
    configure_logs(settings)
    number = await configure_store(rooms.store, settings)
    rooms.server.configure(settings)
    await rooms.pool.configure(settings, number)
    await rooms.producer.configure(settings)


async def configure_store(store: Store, settings: Settings) -> int:
    """Make the store's queues the file's; return the number the configuration is kept under."""
    await store.configure_queues(
        [
            QueueEntry(QueueName(name), queue.handler, queue.concurrency, queue.paused)
            for name, queue in settings.queues.items()
        ]
    )
    return await store.remember_config(settings.text)


def configure_logs(settings: Settings) -> None:
    daemon = settings.daemon
    logs.configure(level=daemon.log_level, form=daemon.log_format, file=daemon.log_file)
