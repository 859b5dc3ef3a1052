"""Between rows and values: the only place that knows the order of columns.

Queues and watches are ids in the rows and names outside; `Names` holds the two small tables in
memory. They only ever grow, and are read again after each change of the configuration.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.jobs.model import (
    Attempt,
    EpochId,
    FileVersion,
    Job,
    JobId,
    OutputSize,
    Progress,
    QueueName,
    WatchName,
)
from pq_daemon.jobs.order import Moment, Priority
from pq_daemon.jobs.states import Outcome, Reason, State
from pq_daemon.jobs.versions import Identity
from pq_daemon.store.protocol import Actor, AuditEntry, FileState, LedgerEntry

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

# Looking a word up in a dict costs a third of calling the enum.
STATES: Final[Mapping[str, State]] = {state.value: state for state in State}
REASONS: Final[Mapping[str | None, Reason | None]] = {
    None: None,
    **{reason.value: reason for reason in Reason},
}
PRIORITIES: Final[Mapping[str, Priority]] = {word.value: word for word in Priority}
OUTCOMES: Final[Mapping[str | None, Outcome | None]] = {
    None: None,
    **{outcome.value: outcome for outcome in Outcome},
}
FILE_STATES: Final[Mapping[str, FileState]] = {state.value: state for state in FileState}

SIGN: Final = 1 << 63


def stored_inode(inode: int) -> int:
    """Inode numbers are unsigned 64 bits, SQLite's integers signed."""
    return inode - 2 * SIGN if inode >= SIGN else inode


def identity(inode: int, size: int, mtime_ns: int, ctime_ns: int) -> Identity:
    return Identity(inode if inode >= 0 else inode + 2 * SIGN, size, mtime_ns, ctime_ns)


def stored(found: Identity) -> tuple[int, int, int, int]:
    return (stored_inode(found.inode), found.size, found.mtime_ns, found.ctime_ns)


class Names:
    """Ids and names of queues and watches."""

    def __init__(self) -> None:
        self.queue: dict[int, QueueName] = {}
        self.queue_id: dict[QueueName, int] = {}
        self.watch: dict[int, WatchName] = {}
        self.watch_id: dict[WatchName, int] = {}
        self.roots: dict[int, bytes] = {}

    def learn(
        self, queues: Iterable[tuple[int, str]], watches: Iterable[tuple[int, str, bytes]]
    ) -> None:
        for number, name in queues:
            self.queue[number] = QueueName(name)
            self.queue_id[QueueName(name)] = number
        for number, name, root in watches:
            self.watch[number] = WatchName(name)
            self.watch_id[WatchName(name)] = number
            self.roots[number] = root


def read_names(connection: sqlite3.Connection, names: Names) -> None:
    names.learn(
        connection.execute("SELECT id, name FROM queues").fetchall(),
        connection.execute("SELECT id, name, root FROM watches").fetchall(),
    )


def job_from(row: tuple[Any, ...], names: Names) -> Job:
    """A job from JOB_COLUMNS."""
    (
        number, queue, state, reason, priority, rank, run, attempt, spent, max_attempts,
        created_at, run_at, started_at, finished_at, cancel_requested_at, watch, root, relpath,
        inode, size, mtime_ns, ctime_ns, inodes_count, sha256, place, payload, key, error,
        result, percent, text, held_from,
    ) = row  # fmt: skip
    file = None
    if relpath is not None:
        file = file_from(
            (watch, root, relpath, inode, size, mtime_ns, ctime_ns, inodes_count, sha256, place),
            names,
        )
    return Job(
        number,
        names.queue[queue],
        STATES[state],
        REASONS[reason],
        PRIORITIES[priority],
        rank,
        run,
        attempt,
        spent,
        max_attempts,
        created_at,
        run_at,
        started_at,
        finished_at,
        cancel_requested_at,
        file,
        payload,
        key,
        error,
        result,
        None if percent is None else Progress(percent, text),
        None if held_from is None else STATES[held_from],
    )


def file_from(columns: Sequence[Any], names: Names) -> FileVersion:
    watch, root, relpath, inode, size, mtime_ns, ctime_ns, inodes_count, sha256, place = columns
    return FileVersion(
        names.watch.get(watch),
        root,
        relpath,
        identity(inode, size, mtime_ns, ctime_ns),
        bool(inodes_count),
        sha256,
        place,
    )


def claimed_from(row: tuple[Any, ...], names: Names, now: Moment) -> Job:
    """A job as the claim has just made it, from its row before the claim."""
    fresh = list(row)
    fresh[2] = "running"
    fresh[7] += 1
    fresh[12] = now
    return job_from(tuple(fresh), names)


def attempt_from(row: tuple[Any, ...]) -> Attempt:
    (
        job, number, outcome, reason, exit_code, signal, slot, started_at, finished_at,
        stdout, stderr, cut, config, epoch,
    ) = row  # fmt: skip
    return Attempt(
        JobId(job),
        number,
        OUTCOMES[outcome],
        reason,
        exit_code,
        signal,
        slot,
        Moment(started_at),
        finished_at,
        OutputSize(stdout, stderr, cut),
        config,
        EpochId(epoch),
    )


def entry_from(row: tuple[Any, ...], names: Names) -> LedgerEntry:
    """A ledger entry from LEDGER_COLUMNS."""
    accepted = None if row[8] is None else identity(row[8], row[9], row[10], row[11])
    return LedgerEntry(
        path=row[0],
        watch=names.watch[row[1]],
        state=FILE_STATES[row[2]],
        reason=row[3],
        seen=identity(row[4], row[5], row[6], row[7]),
        accepted=accepted,
        sha256=row[12],
        job=row[13],
        gone=bool(row[14]),
        changed_at=row[15],
    )


def audit_from(row: tuple[Any, ...]) -> AuditEntry:
    number, at, actor, role, via, address, action, target, reason, detail = row
    return AuditEntry(
        number,
        Moment(at),
        Actor(actor, role, via, address),
        action,
        target,
        reason,
        json.loads(detail),
    )
