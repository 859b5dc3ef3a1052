"""Notifications, and what becomes of them. They are hints: they make us look sooner, nothing else.

watchfiles is armed on all roots at once and supervised: whatever it raises, the roots are found by
scanning until it is armed again. It dies of names that are not UTF-8, goes silent when a root is
removed or unmounted, and drops what it cannot keep without a word; so the roots are looked at every
second (folders.py), and the scans stay the truth (reconcile.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import time
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from watchfiles import Change, awatch

from pq_daemon.errors import PqError
from pq_daemon.producer.filters import is_temporary
from pq_daemon.producer.plan import below, outermost
from pq_daemon.producer.readiness import GONE, identity_of
from pq_daemon.producer.reconcile import waits_since
from pq_daemon.producer.scanning import Seen, is_settled, says
from pq_daemon.store.protocol import FileState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping

    from pq_daemon.producer.grounds import Grounds, Root
    from pq_daemon.producer.intake import Intake
    from pq_daemon.producer.plan import Plan
    from pq_daemon.producer.reasons import Reasons
    from pq_daemon.producer.reconcile import Reconciler
    from pq_daemon.producer.threads import Threads
    from pq_daemon.store.protocol import LedgerEntry, Store

log = logging.getLogger(__name__)
logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells every batch

Changes = set[tuple[Change, str]]

STEP_MS: Final = 20
DEBOUNCE_MS: Final = 100
FLOOD: Final = 4000
"""Changes in one batch after which the queue behind it may have run over: a full scan is surer."""

BREATH: Final = 500
"""Files judged in one go of the loop."""

UNKNOWN_MOST: Final = 200
LOOK_AGAIN: Final = 0.5
"""Seconds: a new directory is watched a moment late, so it is looked into once more."""

LOOKS_MOST: Final = 50
RESTART_PAUSE: Final = (0.25, 30.0)
STEADY: Final = 60.0


class EventsLost(Exception):
    """The watcher died; the message says of what."""


async def changes_in(
    roots: Iterable[str], *, recursive: bool, armed: Callable[[], None]
) -> AsyncGenerator[Changes, None]:
    """Yield batches of changes; `armed` is called once the kernel watches.

    Raises:
        EventsLost: whatever the watcher raised.

    """
    # The first step of the generator arms in one go, before it first waits; so the loop's next turn
    # finds it armed, or dead.
    telling = asyncio.get_running_loop().call_soon(armed)
    watcher = awatch(
        *roots,
        watch_filter=None,
        debounce=DEBOUNCE_MS,
        step=STEP_MS,
        rust_timeout=0,
        recursive=recursive,
        force_polling=False,
        ignore_permission_denied=False,
        debug=False,
    )
    try:
        async with aclosing(watcher):
            async for changes in watcher:
                yield changes
    except Exception as error:  # any, and groups of them: it is the watcher's, none of ours
        telling.cancel()
        raise EventsLost(_words(error)) from error


def _words(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{error}" or type(error).__name__


class Watcher:
    """Keeps watchfiles armed on the roots that want it: one for whole trees, one for flat ones."""

    def __init__(self, grounds: Grounds, on_changes: Callable[[Changes], Awaitable[None]]) -> None:
        self._grounds = grounds
        self._on_changes = on_changes
        self._again = {True: asyncio.Event(), False: asyncio.Event()}
        self._answered = {True: asyncio.Event(), False: asyncio.Event()}

    async def keep(self, *, recursive: bool) -> None:
        """Watch, and begin anew whenever other roots are wanted."""
        again = self._again[recursive]
        while True:
            again.clear()
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(self._watch(recursive))
                await again.wait()
                watching.cancel()

    def rearm(self) -> None:
        for recursive, again in self._again.items():
            self._answered[recursive].clear()
            again.set()

    async def answered(self) -> None:
        """Wait until the watchers are armed, or have said that they cannot be."""
        for answered in self._answered.values():
            await answered.wait()

    def wanted(self, *, recursive: bool) -> tuple[bytes, ...]:
        """Return the roots to arm, none inside another one that is armed as a tree."""
        plan, roots = self._grounds.plan, self._grounds.roots.values()
        foreign = [root.foreign for root in roots if root.foreign is not None]
        able = [
            root.path
            for root in roots
            if root.wants_events
            and not (plan.is_recursive(root.path) and any(below(f, root.path) for f in foreign))
        ]
        trees = outermost(path for path in able if plan.is_recursive(path))
        if recursive:
            return tuple(trees)
        covered = [path for path in able if any(below(path, tree) for tree in trees)]
        return tuple(path for path in able if not plan.is_recursive(path) and path not in covered)

    async def _watch(self, recursive: bool) -> None:
        tops = self.wanted(recursive=recursive)
        self._disarm(tops, recursive=recursive)
        pause = RESTART_PAUSE[0]
        while tops:
            began = time.monotonic()
            try:
                names = [os.fsdecode(top) for top in tops]
                changes = changes_in(
                    names, recursive=recursive, armed=lambda: self._armed(tops, recursive=recursive)
                )
                async with aclosing(changes):
                    async for batch in changes:
                        await self._on_changes(batch)
            except EventsLost as error:
                self._lost(tops, str(error), recursive=recursive)
            pause = RESTART_PAUSE[0] if time.monotonic() - began > STEADY else pause
            await asyncio.sleep(pause)
            pause = min(pause * 2, RESTART_PAUSE[1])
        self._answered[recursive].set()

    def _covered(self, tops: Iterable[bytes], *, recursive: bool) -> list[Root]:
        """Return the roots that get their events from these watches."""
        tops = list(tops)
        return [
            root
            for root in self._grounds.roots.values()
            if root.wants_events
            and (root.path in tops or (recursive and any(below(root.path, top) for top in tops)))
        ]

    def _armed(self, tops: tuple[bytes, ...], *, recursive: bool) -> None:
        for root in self._covered(tops, recursive=recursive):
            root.armed_at, root.events_off = time.monotonic(), ""
            root.scan_now.set()
        log.info("notifications armed", extra={"roots": len(tops), "recursive": recursive})
        self._answered[recursive].set()

    def _lost(self, tops: tuple[bytes, ...], error: str, *, recursive: bool) -> None:
        log.warning("notifications lost", extra={"roots": len(tops), "error": error})
        covered = self._covered(tops, recursive=recursive)
        for root in covered:
            root.armed_at, root.events_off = None, error
            root.look_now.set()
        self._grounds.scan_soon(covered)
        self._answered[recursive].set()

    def _disarm(self, tops: tuple[bytes, ...], *, recursive: bool) -> None:
        """Whoever was armed here and is not wanted now, is not armed any more."""
        others = self.wanted(recursive=not recursive)
        for root in self._grounds.roots.values():
            by_this = root.path in tops or (recursive and any(below(root.path, t) for t in tops))
            by_other = root.path in others or (
                not recursive and any(below(root.path, t) for t in others)
            )
            if not root.wants_events or not (by_this or by_other):
                root.armed_at = None
                root.events_off = self._shadow_on(root) or root.events_off

    def _shadow_on(self, root: Root) -> str:
        """Why a tree cannot be armed for what a root inside it has met; empty when it can."""
        if not self._grounds.plan.is_recursive(root.path):
            return ""
        for one in self._grounds.roots.values():
            if one.foreign is not None and below(one.foreign, root.path):
                return one.blindness
        return ""


# --- one batch -----------------------------------------------------------------------------------


@dataclass
class Looked:
    """What is at the paths of a batch, by one lstat each."""

    files: list[Seen] = field(default_factory=list)
    removed: set[bytes] = field(default_factory=set)  # a removal was told, whatever is there now
    missing: list[bytes] = field(default_factory=list)
    directories: list[bytes] = field(default_factory=list)
    roots: set[bytes] = field(default_factory=set)


def look_at(plan: Plan, changes: Changes) -> Looked:
    """Look at each path of a batch once. Blocking."""
    looked = Looked()
    told: dict[bytes, set[Change]] = {}
    told_of = {name for _, name in changes}
    for change, name in changes:
        told.setdefault(os.fsencode(name), set()).add(change)
    for path, kinds in told.items():
        if path in plan.roots and Change.deleted in kinds:
            looked.roots.add(path)
        elif not plan.lies_left_out(path):
            _look(path, looked, was_removed=Change.deleted in kinds)
            for marked in plan.marked(path):
                if os.fsdecode(marked) not in told_of:
                    _look_at_marked(marked, looked)
    return looked


def _look_at_marked(path: bytes, looked: Looked) -> None:
    """What happened to its marker happened to the file."""
    with suppress(OSError):
        found = os.lstat(path)
        if stat.S_ISREG(found.st_mode):
            looked.files.append(Seen(path, identity_of(found), regular=True))


def _look(path: bytes, looked: Looked, *, was_removed: bool) -> None:
    try:
        found = os.lstat(path)
    except OSError as error:
        if error.errno in GONE:
            looked.missing.append(path)
        return
    if stat.S_ISDIR(found.st_mode):
        looked.directories.append(path)
        return
    looked.files.append(Seen(path, identity_of(found), stat.S_ISREG(found.st_mode)))
    if was_removed:
        looked.removed.add(path)


class Events:
    """Turns batches of changes into looks at the disk."""

    def __init__(
        self,
        grounds: Grounds,
        store: Store,
        intake: Intake,
        reasons: Reasons,
        reconciler: Reconciler,
        threads: Threads,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._grounds = grounds
        self._store = store
        self._intake = intake
        self._reasons = reasons
        self._reconciler = reconciler
        self._threads = threads
        self._tasks = tasks
        self._looks = 0

    async def on_changes(self, changes: Changes) -> None:
        if len(changes) > FLOOD or self._grounds.desk.is_full:
            self._leave_to_scan()
            return
        looked = await self._threads.run(look_at, self._grounds.plan, changes)
        try:
            await self._follow(looked)
        except PqError as error:  # the store is in trouble: the scan will see what we could not
            log.warning("changes are left to the scan", extra={"error": str(error)})
            self._leave_to_scan()

    def _leave_to_scan(self) -> None:
        self._grounds.scan_soon(self._grounds.roots.values())

    async def _follow(self, looked: Looked) -> None:
        for path in looked.roots:
            self._grounds.roots[path].look_now.set()
        if looked.directories:
            self._look_into(outermost(looked.directories))
        paths = [seen.path for seen in looked.files] + looked.missing
        entries = await self._store.entries(paths)
        await self._see_off(looked, entries)
        for place, seen in enumerate(looked.files):
            if place % BREATH == BREATH - 1:
                await asyncio.sleep(0)
            self._see(seen, entries.get(seen.path))

    def _see(self, seen: Seen, entry: LedgerEntry | None) -> None:
        root = self._grounds.root_of(seen.path)
        judged = self._grounds.plan.judge(seen.path, seen.identity.size, regular=seen.regular)
        if root is None or judged is None:
            return
        counts = root.filesystem.inodes_count
        if entry is not None and is_settled(entry, seen.identity, inodes_count=counts):
            return
        if judged.reason is None or (seen.regular and judged.state is FileState.WAITING):
            self._intake.take_in(
                seen.path, seen.identity, judged, told=waits_since(entry, seen.identity)
            )
        elif not says(entry, seen.identity, judged):
            self._reasons.set_aside(seen.path, seen.identity, judged)

    async def _see_off(self, looked: Looked, entries: Mapping[bytes, LedgerEntry]) -> None:
        """Record what is gone, and what was gone for a moment: its return is a new version."""
        unknown = []
        absent: dict[int, tuple[Root, list[LedgerEntry]]] = {}
        for path in looked.missing:
            root, entry = self._grounds.root_of(path), entries.get(path)
            self._grounds.desk.drop(path)
            if root is not None and entry is not None:
                absent.setdefault(id(root), (root, []))[1].append(entry)
            elif root is not None and not is_temporary(path):
                unknown.append(path)
        for root, gone in absent.values():
            if root.look is not None:
                await self._reconciler.vanish(root, root.look, gone)
        await self._reconciler.returned(
            [seen for seen in looked.files if seen.path in looked.removed], entries
        )
        await self._see_off_directories(unknown)

    async def _see_off_directories(self, paths: list[bytes]) -> None:
        """A removed path without a row may have been a directory with many."""
        if len(paths) > UNKNOWN_MOST:
            self._leave_to_scan()
            return
        had_files = [path for path in paths if await self._store.ledger(b"", None, 1, within=path)]
        if had_files:
            self._look_into(outermost(had_files))

    def _look_into(self, directories: list[bytes]) -> None:
        """Scan directories now and once more: what came before they were watched, told nobody."""
        if self._looks >= LOOKS_MOST:
            self._leave_to_scan()
            return
        self._looks += 1
        self._tasks.create_task(self._look_twice(directories), name="look into directories")

    async def _look_twice(self, directories: list[bytes]) -> None:
        try:
            await self._scan_each(directories)
            await asyncio.sleep(LOOK_AGAIN)
            await self._scan_each(directories)
        except PqError as error:
            log.warning("directories are left to the scan", extra={"error": str(error)})
            self._leave_to_scan()
        finally:
            self._looks -= 1

    async def _scan_each(self, directories: list[bytes]) -> None:
        for directory in directories:
            root = self._grounds.root_of(directory + b"/")
            if root is not None:
                await self._reconciler.scan_part(root, directory)
