"""Changes that forget: old final jobs with their history, old outputs, audit rows, lost paths.

Always a batch at a time, so the write queue is never held for long. A job whose file is still to be
put away stays until that is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pq_daemon.errors import ConflictError
from pq_daemon.jobs.model import JobId
from pq_daemon.jobs.states import FINAL, State
from pq_daemon.store.feed import Fact
from pq_daemon.store.protocol import Pruned
from pq_daemon.store.sqlite import queries
from pq_daemon.store.sqlite.moving import read_job
from pq_daemon.store.sqlite.people import record

if TYPE_CHECKING:
    from pq_daemon.store.protocol import Actor, Retention
    from pq_daemon.store.sqlite.rows import Names
    from pq_daemon.store.sqlite.transaction import Transaction


def prune(transaction: Transaction, names: Names, before: Retention, limit: int) -> Pruned:
    jobs: list[tuple[JobId, int]] = []
    for state, moment in (
        (State.SUCCEEDED, before.succeeded),
        (State.CANCELLED, before.cancelled),
        (State.FAILED, before.failed),
    ):
        for number, queue, attempts in transaction.rows(
            queries.OLD_JOBS, (state.value, moment, limit)
        ):
            _forget(transaction, number, queue, state)
            jobs.append((JobId(number), attempts))
    audit = transaction.change(queries.OLD_AUDIT, (before.audit, limit))
    files = 0
    for watch in names.watch:
        gone = transaction.change(queries.OLD_FILES, (watch, before.vanished, limit))
        transaction.count_file(watch, "vanished", -gone)
        files += gone
    return Pruned(jobs, audit, files)


def _forget(transaction: Transaction, number: int, queue: int, state: State) -> None:
    [(kept,)] = transaction.rows(queries.OUTPUTS_OF, (number,))
    if kept:
        transaction.count_output(-kept)
    transaction.change(queries.DELETE_PUBLICATIONS, (number,))
    transaction.change(queries.DELETE_DISPOSITIONS, (number,))
    transaction.change(queries.DELETE_JOB, (number,))
    transaction.count(queue, state.value, -1)


def prune_outputs(transaction: Transaction, total: int, limit: int) -> list[tuple[JobId, int]]:
    [(kept,)] = transaction.rows(queries.OUTPUT_BYTES)
    forgotten: list[tuple[JobId, int]] = []
    if kept <= total:
        return forgotten
    for job, attempt, size in transaction.rows(queries.OLD_OUTPUTS, (limit,)):
        if kept <= total:
            break
        transaction.change(queries.DELETE_OUTPUT, (job, attempt))
        transaction.count_output(-size)
        kept -= size
        forgotten.append((JobId(job), attempt))
    return forgotten


def delete(transaction: Transaction, names: Names, number: JobId, actor: Actor, reason: str) -> int:
    job = read_job(transaction, names, number)
    if job.state not in FINAL:
        raise ConflictError(f"job {number} is {job.state}: only final jobs can be deleted")
    if transaction.rows(queries.OPEN_DISPOSITION, (number,)):
        raise ConflictError(f"the file of job {number} is about to be put away; try again then")
    _forget(transaction, number, names.queue_id[job.queue], job.state)
    record(transaction, actor, "job.delete", f"job {number}", job=number, reason=reason)
    transaction.tell(Fact("job.deleted", number, job.queue, {"by": actor.name}))
    return job.attempt
