"""The exchange: how attempts ended, what has come due, who fills the free slots. The hot path.

It is one change, so an ending and the claim that its slot makes possible share a commit. A free
slot goes to the queue (not paused, under its limit) whose head has the lowest (rank, id). Endings
carry (job, attempt, epoch): an ending that finds no such running row came late and changes
nothing.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pq_daemon.jobs import order
from pq_daemon.jobs.endings import Budget, Settled, settle
from pq_daemon.jobs.model import OutputSize
from pq_daemon.jobs.order import Moment
from pq_daemon.jobs.states import MOVES, Event, Reason, State
from pq_daemon.runtime.names import shown
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
    settled = Endings(transaction, names, epoch).record(endings) if endings else []
    next_due = _come_due(transaction, names)
    claimed = _claim(transaction, names, epoch, claim) if claim.slots else []
    return Exchange(settled, claimed, next_due)


# --- endings -----------------------------------------------------------------------------------


class Row(NamedTuple):
    """A running job, as BUDGETS reads it."""

    id: int
    attempt: int
    epoch: int
    queue: int
    spent: int
    max_attempts: int
    postponed: int
    lost: int
    lost_boot: str | None
    cancel_requested_at: int | None
    shown: str | None
    run: int
    slot: int
    started_at: int
    config: int | None


class Endings:
    """The endings of one exchange: read together, decided one by one, written together."""

    def __init__(self, transaction: Transaction, names: Names, epoch: Epoch) -> None:
        self._transaction = transaction
        self._names = names
        self._epoch = epoch
        self._well: list[tuple[int, str | None, int]] = []
        self._finals: list[tuple[Any, ...]] = []
        self._for_now: list[tuple[Any, ...]] = []
        self._attempts: list[tuple[Any, ...]] = []
        self._outputs: list[tuple[int, int, int, int, bytes | None]] = []
        self._counts: Counter[tuple[int, str]] = Counter()
        self._totals: Counter[tuple[int, str]] = Counter()

    def record(self, endings: Sequence[Ending]) -> list[State | None]:
        wanted = json.dumps([ending.job for ending in endings])
        running = {
            row[0]: Row._make(row) for row in self._transaction.rows(queries.BUDGETS, (wanted,))
        }
        settled = [self._end(ending, running.pop(ending.job, None)) for ending in endings]
        self._write()
        return settled

    def _end(self, ending: Ending, row: Row | None) -> State | None:
        if row is None or row.attempt != ending.attempt or row.epoch != ending.epoch:
            return None
        boot = self._boot(ending.epoch)
        verdict = settle(
            ending.outcome,
            Budget(
                row.spent,
                row.max_attempts,
                row.postponed,
                row.lost if row.lost_boot == boot else 0,
                row.cancel_requested_at is not None,
            ),
            final_reason=ending.final_reason,
            after=ending.after,
            backoff=ending.backoff,
            chance=ending.chance,
        )
        state = MOVES[verdict.event].target
        self._move(ending, verdict, row, state.value, boot)  # an enum binds slowly
        self._keep_attempt(ending, verdict, row)
        self._counts[row.queue, state.value] += 1
        self._counts[row.queue, "running"] -= 1
        self._totals[row.queue, TOTALLED[verdict.event]] += 1
        self._tell(ending, verdict, row)
        return state

    def _boot(self, epoch: int) -> str:
        if epoch == self._epoch.id:
            return self._epoch.boot
        found = self._transaction.rows(queries.EPOCH_BOOT, (epoch,))
        return str(found[0][0]) if found else ""

    def _move(self, ending: Ending, verdict: Settled, row: Row, state: str, boot: str) -> None:
        now = self._transaction.moment
        lost_boot = boot if verdict.lost else None
        budget = (verdict.spent, verdict.postponed, verdict.lost, lost_boot)
        if verdict.event in FOR_NOW:
            wait = verdict.delay
            run_at = None if wait is None else now + round(wait * 1000)
            self._for_now.append((state, *budget, run_at, ending.error, ending.job))
            return
        if verdict.event is Event.SUCCEED and row.attempt == 1 and ending.progress is None:
            # Nothing else of the row has changed since it was inserted: the usual, cheapest end.
            self._well.append((now, ending.result, ending.job))
            return
        said = ending.progress
        progress = (None, None) if said is None else (said.percent, said.text)
        reason = None if verdict.reason is None else verdict.reason.value
        self._finals.append(
            (
                state,
                reason,
                now,
                *budget,
                ending.error,
                ending.result,
                *progress,
                ending.job,
            )
        )

    def _keep_attempt(self, ending: Ending, verdict: Settled, row: Row) -> None:
        size = ending.output or NO_OUTPUT
        self._attempts.append(
            (ending.job, ending.attempt, verdict.outcome.value, ending.reason, ending.exit_code,
             ending.signal, row.slot, row.started_at, self._transaction.moment, row.epoch,
             row.config, size.stdout, size.stderr, size.cut)
        )  # fmt: skip
        kept = size.stdout + size.stderr - size.cut
        if kept or ending.inline is not None:
            succeeded = int(verdict.event is Event.SUCCEED)
            self._outputs.append((ending.job, ending.attempt, kept, succeeded, ending.inline))

    def _tell(self, ending: Ending, verdict: Settled, row: Row) -> None:
        data = {"attempt": ending.attempt, "outcome": verdict.outcome.value, "name": row.shown}
        if ending.reason is not None:
            data["reason"] = ending.reason
        if row.shown is not None:
            kind = _dispose(self._transaction, ending, verdict, row.run)
            if kind is not None:
                data["disposition"] = kind
        self._transaction.tell(
            Fact(TOLD[verdict.event], ending.job, self._names.queue[row.queue], data)
        )

    def _write(self) -> None:
        self._transaction.change_each(queries.END_WELL, self._well)
        self._transaction.change_each(queries.END_FINALLY, self._finals)
        self._transaction.change_each(queries.END_FOR_NOW, self._for_now)
        self._transaction.change_each(queries.KEEP_ATTEMPT, self._attempts)
        if self._outputs:
            self._transaction.change_each(queries.KEEP_OUTPUT, self._outputs)
            self._transaction.count_output(sum(kept for _, _, kept, _, _ in self._outputs))
        for (queue, state), delta in self._counts.items():
            self._transaction.count(queue, state, delta)
        for (queue, what), delta in self._totals.items():
            self._transaction.total(queue, what, delta)


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
    pairs = list(zip(claim.slots, taken, strict=False))
    transaction.change_each(
        queries.CLAIM, [(now, epoch.id, slot, claim.config, row[0]) for slot, row in pairs]
    )
    claimed = [(slot, rows.claimed_from(row, names, now)) for slot, row in pairs]
    for queue, begun in Counter(job.queue for _, job in claimed).items():
        number = names.queue_id[queue]
        transaction.count(number, "queued", -begun)
        transaction.count(number, "running", begun)
        transaction.total(number, "attempts", begun)
    transaction.facts += [
        Fact(
            "job.started",
            job.id,
            job.queue,
            {"attempt": job.attempt, "slot": slot, "name": job.file and shown(job.file.relpath)},
        )
        for slot, job in claimed
    ]
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
