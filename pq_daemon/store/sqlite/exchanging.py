"""The exchange: how attempts ended, what has come due, who fills the free slots. The hot path.

It is one change, so an ending and the claim that its slot makes possible share a commit. A free
slot goes to the queue (not paused, under its limit) whose head has the lowest (rank, id). Endings
carry (job, attempt, epoch): an ending that finds no such running row came late and changes
nothing.
"""

from __future__ import annotations

import heapq
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.jobs import order
from pq_daemon.jobs.endings import Budget, Settled, settle
from pq_daemon.jobs.model import OutputSize
from pq_daemon.jobs.order import Moment
from pq_daemon.jobs.states import MOVES, Event, Reason, State
from pq_daemon.store.feed import Fact
from pq_daemon.store.protocol import Exchange
from pq_daemon.store.sqlite import queries, rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pq_daemon.jobs.model import Job
    from pq_daemon.store.protocol import After, Claim, Ending, Epoch
    from pq_daemon.store.sqlite.rows import Names
    from pq_daemon.store.sqlite.transaction import Transaction

TOLD: Final[Mapping[Event, str]] = {
    Event.SUCCEED: "job.succeeded",
    Event.FAIL: "job.failed",
    Event.RETRY_LATER: "job.retrying",
    Event.INTERRUPT: "job.interrupted",
    Event.LOSE: "job.lost",
    Event.CANCEL_RUNNING: "job.cancelled",
}
TOTALLED: Final[Mapping[Event, str]] = {
    Event.SUCCEED: "succeeded",
    Event.FAIL: "failed",
    Event.RETRY_LATER: "retried",
    Event.INTERRUPT: "interrupted",
    Event.LOSE: "lost",
    Event.CANCEL_RUNNING: "cancelled",
}
FOR_NOW: Final = frozenset({Event.RETRY_LATER, Event.INTERRUPT, Event.LOSE})
NO_OUTPUT: Final = OutputSize()
UNLIMITED: Final = 1 << 30
"""A limit of 0 means as many as there are slots; the free slots bound the claim anyway."""


def exchange(
    transaction: Transaction, names: Names, epoch: Epoch, endings: Sequence[Ending], claim: Claim
) -> Exchange:
    settled = [_end(transaction, names, epoch, ending) for ending in endings]
    next_due = _come_due(transaction, names)
    claimed = _claim(transaction, names, epoch, claim) if claim.slots else []
    return Exchange(settled, claimed, next_due)


# --- endings -----------------------------------------------------------------------------------


def _end(transaction: Transaction, names: Names, epoch: Epoch, ending: Ending) -> State | None:
    boot = epoch.boot if ending.epoch == epoch.id else _boot_of(transaction, ending.epoch)
    found = transaction.rows(
        queries.BUDGET,
        {"id": ending.job, "attempt": ending.attempt, "epoch": ending.epoch, "boot": boot},
    )
    if not found:
        return None
    queue, spent, most, postponed, lost, cancel_requested, name, run, *_ = found[0]
    verdict = settle(
        ending.outcome,
        Budget(spent, most, postponed, lost, cancel_requested is not None),
        final_reason=ending.final_reason,
        after=ending.after,
        backoff=ending.backoff,
        chance=ending.chance,
    )
    state = MOVES[verdict.event].target
    _move(transaction, ending, verdict, state, boot)
    _close_attempt(transaction, ending, verdict)
    transaction.count(queue, "running", -1)
    transaction.count(queue, state, 1)
    transaction.total(queue, TOTALLED[verdict.event])
    kind = _dispose(transaction, ending, verdict, run) if name is not None else None
    data = {"attempt": ending.attempt, "outcome": verdict.outcome.value, "name": name}
    if ending.reason is not None:
        data["reason"] = ending.reason
    if kind is not None:
        data["disposition"] = kind
    transaction.tell(Fact(TOLD[verdict.event], ending.job, names.queue[queue], data))
    return state


def _move(
    transaction: Transaction, ending: Ending, verdict: Settled, state: State, boot: str
) -> None:
    now = transaction.moment
    values: dict[str, Any] = {
        "id": ending.job,
        "state": state,
        "spent": verdict.spent,
        "postponed": verdict.postponed,
        "lost": verdict.lost,
        "boot": boot if verdict.lost else None,
        "error": ending.error,
    }
    if verdict.event in FOR_NOW:
        wait = verdict.delay
        values["run_at"] = None if wait is None else now + round(wait * 1000)
        transaction.change(queries.END_FOR_NOW, values)
        return
    progress = ending.progress
    transaction.change(
        queries.END_FINALLY,
        values
        | {
            "reason": verdict.reason,
            "now": now,
            "result": ending.result,
            "percent": None if progress is None else progress.percent,
            "text": None if progress is None else progress.text,
        },
    )


def _close_attempt(transaction: Transaction, ending: Ending, verdict: Settled) -> None:
    size = ending.output or NO_OUTPUT
    transaction.change(
        queries.END_ATTEMPT,
        (verdict.outcome, ending.reason, ending.exit_code, ending.signal, transaction.moment,
         size.stdout, size.stderr, size.cut, ending.job, ending.attempt),
    )  # fmt: skip
    if ending.inline is not None:
        transaction.change(queries.KEEP_OUTPUT, (ending.job, ending.attempt, ending.inline))


def _dispose(transaction: Transaction, ending: Ending, verdict: Settled, run: int) -> str | None:
    """Commit to the after-action of a job that has ended; whether it is done is told later."""
    after: After | None = None
    if verdict.event is Event.SUCCEED:
        after = ending.on_success
    elif verdict.event is Event.FAIL and verdict.reason is not Reason.INPUT_GONE:
        after = ending.on_failure
    if after is None:
        return None
    transaction.change(
        queries.DISPOSE, (ending.job, run, after.kind, after.directory, transaction.moment)
    )
    return after.kind


def _boot_of(transaction: Transaction, epoch: int) -> str:
    found = transaction.rows(queries.EPOCH_BOOT, (epoch,))
    return str(found[0][0]) if found else ""


# --- due jobs ----------------------------------------------------------------------------------


def _come_due(transaction: Transaction, names: Names) -> Moment | None:
    """Queue what has come due by its own index; return when the next one does."""
    [(first,)] = transaction.rows(queries.NEXT_DUE)
    if first is None or first > transaction.moment:
        return None if first is None else Moment(first)
    due = transaction.rows(queries.DUE, (transaction.moment,))
    moves = []
    for number, queue, state, priority, run_at in due:
        moves.append((order.rank(run_at, rows.PRIORITIES[priority]), number))
        transaction.count(queue, state, -1)
        transaction.count(queue, "queued", 1)
        transaction.tell(Fact("job.queued", number, names.queue[queue], {"from": state}))
    transaction.change_each(queries.COME_DUE, moves)
    [(following,)] = transaction.rows(queries.NEXT_DUE)
    return None if following is None else Moment(following)


# --- the claim ---------------------------------------------------------------------------------


def _claim(
    transaction: Transaction, names: Names, epoch: Epoch, claim: Claim
) -> list[tuple[int, Job]]:
    now = transaction.moment
    heads = _heads(transaction, claim)
    taken = list(islice(heapq.merge(*heads, key=_place), len(claim.slots)))
    if not taken:
        return []
    transaction.change_each(queries.CLAIM, [(now, epoch.id, row[0]) for row in taken])
    claimed = [
        (slot, rows.claimed_from(row, names, now))
        for slot, row in zip(claim.slots, taken, strict=False)
    ]
    transaction.change_each(
        queries.BEGIN_ATTEMPT,
        [(job.id, job.attempt, slot, now, epoch.id, claim.config) for slot, job in claimed],
    )
    for slot, job in claimed:
        queue = names.queue_id[job.queue]
        transaction.count(queue, "queued", -1)
        transaction.count(queue, "running", 1)
        transaction.total(queue, "attempts")
        transaction.tell(
            Fact("job.started", job.id, job.queue, {"attempt": job.attempt, "slot": slot})
        )
    return claimed


def _place(row: tuple[Any, ...]) -> tuple[int, int]:
    return row[5], row[0]


def _heads(transaction: Transaction, claim: Claim) -> list[list[tuple[Any, ...]]]:
    """The first jobs of every queue that may run more, each list in its queue's order."""
    heads = []
    for record in transaction.rows(queries.QUEUES):
        number, name, _, place, _, limit_set, paused_file, paused_set = record[:8]
        paused = paused_file if paused_set is None else paused_set
        if paused or place is None or name not in claim.limits:
            continue
        limit = claim.limits[name] if limit_set is None else limit_set or UNLIMITED
        [(running,)] = transaction.rows(queries.RUNNING_COUNT, (number,))
        room = min(limit - running, len(claim.slots))
        if room > 0:
            heads.append(transaction.rows(queries.HEADS, (number, room)))
    return heads
