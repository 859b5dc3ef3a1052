"""Why files wait or are left alone: the ledger's other rows, written a few times a second.

A file that is taken at once never gets such a row. One that waits gets one a reason; a file that
will not become a job gets one, if it is still there a moment later (temporary names seldom are).
Here too a watch's first survey ends: when all that was there has been taken, or waits for a reason
that is known.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from pq_daemon.errors import PqError
from pq_daemon.producer.candidates import BATCH_FILES, SETTLING, Phase
from pq_daemon.producer.plan import below
from pq_daemon.producer.scanning import is_gone
from pq_daemon.store.protocol import Sighting

if TYPE_CHECKING:
    from pq_daemon.jobs.versions import Identity
    from pq_daemon.producer.candidates import Candidate
    from pq_daemon.producer.grounds import Grounds, Root
    from pq_daemon.producer.plan import Judgement
    from pq_daemon.producer.recording import Recorder
    from pq_daemon.producer.threads import Threads

log = logging.getLogger(__name__)

WRITE_BEHIND: Final = 0.25
ASIDE_MOST: Final = 5_000
"""Set aside and not yet written; what comes beyond is written by the next scan."""

OVERDUE: Final = 1.0
INTAKE_BUSY: Final = "intake busy"
STORE_PAUSE: Final = 1.0


class Reasons:
    def __init__(self, grounds: Grounds, recorder: Recorder, threads: Threads) -> None:
        self._grounds = grounds
        self._desk = grounds.desk
        self._recorder = recorder
        self._threads = threads
        self._aside: dict[bytes, Sighting] = {}

    def set_aside(self, path: bytes, identity: Identity, judged: Judgement) -> None:
        """Have a file that will not become a job written into the ledger."""
        self._desk.drop(path)
        if judged.reason is not None and len(self._aside) < ASIDE_MOST:
            self._aside[path] = sighting(judged, judged.reason, identity)

    async def keep_writing(self) -> None:
        while True:
            await asyncio.sleep(WRITE_BEHIND)
            try:
                await self._write_waiting()
                await self._write_aside()
                await self._finish_surveys()
            except PqError as error:
                log.warning("reasons are not written", extra={"error": str(error)})
                await asyncio.sleep(STORE_PAUSE)

    async def _write_waiting(self) -> None:
        paths = list(self._desk.untold)
        for start in range(0, len(paths), BATCH_FILES):
            await asyncio.sleep(0)  # a long desk must not hold up the loop
            told = [
                (file, row)
                for path in paths[start : start + BATCH_FILES]
                if (file := self._desk.get(path)) and (row := self._row_of(file))
            ]
            if not told:
                continue
            await self._recorder.sight([row for _, row in told])
            for file, row in told:
                self._desk.tell(file, row.reason)

    def _row_of(self, file: Candidate) -> Sighting | None:
        """Return the row of a file that goes on waiting; None while that is not known."""
        now = time.monotonic()
        if file.phase is Phase.DUE and now - file.due > OVERDUE:
            file.reason = INTAKE_BUSY
        is_about_to_be_taken = file.reason == SETTLING and file.due < now + WRITE_BEHIND
        if file.phase is Phase.CHECKED or is_about_to_be_taken or file.told == file.reason:
            return None
        judged = self._grounds.plan.judge(file.path, file.identity.size, regular=True)
        return None if judged is None else sighting(judged, file.reason, file.identity)

    async def _write_aside(self) -> None:
        if not self._aside:
            return
        rows, self._aside = self._aside, {}
        there = await self._threads.run(_still_there, list(rows))
        await self._recorder.sight([rows[path] for path in there if self._desk.get(path) is None])

    async def _finish_surveys(self) -> None:
        for root in list(self._grounds.roots.values()):
            walked = root.unsurveyed.keys() & root.walked
            if walked and not self._surveying(root):
                for watch in walked:
                    await self._recorder.surveyed(watch)
                    log.info("watch surveyed", extra={"watch": watch})
                    root.unsurveyed.pop(watch, None)

    def _surveying(self, root: Root) -> bool:
        return any(
            file.existing and not file.blocked and below(file.path, root.path)
            for file in self._desk
        )


def sighting(judged: Judgement, reason: str, identity: Identity) -> Sighting:
    return Sighting(
        judged.watch.name, judged.watch.root, judged.relpath, judged.state, reason, identity
    )


def _still_there(paths: list[bytes]) -> list[bytes]:
    return [path for path in paths if not is_gone(path)]
