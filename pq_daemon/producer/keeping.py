"""Keeping one root: is it still the directory it was, and when is it scanned.

Looked at every second. When it is missing, unreadable or another directory, nothing in it vanishes;
when one is there again, the notifications are armed anew and all of it is scanned. A scan is due
by the clock, or now: after a start, after trouble with the notifications, when someone asks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from pq_daemon.errors import PqError
from pq_daemon.producer import roots
from pq_daemon.producer.grounds import scan_interval
from pq_daemon.producer.scanning import Stopped
from pq_daemon.runtime.names import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from pq_daemon.producer.events import Watcher
    from pq_daemon.producer.grounds import Grounds, Root
    from pq_daemon.producer.marks import Marks
    from pq_daemon.producer.reconcile import Reconciler, Tally
    from pq_daemon.producer.recording import Recorder
    from pq_daemon.producer.roots import Look
    from pq_daemon.producer.threads import Threads
    from pq_daemon.store.protocol import Store

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 1.0
LOOK_LIMIT: Final = 5.0
"""Seconds; a longer look hangs in the kernel, and the root counts as missing until it returns."""

FROZEN: Final = 3.0
"""Seconds; when a second's sleep took so much longer we stood still, and the kernel's queue of
notifications may have run over meanwhile."""

REST_LEAST: Final = 0.2
"""Seconds between two scans that were asked for."""

THOROUGH_EVERY: Final = 10
"""Scans by the clock of which one reads the whole ledger, whatever the disk looks like."""

STORE_PAUSE: Final = 1.0
REARM_EVERY: Final = 300.0
"""Seconds between two arms on the suspicion that the notifications have gone silent."""


class Keeper:
    """The hands of all roots; the state of each is in its `Root`."""

    def __init__(
        self,
        grounds: Grounds,
        store: Store,
        recorder: Recorder,
        reconciler: Reconciler,
        watcher: Watcher,
        marks: Marks,
        threads: Threads,
        tell: Callable[[], None],
    ) -> None:
        self._grounds = grounds
        self._store = store
        self._recorder = recorder
        self._reconciler = reconciler
        self._watcher = watcher
        self._marks = marks
        self._threads = threads
        self._tell = tell
        self._suspected_at = -REARM_EVERY

    async def keep(self, root: Root) -> None:
        """Look after a root until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_looking(root), name=f"look at {shown(root.path)}")
            tasks.create_task(self._keep_scanning(root), name=f"scan {shown(root.path)}")

    # is it there

    async def _keep_looking(self, root: Root) -> None:
        while True:
            slept_at = time.monotonic()
            await _set_or_after(root.look_now, LOOK_EVERY)
            root.look_now.clear()
            if time.monotonic() - slept_at > LOOK_EVERY + FROZEN:
                log.warning("we stood still; scanning", extra={"root": shown(root.path)})
                self._grounds.scan_soon([root])
            if await self.look(root):
                self._watcher.rearm()
            self._tell()

    async def look(self, root: Root) -> bool:
        """Look at a root; whether the notifications must be armed anew."""
        looking = root.looking = root.looking or self._threads.start(_look, root.path)
        await asyncio.wait({looking}, timeout=LOOK_LIMIT)
        if not looking.done():
            if self._lose(root, "it does not answer"):
                self._tell()
            await asyncio.wait({looking})
        root.looking, found = None, looking.result()
        if isinstance(found, str):
            return self._lose(root, found)
        return await self._find(root, found)

    def _lose(self, root: Root, trouble: str) -> bool:
        was_there, root.look, root.trouble = root.look is not None, None, trouble
        if was_there:
            root.armed_at = None
            log.warning("root lost", extra={"root": shown(root.path), "reason": trouble})
        return was_there

    async def _find(self, root: Root, look: Look) -> bool:
        if root.look is not None and root.look.live == look.live:
            return False
        if self._marks.stands(root.path, look.mark, self._store.now()):
            await self._threads.run(self._marks.save)
        event = "root found" if root.look is None else "root replaced"
        log.info(event, extra={"root": shown(root.path), "filesystem": look.filesystem.name})
        root.look, root.trouble, root.armed_at = look, "", None
        root.elsewhere, root.is_used, root.foreign = 0, False, None
        self._grounds.scan_soon([root])
        return True

    # what is in it

    async def _keep_scanning(self, root: Root) -> None:
        while True:
            is_due = not await _set_or_after(root.scan_now, self._interval(root))
            root.scan_now.clear()
            if root.look is None:
                continue
            try:
                await self._scan(root, is_due=is_due)
            except PqError as error:
                log.warning("scan broken off", extra={"error": str(error)})
                await asyncio.sleep(STORE_PAUSE)
                root.scan_now.set()
            await asyncio.sleep(max(REST_LEAST, min(root.duration, LOOK_LIMIT)))

    def _interval(self, root: Root) -> float:
        rescans = [watch.rescan for watch in self._grounds.plan.on(root.path)]
        rescan = min(rescans, default=LOOK_EVERY)  # none: it has just been removed
        return scan_interval(rescan, root.duration, has_events=root.armed_at is not None)

    async def _scan(self, root: Root, *, is_due: bool) -> None:
        look, armed_at, surveying = root.look, root.armed_at, set(root.unsurveyed)
        counts_late = is_due and armed_at is not None and not root.left_to_scan
        was_left, root.left_to_scan = root.left_to_scan, False
        try:
            thoroughly = not is_due or root.scans % THOROUGH_EVERY == 0
            tally = await self._reconciler.scan_whole(root, thoroughly=thoroughly)
            root.scans += 1
        except Stopped:
            return
        except PqError:
            root.left_to_scan = was_left
            raise
        if tally is None or root.look is not look:
            return
        root.duration = tally.worked
        root.walked |= surveying
        self._conclude(root, tally)
        if counts_late:
            await self._tell_late(root, tally)
        self._tell()

    def _conclude(self, root: Root, tally: Tally) -> None:
        root.last_scan = self._store.now()
        root.elsewhere, root.unreadable = tally.elsewhere, tuple(tally.unreadable)
        root.is_used = root.is_used or tally.files > 0
        if root.foreign != tally.foreign:
            root.foreign = tally.foreign
            self._watcher.rearm()
        log.debug(
            "root scanned",
            extra={"root": shown(root.path), "files": tally.files, "seconds": root.duration},
        )

    async def _tell_late(self, root: Root, tally: Tally) -> None:
        """Count what no event had told; missed names mean that events have gone silent."""
        for watch, count in tally.late.items():
            await self._recorder.missed(watch, count)
            log.warning("files were missed by events", extra={"watch": watch, "files": count})
        now = time.monotonic()
        if tally.late_names and now - self._suspected_at > REARM_EVERY:
            self._suspected_at = now
            log.warning("notifications are armed anew", extra={"root": shown(root.path)})
            self._watcher.rearm()


def _look(path: bytes) -> Look | str:
    try:
        return roots.look(path)
    except OSError as error:
        return roots.trouble(error)


async def _set_or_after(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event, or so long; whether it was the event."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
