"""The bounded pool: numbered slots that run jobs, never more than configured, all queues together.

The order of its end is the promise. Nothing more is claimed; handlers are waited for, then ended;
consumers hand back what they hold before they go; the dispatcher records it before it goes; and
what it could not record is tried once more at the very end. So a crash in here loses no job, and
no process of a handler outlives the pool.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Final

from pq_daemon.consumers.attempt import Attempt, Tools
from pq_daemon.consumers.consumer import Consumer
from pq_daemon.consumers.dispatcher import Dispatcher
from pq_daemon.consumers.handlers.http import Client
from pq_daemon.consumers.handlers.outcome import Stop
from pq_daemon.consumers.handlers.process import GIVE_UP, Leaders
from pq_daemon.consumers.handlers.workers import Workers
from pq_daemon.consumers.inputs import Roots, within_reach
from pq_daemon.consumers.memory import LOOK_EVERY, MemoryWatch
from pq_daemon.consumers.scratch import Scratch
from pq_daemon.consumers.setup import Setup, make_setup
from pq_daemon.consumers.strays import EVERY, Strays
from pq_daemon.consumers.threads import outlast, own_threads
from pq_daemon.jobs.states import Outcome
from pq_daemon.jobs.status import SlotState, SlotStatus
from pq_daemon.runtime import processes
from pq_daemon.runtime.names import shown
from pq_daemon.runtime.periodic import periodically

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from pq_daemon.config.settings import Settings
    from pq_daemon.jobs.model import Job, JobId, Progress
    from pq_daemon.jobs.order import Moment
    from pq_daemon.jobs.states import State
    from pq_daemon.store.feed import Told
    from pq_daemon.store.protocol import Ending, Store

log = logging.getLogger(__name__)

OURS: Final = frozenset(
    f"job.{what}"
    for what in ("started", "succeeded", "failed", "retrying", "interrupted", "lost", "cancelled",
                 "held", "progress")
)  # fmt: skip
"""Facts that make nothing claimable: of the exchange itself, or of jobs that went."""

MARGIN: Final = 1.0
"""Seconds that an end may take beyond its grace, before the next means is used."""


@asynccontextmanager
async def run_consumers(
    settings: Settings,
    store: Store,
    config: int,
    *,
    out_of_reach: Callable[[bytes, Moment], str] = within_reach,
) -> AsyncIterator[Pool]:
    """Run the pool while the block runs.

    Call `drain` before the block ends; if nobody did, handlers are ended at once, with their grace.
    Errors of the block come out as they are, a crash of the pool as a group.

    Args:
        settings: validated.
        store: opened, its orphans rescued.
        config: the number under which the store keeps this configuration.
        out_of_reach: of a root and the moment a missing file was known to be there: why it cannot
            be called gone, empty when it can. Called in threads.

    """
    failure: Exception | None = None
    async with _tools(settings, store, Roots(out_of_reach)) as tools:
        setup = await tools.threads.run(_prepared, settings, config, tools.roots)
        async with asyncio.TaskGroup() as errands:
            pool = Pool(tools, setup, errands)
            try:
                async with asyncio.TaskGroup() as tasks, pool.at_work(tasks):
                    try:
                        yield pool
                    except Exception as error:  # noqa: BLE001 - carried past the groups
                        failure = error
            finally:
                await pool.last_words()
    if failure is not None:
        raise failure


@asynccontextmanager
async def _tools(settings: Settings, store: Store, roots: Roots) -> AsyncIterator[Tools]:
    with processes.adopting_orphans(), closing(Leaders()) as leaders:
        async with own_threads() as threads:
            scratch = Scratch(settings.daemon.state_dir)
            await threads.run(scratch.clear)
            workers = Workers(store.epoch.token, leaders)
            client = Client()
            try:
                yield Tools(store, threads, scratch, roots, leaders, workers, client)
            finally:
                await client.close()


def _prepared(settings: Settings, config: int, roots: Roots) -> Setup:
    """Work a configuration out, and look at the roots as they are now. Blocking."""
    roots.remember([watch.path for watch in settings.watches])
    return make_setup(settings, config)


class Pool:
    """The slots, and who is in them."""

    def __init__(self, tools: Tools, setup: Setup, errands: asyncio.TaskGroup) -> None:
        self._tools = tools
        self._setup = setup
        tools.workers.use(setup)
        self._errands = errands
        self._dispatcher = Dispatcher(tools.store, self, setup, errands)
        self._tasks: asyncio.TaskGroup | None = None
        self._chores: list[asyncio.Task[None]] = []
        self._consumers: dict[int, Consumer] = {}
        self._idle: set[int] = set()
        self._running: dict[JobId, Attempt] = {}
        self._cancelled_early: set[JobId] = set()
        self._cleaning: set[asyncio.Future[None]] = set()
        self._interrupted = 0
        self._change = asyncio.Event()
        self._closing = False

    def __repr__(self) -> str:
        return f"<Pool busy={self.busy} of {self._setup.size} {self._dispatcher!r}>"

    # --- life -------------------------------------------------------------------------------------

    @asynccontextmanager
    async def at_work(self, tasks: asyncio.TaskGroup) -> AsyncIterator[None]:
        """Claim and run jobs while the block runs."""
        with self._tools.store.feed.listening(self.hear):
            self._start(tasks)
            try:
                yield
            finally:
                await self._close()

    def _start(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        tasks.create_task(self._dispatcher.run(), name="dispatcher")
        strays = Strays(self._token_prefix, self._tools.leaders, self._is_running)
        memory = MemoryWatch(self._tools, lambda: tuple(self._running.values()))
        self._chores = [
            tasks.create_task(periodically(look, every=every, name=name), name=name)
            for name, look, every in (
                ("strays", strays.look, EVERY),
                ("memory", memory.look, LOOK_EVERY),
            )
        ]
        self._resize()
        self._dispatcher.wake()

    async def configure(self, settings: Settings, config: int) -> None:
        """Apply a configuration: to attempts that begin from now on, and to the number of slots.

        What runs is not touched. Slots that are too many go when they become idle.
        """
        self._setup = await self._tools.threads.run(_prepared, settings, config, self._tools.roots)
        self._dispatcher.setup = self._setup
        self._tools.workers.use(self._setup)
        self._resize()
        self._dispatcher.wake()

    def _resize(self) -> None:
        assert self._tasks is not None  # noqa: S101 - start() has set it
        for slot in range(1, self._setup.size + 1):
            if slot not in self._consumers:
                consumer = Consumer(slot, self._tools, self._take_back)
                self._consumers[slot] = consumer
                self._idle.add(slot)
                self._tasks.create_task(consumer.serve(), name=f"consumer {slot}")
        for slot in [slot for slot in self._idle if slot > self._setup.size]:
            self._dismiss(slot)

    def _dismiss(self, slot: int) -> None:
        self._idle.discard(slot)
        self._consumers.pop(slot).leave()

    async def drain(self, limit: float) -> int:
        """Claim nothing more, wait `limit` seconds for what runs, then end it.

        Returns:
            How many attempts were interrupted. They are recorded: their jobs are queued again.

        """
        self._dispatcher.claims = False
        before = self._interrupted
        if await self._rests(limit):
            return self._interrupted - before
        grace = max((a.plan.queue.kill_grace for a in self._running.values()), default=0.0)
        self._stop_all(now=False)
        if not await self._rests(grace + MARGIN):
            self._stop_all(now=True)
        if not await self._rests(GIVE_UP + MARGIN):
            self._abandon_all()
        if not await self._rests(GIVE_UP):
            log.error("not everything could be recorded", extra={"busy": self.busy})
        return self._interrupted - before

    def kill_now(self) -> None:
        """End every handler at once. A drain that waits comes to its end."""
        self._dispatcher.claims = False
        self._stop_all(now=True)
        asyncio.get_running_loop().call_later(GIVE_UP, self._abandon_all)

    async def _rests(self, limit: float) -> bool:
        try:
            async with asyncio.timeout(limit):
                while self._running or self._dispatcher.is_busy:
                    self._change.clear()
                    await self._change.wait()
        except TimeoutError:
            return False
        return True

    def changed(self) -> None:
        """Have whoever waits for rest look again."""
        self._change.set()

    def _stop_all(self, *, now: bool) -> None:
        for attempt in tuple(self._running.values()):
            attempt.stop(Stop.INTERRUPT, now=now)

    def _abandon_all(self) -> None:
        for attempt in tuple(self._running.values()):
            attempt.stop(Stop.INTERRUPT, now=True)
            attempt.abandon()

    async def _close(self) -> None:
        """End everything: handlers, consumers, the dispatcher, in this order."""
        try:
            await self.drain(0.0)
        finally:
            self._closing = True
            for chore in self._chores:
                chore.cancel()
            for slot in tuple(self._idle):
                self._dismiss(slot)
            self._dispatcher.leave()

    async def last_words(self) -> None:
        """Record what is left, when everybody has gone; end whoever still carries our token."""
        await self._dispatcher.last_words()
        await self._tools.workers.close()
        await processes.end_by_token(self._token_prefix, 0.0)
        for cleaning in tuple(self._cleaning):
            await outlast(cleaning)
        await self._tools.threads.run(self._tools.scratch.clear)

    # --- slots, as the dispatcher asks for them ---------------------------------------------------

    @property
    def busy(self) -> int:
        """How many attempts are under way."""
        return len(self._running)

    def free(self) -> Sequence[int]:
        return sorted(self._idle)

    def holds(self, job: JobId) -> bool:
        return job in self._running

    def give(self, slot: int, job: Job, setup: Setup) -> None:
        attempt = Attempt(self._tools, setup, slot, job)
        self._running[job.id] = attempt
        self._idle.discard(slot)
        if job.id in self._cancelled_early:
            self._cancelled_early.discard(job.id)
            attempt.stop(Stop.CANCEL)
        self._consumers[slot].give(attempt)

    def recorded(self, endings: Sequence[Ending], states: Sequence[State | None]) -> None:
        """Small outputs are in the store now: their files can go. Late endings are told."""
        litter = []
        for ending, state in zip(endings, states, strict=True):
            self._cancelled_early.discard(ending.job)  # the store has weighed it with the ending
            if state is None:
                log.warning("a late ending was refused", extra={"job": ending.job})
            elif ending.inline is not None:
                litter.append((ending.job, ending.attempt))
        if litter:
            cleaning = self._tools.threads.start(self._remove_outputs, litter)
            self._cleaning.add(cleaning)
            cleaning.add_done_callback(self._cleaning.discard)

    def _remove_outputs(self, litter: list[tuple[JobId, int]]) -> None:
        for job, attempt in litter:
            self._tools.store.outputs.remove(job, attempt)

    def _take_back(self, consumer: Consumer, ending: Ending) -> None:
        del self._running[ending.job]
        if consumer.is_gone:  # the pool falls: what is handed back must not be claimed again
            self._dispatcher.claims = False
            self._consumers.pop(consumer.slot, None)
        elif self._closing or consumer.slot > self._setup.size:
            self._dismiss(consumer.slot)
        else:
            self._idle.add(consumer.slot)
        if ending.outcome is Outcome.INTERRUPTED and ending.after is None:
            self._interrupted += 1
        if ending.outcome is not Outcome.SUCCEEDED:
            what = {"outcome": ending.outcome.value, "reason": ending.reason}
            log.info("attempt did not succeed", extra={"job": ending.job, **what})
        self._dispatcher.record(ending)
        self.changed()

    # --- what happens meanwhile -------------------------------------------------------------------

    def hear(self, batch: Sequence[Told]) -> None:
        """Listen to the feed: cancel what runs, wake the dispatcher for what may be claimed."""
        for told in batch:
            kind = told.fact.type
            if kind in OURS:
                continue
            if kind == "job.cancel_requested" and told.fact.job is not None:
                self._cancel(told.fact.job)
            elif kind.startswith(("job.", "queue.")):
                self._dispatcher.wake()

    def _cancel(self, job: JobId) -> None:
        attempt = self._running.get(job)
        if attempt is None:
            self._cancelled_early.add(job)  # its claim is committed, and on its way to us
        else:
            attempt.stop(Stop.CANCEL)

    @property
    def _token_prefix(self) -> str:
        return f"{self._tools.store.epoch.token}."

    def _is_running(self, token: str) -> bool:
        return self._tools.workers.owns(token) or any(
            attempt.token == token for attempt in self._running.values()
        )

    # --- views ------------------------------------------------------------------------------------

    def slots(self) -> list[SlotStatus]:
        return [self._status(self._consumers[slot]) for slot in sorted(self._consumers)]

    def progress(self, job: JobId) -> Progress | None:
        attempt = self._running.get(job)
        return None if attempt is None else attempt.progress

    @staticmethod
    def _status(consumer: Consumer) -> SlotStatus:
        attempt = consumer.attempt
        if attempt is None:
            return SlotStatus(consumer.slot, SlotState.IDLE)
        job = attempt.job
        return SlotStatus(
            slot=consumer.slot,
            state=SlotState.STUCK if attempt.is_stuck else SlotState.RUNNING,
            job=job.id,
            name=None if job.file is None else shown(job.file.path.rpartition(b"/")[2]),
            queue=job.queue,
            attempt=job.attempt,
            since=job.started_at,
            progress=attempt.progress,
        )
