"""How a handler ended: a closed value, and the pure rules that make it from codes and signals."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from pq_daemon.jobs.states import Outcome, Reason

if TYPE_CHECKING:
    from collections.abc import Container


@dataclass(frozen=True, slots=True)
class Ended:
    """How one attempt ended, before the store has decided what becomes of the job."""

    outcome: Outcome
    reason: str | None = None
    error: str | None = None
    final_reason: Reason | None = None
    after: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    result: str | None = None


SUCCEEDED: Final = Ended(Outcome.SUCCEEDED)


class Stop(Enum):
    """Why an attempt is ended from outside."""

    CANCEL = auto()
    TIMEOUT = auto()
    MEMORY = auto()
    INTERRUPT = auto()  # the daemon stops


@dataclass(frozen=True, slots=True)
class Codes:
    """What exit codes mean to a queue; every other one is a failed attempt."""

    success: Container[int]
    discard: Container[int]
    postpone: Container[int]


def failed(reason: str, error: str | None = None) -> Ended:
    return Ended(Outcome.FAILED, reason, error or reason)


def put_back(reason: str, after: float) -> Ended:
    """The attempt could not begin, and that is no fault of the job: it waits and spends nothing."""
    return Ended(Outcome.INTERRUPTED, reason, reason, after=after)


def stopped(why: Stop, timeout: float, status: int | None = None, detail: str = "") -> Ended:
    """How an attempt ended that was ended from outside. `status` as in `exited`."""
    code = status if status is not None and status >= 0 else None
    number = -status if status is not None and status < 0 else None
    if why is Stop.TIMEOUT:
        error = f"still running after {timeout:g} s"
        return Ended(Outcome.TIMED_OUT, "timeout", error, exit_code=code, signal=number)
    if why is Stop.MEMORY:
        memory = Ended(Outcome.FAILED, "memory", detail or "too much memory", Reason.MEMORY)
        return replace(memory, exit_code=code, signal=number)
    if why is Stop.CANCEL:
        return Ended(Outcome.CANCELLED, "cancelled", exit_code=code, signal=number)
    return Ended(Outcome.INTERRUPTED, "the daemon stopped", exit_code=code, signal=number)


def exited(status: int, codes: Codes, last_words: str = "") -> Ended:
    """How a process ended by itself.

    Args:
        status: its exit code, or minus the signal that killed it.
        codes: what they mean.
        last_words: the last line of its stderr, for the error a person reads.

    """
    if status < 0:
        reason = f"killed by {signal_name(-status)}"
        return Ended(Outcome.FAILED, reason, _with_words(reason, last_words), signal=-status)
    if status in codes.success:
        return Ended(Outcome.SUCCEEDED, exit_code=status)
    reason = f"exit {status}"
    error = _with_words(reason, last_words)
    if status in codes.discard:
        return Ended(Outcome.FAILED, reason, error, Reason.DISCARDED, exit_code=status)
    if status in codes.postpone:
        return Ended(Outcome.POSTPONED, reason, error, exit_code=status)
    return Ended(Outcome.FAILED, reason, error, exit_code=status)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _with_words(reason: str, last_words: str) -> str:
    return f"{reason}: {last_words}" if last_words else reason
