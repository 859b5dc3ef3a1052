"""The one who exchanges with the store: endings for new jobs.

While an exchange is under way the next endings pile up, so under load they travel together: one
commit records them and fills their slots. When many have piled up a second exchange follows at
once, never a third: the store records one half of the slots while the other half works. It sleeps
until something can have changed what may be claimed: an ending, a fact of somebody else's, a moment
that comes due, a new configuration.

When the store cannot say whether an exchange happened, the endings are given again (their fence
refuses what is recorded already) and nothing is claimed until running jobs that nobody here knows
have been found and handed back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
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

FEW: Final = 2
"""Endings are not worth an exchange of their own while another is under way, up to here."""

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


@dataclass(frozen=True, slots=True)
class UnderWay:
    """An exchange that was begun: it is seen through, whatever happens to us."""

    errand: asyncio.Task[Exchange | StoreError]
    endings: list[Ending]
    offered: Sequence[int]
    setup: Setup


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
        self._under_way: deque[UnderWay] = deque()
        self._asked = True
        self._is_gone = False
        self._urgent = False
        self._loop = asyncio.get_running_loop()
        self._last = 0.0

    def __repr__(self) -> str:
        doubt = " in doubt" if self._in_doubt else ""
        return f"<Dispatcher endings={len(self._endings)}{doubt}>"

    def wake(self) -> None:
        """Look at once whether something can be claimed."""
        self._urgent = self._asked = True
        self._wake.set()

    def record(self, ending: Ending) -> None:
        """Have an ending recorded with the next exchange."""
        self._endings.append(ending)
        self._wake.set()

    @property
    def is_busy(self) -> bool:
        """Whether something is still to be recorded, by a dispatcher that lives."""
        return not self._is_gone and (bool(self._under_way) or bool(self._endings))

    async def run(self) -> None:
        """Exchange until told to leave."""
        try:
            while not self._may_leave:
                await self._sleep()
                await self._gather()
                self._wake.clear()
                self._urgent = False
                self._finish_what_is_done()
                if not self._in_doubt:
                    self._begin_what_is_due()
                elif not self._under_way:
                    await self._resolve_doubt()
        finally:
            await self._hand_back_what_is_under_way()
            self._is_gone = True
            self._slots.changed()

    @property
    def _may_leave(self) -> bool:
        nothing_left = self._in_doubt or not self._endings
        return self._leaves and nothing_left and not self._under_way

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

    # --- waiting ----------------------------------------------------------------------------------

    async def _sleep(self) -> None:
        if not self._wake.is_set() and not await self._woken_within(self._until_due()):
            self._asked = True  # a moment has come due

    async def _gather(self) -> None:
        """Let a few more endings come while others run: a commit costs the same for one or ten.

        Only right after an exchange, for a moment, and while more run than have ended: a single
        ending, the last of a batch and whatever is new are never held up.
        """
        until = self._last + PACE
        while not self._holds_up_somebody():
            left = until - self._loop.time()
            if left <= 0:
                return
            self._wake.clear()
            await self._woken_within(left)

    def _holds_up_somebody(self) -> bool:
        if self._urgent or self._under_way:
            return True
        return 2 * len(self._endings) >= self._slots.busy

    async def _woken_within(self, limit: float | None) -> bool:
        try:
            async with asyncio.timeout(limit):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    def _until_due(self) -> float | None:
        if self._next_due is None or not self.claims or self._under_way or not self._slots.free():
            return None
        return max(0.0, (self._next_due - self._store.now()) / 1000)

    # --- exchanging -------------------------------------------------------------------------------

    def _begin_what_is_due(self) -> None:
        """Begin an exchange, or two halves of one; a second one only when it is worth it."""
        free = self._free()
        count = len(self._endings)
        if self._under_way:
            if len(self._under_way) == 1 and count >= max(FEW, self._slots.busy // 2):
                self._begin(count, free)
        elif count >= 2 * FEW and count >= self._slots.busy:
            self._begin(count // 2, free[: len(free) // 2])
            self._begin(count - count // 2, free[len(free) // 2 :])
        elif count or (self._asked and free):
            self._begin(count, free)

    def _free(self) -> Sequence[int]:
        if not self.claims:
            return ()
        offered = {slot for one in self._under_way for slot in one.offered}
        return [slot for slot in self._slots.free() if slot not in offered]

    def _begin(self, count: int, slots: Sequence[int]) -> None:
        self._asked = False
        endings, self._endings = self._endings[:count], self._endings[count:]
        claim = Claim(slots, self.setup.limits, self.setup.config)
        errand = self._errands.create_task(self._try(endings, claim))
        errand.add_done_callback(lambda _: self._wake.set())
        self._under_way.append(UnderWay(errand, endings, slots, self.setup))

    async def _try(self, endings: list[Ending], claim: Claim) -> Exchange | StoreError:
        try:
            return await self._store.exchange(endings, claim)
        except StoreError as error:
            return error

    def _finish_what_is_done(self) -> None:
        while self._under_way and self._under_way[0].errand.done():
            self._finish(self._under_way.popleft())

    def _finish(self, done: UnderWay) -> None:
        answer = done.errand.result()
        self._last = self._loop.time()
        if isinstance(answer, StoreError):
            log.error("the store could not record", extra={"why": str(answer)})
            self._endings = done.endings + self._endings
            self._in_doubt = True
            self._wake.set()
            return
        self._next_due = answer.next_due
        self._slots.recorded(done.endings, answer.settled)
        for slot, job in answer.claimed:
            self._slots.give(slot, job, done.setup)
        self._slots.changed()

    async def _hand_back_what_is_under_way(self) -> None:
        """See begun exchanges through; nobody is left to run what they claimed."""
        while self._under_way:
            done = self._under_way.popleft()
            await outlast(done.errand)
            answer = done.errand.result()
            if isinstance(answer, StoreError):
                self._endings = done.endings + self._endings
            else:
                self._endings += [self._interrupted(job) for _, job in answer.claimed]

    # --- doubt ------------------------------------------------------------------------------------

    async def _resolve_doubt(self) -> None:
        """Give the endings again, and claim nothing until everything that runs is known here."""
        await asyncio.sleep(AGAIN)
        await self._find_unknown()
        self._in_doubt = False
        self._begin(len(self._endings), ())
        await outlast(self._under_way[0].errand)
        self._finish_what_is_done()  # in doubt again, when the store cannot record this either
        self.wake()

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
