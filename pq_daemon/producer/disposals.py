"""After-actions: a finished job's file is moved or deleted, if it is still the job's file.

The intent was committed with the job's end; here it is done and recorded. Both can be torn apart by
a crash, so each step finds out what has happened already: the source is gone and our target is
there, or both are. A file that is not the job's any more is left alone: it is the next job. Nothing
is ever overwritten: a taken name gets -2, -3 and so on before its suffix. What fails (a full disk,
no permission) is logged and tried again, for as long as it takes.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pq_daemon.errors import PqError
from pq_daemon.producer.moving import Done, dispose
from pq_daemon.runtime.names import shown
from pq_daemon.store.protocol import FIRST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pq_daemon.jobs.model import JobId, WatchName
    from pq_daemon.producer.grounds import Grounds
    from pq_daemon.producer.threads import Threads
    from pq_daemon.store.feed import Told
    from pq_daemon.store.protocol import Disposition, Store

log = logging.getLogger(__name__)

AT_ONCE: Final = 8
PAUSE: Final = (1.0, 300.0)
ENDED: Final = frozenset({"job.succeeded", "job.failed"})


@dataclass(slots=True)
class Trouble:
    """An after-action that could not be done, and when it is tried again."""

    watch: WatchName | None
    reason: str
    pause: float
    due: float


class Disposals:
    def __init__(self, grounds: Grounds, store: Store, threads: Threads) -> None:
        self._grounds = grounds
        self._store = store
        self._threads = threads
        self._wake = asyncio.Event()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._troubles: dict[JobId, Trouble] = {}

    async def keep_disposing(self) -> None:
        """Do what is open now, then whatever comes, until cancelled."""
        with self._store.feed.listening(self._listen):
            while True:
                self._wake.clear()
                try:
                    done = await self._do_open()
                except PqError as error:
                    log.warning("after-actions wait for the store", extra={"error": str(error)})
                    done = False
                if not done:
                    await self._rest()

    def trouble(self, watch: WatchName) -> str:
        """Say what cannot be done for files of a watch; empty when all is well."""
        reasons = [trouble.reason for trouble in self._troubles.values() if trouble.watch == watch]
        if not reasons:
            return ""
        return f"{len(reasons)} finished files cannot be put away: {reasons[0]}"

    def _listen(self, told: Sequence[Told]) -> None:
        if any(one.fact.type in ENDED and "disposition" in one.fact.data for one in told):
            self._wake.set()

    async def _rest(self) -> None:
        """Wait for a job to end, or for the next try."""
        due = min((trouble.due for trouble in self._troubles.values()), default=None)
        limit = None if due is None else max(due - time.monotonic(), 0.05)
        try:
            async with asyncio.timeout(limit):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _do_open(self) -> bool:
        """Do the open after-actions that are due; whether there was one."""
        now = time.monotonic()
        open_ones = await self._open_ones()
        self._forget_all_but({one.job for one in open_ones})
        due = [one for one in open_ones if self._is_due(one, now)]
        async with asyncio.TaskGroup() as tasks:
            for one in due:
                await self._turns.acquire()
                tasks.create_task(self._do(one), name=f"after-action of job {one.job}")
        return bool(due)

    async def _open_ones(self) -> list[Disposition]:
        """All of them, page by page: those that are stuck must not hide newer ones."""
        found: list[Disposition] = []
        while page := await self._store.dispositions(found[-1].job if found else FIRST):
            found += page
        return found

    def _forget_all_but(self, jobs: set[JobId]) -> None:
        self._troubles = {job: trouble for job, trouble in self._troubles.items() if job in jobs}

    def _is_due(self, one: Disposition, now: float) -> bool:
        trouble = self._troubles.get(one.job)
        return trouble is None or trouble.due <= now

    async def _do(self, one: Disposition) -> None:
        try:
            there, marker = (
                self._is_root_there(one.file.root),
                self._grounds.plan.marker(one.file.watch),
            )
            done = await self._threads.run(dispose, one, there, marker)
            if done.result is None:
                self._put_off(one, done.reason)
            else:
                await self._store.disposed(one.job, done.result, done.target)
                self._troubles.pop(one.job, None)
                log.info("file put away", extra=_fields(one, done))
        except PqError as error:
            self._put_off(one, str(error))
        finally:
            self._turns.release()

    def _is_root_there(self, path: bytes) -> bool:
        """Whether a missing file is gone, not only out of reach."""
        root = self._grounds.roots.get(path)
        return root is None or (root.look is not None and not root.elsewhere)

    def _put_off(self, one: Disposition, reason: str) -> None:
        before = self._troubles.get(one.job)
        pause = PAUSE[0] if before is None else min(before.pause * 2, PAUSE[1])
        due = time.monotonic() + pause * random.uniform(0.9, 1.1)  # noqa: S311 - spread, no secret
        self._troubles[one.job] = Trouble(one.file.watch, reason, pause, due)
        level = logging.WARNING if before is None or before.reason != reason else logging.DEBUG
        log.log(
            level,
            "file cannot be put away yet",
            extra={"job": one.job, "path": shown(one.file.path), "reason": reason, "again": pause},
        )


def _fields(one: Disposition, done: Done) -> dict[str, object]:
    fields: dict[str, object] = {"job": one.job, "path": shown(one.file.path), "kind": one.kind}
    fields["result"] = done.result
    if done.target is not None:
        fields["target"] = shown(done.target)
    return fields
