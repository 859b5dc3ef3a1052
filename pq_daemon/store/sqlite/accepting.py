"""Changes that make jobs: a submission, and a file found ready (ledger row and job together)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.errors import ConflictError, NotFoundError
from pq_daemon.jobs import order
from pq_daemon.jobs.model import Job, JobId
from pq_daemon.jobs.states import State, accepted_as
from pq_daemon.jobs.versions import Identity, Verdict, compare
from pq_daemon.runtime.names import shown
from pq_daemon.store.feed import Fact
from pq_daemon.store.protocol import FileState, Found, Intake, Submission, Taken
from pq_daemon.store.sqlite import queries, rows
from pq_daemon.store.sqlite.people import record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pq_daemon.jobs.model import FileVersion, QueueName
    from pq_daemon.store.protocol import Actor, LedgerEntry
    from pq_daemon.store.sqlite.rows import Names
    from pq_daemon.store.sqlite.transaction import Transaction

NO_FILE: Final[dict[str, Any]] = dict.fromkeys(
    ("watch", "root", "relpath", "shown", "inode", "size", "mtime_ns", "ctime_ns", "inodes_count",
     "sha256", "place")
)  # fmt: skip
OUTPUT: Final = "output"
EXISTING: Final = "existing"
UNDONE: Final = frozenset({"superseded", "input_gone"})
"""A job that ended so never did its file: should the same content be there again, it is new."""


def submit(
    transaction: Transaction, names: Names, submission: Submission, actor: Actor
) -> tuple[Job, bool]:
    queue = queue_id(names, submission.queue)
    if submission.key is not None:
        stored = transaction.rows(queries.JOB_BY_KEY, (queue, submission.key))
        if stored:
            return rows.job_from(stored[0], names), False
    number = insert_job(transaction, names, submission)
    if submission.file is not None and submission.file.watch is not None:
        _put_submitted(transaction, names, submission, submission.file, number)
    record(transaction, actor, "job.submit", f"job {number}", job=number)
    [row] = transaction.rows(queries.JOB, (number,))
    return rows.job_from(row, names), True


def _put_submitted(
    transaction: Transaction, names: Names, wanted: Submission, file: FileVersion, job: JobId
) -> None:
    """A submitted file that lies in a watch is known from now on: no scan makes it a second job."""
    stored = transaction.rows(queries.ENTRY, (file.origin,))
    before = rows.entry_from(stored[0], names) if stored else None
    found = Found(file, wanted.queue, wanted.priority, wanted.max_attempts)
    put_entry(transaction, names, before, found, FileState.ACCEPTED, None, job)


def insert_job(transaction: Transaction, names: Names, wanted: Submission) -> JobId:
    """Insert an accepted job, count it, tell it."""
    now = transaction.moment
    ahead = wanted.run_at is not None and wanted.run_at > now
    state = accepted_as(hold=wanted.hold, run_at_ahead=ahead)
    queue = queue_id(names, wanted.queue)
    held_from = None
    if state is State.HELD:
        held_from = State.SCHEDULED if ahead else State.QUEUED
    number = transaction.insert(
        queries.INSERT_JOB,
        {
            "queue": queue,
            "state": state.value,
            "priority": wanted.priority.value,
            "rank": order.rank(now, wanted.priority),
            "queued_at": now if state is State.QUEUED else None,
            "max_attempts": wanted.max_attempts,
            "created_at": now,
            "run_at": wanted.run_at if ahead else None,
            "held_from": held_from,
            "payload": wanted.payload,
            "key": wanted.key,
            **(NO_FILE if wanted.file is None else file_columns(wanted.file, names)),
        },
    )
    transaction.count(queue, state.value, 1)
    transaction.total(queue, "accepted")
    name = None if wanted.file is None else shown(wanted.file.relpath)
    transaction.tell(
        Fact("job.accepted", JobId(number), wanted.queue, {"state": state.value, "name": name})
    )
    return JobId(number)


def queue_id(names: Names, queue: QueueName) -> int:
    """Return the id of a queue.

    Raises:
        NotFoundError: the store was never told of it.

    """
    try:
        return names.queue_id[queue]
    except KeyError:
        raise NotFoundError(f"no queue {queue!r}") from None


def file_columns(file: FileVersion, names: Names) -> dict[str, Any]:
    inode, size, mtime_ns, ctime_ns = rows.stored(file.identity)
    return {
        "watch": None if file.watch is None else names.watch_id[file.watch],
        "root": file.root,
        "relpath": file.relpath,
        "shown": shown(file.relpath),
        "inode": inode,
        "size": size,
        "mtime_ns": mtime_ns,
        "ctime_ns": ctime_ns,
        "inodes_count": int(file.inodes_count),
        "sha256": file.sha256,
        "place": file.place,
    }


def again(
    transaction: Transaction, names: Names, wanted: Submission, file: FileVersion, actor: Actor
) -> Job:
    """Accept a known version once more: a person asked."""
    stored = transaction.rows(queries.ENTRY, (file.origin,))
    entry = rows.entry_from(stored[0], names) if stored else None
    if entry is None or entry.accepted is None:
        raise NotFoundError(f"{shown(file.relpath)} was never accepted: it is no known version")
    if not entry.accepted.same_file(file.identity, inodes_count=file.inodes_count):
        raise ConflictError(f"{shown(file.relpath)} has changed: it becomes a job of its own")
    version = replace(file, sha256=entry.sha256)
    number = insert_job(transaction, names, replace(wanted, file=version))
    transaction.change(queries.TAKE_AGAIN, (number, file.origin))
    if entry.state is not FileState.ACCEPTED:
        count_move(transaction, names, entry, names.watch_id[entry.watch], FileState.ACCEPTED)
    record(transaction, actor, "file.process", f"job {number}", job=number)
    [row] = transaction.rows(queries.JOB, (number,))
    return rows.job_from(row, names)


# --- found files -------------------------------------------------------------------------------


def accept(transaction: Transaction, names: Names, found: Sequence[Found]) -> list[Intake]:
    return [_accept_one(transaction, names, one) for one in found]


def _accept_one(transaction: Transaction, names: Names, found: Found) -> Intake:
    stored = transaction.rows(queries.ENTRY, (found.file.origin,))
    entry = rows.entry_from(stored[0], names) if stored else None
    taken = _judge(transaction, entry, found)
    reason = None
    if taken is Taken.ACCEPTED and (twin := _twin(transaction, names, found)) is not None:
        taken, reason = Taken.DUPLICATE, f"duplicate of {shown(twin)}"
    if taken is Taken.ACCEPTED:
        if found.claim is not None:
            transaction.change(queries.DELETE_CLAIM, (found.claim,))
        job = insert_job(transaction, names, _submission(found))
        put_entry(transaction, names, entry, found, FileState.ACCEPTED, None, job)
        return Intake(taken, job)
    known = entry.job if taken is Taken.KNOWN and entry is not None else None
    if known is not None:
        _follow(transaction, known, found)
        unclaimed = replace(found, claim=None)
        put_entry(transaction, names, entry, unclaimed, FileState.ACCEPTED, None, known)
    else:
        reason = reason or _ignored_because(taken, entry)
        put_entry(transaction, names, entry, found, FileState.IGNORED, reason, None)
    return Intake(taken, known)


def _ignored_because(taken: Taken, entry: LedgerEntry | None) -> str:
    if taken is Taken.OUTPUT:
        return OUTPUT
    was_ignored = entry is not None and entry.state is FileState.IGNORED
    is_known = taken is Taken.KNOWN and was_ignored
    return (entry.reason if entry and is_known else None) or EXISTING


def _twin(transaction: Transaction, names: Names, found: Found) -> bytes | None:
    """Another path of the watch whose same content has had its job, when that matters."""
    file = found.file
    if not found.unique or file.sha256 is None or file.watch is None:
        return None
    watch = names.watch_id[file.watch]
    same = transaction.rows(queries.SAME_CONTENT, (watch, file.sha256, file.origin))
    return bytes(same[0][0])[len(file.root) + 1 :] if same else None


def _judge(transaction: Transaction, entry: LedgerEntry | None, found: Found) -> Taken:
    file = found.file
    if _is_output(transaction, file.origin, file.identity):
        return Taken.OUTPUT
    if entry is None or entry.accepted is None:
        return Taken.SKIPPED if found.skip else Taken.ACCEPTED
    verdict = compare(
        entry.accepted, file.identity, gone=entry.gone, inodes_count=file.inodes_count
    )
    if verdict is Verdict.HASH:
        verdict = Verdict.KNOWN if _is_same(entry, entry.accepted, file) else Verdict.NEW
    if verdict is Verdict.KNOWN and entry.job is not None and _was_undone(transaction, entry.job):
        verdict = Verdict.NEW
    return Taken.KNOWN if verdict is Verdict.KNOWN else Taken.ACCEPTED


def _is_same(entry: LedgerEntry, accepted: Identity, file: FileVersion) -> bool:
    """Whether a file that looks changed is the same version: by content, else by its stat."""
    if file.sha256 is None or entry.sha256 is None:  # identify = "stat", now or then
        return accepted.same_file(file.identity, inodes_count=file.inodes_count)
    return entry.sha256 == file.sha256


def _is_output(transaction: Transaction, path: bytes, identity: Identity) -> bool:
    published = transaction.rows(queries.PUBLISHED, (path, rows.stored_inode(identity.inode)))
    return published == [(identity.size,)]


def _was_undone(transaction: Transaction, job: JobId) -> bool:
    return bool(
        [reason for (reason,) in transaction.rows(queries.JOB_REASON, (job,)) if reason in UNDONE]
    )


def _follow(transaction: Transaction, job: JobId, found: Found) -> None:
    """The same version has a new mtime or inode: a live job must know its file again."""
    transaction.change(queries.FOLLOW_FILE, (*rows.stored(found.file.identity), job))


def _submission(found: Found) -> Submission:
    return Submission(
        found.queue, found.priority, found.max_attempts, file=found.file, hold=found.hold
    )


def put_entry(
    transaction: Transaction,
    names: Names,
    before: LedgerEntry | None,
    found: Found,
    state: FileState,
    reason: str | None,
    job: JobId | None,
) -> None:
    """Write the ledger row of a file whose version is settled now.

    One that was claimed for its job is gone from its path: what comes there next is new.
    """
    file = found.file
    gone = int(found.claim is not None and state is FileState.ACCEPTED)
    watch = _watch_of(names, before, file)
    seen = rows.stored(file.identity)
    transaction.change(
        queries.PUT_ENTRY,
        (file.origin, watch, state.value, reason, *seen, *seen, file.sha256, job, gone,
         transaction.moment),
    )  # fmt: skip
    count_move(transaction, names, before, watch, state)


def count_move(
    transaction: Transaction,
    names: Names,
    before: LedgerEntry | None,
    watch: int,
    state: FileState,
) -> None:
    if before is not None:
        transaction.count_file(names.watch_id[before.watch], before.state.value, -1)
    transaction.count_file(watch, state.value, 1)


def _watch_of(names: Names, before: LedgerEntry | None, file: FileVersion) -> int:
    if file.watch is not None:
        return names.watch_id[file.watch]
    if before is None:
        raise NotFoundError("a file outside every watch has no ledger row")
    return names.watch_id[before.watch]
