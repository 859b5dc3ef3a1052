"""SqliteStore: the protocol's methods, each one change of the write queue or one look.

The methods are one line each on purpose: what they do stands in the modules beside this one, as
plain functions of the transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pq_daemon.errors import NotFoundError
from pq_daemon.store.protocol import FIRST, Epoch, Exchange, Orphan, Page, Publication, Session
from pq_daemon.store.sqlite import (
    accepting,
    configuring,
    examining,
    exchanging,
    files,
    listing,
    moving,
    people,
    queries,
    retaining,
    rows,
)
from pq_daemon.store.sqlite.connection import on_connection

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    import aiosqlite

    from pq_daemon.jobs.model import Attempt, FileVersion, Job, JobId, QueueName, WatchName
    from pq_daemon.jobs.order import Moment, Priority
    from pq_daemon.jobs.states import Event
    from pq_daemon.store.feed import Feed
    from pq_daemon.store.outputs import OutputFiles
    from pq_daemon.store.protocol import (
        Actor,
        AuditEntry,
        Claim,
        Condition,
        Disposition,
        Ending,
        FileClaim,
        FileState,
        Found,
        Intake,
        JobFilter,
        LedgerEntry,
        Pruned,
        QueueEntry,
        QueueRecord,
        Retention,
        Sighting,
        Submission,
        Totals,
        WatchRecord,
    )
    from pq_daemon.store.sqlite.rows import Names
    from pq_daemon.store.sqlite.transaction import Transaction
    from pq_daemon.store.sqlite.writer import Clock, Writer

T = TypeVar("T")


class SqliteStore:
    """A store on one SQLite file. Made by `store.engines.open_store`."""

    def __init__(
        self,
        writer: Writer,
        connections: tuple[aiosqlite.Connection, aiosqlite.Connection],
        epoch: Epoch,
        feed: Feed,
        outputs: OutputFiles,
        names: Names,
        clock: Clock,
    ) -> None:
        self.epoch = epoch
        self.feed = feed
        self.outputs = outputs
        self._writer = writer
        self._writing, self._reading = connections
        self._names = names
        self._clock = clock

    def __repr__(self) -> str:
        return f"<SqliteStore epoch={self.epoch.id} {self._writer!r} {self.feed!r}>"

    def now(self) -> Moment:
        return self._clock.now()

    async def _write(self, change: Callable[..., T], *given: Any, **named: Any) -> T:
        return await self._writer.write(lambda transaction: change(transaction, *given, **named))

    async def _read(self, look: Callable[..., T], *given: Any) -> T:
        return await on_connection(self._reading, look, *given)

    # accepting and moving jobs

    async def submit(self, submission: Submission, actor: Actor) -> tuple[Job, bool]:
        return await self._write(accepting.submit, self._names, submission, actor)

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
        return await self._write(
            moving.act,
            self._names,
            job,
            event,
            actor,
            reason=reason,
            priority=priority,
            max_attempts=max_attempts,
        )

    async def amend(
        self,
        job: JobId,
        actor: Actor,
        *,
        priority: Priority | None = None,
        run_at: Moment | None = None,
    ) -> Job:
        return await self._write(moving.amend, self._names, job, actor, priority, run_at)

    async def exchange(self, endings: Sequence[Ending], claim: Claim) -> Exchange:
        return await self._write(exchanging.exchange, self._names, self.epoch, endings, claim)

    async def publishing(self, job: JobId, attempt: int, publication: Publication) -> bool:
        return await self._write(files.publishing, self.epoch, job, attempt, publication)

    async def dead_epochs(self) -> list[Epoch]:
        return await self._write(_dead_epochs, self.epoch)

    async def orphans(self) -> list[Orphan]:
        return await self._write(_orphans, self._names, self.epoch)

    async def rescued(self) -> None:
        await self._write(_rescued, self.epoch)

    # queues

    async def configure_queues(self, queues: Sequence[QueueEntry]) -> None:
        await self._write(configuring.configure_queues, queues)
        await self._read(rows.read_names, self._names)

    async def queues(self, *, every: bool = False) -> list[QueueRecord]:
        return await self._read(listing.queue_records, every)

    async def pause(self, queue: QueueName, actor: Actor, reason: str = "") -> QueueRecord:
        await self._write(configuring.pause, queue, actor, reason, paused=True)
        return await self._queue(queue)

    async def resume(self, queue: QueueName, actor: Actor, reason: str = "") -> QueueRecord:
        await self._write(configuring.pause, queue, actor, reason, paused=False)
        return await self._queue(queue)

    async def limit(
        self, queue: QueueName, concurrency: int | None, actor: Actor, reason: str = ""
    ) -> QueueRecord:
        await self._write(configuring.limit, queue, concurrency, actor, reason)
        return await self._queue(queue)

    async def _queue(self, queue: QueueName) -> QueueRecord:
        for record in await self.queues():
            if record.name == queue:
                return record
        raise NotFoundError(f"no queue {queue!r}")

    # files

    async def configure_watches(
        self, watches: Sequence[tuple[WatchName, bytes, QueueName]]
    ) -> dict[WatchName, WatchRecord]:
        await self._write(configuring.configure_watches, watches)
        await self._read(rows.read_names, self._names)
        return {record.name: record for record in await self.watches() if not record.removed}

    async def watches(self) -> list[WatchRecord]:
        return await self._read(listing.watch_records)

    async def surveyed(self, watch: WatchName) -> None:
        await self._write(configuring.surveyed, watch)

    async def ledger(
        self, after: bytes, upto: bytes | None, limit: int, *, within: bytes
    ) -> list[LedgerEntry]:
        return await self._read(listing.ledger, self._names, after, upto, limit, within)

    async def entries(self, paths: Sequence[bytes]) -> dict[bytes, LedgerEntry]:
        return await self._read(listing.entries, self._names, paths)

    async def sight(self, sightings: Sequence[Sighting]) -> None:
        await self._write(files.sight, self._names, sightings)

    async def accept(self, found: Sequence[Found]) -> list[Intake]:
        return await self._write(accepting.accept, self._names, found)

    async def again(self, wanted: Submission, file: FileVersion, actor: Actor) -> Job:
        return await self._write(accepting.again, self._names, wanted, file, actor)

    async def claim_file(self, file: FileVersion) -> FileClaim:
        return await self._write(files.claim_file, self._names, file)

    async def file_claims(self) -> list[FileClaim]:
        return await self._write(files.file_claims, self._names)

    async def give_up_claim(self, claim: int) -> None:
        await self._write(files.give_up_claim, claim)

    async def vanish(self, paths: Sequence[bytes]) -> None:
        await self._write(files.vanish, self._names, paths)

    async def missed(self, watch: WatchName, count: int) -> None:
        await self._write(files.missed, watch, count)

    async def files(
        self, watch: WatchName, states: frozenset[FileState], cursor: str | None, limit: int
    ) -> Page[LedgerEntry]:
        return await self._read(listing.files, self._names, watch, states, cursor, limit)

    async def dispositions(self, after: JobId = FIRST, limit: int = 1000) -> list[Disposition]:
        return await self._write(files.dispositions, self._names, after, limit)

    async def disposed(self, job: JobId, result: str, target: bytes | None = None) -> None:
        await self._write(files.disposed, self._names, job, result, target)

    # lists and lookups

    async def job(self, job: JobId) -> Job:
        return await self._read(_job, self._names, job)

    async def jobs(self, wanted: JobFilter, cursor: str | None, limit: int) -> Page[Job]:
        return await self._read(listing.jobs, self._names, wanted, cursor, limit)

    async def attempts(self, job: JobId) -> list[Attempt]:
        return await self._read(_attempts, job)

    async def inline_output(self, job: JobId, attempt: int) -> bytes | None:
        return await self._read(_inline_output, job, attempt)

    async def totals(self) -> Totals:
        return await self._read(listing.totals, self._names)

    # people

    # retention

    async def prune(self, before: Retention, limit: int) -> Pruned:
        return await self._write(retaining.prune, self._names, before, limit)

    async def prune_outputs(self, total: int, limit: int) -> list[tuple[JobId, int]]:
        return await self._write(retaining.prune_outputs, total, limit)

    async def delete(self, job: JobId, actor: Actor, reason: str = "") -> int:
        return await self._write(retaining.delete, self._names, job, actor, reason)

    async def vacuum(self, pages: int) -> None:
        await on_connection(self._writing, _vacuum, pages)

    async def audit(
        self,
        actor: Actor,
        action: str,
        target: str = "",
        reason: str = "",
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        await self._write(people.record, actor, action, target, reason=reason, detail=detail)

    async def audit_entries(
        self, cursor: str | None, limit: int, *, job: JobId | None = None
    ) -> Page[AuditEntry]:
        return await self._read(listing.audit_entries, cursor, limit, job)

    async def open_session(self, token_hash: bytes, user: str) -> None:
        await self._write(people.open_session, token_hash, user)

    async def session(self, token_hash: bytes) -> Session | None:
        return await self._read(_session, token_hash)

    async def touch_session(self, token_hash: bytes) -> None:
        await self._write(people.touch_session, token_hash)

    async def forget_sessions(self, opened_before: Moment) -> int:
        return await self._write(people.forget_sessions, opened_before)

    async def close_sessions(
        self, *, token_hash: bytes | None = None, user: str | None = None
    ) -> int:
        return await self._write(people.close_sessions, token_hash, user)

    # the store itself

    async def remember_config(self, text: str) -> int:
        return await self._write(configuring.remember_config, text)

    async def config_text(self, number: int) -> str | None:
        return await self._read(_config_text, number)

    async def checkpoint(self) -> None:
        await on_connection(self._writing, _checkpoint)

    async def examine(self) -> Condition:
        return await self._read(examining.examine)

    async def healthy(self) -> None:
        await self._writer.write(lambda _: None)  # the clock's row is written with every commit


def _orphans(transaction: Transaction, names: Names, epoch: Epoch) -> list[Orphan]:
    orphans = []
    for *row, dead in transaction.rows(queries.JOBS_RUNNING, (epoch.id,)):
        job = rows.job_from(tuple(row), names)
        [(token,)] = transaction.rows(queries.EPOCH_TOKEN, (dead,))
        publication = None
        for temp, target, *identity, exit_code in transaction.rows(
            queries.PUBLICATION, (job.id, job.attempt)
        ):
            publication = Publication(temp, target, rows.identity(*identity), exit_code)
        orphans.append(Orphan(job, dead, token, publication))
    return orphans


def _dead_epochs(transaction: Transaction, epoch: Epoch) -> list[Epoch]:
    return [Epoch(*row) for row in transaction.rows(queries.DEAD_EPOCHS, (epoch.id,))]


def _rescued(transaction: Transaction, epoch: Epoch) -> None:
    transaction.change(queries.RESCUED, (transaction.moment, epoch.id))


def _job(connection: sqlite3.Connection, names: Names, number: JobId) -> Job:
    found = connection.execute(queries.JOB, (number,)).fetchall()
    if not found:
        raise NotFoundError(f"no job {number}")
    return rows.job_from(found[0], names)


def _attempts(connection: sqlite3.Connection, number: JobId) -> list[Attempt]:
    ended = connection.execute(queries.ATTEMPTS, (number,)).fetchall()
    seen = {row[1] for row in ended}  # looked at first: what ended since is seen as open, once
    still_open = connection.execute(queries.OPEN_ATTEMPT, (number,)).fetchall()
    return [rows.attempt_from(row) for row in ended] + [
        rows.attempt_from(row) for row in still_open if row[1] not in seen
    ]


def _inline_output(connection: sqlite3.Connection, job: JobId, attempt: int) -> bytes | None:
    found = connection.execute(queries.OUTPUT, (job, attempt)).fetchall()
    return found[0][0] if found else None


def _session(connection: sqlite3.Connection, token_hash: bytes) -> Session | None:
    found = connection.execute(queries.SESSION, (token_hash,)).fetchall()
    return Session(*found[0]) if found else None


def _config_text(connection: sqlite3.Connection, number: int) -> str | None:
    found = connection.execute(queries.CONFIG_TEXT, (number,)).fetchall()
    return str(found[0][0]) if found else None


def _vacuum(connection: sqlite3.Connection, pages: int) -> None:
    connection.execute(f"PRAGMA incremental_vacuum({int(pages)})").fetchall()


def _checkpoint(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
