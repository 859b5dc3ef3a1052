"""What is watched at this moment: the plan, the state of each root, the desk. Shared, no I/O.

Everything here is read and changed between two awaits, in the loop. A root is `there` while its
last look found it; only then is it walked, and only then can a file of it vanish.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from pq_daemon.jobs.status import WatchState, WatchStatus
from pq_daemon.producer.candidates import Desk
from pq_daemon.producer.plan import parent
from pq_daemon.producer.roots import LOCAL
from pq_daemon.runtime.names import is_text, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pq_daemon.jobs.model import WatchName
    from pq_daemon.jobs.order import Moment
    from pq_daemon.jobs.versions import Identity
    from pq_daemon.producer.plan import Plan, Watch
    from pq_daemon.producer.roots import Filesystem, Look

SCAN_ONLY: Final = 2.0
"""Seconds between scans where no event helps."""

SHARE: Final = 20
"""A scan rests this many times as long as it took: it never costs more than a twentieth."""


class Stretch(NamedTuple):
    """A piece of a walk, by its end and the hash of what was seen."""

    upto: bytes | None
    seen: int


@dataclass
class Root:
    """One watched directory."""

    path: bytes
    look: Look | None = None
    looking: asyncio.Future[Look | str] | None = None  # a look under way; it may hang
    trouble: str = "it does not answer"
    armed_at: float | None = None  # monotonic; None while no events come
    events_off: str = ""  # why
    foreign: bytes | None = None  # a directory in it whose name is not UTF-8
    last_scan: Moment | None = None
    duration: float = 0.0
    elsewhere: int = 0  # known files of another directory that stood here
    is_used: bool = False  # files were seen in the one that stands here now
    unreadable: tuple[bytes, ...] = ()
    unsurveyed: dict[WatchName, int] = field(default_factory=dict)  # and since when, in ns
    walked: set[WatchName] = field(default_factory=set)  # of these, by a scan that began since
    scan_now: asyncio.Event = field(default_factory=asyncio.Event)
    look_now: asyncio.Event = field(default_factory=asyncio.Event)
    agreed: dict[bytes, Stretch] = field(default_factory=dict)  # with the ledger, by their start
    scans: int = 0
    left_to_scan: bool = False  # events were dropped: what the next scan finds was not missed

    @property
    def filesystem(self) -> Filesystem:
        return LOCAL if self.look is None else self.look.filesystem

    @property
    def wants_events(self) -> bool:
        return self.look is not None and not self.blindness

    @property
    def blindness(self) -> str:
        """Why events cannot be had for it at all; empty when they can."""
        if self.filesystem.shared:
            return f"{self.filesystem.name} does not tell what others write"
        if not is_text(self.path):
            return "its name is not UTF-8"
        if self.foreign is not None:
            return f"a directory's name is not UTF-8: {shown(self.foreign)}"
        return ""

    def is_existing(self, watch: Watch, identity: Identity) -> bool:
        """Whether a file was there before its watch: ctime, which nobody can set back, says so."""
        return identity.ctime_ns < self.unsurveyed.get(watch.name, 0)

    def state(self) -> tuple[WatchState, str]:
        if self.look is None:
            return WatchState.MISSING, self.trouble
        if self.elsewhere and not self.is_used:
            return WatchState.MISSING, (
                f"replaced by an empty directory: {self.elsewhere} known files are not in it"
            )
        if self.armed_at is None and (reason := self.blindness or self.events_off):
            return WatchState.DEGRADED, f"files are found by scanning alone: {reason}"
        return WatchState.OK, self._remark()

    def _remark(self) -> str:
        if self.elsewhere:
            return f"{self.elsewhere} known files are in a directory that stood here before"
        if self.unreadable:
            more = f" and {len(self.unreadable) - 1} more" if len(self.unreadable) > 1 else ""
            return f"cannot read directory {shown(self.unreadable[0])}{more}"
        return ""


def scan_interval(rescan: float, duration: float, *, has_events: bool) -> float:
    """Seconds from the end of a scan to the next.

    With events the scan is a safety net: every `rescan`, but it rests 20 times as long as it took.
    Without, it is how files are found: every 2 s, slowed down the same way but not beyond `rescan`,
    and never so that it works more than a fifth of the time.
    """
    rest = SHARE * duration
    if has_events:
        return max(rescan, rest)
    return min(max(min(rescan, SCAN_ONLY), rest), max(rescan, 4 * duration))


@dataclass
class Grounds:
    plan: Plan
    roots: dict[bytes, Root] = field(default_factory=dict)
    desk: Desk = field(default_factory=Desk)

    def root_of(self, path: bytes) -> Root | None:
        """Return the root that answers for a file."""
        owner = self.plan.owner(parent(path))
        return None if owner is None else self.roots.get(owner)

    def scan_soon(self, roots: Iterable[Root]) -> None:
        """Leave what has happened to a full scan, now."""
        for root in roots:
            root.left_to_scan = True
            root.scan_now.set()

    def statuses(self) -> list[WatchStatus]:
        found = []
        for watch in self.plan.watches:
            root = self.roots[watch.root]
            found.append(WatchStatus(watch.name, *root.state(), last_scan=root.last_scan))
        return found
