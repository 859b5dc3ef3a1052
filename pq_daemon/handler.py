"""What a Python handler is given and what it may raise: the whole public API of the package.

    async def thumbnail(job: pq_daemon.Job) -> object: ...

It stands beside the rooms, not in one: a handler's own process imports it without the daemon.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Discard", "Job", "Retry"]

RETRY_AFTER_MOST: Final = timedelta(hours=24)


class Retry(Exception):
    """Postpone this job; no attempt is spent.

    Args:
        after: seconds, or a timedelta; the queue's backoff when left out. 24 hours at most.
        reason: shown with the attempt.

    """

    def __init__(self, reason: str = "", *, after: float | timedelta | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        self.after = (
            None if seconds is None else max(0.0, min(seconds, RETRY_AFTER_MOST.total_seconds()))
        )


class Discard(Exception):
    """Fail this job for good, whatever attempts are left."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)  # no slots: Python 3.8 does not know them
class Job:
    """One piece of work, as its handler sees it.

    `attempt` counts over the job's whole life from 1; `run` grows when a person asks for the job
    again. `(id, run)` is the key to make a handler idempotent with. `path` is None for a job that
    carries only a payload; `output` is where to write the result, when the queue has an `output`.
    """

    id: str
    run: int
    path: Path | None
    payload: Any
    attempt: int
    queue: str
    watch: str | None
    output: Path | None
    _log: Callable[[str], None] = field(repr=False)
    _progress: Callable[[float, str], None] = field(repr=False)

    def log(self, text: str) -> None:
        """Add a line to the attempt's output."""
        self._log(text)

    def progress(self, fraction: float, text: str = "") -> None:
        """Report how far the work is: a fraction from 0 to 1 and a few words."""
        self._progress(fraction, text)
