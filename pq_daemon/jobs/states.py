"""Every state a job can be in, and every way out of it. Nothing else moves a job.

The table is used three times and written once: the store's guarded UPDATEs take their WHERE from
it, the schema's CHECKs restate it, the README's diagram is drawn from it. A move whose guard finds
no row was not an error: someone was faster, or the state does not allow it.

Two moves need a word beside the table. A running job is never cancelled at once: REQUEST_CANCEL
leaves it running, and it ends CANCELLED when the last process of its handler is gone. And RELEASE
goes back to where HOLD took the job from while its run_at is still ahead (`released_to`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class State(StrEnum):
    HELD = "held"
    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(StrEnum):
    COME_DUE = "come_due"
    CLAIM = "claim"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY_LATER = "retry_later"
    INTERRUPT = "interrupt"
    LOSE = "lose"
    CANCEL = "cancel"
    REQUEST_CANCEL = "request_cancel"
    CANCEL_RUNNING = "cancel_running"
    HOLD = "hold"
    RELEASE = "release"
    RUN_NOW = "run_now"
    RETRY = "retry"


class Outcome(StrEnum):
    """How an attempt ended; an open attempt has none."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    POSTPONED = "postponed"
    INTERRUPTED = "interrupted"
    LOST = "lost"


class Reason(StrEnum):
    """Why a final job did not succeed."""

    ATTEMPTS = "attempts"
    DISCARDED = "discarded"
    QUARANTINED = "quarantined"
    INPUT_GONE = "input_gone"
    SUPERSEDED = "superseded"
    MEMORY = "memory"
    CANCELLED = "cancelled"


class Move(NamedTuple):
    sources: frozenset[State]
    targets: tuple[State, ...]

    @property
    def target(self) -> State:
        """The usual target; only RELEASE has others."""
        return self.targets[0]


def move(*sources: State, to: State | tuple[State, ...]) -> Move:
    return Move(frozenset(sources), to if isinstance(to, tuple) else (to,))


FINAL: Final = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
LIVE: Final = frozenset(State) - FINAL
WAITING: Final = LIVE - {State.RUNNING}
ACCEPTED: Final = (State.QUEUED, State.SCHEDULED, State.HELD)

MOVES: Final[Mapping[Event, Move]] = {
    Event.COME_DUE: move(State.SCHEDULED, State.RETRYING, to=State.QUEUED),
    Event.CLAIM: move(State.QUEUED, to=State.RUNNING),
    Event.SUCCEED: move(State.RUNNING, to=State.SUCCEEDED),
    Event.FAIL: move(State.RUNNING, to=State.FAILED),
    Event.RETRY_LATER: move(State.RUNNING, to=State.RETRYING),
    Event.INTERRUPT: move(State.RUNNING, to=State.QUEUED),
    Event.LOSE: move(State.RUNNING, to=State.QUEUED),
    Event.CANCEL: move(
        State.HELD, State.SCHEDULED, State.QUEUED, State.RETRYING, to=State.CANCELLED
    ),
    Event.REQUEST_CANCEL: move(State.RUNNING, to=State.RUNNING),
    Event.CANCEL_RUNNING: move(State.RUNNING, to=State.CANCELLED),
    Event.HOLD: move(State.QUEUED, State.SCHEDULED, State.RETRYING, to=State.HELD),
    Event.RELEASE: move(State.HELD, to=(State.QUEUED, State.SCHEDULED, State.RETRYING)),
    Event.RUN_NOW: move(State.SCHEDULED, State.RETRYING, to=State.QUEUED),
    Event.RETRY: move(State.FAILED, State.CANCELLED, State.SUCCEEDED, to=State.QUEUED),
}


def allows(event: Event, state: State) -> bool:
    return state in MOVES[event].sources


def allowed_events(state: State) -> frozenset[Event]:
    return frozenset(event for event in MOVES if allows(event, state))


def released_to(held_from: State, *, run_at_ahead: bool) -> State:
    """Where RELEASE puts a job that was held while it was `held_from`."""
    if run_at_ahead and held_from in {State.SCHEDULED, State.RETRYING}:
        return held_from
    return State.QUEUED


def accepted_as(*, hold: bool, run_at_ahead: bool) -> State:
    """The state of a job that was just accepted."""
    if hold:
        return State.HELD
    return State.SCHEDULED if run_at_ahead else State.QUEUED


def diagram() -> str:
    """The moves as a Mermaid state diagram, as the README shows them."""
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {state}: accept" for state in ACCEPTED]
    for event, (sources, targets) in MOVES.items():
        words = event.value.replace("_", " ")
        lines += [
            f"    {source} --> {target}: {words}"
            for source in State
            if source in sources
            for target in targets
        ]
    lines += [f"    {state} --> [*]" for state in State if state in FINAL]
    return "\n".join(lines)
