"""Files on their way to become jobs: what is known of each, and when to look again. In memory.

The ledger is the truth; this is only the desk. A file comes here when an event or a scan saw it,
stays until it is accepted, gone, or parked (its reason stands in the ledger, the next scan brings
it back), and is looked at when it is due, not on a tick. Times are seconds of the monotonic clock,
handed in by the caller: nothing here asks a clock or awaits.

The desk is bounded. `is_full` tells scans to wait and events to leave the file to a scan.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pq_daemon.jobs.versions import Identity

SETTLING: Final = "settling"
DESK_SIZE: Final = 20_000
"""Files on the desk; a burst beyond it waits on the disk, where it is safe."""

RECENT_SIZE: Final = 20_000
"""Files that just left: a scan that read the ledger before must not bring them back."""

SMALL_MOST: Final = 4 * 2**20
"""Bytes; larger files go one by one, so that they do not delay the small ones."""

BATCH_FILES: Final = 500
BATCH_BYTES: Final = 32 * 2**20


RIPEN_MOST: Final = 1000
"""In one go of the loop."""


class Phase(Enum):
    WAITING = auto()  # for its time
    DUE = auto()  # for a worker
    CHECKED = auto()  # by a worker, now


class Size(Enum):
    SMALL = auto()
    LARGE = auto()


@dataclass(slots=True)
class Candidate:
    """A file on the desk. `since` is when this identity was first seen."""

    path: bytes
    identity: Identity
    arrived: float
    since: float
    due: float
    reason: str = SETTLING
    told: str | None = None  # the reason that stands in the ledger
    existing: bool = False  # there before its watch was
    blocked: bool = False  # looked at, and not ready for a reason that may last
    phase: Phase = Phase.WAITING

    @property
    def size(self) -> Size:
        return Size.SMALL if self.identity.size <= SMALL_MOST else Size.LARGE


@dataclass
class Desk:
    """All candidates, by path and by time."""

    limit: int = DESK_SIZE
    blocked: int = 0
    untold: dict[bytes, None] = field(default_factory=dict)  # reasons to be written
    _files: dict[bytes, Candidate] = field(default_factory=dict)
    _recent: dict[bytes, Identity] = field(default_factory=dict)
    _times: list[tuple[float, int, bytes]] = field(default_factory=list)
    _due: dict[Size, deque[bytes]] = field(default_factory=lambda: {s: deque() for s in Size})
    _order: Iterator[int] = field(default_factory=count)

    def __len__(self) -> int:
        return len(self._files)

    def __repr__(self) -> str:
        due = sum(map(len, self._due.values()))
        return f"<Desk {len(self._files)} files, {self.blocked} blocked, {due} due>"

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._files.values())

    @property
    def is_full(self) -> bool:
        return len(self._files) - self.blocked >= self.limit

    def get(self, path: bytes) -> Candidate | None:
        return self._files.get(path)

    def has_just_left(self, path: bytes, identity: Identity) -> bool:
        return self._recent.get(path) == identity

    def note(
        self,
        path: bytes,
        identity: Identity,
        now: float,
        settle: float,
        *,
        reason: str = SETTLING,
        told: str | None = None,
        existing: bool = False,
    ) -> None:
        """Put a file on the desk, or see it again. `told` is what the ledger says of it."""
        known = self._files.get(path)
        if known is None:
            arrived = now if told is None else -inf  # it was here before and has been parked
            fresh = Candidate(path, identity, arrived, now, now, reason, told, existing)
            self._files[path] = fresh
            self._schedule(fresh, now + settle)
        elif known.identity != identity:
            known.identity, known.since, known.existing = identity, now, existing
            known.reason = reason
            self._set_blocked(known, False)
            self._schedule(known, now + settle)
        elif known.blocked:  # something has happened to it: no need to wait for the next turn
            self._schedule(known, max(now, known.since + settle))
        self._to_be_told(self._files[path])

    def postpone(self, file: Candidate, reason: str, due: float, *, blocked: bool) -> None:
        """Hand back a file that was looked at and is not ready."""
        self._set_blocked(file, blocked)
        file.phase, file.reason = Phase.WAITING, reason
        self._schedule(file, due)
        self._to_be_told(file)

    def changed(self, file: Candidate, identity: Identity, now: float, settle: float) -> None:
        """Hand back a file that is not what it was when it came."""
        if file.identity != identity:  # else an event has said so already
            file.identity, file.since, file.existing = identity, now, False
        self.postpone(file, SETTLING, file.since + settle, blocked=False)

    def finish(self, file: Candidate, identity: Identity) -> None:
        """Take an accepted file off the desk, unless an event said that it has changed again."""
        if file.identity != identity:
            file.told = None
            self.postpone(file, SETTLING, file.due, blocked=False)
            return
        self.drop(file.path)
        self._recent[file.path] = identity
        if len(self._recent) > RECENT_SIZE:
            del self._recent[next(iter(self._recent))]

    def drop(self, path: bytes) -> None:
        """Take a file off the desk: it is gone, ignored, or parked in the ledger."""
        self._recent.pop(path, None)
        file = self._files.pop(path, None)
        if file is not None:
            self._set_blocked(file, False)
            self.untold.pop(path, None)

    def tell(self, file: Candidate, reason: str) -> None:
        """Note what the ledger says of a file now."""
        file.told = reason
        if file.reason == reason:
            self.untold.pop(file.path, None)

    def next_due(self) -> float | None:
        """When the next file is due; None when nobody waits for a time."""
        while self._times:
            due, _, path = self._times[0]
            file = self._files.get(path)
            if file is not None and file.phase is Phase.WAITING and file.due == due:
                return due
            heapq.heappop(self._times)
        return None

    def ripen(self, now: float, most: int = RIPEN_MOST) -> set[Size]:
        """Make those whose time has come ready for a worker; return which kinds there are."""
        kinds: set[Size] = set()
        for _ in range(most):
            due = self.next_due()
            if due is None or due > now:
                break
            file = self._files[heapq.heappop(self._times)[2]]
            file.phase = Phase.DUE
            self._due[file.size].append(file.path)
            kinds.add(file.size)
        return kinds

    def take(self, size: Size) -> list[Candidate]:
        """Take a batch of due files for one worker: many small ones or one large one."""
        line, batch, total = self._due[size], list[Candidate](), 0
        most = BATCH_FILES if size is Size.SMALL else 1
        while line and len(batch) < most and total < BATCH_BYTES:
            file = self._files.get(line.popleft())
            if file is None or file.phase is not Phase.DUE:
                continue
            file.phase = Phase.CHECKED
            batch.append(file)
            total += file.identity.size
        return batch

    def _to_be_told(self, file: Candidate) -> None:
        if file.told != file.reason:
            self.untold[file.path] = None

    def _schedule(self, file: Candidate, due: float) -> None:
        """A file that a worker has keeps its turn: the worker decides when it comes back."""
        file.due = due
        if file.phase is Phase.DUE:
            file.phase = Phase.WAITING
        if file.phase is Phase.WAITING:
            heapq.heappush(self._times, (due, next(self._order), file.path))

    def _set_blocked(self, file: Candidate, blocked: bool) -> None:
        self.blocked += blocked - file.blocked
        file.blocked = blocked
