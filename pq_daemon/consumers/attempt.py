"""One attempt while it runs: what it works on, what it says, and how it can be ended.

`stop` may be called at any moment, from the feed, a timer or a drain. What it does is up to
whoever runs the attempt at that moment (`holder`): cancel a task, TERM a group. Before the handler
begins it is only noted; after it has ended by itself it is too late.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from pq_daemon.consumers.capture import NOTHING, Capture
from pq_daemon.store.feed import Fact

if TYPE_CHECKING:
    from collections.abc import Callable

    from pq_daemon.consumers.handlers.http import Client
    from pq_daemon.consumers.handlers.outcome import Stop
    from pq_daemon.consumers.handlers.process import Leaders
    from pq_daemon.consumers.handlers.workers import Workers
    from pq_daemon.consumers.inputs import Roots
    from pq_daemon.consumers.scratch import Scratch
    from pq_daemon.consumers.setup import Plan, Setup
    from pq_daemon.consumers.threads import Threads
    from pq_daemon.jobs.model import Job, OutputSize, Progress
    from pq_daemon.store.outputs import Stream
    from pq_daemon.store.protocol import Store

log = logging.getLogger(__name__)

TOLD_EVERY: Final = 0.25
"""Seconds between two facts about one attempt's progress."""

STUCK_AFTER: Final = 1.0
"""Seconds beyond the grace after which a handler that was told to end is called stuck."""


def ignore(_: bool) -> None:
    """A stream that cannot wait."""


class Holder(Protocol):
    """Who runs an attempt at the moment, and can end it."""

    def stop(self, *, now: bool) -> None:
        """Begin to end it; `now`: with no grace. Safe to repeat."""

    def abandon(self) -> None:
        """Wait for it no longer: it cannot be ended."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the consumers of one pool share."""

    store: Store
    threads: Threads
    scratch: Scratch
    roots: Roots
    leaders: Leaders
    workers: Workers
    client: Client


class Attempt:
    """A claimed job, from its claim to its ending."""

    __slots__ = (
        "_capture", "_loop", "_tell_timer", "_told_at", "_tools", "detail", "holder", "job",
        "leader", "over", "plan", "process_token", "progress", "result", "setup", "slot", "stopped",
        "stopped_at",
    )  # fmt: skip

    def __init__(self, tools: Tools, setup: Setup, slot: int, job: Job) -> None:
        self.job = job
        self.setup = setup
        self.plan: Plan = setup.plans[job.queue]
        self.slot = slot
        self.progress: Progress | None = None
        self.result: str | None = None
        self.stopped: Stop | None = None
        self.detail = ""  # of why it was stopped
        self.stopped_at = 0.0
        self.holder: Holder | None = None
        self.leader = 0  # the process that works on it, if one does
        self.process_token = ""
        self.over = False  # the handler has ended by itself: too late to stop it
        self._tools = tools
        self._loop = asyncio.get_running_loop()
        self._capture: Capture | None = None
        self._told_at = 0.0
        self._tell_timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        stopped = f" stopped={self.stopped.name}" if self.stopped else ""
        return f"<Attempt {self.job.id}-{self.job.attempt} slot={self.slot}{stopped}>"

    @property
    def token(self) -> str:
        """Marks every process of this attempt, in its environment."""
        return f"{self._tools.store.epoch.token}.{self.job.id}.{self.job.attempt}"

    @property
    def memory_limit(self) -> int:
        """Bytes its processes may hold; 0: as many as they like."""
        return self.plan.queue.memory_limit or 0

    def take_hold(self, holder: Holder, leader: int, token: str | None = None) -> None:
        """A process works on it now. `token`: when it is not the attempt's own."""
        self.holder = holder
        self.leader = leader
        self.process_token = token or self.token

    def let_go(self) -> None:
        self.holder = None
        self.leader = 0

    # --- ending it --------------------------------------------------------------------------------

    def stop(self, why: Stop, *, now: bool = False) -> None:
        """End the attempt; the first reason counts. `now`: with no grace. Safe to repeat."""
        if self.over:
            return
        if self.stopped is None:
            self.stopped = why
            self.stopped_at = self._loop.time()
            log.info("ending a handler", extra={"job": self.job.id, "why": why.name.lower()})
        if self.holder is not None:
            self.holder.stop(now=now)

    def abandon(self) -> None:
        if self.holder is not None and not self.over:
            self.holder.abandon()

    @property
    def is_stuck(self) -> bool:
        """Whether the handler was told to end, has had the time to, and has not."""
        if self.stopped is None or self.over:
            return False
        patience = self.plan.queue.kill_grace + STUCK_AFTER
        return self._loop.time() > self.stopped_at + patience

    # --- what it says -----------------------------------------------------------------------------

    def write(self, stream: Stream, data: bytes, hold: Callable[[bool], None] = ignore) -> None:
        """Add to the output. `hold` is called to have the stream wait, and to let it go on."""
        if self._capture is None:
            limit = self.plan.queue.output_limit
            files, threads = self._tools.store.outputs, self._tools.threads
            self._capture = Capture(files, threads, self.job, limit, hold)
        self._capture.add(stream, data)

    async def output(self) -> tuple[OutputSize, bytes | None]:
        """Close the output: its sizes, and its frames when they are few."""
        return (NOTHING, None) if self._capture is None else await self._capture.finish()

    def note_progress(self, progress: Progress) -> None:
        """Keep what the handler said; tell it at most a few times a second."""
        self.progress = progress
        if self._tell_timer is None and not self.over:
            wait = self._told_at + TOLD_EVERY - self._loop.time()
            self._tell_timer = self._loop.call_later(max(0.0, wait), self._tell_progress)

    def _tell_progress(self) -> None:
        self._tell_timer = None
        self._told_at = self._loop.time()
        if self.progress is not None:
            said = {"percent": self.progress.percent, "text": self.progress.text}
            fact = Fact("job.progress", self.job.id, self.job.queue, said)
            self._tools.store.feed.tell([fact], self._tools.store.now())

    def close(self) -> None:
        self.over = True
        self.holder = None
        if self._tell_timer is not None:
            self._tell_timer.cancel()
            self._tell_timer = None
