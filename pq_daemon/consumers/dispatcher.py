"""The one who exchanges with the store: endings for new jobs, one exchange at a time.

While an exchange is under way the next endings pile up, so under load they travel together: one
commit records them and fills their slots. It sleeps until something can have changed what may be
claimed: an ending, a fact of somebody else's, a moment that comes due, a new configuration.

When the store cannot say whether an exchange happened, the endings are given again (their fence
refuses what is recorded already) and nothing is claimed until running jobs that nobody here knows
have been found and handed back.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Protocol

from pq_daemon.consumers.threads import outlast
from pq_daemon.errors import StoreError
from pq_daemon.jobs.states import Outcome, State
from pq_daemon.store.protocol import Claim, Ending, JobFilter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pq_daemon.consumers.setup import Setup
    from pq_daemon.jobs.model import Job, JobId
    from pq_daemon.jobs.order import Moment
    from pq_daemon.store.protocol import Exchange, Store

log = logging.getLogger(__name__)

PACE: Final = 0.002
"""Seconds after an exchange in which endings may be gathered."""

AGAIN: Final = 1.0
"""Seconds to wait before the store is asked again."""

LAST_WORDS: Final = 5.0
"""Seconds for the store to take what is left at the very end."""


class Slots(Protocol):
    """What the dispatcher asks of the pool."""

    @property
    def busy(self) -> int: ...

    def free(self) -> Sequence[int]: ...

    def give(self, slot: int, job: Job, setup: Setup) -> None: ...

    def holds(self, job: JobId) -> bool: ...

    def recorded(self, endings: Sequence[Ending], states: Sequence[State | None]) -> None: ...

    def changed(self) -> None: ...


class Dispatcher:
    """Claims for the slots of a pool, and records what they hand back."""

    def __init__(
        self, store: Store, slots: Slots, setup: Setup, errands: asyncio.TaskGroup
    ) -> None:
        self.setup = setup
        self.claims = True
        self._store = store
        self._slots = slots
        self._errands = errands  # outlives us: an exchange that has begun is seen through
        self._endings: list[Ending] = []
        self._wake = asyncio.Event()
        self._next_due: Moment | None = None
        self._in_doubt = False
        self._leaves = False
        self._exchanging = False
        self._is_gone = False
        self._urgent = False
        self._loop = asyncio.get_running_loop()
        self._last = 0.0

    def __repr__(self) -> str:
        doubt = " in doubt" if self._in_doubt else ""
        return f"<Dispatcher endings={len(self._endings)}{doubt}>"

    def wake(self) -> None:
        """Look at once whether something can be claimed."""
        self._urgent = True
        self._wake.set()

    def record(self, ending: Ending) -> None:
        """Have an ending recorded with the next exchange."""
        self._endings.append(ending)
        self._wake.set()

    @property
    def is_busy(self) -> bool:
        """Whether something is still to be recorded, by a dispatcher that lives."""
        return not self._is_gone and (self._exchanging or bool(self._endings))

    async def run(self) -> None:
        """Exchange until told to leave."""
        try:
            while not (self._leaves and (self._in_doubt or not self._endings)):
                await self._sleep()
                await self._gather()
                self._wake.clear()
                self._urgent = False
                self._exchanging = True
                await self._exchange()
                self._exchanging = False
                self._last = self._loop.time()
                self._slots.changed()
        finally:
            self._is_gone = True
            self._slots.changed()

    def leave(self) -> None:
        """End once everything is recorded, or the store cannot take it."""
        self._leaves = True
        self.wake()

    async def last_words(self) -> None:
        """Try once more to record what is left. After everybody has gone."""
        if not self._endings:
            return
        try:
            async with asyncio.timeout(LAST_WORDS):
                await self._store.exchange(self._endings, Claim())
        except (StoreError, TimeoutError):
            jobs = [ending.job for ending in self._endings]
            log.exception("not recorded: the next start will", extra={"jobs": jobs})

    async def _sleep(self) -> None:
        if self._wake.is_set():
            return
        await self._woken_within(self._until_due())

    async def _gather(self) -> None:
        """Let a few more endings come while others run: a commit costs the same for one or ten.

        Only right after an exchange, for a moment, and while more run than have ended: a single
        ending, the last of a batch and whatever is new are never held up.
        """
        until = self._last + PACE
        while not self._urgent and 2 * len(self._endings) < self._slots.busy:
            left = until - self._loop.time()
            if left <= 0:
                return
            self._wake.clear()
            await self._woken_within(left)

    async def _woken_within(self, limit: float | None) -> None:
        try:
            async with asyncio.timeout(limit):
                await self._wake.wait()
        except TimeoutError:
            return

    def _until_due(self) -> float | None:
        if self._next_due is None or not self.claims or not self._slots.free():
            return None
        return max(0.0, (self._next_due - self._store.now()) / 1000)

    async def _exchange(self) -> None:
        setup, doubt = self.setup, self._in_doubt
        if doubt:
            await self._find_unknown()
        endings, self._endings = self._endings, []
        free = self._slots.free() if self.claims and not doubt else ()
        if not endings and not free and not doubt:
            return
        answer = await self._see_through(endings, Claim(free, setup.limits, setup.config))
        if isinstance(answer, StoreError):
            self._endings = endings + self._endings
            await self._wait_for_the_store(answer)
            return
        self._next_due = answer.next_due
        self._slots.recorded(endings, answer.settled)
        for slot, job in answer.claimed:
            self._slots.give(slot, job, setup)
        if doubt:
            self._in_doubt = False
            self.wake()

    async def _see_through(self, endings: list[Ending], claim: Claim) -> Exchange | StoreError:
        """Exchange, to its end even when cancelled: then what was claimed is handed back."""
        errand = self._errands.create_task(self._try(endings, claim))
        await outlast(errand)
        answer = errand.result()
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            if isinstance(answer, StoreError):
                self._endings = endings + self._endings
            else:
                self._endings += [self._interrupted(job) for _, job in answer.claimed]
            raise asyncio.CancelledError
        return answer

    async def _try(self, endings: list[Ending], claim: Claim) -> Exchange | StoreError:
        try:
            return await self._store.exchange(endings, claim)
        except StoreError as error:
            return error

    async def _wait_for_the_store(self, error: StoreError) -> None:
        log.error("the store could not record", extra={"why": str(error)})
        self._in_doubt = True
        self._wake.set()
        await asyncio.sleep(AGAIN)

    async def _find_unknown(self) -> None:
        """Hand back jobs that a doubtful exchange claimed and never told us."""
        pending = {ending.job for ending in self._endings}
        cursor: str | None = None
        while True:
            page = await self._store.jobs(JobFilter(states=frozenset({State.RUNNING})), cursor, 200)
            self._endings += [
                self._interrupted(job)
                for job in page.items
                if job.id not in pending and not self._slots.holds(job.id)
            ]
            cursor = page.next
            if cursor is None:
                return

    def _interrupted(self, job: Job) -> Ending:
        return Ending(
            job.id, job.attempt, self._store.epoch.id, Outcome.INTERRUPTED, reason="never begun"
        )
