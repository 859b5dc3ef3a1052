"""The nouns: a job, its attempts, the file it is about. Frozen; changed only by the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NewType

from pq_daemon.jobs.states import FINAL, State

if TYPE_CHECKING:
    from pq_daemon.jobs.order import Moment, Priority, Rank
    from pq_daemon.jobs.states import Outcome, Reason
    from pq_daemon.jobs.versions import Identity

JobId = NewType("JobId", int)
QueueName = NewType("QueueName", str)
WatchName = NewType("WatchName", str)
EpochId = NewType("EpochId", int)
"""The number of one start of the daemon on this store."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What the handler said last: percent from 0 to 100, and a few words."""

    percent: float
    text: str


@dataclass(frozen=True, slots=True)
class FileVersion:
    """The file a job is about, as it was at acceptance. Paths are bytes, as the kernel has them."""

    watch: WatchName | None
    root: bytes
    relpath: bytes
    identity: Identity
    inodes_count: bool
    sha256: bytes | None
    place: bytes | None = None  # where it lies now, when it was claimed by moving

    @property
    def path(self) -> bytes:
        """Where its bytes are."""
        return self.place or self.origin

    @property
    def origin(self) -> bytes:
        """Where it was found: what the ledger knows it by."""
        return self.root + b"/" + self.relpath


@dataclass(frozen=True, slots=True)
class Job:
    id: JobId
    queue: QueueName
    state: State
    reason: Reason | None
    priority: Priority
    rank: Rank
    run: int
    attempt: int
    spent: int
    max_attempts: int
    created_at: Moment
    run_at: Moment | None
    started_at: Moment | None
    finished_at: Moment | None
    cancel_requested_at: Moment | None
    file: FileVersion | None
    payload: str | None
    key: str | None
    error: str | None
    result: str | None
    progress: Progress | None
    held_from: State | None = None

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def is_last_attempt(self) -> bool:
        """Whether a failure of the attempt that runs, or runs next, is the end."""
        return self.spent + 1 >= self.max_attempts


@dataclass(frozen=True, slots=True)
class OutputSize:
    """Bytes each stream gave, and how many of them were cut from the middle."""

    stdout: int = 0
    stderr: int = 0
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    job: JobId
    number: int
    outcome: Outcome | None
    reason: str | None
    exit_code: int | None
    signal: int | None
    slot: int
    started_at: Moment
    finished_at: Moment | None
    output: OutputSize
    config: int | None
    epoch: EpochId
