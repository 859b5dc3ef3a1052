"""What the rooms report of themselves while they run: slots, watches. Views, not the truth."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pq_daemon.jobs.model import JobId, Progress, QueueName, WatchName
    from pq_daemon.jobs.order import Moment


class SlotState(StrEnum):
    IDLE = "idle"
    RUNNING = "running"
    STUCK = "stuck"  # its handler was told to end and did not


@dataclass(frozen=True, slots=True)
class SlotStatus:
    """One consumer of the bounded pool. Slots are numbered from 1."""

    slot: int
    state: SlotState
    job: JobId | None = None
    name: str | None = None  # the file's displayed name, None for a payload
    queue: QueueName | None = None
    attempt: int | None = None
    since: Moment | None = None
    progress: Progress | None = None


class WatchState(StrEnum):
    OK = "ok"
    DEGRADED = "degraded"  # files are found by scanning alone
    MISSING = "missing"  # the root is not there, or not what it was


@dataclass(frozen=True, slots=True)
class WatchStatus:
    name: WatchName
    state: WatchState
    reason: str = ""
    last_scan: Moment | None = None
