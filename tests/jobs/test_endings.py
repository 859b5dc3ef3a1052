"""What becomes of a job when an attempt ends: every outcome, every budget."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pq_daemon.jobs.endings import LOST_MOST, POSTPONED_MOST, Budget, settle
from pq_daemon.jobs.retry import Backoff, delay
from pq_daemon.jobs.states import MOVES, Event, Outcome, Reason, State


def budget(**changes: Any) -> Budget:
    return Budget(
        **(
            {"spent": 0, "max_attempts": 3, "postponed": 0, "lost": 0, "cancel_requested": False}
            | changes
        )
    )


def test_success_ends_even_when_a_cancel_was_requested() -> None:
    """Exit 0 before TERM was sent is a success."""
    settled = settle(Outcome.SUCCEEDED, budget(cancel_requested=True))
    assert (settled.event, settled.reason) == (Event.SUCCEED, None)


def test_a_failure_is_tried_again_until_the_attempts_are_spent() -> None:
    first = settle(Outcome.FAILED, budget(spent=0))
    last = settle(Outcome.FAILED, budget(spent=2))
    assert (first.event, first.spent) == (Event.RETRY_LATER, 1)
    assert (last.event, last.reason, last.spent) == (Event.FAIL, Reason.ATTEMPTS, 3)


def test_a_timeout_spends_an_attempt_and_stays_a_timeout() -> None:
    settled = settle(Outcome.TIMED_OUT, budget(spent=2))
    assert (settled.event, settled.outcome) == (Event.FAIL, Outcome.TIMED_OUT)


@pytest.mark.parametrize("outcome", [Outcome.INTERRUPTED, Outcome.LOST, Outcome.POSTPONED])
def test_these_spend_nothing(outcome: Outcome) -> None:
    assert settle(outcome, budget(spent=2)).spent == 2


def test_the_21st_postponement_in_a_row_counts_as_failed() -> None:
    free = settle(Outcome.POSTPONED, budget(postponed=POSTPONED_MOST - 1))
    counted = settle(Outcome.POSTPONED, budget(postponed=POSTPONED_MOST))
    assert (free.event, free.spent, free.postponed) == (Event.RETRY_LATER, 0, POSTPONED_MOST)
    assert (counted.outcome, counted.spent, counted.postponed) == (Outcome.FAILED, 1, 0)


def test_the_third_loss_in_a_row_quarantines() -> None:
    again = settle(Outcome.LOST, budget(lost=LOST_MOST - 2))
    enough = settle(Outcome.LOST, budget(lost=LOST_MOST - 1))
    assert again.event is Event.LOSE
    assert (enough.event, enough.reason) == (Event.FAIL, Reason.QUARANTINED)


@pytest.mark.parametrize("outcome", [Outcome.INTERRUPTED, Outcome.LOST, Outcome.FAILED])
def test_a_requested_cancel_wins_over_going_on(outcome: Outcome) -> None:
    settled = settle(outcome, budget(cancel_requested=True))
    assert (settled.event, settled.reason) == (Event.CANCEL_RUNNING, Reason.CANCELLED)


def test_a_superseded_file_cancels_its_job() -> None:
    settled = settle(Outcome.SUCCEEDED, budget(), final_reason=Reason.SUPERSEDED)
    assert (settled.event, settled.reason) == (Event.CANCEL_RUNNING, Reason.SUPERSEDED)


@pytest.mark.parametrize("reason", [Reason.DISCARDED, Reason.INPUT_GONE, Reason.MEMORY])
def test_some_reasons_end_the_job_whatever_is_left(reason: Reason) -> None:
    settled = settle(Outcome.FAILED, budget(), final_reason=reason)
    assert (settled.event, settled.reason) == (Event.FAIL, reason)


def test_an_asked_delay_replaces_the_backoff_and_is_bounded() -> None:
    assert settle(Outcome.POSTPONED, budget(), after=7.5).delay == 7.5
    assert settle(Outcome.POSTPONED, budget(), after=10**9).delay == 24 * 3600


@given(
    outcome=st.sampled_from(Outcome),
    spent=st.integers(0, 5),
    most=st.integers(1, 5),
    postponed=st.integers(0, 25),
    lost=st.integers(0, 5),
    cancel=st.booleans(),
    reason=st.none() | st.sampled_from(Reason),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_every_ending_is_a_legal_move_with_a_matching_reason(
    outcome: Outcome, spent: int, most: int, postponed: int, lost: int, cancel: bool,
    reason: Reason | None, chance: float,
) -> None:  # fmt: skip
    settled = settle(
        outcome, Budget(spent, most, postponed, lost, cancel), final_reason=reason, chance=chance
    )
    move = MOVES[settled.event]
    assert State.RUNNING in move.sources
    assert (settled.reason is not None) == (move.target in {State.FAILED, State.CANCELLED})
    assert (settled.delay is not None) == (settled.event is Event.RETRY_LATER)
    assert settled.spent in {spent, spent + 1}


@given(
    base=st.floats(0.01, 100), factor=st.floats(1, 100), most=st.floats(0.01, 10_000),
    jitter=st.floats(0, 1), spent=st.integers(0, 10_000),
    chance=st.floats(0, 1, exclude_max=True),
)  # fmt: skip
def test_a_delay_stays_within_the_jitter_of_its_bound(
    base: float, factor: float, most: float, jitter: float, spent: int, chance: float
) -> None:
    seconds = delay(Backoff(base, factor, most, jitter), spent, chance)
    assert 0 <= seconds <= most * (1 + jitter) * 1.000001


def test_the_default_delays_are_those_of_the_manual() -> None:
    plain = Backoff(jitter=0.0)
    assert [delay(plain, spent, 0.5) for spent in (1, 2, 3, 4, 5)] == [15, 60, 240, 960, 3600]
