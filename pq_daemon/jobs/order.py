"""The order of a queue: (rank, id). Rank is a moment minus a head start, so everything ends.

A job of low priority is not starved: it only starts as late as its head start is smaller. Moments
are milliseconds since 1970 UTC, taken from a store clock that never goes back.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NewType

if TYPE_CHECKING:
    from collections.abc import Mapping

Moment = NewType("Moment", int)
"""Milliseconds since 1970-01-01T00:00:00Z."""

Rank = NewType("Rank", int)


class Priority(StrEnum):
    URGENT = "urgent"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"
    IDLE = "idle"


HOUR_MS: Final = 3_600_000
HEAD_START_MS: Final[Mapping[Priority, int]] = {
    Priority.URGENT: 7 * 24 * HOUR_MS,
    Priority.HIGH: 24 * HOUR_MS,
    Priority.NORMAL: 6 * HOUR_MS,
    Priority.LOW: HOUR_MS,
    Priority.IDLE: 0,
}


def rank(became_queued: Moment, priority: Priority) -> Rank:
    """Where a job stands in its queue; the lowest goes first."""
    return Rank(became_queued - HEAD_START_MS[priority])
