"""The producer: watched folders in, jobs out. Notifications for speed, scans for truth.

    async with watch_folders(settings, store) as producer: ...

is up when every folder that exists is armed, known missing ones are told, and the first scan is on
its way. At the end intake stops first: a write under way is finished, no other begins. A bug in any
of its tasks ends the block, and with it the daemon.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from pq_daemon.errors import NotFoundError
from pq_daemon.jobs.status import WatchState, WatchStatus
from pq_daemon.producer.claiming import Claims
from pq_daemon.producer.disposals import Disposals
from pq_daemon.producer.events import Events, Watcher
from pq_daemon.producer.grounds import Grounds, Root
from pq_daemon.producer.intake import Intake
from pq_daemon.producer.keeping import Keeper
from pq_daemon.producer.marks import Marks
from pq_daemon.producer.plan import Plan, below, make_plan
from pq_daemon.producer.reasons import Reasons
from pq_daemon.producer.reconcile import Reconciler
from pq_daemon.producer.recording import Recorder
from pq_daemon.producer.threads import Threads, own_threads
from pq_daemon.runtime.names import shown
from pq_daemon.store.feed import Fact

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pq_daemon.config import Settings
    from pq_daemon.jobs.model import WatchName
    from pq_daemon.jobs.order import Moment
    from pq_daemon.store.protocol import Store, WatchRecord

log = logging.getLogger(__name__)

FOLLOW_EVERY: Final = 5.0
FIRST_LOOK: Final = 0.5
"""Seconds for the first look at a new root; a reload must be in force within one."""

TOLD_AS: Final = {
    WatchState.OK: "watch.ok",
    WatchState.DEGRADED: "watch.degraded",
    WatchState.MISSING: "watch.missing",
}


class Producer:
    """What runs behind `watch_folders`."""

    def __init__(
        self, settings: Settings, store: Store, threads: Threads, tasks: asyncio.TaskGroup
    ) -> None:
        self._settings = settings
        self._store = store
        self._threads = threads
        self._tasks = tasks
        self._grounds = grounds = Grounds(Plan(()))
        self._marks = marks = Marks(settings.daemon.state_dir)
        self._recorder = recorder = Recorder(store)
        self._reasons = Reasons(grounds, recorder, threads)
        self._claims = claims = Claims(grounds, store, recorder, threads)
        self._intake = Intake(grounds, recorder, claims, self._reasons, threads)
        reconciler = Reconciler(grounds, store, recorder, self._intake, marks, threads)
        events = Events(grounds, store, self._intake, self._reasons, reconciler, threads, tasks)
        self._watcher = Watcher(grounds, events.on_changes)
        self._keeper = Keeper(
            grounds, store, recorder, reconciler, self._watcher, marks, threads, self._tell
        )
        self._disposals = Disposals(grounds, store, threads)
        self._keeping: dict[bytes, asyncio.Task[None]] = {}
        self._watching: list[asyncio.Task[None]] = []
        self._told: dict[WatchName, WatchStatus] = {}
        self._configuring = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Producer {len(self._grounds.roots)} roots, {self._grounds.desk!r}>"

    # what others ask

    def statuses(self) -> list[WatchStatus]:
        """Return how each watch stands, in file order."""
        return [self._with_trouble(status) for status in self._grounds.statuses()]

    def waiting(self) -> int:
        """Return how many files are on their way to become jobs at this moment."""
        return len(self._grounds.desk)

    def out_of_reach(self, root: bytes, at: Moment) -> str:
        """Say why a file that is missing cannot be called gone; empty when it can.

        Args:
            root: of the file.
            at: when it was last known to be there, such as its job's acceptance.

        """
        known = self._grounds.roots.get(root)
        if known is None:
            return ""
        if known.look is None:
            return known.trouble
        same = self._marks.stood(root, at) == known.look.mark
        return "" if same else "another directory stands where its folder was"

    def rescan(self, watch: WatchName) -> None:
        """Have the watch's folder scanned now.

        Raises:
            NotFoundError: no such watch.

        """
        for known in self._grounds.plan.watches:
            if known.name == watch:
                self._grounds.scan_soon([self._grounds.roots[known.root]])
                return
        raise NotFoundError(f"no watch {watch!r}")

    async def configure(self, settings: Settings) -> None:
        """Watch what these settings say, from now on; returns when it is armed.

        The store must know the settings' queues already.
        """
        async with self._configuring:
            self._settings = settings
            await self._follow(await self._plan(settings))

    async def _plan(self, settings: Settings) -> Plan:
        """Resolve the paths; a mount that hangs must not hold up a reload."""
        planning = self._threads.start(make_plan, settings)
        await asyncio.wait({planning}, timeout=FIRST_LOOK)
        if planning.done():
            return planning.result()
        log.warning("watched paths do not answer; taken as they are written")
        return make_plan(settings, os.path.normpath)

    # the life of it

    async def start(self) -> None:
        await self._threads.run(self._marks.load)
        await self.configure(self._settings)
        self._intake.start(self._tasks)
        for name, work in (
            ("reasons", self._reasons.keep_writing()),
            ("claims", self._claims.keep_undoing()),
            ("after-actions", self._disposals.keep_disposing()),
            ("resolved paths", self._keep_following()),
        ):
            self._tasks.create_task(work, name=name)

    async def stop_intake(self) -> None:
        await self._recorder.close()

    # following the configuration

    async def _follow(self, plan: Plan) -> None:
        records = await self._store.configure_watches(
            [(watch.name, watch.root, watch.queue) for watch in plan.watches]
        )
        await self._meet([path for path in plan.roots if path not in self._grounds.roots])
        before, self._grounds.plan = self._grounds.plan, plan
        for path in set(before.roots) - set(plan.roots):
            self._forget(path)
        for path in plan.roots:
            self._note_surveys(self._grounds.roots[path], records)
        if not self._watching or _needs(before) != _needs(plan):
            await self._arm()
        changed = _changed(before, plan)
        for path in plan.roots:
            if any(path == one or below(one, path) for one in changed):
                self._grounds.scan_soon([self._grounds.roots[path]])
            if path not in self._keeping:
                self._keep(self._grounds.roots[path])
        self._tell()

    async def _meet(self, paths: list[bytes]) -> None:
        """Have a first look at new roots; one that hangs is left to its keeper."""
        looks = set()
        for path in paths:
            root = self._grounds.roots[path] = Root(path)
            looks.add(self._tasks.create_task(self._keeper.look(root), name="first look"))
        if looks:
            await asyncio.wait(looks, timeout=FIRST_LOOK)

    def _keep(self, root: Root) -> None:
        self._keeping[root.path] = self._tasks.create_task(
            self._keeper.keep(root), name=f"keep {shown(root.path)}"
        )

    def _forget(self, path: bytes) -> None:
        del self._grounds.roots[path]
        self._keeping.pop(path).cancel()

    def _note_surveys(self, root: Root, records: dict[WatchName, WatchRecord]) -> None:
        """A watch that joins others on a root has its own moment from which files are new."""
        now = time.time_ns()
        root.unsurveyed = {
            watch.name: root.unsurveyed.get(watch.name, now)
            for watch in self._grounds.plan.on(root.path)
            if not records[watch.name].surveyed
        }
        root.walked &= root.unsurveyed.keys()

    async def _arm(self) -> None:
        """Arm the roots of the plan and wait for the answer."""
        if not self._watching:
            self._watching = [
                self._tasks.create_task(self._watcher.keep(recursive=recursive), name="watch")
                for recursive in (True, False)
            ]
        else:
            self._watcher.rearm()
        await self._watcher.answered()

    async def _keep_following(self) -> None:
        """A configured path may be a symbolic link that is set to another directory."""
        while True:
            await asyncio.sleep(FOLLOW_EVERY)
            settings = self._settings
            plan = await self._threads.run(make_plan, settings)
            async with self._configuring:
                if settings is self._settings and plan.roots != self._grounds.plan.roots:
                    log.info("watched paths lead elsewhere now", extra={"roots": len(plan.roots)})
                    await self._follow(plan)

    # telling

    def _with_trouble(self, status: WatchStatus) -> WatchStatus:
        reasons = [status.reason, self._disposals.trouble(status.name)]
        reason = "; ".join(filter(None, reasons))
        return WatchStatus(status.name, status.state, reason, status.last_scan)

    def _tell(self) -> None:
        """Publish what has changed about the watches, and only that."""
        facts = []
        for status in self.statuses():
            before = self._told.get(status.name)
            if before is None or (before.state, before.reason) != (status.state, status.reason):
                data = {"watch": status.name, "reason": status.reason}
                facts.append(Fact(TOLD_AS[status.state], data=data))
            self._told[status.name] = status
        if facts:
            self._store.feed.tell(facts, self._store.now())


def _changed(before: Plan, plan: Plan) -> list[bytes]:
    """Roots that other watches are on now; whoever is around them answers for other files now."""
    both = dict.fromkeys(before.roots + plan.roots)
    return [path for path in both if before.on(path) != plan.on(path)]


def _needs(plan: Plan) -> set[tuple[bytes, bool]]:
    """What the notifications must be armed on."""
    return {(path, plan.is_recursive(path)) for path in plan.roots}


@asynccontextmanager
async def watch_folders(settings: Settings, store: Store) -> AsyncIterator[Producer]:
    """Run the producer while the block runs.

    Raises:
        ExceptionGroup: of what ended one of its tasks; the block is cancelled then.

    """
    async with own_threads() as threads, asyncio.TaskGroup() as outer:
        up: asyncio.Future[Producer] = asyncio.get_running_loop().create_future()
        running = outer.create_task(_run(settings, store, threads, up), name="producer")
        try:
            producer = await up
            try:
                yield producer
            finally:
                await producer.stop_intake()
        finally:
            threads.stopping.set()
            running.cancel()


async def _run(
    settings: Settings, store: Store, threads: Threads, up: asyncio.Future[Producer]
) -> None:
    """Own every task of the producer; cancelled as one."""
    async with asyncio.TaskGroup() as tasks:
        producer = Producer(settings, store, threads, tasks)
        await producer.start()
        up.set_result(producer)
