"""What a store can do, and the values that cross its door. Rows and SQL stay behind it.

Every method that changes something is one change of the write queue: all of it happens, or none,
and it has happened (is on the disk) when the method returns. A caller that is cancelled while it
waits leaves the change to happen. Methods that list read a snapshot through the query-only
connection and may lag the last commit by a moment.

Errors: NotFoundError and ConflictError speak of the thing that was named; StoreError says that the
store itself could not, and whether it happened is then unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pq_daemon.jobs.model import JobId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pq_daemon.jobs.model import (
        Attempt,
        EpochId,
        FileVersion,
        Job,
        OutputSize,
        Progress,
        QueueName,
        WatchName,
    )
    from pq_daemon.jobs.order import Moment, Priority
    from pq_daemon.jobs.retry import Backoff
    from pq_daemon.jobs.states import Event, Outcome, Reason, State
    from pq_daemon.jobs.versions import Identity
    from pq_daemon.store.feed import Feed
    from pq_daemon.store.outputs import OutputFiles

T = TypeVar("T")

FIRST = JobId(0)
"""Before every job: where a walk by job begins."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a list, newest first. `next` is where the following part starts; None at the end."""

    items: list[T]
    next: str | None


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks for a write, for the audit. `via` is page, api, socket, cli, signal or daemon."""

    name: str
    role: str
    via: str
    address: str = ""


DAEMON = Actor("pq", "daemon", "daemon")


# --- accepting -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submission:
    """A job to accept that no scan found: a payload, or a path somebody named."""

    queue: QueueName
    priority: Priority
    max_attempts: int
    file: FileVersion | None = None
    payload: str | None = None
    key: str | None = None
    run_at: Moment | None = None
    hold: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is ready: unchanged, free, and hashed."""

    file: FileVersion
    queue: QueueName
    priority: Priority
    max_attempts: int
    hold: bool = False
    skip: bool = False  # it was there before the watch was, and existing = "skip"
    unique: bool = False  # duplicates = "skip": the same content under another name makes no job
    claim: int | None = None  # the claim that is fulfilled with this


class Taken(StrEnum):
    """What became of a found file."""

    ACCEPTED = "accepted"  # a new version: a job was made
    KNOWN = "known"  # the version that was accepted before; the ledger row is up to date again
    SKIPPED = "skipped"  # existing = "skip"
    OUTPUT = "output"  # one of our own outputs
    DUPLICATE = "duplicate"  # the same content has had its job under another name


@dataclass(frozen=True, slots=True)
class Intake:
    taken: Taken
    job: JobId | None


# --- the ledger of files -------------------------------------------------------------------------


class FileState(StrEnum):
    WAITING = "waiting"
    IGNORED = "ignored"
    ACCEPTED = "accepted"
    VANISHED = "vanished"


@dataclass(frozen=True, slots=True)
class Sighting:
    """A file that was seen and is not (yet) a job, and why: one ledger row."""

    watch: WatchName
    root: bytes
    relpath: bytes
    state: FileState  # WAITING or IGNORED
    reason: str
    identity: Identity


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """What the ledger says of a path: `seen` at the last look, `accepted` at the last taking."""

    path: bytes
    watch: WatchName
    state: FileState
    reason: str | None
    seen: Identity
    accepted: Identity | None
    sha256: bytes | None
    job: JobId | None
    gone: bool  # moved away by us, or seen gone: its return is a new version
    changed_at: Moment


@dataclass(frozen=True, slots=True)
class WatchRecord:
    """A watch as the store knows it. `surveyed` = its first full scan has been recorded."""

    name: WatchName
    root: bytes
    queue: QueueName
    surveyed: bool
    counts: Mapping[FileState, int]
    missed_by_events: int
    removed: bool = False


@dataclass(frozen=True, slots=True)
class FileClaim:
    """A file about to be moved to its work directory: `<root>/.pq/work/<id>/<name>`."""

    id: int
    watch: WatchName
    root: bytes
    relpath: bytes
    identity: Identity


@dataclass(frozen=True, slots=True)
class After:
    """What to do with a job's file when the job ends. `directory` is absolute, for move."""

    kind: str  # "move" or "delete"
    directory: bytes = b""


@dataclass(frozen=True, slots=True)
class Disposition:
    """An after-action that was committed to and is not yet done."""

    job: JobId
    kind: str
    directory: bytes
    file: FileVersion


# --- running -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Publication:
    """An output about to be renamed into place: `temp` is on the disk, whole and synced."""

    temp: bytes
    target: bytes
    identity: Identity
    exit_code: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended, told by whoever ran it. (job, attempt, epoch) is the fence."""

    job: JobId
    attempt: int
    epoch: EpochId
    outcome: Outcome
    reason: str | None = None  # of the attempt: "exit 3", "timeout", "input_gone"
    final_reason: Reason | None = None
    after: float | None = None  # seconds the handler asked to wait
    backoff: Backoff | None = None
    chance: float = 0.5
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    result: str | None = None
    progress: Progress | None = None
    output: OutputSize | None = None
    inline: bytes | None = None  # the framed output itself, when it is small
    on_success: After | None = None
    on_failure: After | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """Free slots, and the queues that may fill them with the most each may have running."""

    slots: Sequence[int] = ()
    limits: Mapping[QueueName, int] = field(default_factory=dict)
    config: int | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """The answer: the states after the endings (None: someone was faster), and new jobs.

    `claimed` are (slot, job) with the attempt begun; `next_due` is when a waiting job comes due.
    """

    settled: list[State | None]
    claimed: list[tuple[int, Job]]
    next_due: Moment | None


@dataclass(frozen=True, slots=True)
class Orphan:
    """A job that a dead daemon left running."""

    job: Job
    epoch: EpochId
    token: str
    publication: Publication | None


# --- listing -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobFilter:
    states: frozenset[State] = frozenset()
    queues: frozenset[QueueName] = frozenset()
    watches: frozenset[WatchName] = frozenset()
    after: Moment | None = None  # after <= created_at < before
    before: Moment | None = None
    search: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    reason: str
    by: str
    at: Moment | None  # None: by the configuration


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A queue as configured, handed to the store at start and reload."""

    name: QueueName
    handler: str
    concurrency: int
    paused: bool


@dataclass(frozen=True, slots=True)
class QueueRecord:
    """A queue as it stands. `concurrency` is the limit in force: a person's, else the file's."""

    name: QueueName
    handler: str
    concurrency: int
    concurrency_by_file: int
    paused: Pause | None
    removed: bool
    counts: Mapping[State, int]
    oldest_queued_at: Moment | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Since ever, by queue: accepted, succeeded, failed, cancelled, attempts, retried, lost."""

    by_queue: Mapping[QueueName, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    id: int
    at: Moment
    actor: Actor
    action: str
    target: str
    reason: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in browser. The store knows only the hash of its token."""

    token_hash: bytes
    user: str
    created_at: Moment
    seen_at: Moment


@dataclass(frozen=True, slots=True)
class Epoch:
    """One start of the daemon on this store."""

    id: EpochId
    name: str  # random, what clients see
    token: str  # random, in the environment of every handler: finds survivors
    boot: str  # the kernel's boot id
    started_at: Moment


@dataclass(frozen=True, slots=True)
class Retention:
    """The moments before which finished things may go."""

    succeeded: Moment
    cancelled: Moment
    failed: Moment
    audit: Moment
    vanished: Moment


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a batch of retention removed. Files of the outputs are the caller's to remove."""

    jobs: list[tuple[JobId, int]]  # with how many attempts each had
    audit: int
    files: int

    def __bool__(self) -> bool:
        return bool(self.jobs or self.audit or self.files)


@dataclass(frozen=True, slots=True)
class Condition:
    """How the database is. `remark` tells of known faults of the engine's version."""

    engine: str
    remark: str
    problems: tuple[str, ...]  # of its integrity
    size: int  # bytes
    free: int  # bytes of it that hold nothing


class Store(Protocol):
    """One queue, one ledger, one history. Engines pass one conformance suite."""

    feed: Feed
    epoch: Epoch
    outputs: OutputFiles

    def now(self) -> Moment:
        """Return the store clock: the wall clock, but it never goes back."""
        ...

    # accepting and moving jobs

    async def submit(self, submission: Submission, actor: Actor) -> tuple[Job, bool]:
        """Accept a job; with a key that is stored already, return that job and False."""
        ...

    async def act(
        self,
        job: JobId,
        event: Event,
        actor: Actor,
        *,
        reason: str = "",
        priority: Priority | None = None,
        max_attempts: int | None = None,
    ) -> Job:
        """Do what a person asks: CANCEL (or its request), HOLD, RELEASE, RUN_NOW, RETRY.

        `priority` and `max_attempts` refresh the job on RETRY.

        Raises:
            NotFoundError: no such job.
            ConflictError: the job's state does not allow it; the message names both.

        """
        ...

    async def exchange(self, endings: Sequence[Ending], claim: Claim) -> Exchange:
        """Record how attempts ended, move what has come due, fill free slots: one transaction."""
        ...

    async def publishing(self, job: JobId, attempt: int, publication: Publication) -> bool:
        """Commit to renaming an output into place; False when the attempt is no longer ours."""
        ...

    async def dead_epochs(self) -> list[Epoch]:
        """Return the epochs that ended without a word and were not cleaned up behind yet."""
        ...

    async def orphans(self) -> list[Orphan]:
        """Return the jobs that dead epochs left running. To be closed by `exchange` as LOST."""
        ...

    async def rescued(self) -> None:
        """Record that the dead epochs are cleaned up behind: survivors ended, jobs closed."""
        ...

    async def amend(
        self,
        job: JobId,
        actor: Actor,
        *,
        priority: Priority | None = None,
        run_at: Moment | None = None,
    ) -> Job:
        """Change a waiting job's priority, or when a scheduled or retrying one comes due.

        Raises:
            NotFoundError: no such job.
            ConflictError: its state does not allow it.

        """
        ...

    # queues

    async def configure_queues(self, queues: Sequence[QueueEntry]) -> None:
        """Make the stored queues those of the configuration; others become removed."""
        ...

    async def queues(self, *, every: bool = False) -> list[QueueRecord]:
        """Return configured queues in file order, then removed ones with live jobs.

        `every` adds removed ones of which only finished jobs are stored: for sums over all jobs.
        """
        ...

    async def pause(self, queue: QueueName, actor: Actor, reason: str = "") -> QueueRecord: ...

    async def resume(self, queue: QueueName, actor: Actor, reason: str = "") -> QueueRecord: ...

    async def limit(
        self, queue: QueueName, concurrency: int | None, actor: Actor, reason: str = ""
    ) -> QueueRecord:
        """Set a person's limit; None goes back to the file's."""
        ...

    # files

    async def configure_watches(
        self, watches: Sequence[tuple[WatchName, bytes, QueueName]]
    ) -> dict[WatchName, WatchRecord]:
        """Make the stored watches (name, real root, queue) those of the configuration."""
        ...

    async def watches(self) -> list[WatchRecord]: ...

    async def surveyed(self, watch: WatchName) -> None:
        """Record that the first full scan of the watch's root is complete."""
        ...

    async def ledger(
        self, after: bytes, upto: bytes | None, limit: int, *, within: bytes
    ) -> list[LedgerEntry]:
        """Return entries with after < path <= upto inside the root `within`, by path.

        `upto` None: to the end of the root. Paths compare as bytes.
        """
        ...

    async def entries(self, paths: Sequence[bytes]) -> dict[bytes, LedgerEntry]: ...

    async def sight(self, sightings: Sequence[Sighting]) -> None:
        """Record files that wait or are ignored; an accepted version in the row stays known."""
        ...

    async def accept(self, found: Sequence[Found]) -> list[Intake]:
        """Ledger row and job, in one transaction; what was accepted before makes none."""
        ...

    async def again(self, wanted: Submission, file: FileVersion, actor: Actor) -> Job:
        """Accept a version that had its job once more; `file` is as it lies there now.

        Raises:
            NotFoundError: its path was never accepted.
            ConflictError: it is another version now, which becomes a job by itself.

        """
        ...

    async def claim_file(self, file: FileVersion) -> FileClaim:
        """Commit to moving a ready file into its work directory."""
        ...

    async def file_claims(self) -> list[FileClaim]:
        """Return the claims that were neither fulfilled by `accept` nor given up."""
        ...

    async def give_up_claim(self, claim: int) -> None:
        """Record that a claim was undone: the file lies where it was found, or is gone."""
        ...

    async def vanish(self, paths: Sequence[bytes]) -> None:
        """Record files that are gone while their root was unchanged."""
        ...

    async def missed(self, watch: WatchName, count: int) -> None:
        """Count files that only a scan found."""
        ...

    async def files(
        self, watch: WatchName, states: frozenset[FileState], cursor: str | None, limit: int
    ) -> Page[LedgerEntry]: ...

    async def dispositions(self, after: JobId = FIRST, limit: int = 1000) -> list[Disposition]:
        """Return after-actions that were committed to and not yet done, by job, beyond `after`."""
        ...

    async def disposed(self, job: JobId, result: str, target: bytes | None = None) -> None:
        """Record an after-action as done (`done`) or left alone (`superseded`, `gone`, …)."""
        ...

    # lists and lookups

    async def job(self, job: JobId) -> Job:
        """Return one job.

        Raises:
            NotFoundError: no such job.

        """
        ...

    async def jobs(self, wanted: JobFilter, cursor: str | None, limit: int) -> Page[Job]:
        """Return jobs, newest first.

        Raises:
            InvalidRequestError: the cursor is not one of ours for this filter.

        """
        ...

    async def attempts(self, job: JobId) -> list[Attempt]: ...

    async def inline_output(self, job: JobId, attempt: int) -> bytes | None:
        """Return the framed output of an attempt that was small enough to be kept in its row."""
        ...

    async def totals(self) -> Totals: ...

    # retention

    async def prune(self, before: Retention, limit: int) -> Pruned:
        """Forget up to `limit` of each kind of what is older; jobs by finished_at, oldest first."""
        ...

    async def prune_outputs(self, total: int, limit: int) -> list[tuple[JobId, int]]:
        """While outputs take more than `total` bytes, forget the oldest of succeeded jobs."""
        ...

    async def delete(self, job: JobId, actor: Actor, reason: str = "") -> int:
        """Forget a final job; how many attempts it had, for their files.

        Raises:
            NotFoundError: no such job.
            ConflictError: it is not final, or its file is about to be put away.

        """
        ...

    async def vacuum(self, pages: int) -> None:
        """Give up to `pages` free pages back to the filesystem."""
        ...

    # people

    async def audit(
        self,
        actor: Actor,
        action: str,
        target: str = "",
        reason: str = "",
        detail: Mapping[str, Any] | None = None,
    ) -> None: ...

    async def audit_entries(
        self, cursor: str | None, limit: int, *, job: JobId | None = None
    ) -> Page[AuditEntry]: ...

    async def open_session(self, token_hash: bytes, user: str) -> None: ...

    async def session(self, token_hash: bytes) -> Session | None: ...

    async def touch_session(self, token_hash: bytes) -> None: ...

    async def forget_sessions(self, opened_before: Moment) -> int:
        """Forget sessions too old to be valid. Returns how many."""
        ...

    async def close_sessions(
        self, *, token_hash: bytes | None = None, user: str | None = None
    ) -> int:
        """End one session, or all of a user's. Returns how many."""
        ...

    # the store itself

    async def remember_config(self, text: str) -> int:
        """Keep a configuration text by its content; attempts name its number."""
        ...

    async def config_text(self, number: int) -> str | None: ...

    async def checkpoint(self) -> None:
        """Move the write-ahead log into the database, by the writing connection."""
        ...

    async def examine(self) -> Condition:
        """Look at the whole database; long lists wait meanwhile, writes do not."""
        ...

    async def healthy(self) -> None:
        """Return when a trivial write has been committed.

        Raises:
            StoreError: it could not.

        """
        ...
