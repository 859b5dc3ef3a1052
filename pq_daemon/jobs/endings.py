"""From the end of an attempt to the next state of its job: one pure decision.

The store asks it inside the transaction that records the end, with what the row says at that
moment; so a cancel that was asked for a millisecond before counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pq_daemon.jobs import retry
from pq_daemon.jobs.states import Event, Outcome, Reason

if TYPE_CHECKING:
    from collections.abc import Callable

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


def settle(
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
    if outcome is Outcome.SUCCEEDED and final_reason is None:
        return Settled(Event.SUCCEED, outcome, None, budget.spent, 0, 0)
    cancelled = _cancelled(outcome, budget, final_reason)
    if cancelled is not None:
        return Settled(Event.CANCEL_RUNNING, outcome, cancelled, budget.spent, 0, 0)
    if outcome is Outcome.INTERRUPTED:
        return _interrupted(budget, after)
    if outcome is Outcome.LOST:
        return _lost(budget)

    def wait(spent: int) -> float:
        if after is not None:
            return retry.asked_delay(after)
        return retry.delay(backoff or retry.Backoff(), spent, chance)

    if outcome is Outcome.POSTPONED and budget.postponed < POSTPONED_MOST:
        delay = wait(budget.spent)
        spent, postponed = budget.spent, budget.postponed + 1
        return Settled(Event.RETRY_LATER, outcome, None, spent, postponed, 0, delay)
    return _failed(outcome, budget, final_reason, wait)


def _cancelled(outcome: Outcome, budget: Budget, final_reason: Reason | None) -> Reason | None:
    if final_reason is Reason.SUPERSEDED:
        return final_reason
    if budget.cancel_requested or outcome is Outcome.CANCELLED:
        return Reason.CANCELLED
    return None


def _interrupted(budget: Budget, after: float | None) -> Settled:
    """Spend nothing. With `after` the attempt could not begin (its root is missing): it waits."""
    if after is None:
        return Settled(
            Event.INTERRUPT, Outcome.INTERRUPTED, None, budget.spent, budget.postponed, 0
        )
    delay = retry.asked_delay(after)
    return Settled(
        Event.RETRY_LATER, Outcome.INTERRUPTED, None, budget.spent, budget.postponed, 0, delay
    )


def _lost(budget: Budget) -> Settled:
    lost = budget.lost + 1
    if lost >= LOST_MOST:
        return Settled(Event.FAIL, Outcome.LOST, Reason.QUARANTINED, budget.spent, 0, lost)
    return Settled(Event.LOSE, Outcome.LOST, None, budget.spent, budget.postponed, lost)


def _failed(
    outcome: Outcome,
    budget: Budget,
    final_reason: Reason | None,
    wait: Callable[[int], float],
) -> Settled:
    """An attempt that is spent; a postponement too many is one."""
    outcome = Outcome.TIMED_OUT if outcome is Outcome.TIMED_OUT else Outcome.FAILED
    spent = budget.spent + 1
    if final_reason is None and spent < budget.max_attempts:
        return Settled(Event.RETRY_LATER, outcome, None, spent, 0, 0, wait(spent))
    return Settled(Event.FAIL, outcome, final_reason or Reason.ATTEMPTS, spent, 0, 0)
