"""Reconcile: the walk is laid against the ledger, and what differs is put right. The truth.

A full scan takes one root, a part one directory in it; both are the same work. The disk is walked
a piece at a time in a thread, the ledger is read in the same order, and the scan waits while the
desk is full, so that neither a million files nor a million rows are ever in memory. A file is only
recorded as gone when an lstat says so, its root was afterwards still the same directory, and the
row was written about that directory.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from pq_daemon.producer import roots
from pq_daemon.producer.grounds import Stretch
from pq_daemon.producer.scanning import assess, confirm_gone, is_expected, walk
from pq_daemon.runtime.names import shown
from pq_daemon.store.protocol import FileState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence

    from pq_daemon.jobs.model import WatchName
    from pq_daemon.jobs.versions import Identity
    from pq_daemon.producer.grounds import Grounds, Root
    from pq_daemon.producer.intake import Intake
    from pq_daemon.producer.marks import Marks
    from pq_daemon.producer.plan import Plan
    from pq_daemon.producer.recording import Recorder
    from pq_daemon.producer.roots import Look
    from pq_daemon.producer.scanning import Assessment, Chunk, Seen
    from pq_daemon.producer.threads import Threads
    from pq_daemon.store.protocol import LedgerEntry, Store

T = TypeVar("T")

log = logging.getLogger(__name__)

PAGE: Final = 2000
WHOLE_AT_ONCE: Final = 4
PARTS_AT_ONCE: Final = 2
BREATH: Final = 500
"""Files taken in in one go of the loop."""

GRACE: Final = 2.0
"""Seconds an event may be late: what is younger was not missed."""


@dataclass
class Tally:
    """What one scan met."""

    files: int = 0
    elsewhere: int = 0
    worked: float = 0.0  # seconds of looking and comparing, without what came of it
    unreadable: list[bytes] = field(default_factory=list)
    foreign: bytes | None = None
    late: Counter[WatchName] = field(default_factory=Counter)  # no event had told of them
    late_names: int = 0  # of these, files that had no row at all
    agreed: dict[bytes, Stretch] = field(default_factory=dict)


class Reconciler:
    def __init__(
        self,
        grounds: Grounds,
        store: Store,
        recorder: Recorder,
        intake: Intake,
        marks: Marks,
        threads: Threads,
    ) -> None:
        self._grounds = grounds
        self._store = store
        self._recorder = recorder
        self._intake = intake
        self._marks = marks
        self._threads = threads
        self._whole = asyncio.Semaphore(WHOLE_AT_ONCE)
        self._parts = asyncio.Semaphore(PARTS_AT_ONCE)

    async def scan_whole(self, root: Root, *, thoroughly: bool = True) -> Tally | None:
        """Scan a root; None when it is not there.

        Not `thoroughly`: a stretch of the walk that is what it was when it last agreed with the
        ledger is not read there again. Nothing but us writes those rows, and only on a change.
        """
        if root.look is None:
            return None
        async with self._whole:
            agreed = {} if thoroughly else root.agreed
            tally = await self._scan(root, root.look, root.path, agreed)
            root.agreed = tally.agreed
            return tally

    async def scan_part(self, root: Root, top: bytes) -> None:
        """Scan a directory in a root, unless the root is not there."""
        if root.look is not None:
            async with self._parts:
                await self._scan(root, root.look, top, {})

    async def _scan(
        self, root: Root, look: Look, top: bytes, agreed: Mapping[bytes, Stretch]
    ) -> Tally:
        tally = Tally()
        began_ns = time.time_ns()
        walking = walk(self._grounds.plan, root.path, top, self._threads.stopping)
        after = b""
        while (chunk := await self._timed(tally, self._threads.run(_next, walking))) is not None:
            tally.files += len(chunk.files)
            tally.unreadable += chunk.unreadable
            tally.foreign = chunk.foreign or tally.foreign
            stretch = Stretch(chunk.upto, hash(tuple(chunk.files)))
            agrees = agreed.get(after) == stretch
            if not agrees:
                agrees = True
                async for part in self._against_the_ledger(tally, root, chunk, after, top):
                    self._count_late(tally, root, part, began_ns)
                    await self._take_in(part)
                    tally.elsewhere += await self.vanish(root, look, part.absent, tally.unreadable)
                    agrees = agrees and part.is_empty
            if agrees:
                tally.agreed[after] = stretch
            after = chunk.upto or b""
        return tally

    async def _against_the_ledger(
        self, tally: Tally, root: Root, chunk: Chunk, after: bytes, top: bytes
    ) -> AsyncIterator[Assessment]:
        """Read the rows of the same stretch, page by page, and compare."""
        rest: Sequence[Seen] = chunk.files
        while True:
            page = await self._timed(tally, self._store.ledger(after, chunk.upto, PAGE, within=top))
            is_last = len(page) < PAGE
            cut = len(rest) if is_last else bisect_right(rest, page[-1].path, key=_path)
            yield await self._threads.run(
                assess,
                self._grounds.plan,
                root.path,
                rest[:cut],
                page,
                inodes_count=root.filesystem.inodes_count,
            )
            if is_last:
                return
            rest, after = rest[cut:], page[-1].path

    async def _timed(self, tally: Tally, work: Awaitable[T]) -> T:
        began = time.monotonic()
        try:
            return await work
        finally:
            tally.worked += time.monotonic() - began

    async def _take_in(self, part: Assessment) -> None:
        for place, (seen, entry, judged) in enumerate(part.wanted):
            if self._intake.is_full:
                await self._intake.has_room()
            elif place % BREATH == BREATH - 1:
                await asyncio.sleep(0)
            self._intake.take_in(
                seen.path, seen.identity, judged, told=waits_since(entry, seen.identity)
            )
        if part.aside:
            await self._recorder.sight(part.aside)

    async def vanish(
        self,
        root: Root,
        look: Look,
        absent: Sequence[LedgerEntry],
        unreadable: Sequence[bytes] = (),
    ) -> int:
        """Record what is surely gone; return how many files are of another directory instead."""
        absent = [entry for entry in absent if is_expected(entry)]
        if not absent:
            return 0
        gone = await self._threads.run(
            _gone_from, self._grounds.plan, root.path, look, absent, unreadable
        )
        ours = [
            entry.path
            for entry in absent
            if entry.path in gone and self._marks.stood(root.path, entry.changed_at) == look.mark
        ]
        for path in gone:
            self._grounds.desk.drop(path)
        now = await self._store.entries(ours) if ours else {}  # one may have been claimed meanwhile
        await self._recorder.vanish([path for path, one in now.items() if is_expected(one)])
        return len(gone) - len(ours)

    async def returned(self, files: Sequence[Seen], entries: Mapping[bytes, LedgerEntry]) -> None:
        """Record that files were gone for a moment, whose removal was told and who are there again.

        A rename away and back leaves inode, size and mtime as they were: that is no return.
        """
        gone = []
        for seen in files:
            root, entry = self._grounds.root_of(seen.path), entries.get(seen.path)
            if root is None or entry is None or entry.accepted is None or entry.gone:
                continue
            counts = root.filesystem.inodes_count
            if not entry.accepted.same_file(seen.identity, inodes_count=counts):
                gone.append(seen.path)
        await self._recorder.vanish(gone)

    def _count_late(self, tally: Tally, root: Root, part: Assessment, began_ns: int) -> None:
        """Count what events should have told: old enough, not on the desk, not just taken."""
        desk = self._grounds.desk
        for seen, entry, judged in part.wanted:
            is_news = entry is None or entry.seen != seen.identity
            is_old = seen.identity.ctime_ns < began_ns - int(GRACE * 1e9)
            if (
                is_news
                and is_old
                and desk.get(seen.path) is None
                and not desk.has_just_left(seen.path, seen.identity)
            ):
                tally.late[judged.watch.name] += 1
                tally.late_names += entry is None
                log.debug(
                    "no event told", extra={"path": shown(seen.path), "root": shown(root.path)}
                )


def waits_since(entry: LedgerEntry | None, identity: Identity) -> str | None:
    """Return the reason under which this very version waits in the ledger already."""
    if entry is None or entry.state is not FileState.WAITING or entry.seen != identity:
        return None
    return entry.reason


def _next(walking: Iterator[Chunk]) -> Chunk | None:
    return next(walking, None)


def _path(seen: Seen) -> bytes:
    return seen.path


def _gone_from(
    plan: Plan,
    root: bytes,
    look: Look,
    absent: Sequence[LedgerEntry],
    unreadable: Sequence[bytes],
) -> frozenset[bytes]:
    """Look at the paths, then at the root: had it been exchanged, we see it now. Blocking."""
    gone = confirm_gone(plan, root, absent, unreadable)
    if not gone:
        return frozenset()
    try:
        same = roots.look(root).live == look.live
    except OSError:
        same = False
    return frozenset(gone) if same else frozenset()
