"""Changes a person asks of a job: cancel, hold, release, run now, retry.

Each is one guarded UPDATE; when its guard finds no row, the job is read to say why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pq_daemon.errors import ConflictError, NotFoundError
from pq_daemon.jobs import order
from pq_daemon.jobs.order import Moment
from pq_daemon.jobs.states import MOVES, WAITING, Event, State, released_to
from pq_daemon.store.feed import Fact
from pq_daemon.store.sqlite import queries, rows
from pq_daemon.store.sqlite.people import record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pq_daemon.jobs.model import Job, JobId
    from pq_daemon.jobs.order import Priority
    from pq_daemon.store.protocol import Actor
    from pq_daemon.store.sqlite.rows import Names
    from pq_daemon.store.sqlite.transaction import Transaction

TOLD: Final[Mapping[Event, str]] = {
    Event.CANCEL: "job.cancelled",
    Event.REQUEST_CANCEL: "job.cancel_requested",
    Event.HOLD: "job.held",
    Event.RELEASE: "job.released",
    Event.RUN_NOW: "job.queued",
    Event.RETRY: "job.queued",
}


def act(
    transaction: Transaction,
    names: Names,
    number: JobId,
    event: Event,
    actor: Actor,
    *,
    reason: str = "",
    priority: Priority | None = None,
    max_attempts: int | None = None,
) -> Job:
    before = read_job(transaction, names, number)
    if event is Event.CANCEL and before.state is State.RUNNING:
        event = Event.REQUEST_CANCEL
    _insist(before, event)
    if event is Event.RETRY:
        _insist_file_is_left_alone(transaction, before)
    sql, values = _statement(before, event, transaction.moment, priority, max_attempts)
    transaction.change(sql, values)
    after = read_job(transaction, names, number)
    _count(transaction, names, before, after)
    record(
        transaction, actor, f"job.{event.value}", f"job {number}", job=number, reason=reason,
        detail={"from": before.state.value, "to": after.state.value},
    )  # fmt: skip
    transaction.tell(
        Fact(TOLD[event], number, after.queue, {"state": after.state.value, "by": actor.name})
    )
    return after


def amend(
    transaction: Transaction,
    names: Names,
    number: JobId,
    actor: Actor,
    priority: Priority | None,
    run_at: Moment | None,
) -> Job:
    """Change a waiting job's priority or its time; its moment in the queue stays."""
    before = read_job(transaction, names, number)
    if before.state not in WAITING:
        raise ConflictError(f"job {number} is {before.state}: only waiting jobs can be changed")
    if run_at is not None and before.run_at is None:
        raise ConflictError(f"job {number} is {before.state} and waits for no time")
    chosen = priority or before.priority
    queued_at = before.rank + order.HEAD_START_MS[before.priority]
    values = {
        "id": number,
        "priority": chosen.value,
        "rank": order.rank(Moment(queued_at), chosen),
        "run_at": before.run_at if run_at is None else run_at,
    }
    transaction.change(queries.AMEND, values)
    detail = {"priority": chosen.value, "run_at": values["run_at"]}
    record(transaction, actor, "job.amend", f"job {number}", job=number, detail=detail)
    transaction.tell(Fact("job.amended", number, before.queue, {**detail, "by": actor.name}))
    return read_job(transaction, names, number)


def read_job(transaction: Transaction, names: Names, number: JobId) -> Job:
    found = transaction.rows(queries.JOB, (number,))
    if not found:
        raise NotFoundError(f"no job {number}")
    return rows.job_from(found[0], names)


def _insist(job: Job, event: Event) -> None:
    sources = MOVES[event].sources
    if job.state not in sources:
        words = event.value.replace("_", " ")
        allowed = ", ".join(state for state in State if state in sources)
        raise ConflictError(f"job {job.id} is {job.state}: {words} is for jobs that are {allowed}")


def _insist_file_is_left_alone(transaction: Transaction, job: Job) -> None:
    pending = transaction.rows(queries.OPEN_DISPOSITION, (job.id,))
    if pending:
        raise ConflictError(
            f"the file of job {job.id} is about to be put away ({pending[0][0]}); try again then"
        )


def _statement(
    job: Job, event: Event, now: Moment, priority: Priority | None, max_attempts: int | None
) -> tuple[str, dict[str, Any]]:
    base = {"id": job.id, "now": now}
    match event:
        case Event.CANCEL:
            return queries.CANCEL, base
        case Event.REQUEST_CANCEL:
            return queries.REQUEST_CANCEL, base
        case Event.HOLD:
            return queries.HOLD, {"id": job.id}
        case Event.RELEASE:
            return queries.RELEASE, _release(job, now)
        case Event.RUN_NOW:
            return queries.RUN_NOW, base | {"rank": order.rank(now, job.priority)}
        case Event.RETRY:
            fresh = priority or job.priority
            return queries.RETRY, base | {
                "rank": order.rank(now, fresh),
                "priority": fresh.value,
                "max_attempts": max_attempts or job.max_attempts,
            }
        case _:
            raise ConflictError(f"{event} is not for people to ask")


def _release(job: Job, now: Moment) -> dict[str, Any]:
    ahead = job.run_at is not None and job.run_at > now
    to = released_to(job.held_from or State.QUEUED, run_at_ahead=ahead)
    return {
        "id": job.id,
        "to": to.value,
        "rank": order.rank(now, job.priority),
        "queued_at": now if to is State.QUEUED else None,
        "run_at": job.run_at if ahead else None,
    }


def _count(transaction: Transaction, names: Names, before: Job, after: Job) -> None:
    queue = names.queue_id[after.queue]
    if before.state is not after.state:
        transaction.count(queue, before.state.value, -1)
        transaction.count(queue, after.state.value, 1)
    if after.state is State.CANCELLED:
        transaction.total(queue, "cancelled")
