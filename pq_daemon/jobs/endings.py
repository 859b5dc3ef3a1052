"""From the end of an attempt to the next state of its job: one pure decision.

The store asks it inside the transaction that records the end, with what the row says at that
moment; so a cancel that was asked for a millisecond before counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pq_daemon.jobs import retry
from pq_daemon.jobs.states import Event, Outcome, Reason

POSTPONED_MOST: Final = 20
"""That many postponements in a row are free; the next one counts as failed."""

LOST_MOST: Final = 3
"""That many losses in a row under one kernel boot are the end: the file may be what kills us."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What the row of a running job says when its attempt ends."""

    spent: int
    max_attempts: int
    postponed: int
    lost: int
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """What becomes of the job. `delay` is in seconds, for RETRY_LATER only."""

    event: Event
    outcome: Outcome
    reason: Reason | None
    spent: int
    postponed: int
    lost: int
    delay: float | None = None


def settle(  # noqa: PLR0911 - one return an outcome, in the order of the contract's table
    outcome: Outcome,
    budget: Budget,
    *,
    final_reason: Reason | None = None,
    after: float | None = None,
    backoff: retry.Backoff | None = None,
    chance: float = 0.5,
) -> Settled:
    """Decide what becomes of a running job whose attempt ended in `outcome`.

    Args:
        outcome: how the attempt ended.
        budget: what the row says now.
        final_reason: the job ends now for this reason, whatever is left (discarded, input gone,
            superseded, memory).
        after: seconds the handler asked to wait.
        backoff: of the queue, as it is configured now.
        chance: uniform in [0, 1), for the jitter.

    """
    backoff = backoff or retry.Backoff()
    if outcome is Outcome.SUCCEEDED and final_reason is None:
        return Settled(Event.SUCCEED, outcome, None, budget.spent, 0, 0)
    if final_reason is Reason.SUPERSEDED:
        return Settled(Event.CANCEL_RUNNING, outcome, final_reason, budget.spent, 0, 0)
    if budget.cancel_requested or outcome is Outcome.CANCELLED:
        return Settled(Event.CANCEL_RUNNING, outcome, Reason.CANCELLED, budget.spent, 0, 0)
    if outcome is Outcome.INTERRUPTED:
        return Settled(Event.INTERRUPT, outcome, None, budget.spent, budget.postponed, 0)
    if outcome is Outcome.LOST:
        return _lost(budget)
    postponed = budget.postponed + 1 if outcome is Outcome.POSTPONED else 0
    if outcome is Outcome.POSTPONED and postponed <= POSTPONED_MOST and final_reason is None:
        wait = _wait(backoff, budget.spent, chance, after)
        return Settled(Event.RETRY_LATER, outcome, None, budget.spent, postponed, 0, wait)
    spent = budget.spent + 1
    if outcome is Outcome.POSTPONED:
        outcome = Outcome.FAILED
    if final_reason is not None:
        return Settled(Event.FAIL, outcome, final_reason, spent, 0, 0)
    if spent >= budget.max_attempts:
        return Settled(Event.FAIL, outcome, Reason.ATTEMPTS, spent, 0, 0)
    return Settled(
        Event.RETRY_LATER, outcome, None, spent, 0, 0, _wait(backoff, spent, chance, after)
    )


def _lost(budget: Budget) -> Settled:
    lost = budget.lost + 1
    if lost >= LOST_MOST:
        return Settled(Event.FAIL, Outcome.LOST, Reason.QUARANTINED, budget.spent, 0, lost)
    return Settled(Event.LOSE, Outcome.LOST, None, budget.spent, budget.postponed, lost)


def _wait(backoff: retry.Backoff, spent: int, chance: float, after: float | None) -> float:
    return retry.delay(backoff, spent, chance) if after is None else retry.asked_delay(after)
