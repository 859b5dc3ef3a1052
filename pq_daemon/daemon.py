"""The composition root: what starts, in what order, what stops in reverse. It sees every room.

The signals stand outside everything, so none finds us deaf; the store outside every task, so what
crashes can still hand its jobs back. The producer starts last and stops first: nothing new comes
in while the consumers drain. Whatever ends us unexpectedly is told and exits 1; what we were asked
exits 0.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING

from pq_daemon.consumers.pool import Pool, run_consumers
from pq_daemon.consumers.publishing import finish_or_remove
from pq_daemon.consumers.settling import afters
from pq_daemon.errors import StoreError
from pq_daemon.inspection import asking
from pq_daemon.producer.folders import Producer, watch_folders
from pq_daemon.reload import Reloader, Rooms, configure_logs, configure_store
from pq_daemon.runtime import systemd
from pq_daemon.runtime.signals import Signals, received
from pq_daemon.server.serving import Server, serve
from pq_daemon.store.engines import open_store
from pq_daemon.store.feed import Fact
from pq_daemon.store.protocol import Actor
from pq_daemon.upkeep import run_upkeep
from pq_daemon.upkeep.rescue import rescue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from pq_daemon.config import Settings
    from pq_daemon.jobs.model import JobId, Progress, WatchName
    from pq_daemon.jobs.order import Moment
    from pq_daemon.jobs.status import SlotStatus, WatchStatus
    from pq_daemon.server.controls import Phase, Reloaded
    from pq_daemon.store.protocol import Store

log = logging.getLogger(__name__)

ENDS = frozenset({signal.SIGTERM, signal.SIGINT})


def nothing() -> None:
    """What to do when nobody waits for us to be ready."""


async def run(
    settings: Settings, *, load: Callable[[], Settings], on_ready: Callable[[], None] = nothing
) -> int:
    """Run the daemon until a signal ends it; return the exit status.

    Args:
        settings: validated.
        load: reads the configuration again, for a reload.
        on_ready: called once everything is up.

    Raises:
        StoreHeldError: another daemon holds the state directory.
        PqError: the store or the server cannot be started; the message says why.

    """
    configure_logs(settings)
    try:
        with received(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with open_store(
                settings.daemon.state_dir, synchronous=settings.store.synchronous
            ) as store:
                await Daemon(store, settings, load).live(signals, on_ready)
    except BaseExceptionGroup:
        log.critical("the daemon met its own bug and ends", exc_info=True)
        return 1
    log.info("stopped")
    return 0


class Daemon:
    """One life: start, attend to signals, drain. Also what the server may ask of it."""

    def __init__(self, store: Store, settings: Settings, load: Callable[[], Settings]) -> None:
        self.phase: Phase = "starting"
        self._store = store
        self._reloader = Reloader(settings, load)
        self._server: Server | None = None
        self._pool: Pool | None = None
        self._producer: Producer | None = None

    def __repr__(self) -> str:
        return f"<Daemon {self.phase} {self._store!r} {self._pool!r}>"

    async def live(self, signals: Signals, on_ready: Callable[[], None]) -> None:
        store, settings = self._store, self.settings
        number = await configure_store(store, settings)
        await rescue(
            store,
            was_published=finish_or_remove,
            afters=lambda orphan: afters(settings, orphan.job),
        )
        async with (
            run_upkeep(store, lambda: self.settings.store.retention),
            serve(settings, store, self) as self._server,
            run_consumers(settings, store, number, out_of_reach=self._out_of_reach) as self._pool,
        ):
            async with watch_folders(settings, store) as self._producer:
                self._be_ready(on_ready)
                await self._attend(signals)
                self._begin_to_stop()
            await self._drain(signals)

    def _be_ready(self, on_ready: Callable[[], None]) -> None:
        self.phase = "running"
        self._tell("daemon.started")
        systemd.ready(f"Ready at {self.settings.server.listen}")
        log.info("ready", extra={"listen": self.settings.server.listen})
        on_ready()

    async def _attend(self, signals: Signals) -> None:
        """Reload as often as asked; return when asked to end."""
        async for number in signals:
            if number in ENDS:
                return
            actor = Actor("SIGHUP", "manager", "signal")
            await self._store.audit(actor, "config.reload")
            await self.reload(actor)

    def _begin_to_stop(self) -> None:
        self.phase = "stopping"
        limit = self.settings.daemon.drain_timeout
        busy = self._pool.busy if self._pool else 0
        jobs = "1 job" if busy == 1 else f"{busy} jobs"
        text = f"Stopping: {jobs} running, waiting up to {limit:g} s. Again stops now."
        systemd.stopping(text)
        log.warning(text)
        self._tell("daemon.stopping")

    async def _drain(self, signals: Signals) -> None:
        """Wait for running jobs; a second signal ends them at once."""
        pool = self._pool
        if pool is None:
            return
        async with asyncio.TaskGroup() as tasks:
            impatience = tasks.create_task(_kill_when_asked_again(signals, pool))
            interrupted = await pool.drain(self.settings.daemon.drain_timeout)
            impatience.cancel()
        log.info("drained", extra={"interrupted": interrupted})

    def _out_of_reach(self, root: bytes, at: Moment) -> str:
        if self._producer is None:
            return "the watched folders have not been looked at yet"
        return self._producer.out_of_reach(root, at)

    def _tell(self, fact: str) -> None:
        self._store.feed.tell([Fact(fact)], self._store.now())

    # what the server may ask

    @property
    def settings(self) -> Settings:
        return self._reloader.settings

    @property
    def last_reload(self) -> Reloaded | None:
        return self._reloader.last

    def slots(self) -> Sequence[SlotStatus]:
        return self._pool.slots() if self._pool else ()

    def watches(self) -> Sequence[WatchStatus]:
        return self._producer.statuses() if self._producer else ()

    def progress(self, job: JobId) -> Progress | None:
        return self._pool.progress(job) if self._pool else None

    def rescan(self, watch: WatchName) -> None:
        if self._producer is not None:
            self._producer.rescan(watch)

    async def explain(self, path: bytes) -> Mapping[str, Any]:
        return await asking.explained(path, self.settings)

    async def check(self) -> list[dict[str, Any]]:
        return await asking.checked(self.settings)

    async def diagnose(self) -> list[dict[str, Any]]:
        return await asking.diagnosed(self.settings, self._store)

    async def reload(self, actor: Actor) -> Reloaded:
        log.info("reloading", extra={"by": actor.name})
        systemd.reloading()
        try:
            return await self._reloader.reload(self._rooms())
        finally:
            systemd.ready(f"Ready at {self.settings.server.listen}")

    def _rooms(self) -> Rooms:
        if self._server is None or self._pool is None or self._producer is None:
            raise StoreError("the daemon is starting")
        return Rooms(self._store, self._server, self._pool, self._producer)


async def _kill_when_asked_again(signals: Signals, pool: Pool) -> None:
    async for number in signals:
        if number in ENDS:
            log.warning("asked again: ending every handler now")
            pool.kill_now()
