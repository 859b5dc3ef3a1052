"""When a job is tried again: exponential backoff with jitter.

The delay before try n+1 is

    min(max, base * factor ** (max(spent, 1) - 1)) * uniform(1 - jitter, 1 + jitter)

Jitter keeps jobs that failed together from coming back together (Brooker, "Exponential Backoff and
Jitter", AWS Architecture Blog 2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

AFTER_MOST: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds, seconds, a plain factor, a share of the delay."""

    base: float = 15.0
    factor: float = 4.0
    most: float = 3600.0
    jitter: float = 0.2


def delay(backoff: Backoff, spent: int, chance: float) -> float:
    """Seconds until the next try. `chance` is uniform in [0, 1)."""
    try:
        grown = backoff.base * backoff.factor ** (max(spent, 1) - 1)
    except OverflowError:
        grown = backoff.most
    spread = 1 + backoff.jitter * (2 * chance - 1)
    return min(backoff.most, grown) * spread


def asked_delay(after: float) -> float:
    """Seconds for a delay that a handler asked for: never negative, 24 hours at most."""
    return max(0.0, min(after, AFTER_MOST.total_seconds()))
