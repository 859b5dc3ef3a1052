"""The producer's one door to the store's writes: in order, and shut for good at the end.

One write at a time, so that what was decided first is recorded first (a row "settling" must not
come after the row "accepted"). `close` waits for the write under way and lets no other begin: what
was committed stays, nothing new comes in.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pq_daemon.jobs.model import FileVersion, WatchName
    from pq_daemon.store.protocol import FileClaim, Found, Intake, Sighting, Store

log = logging.getLogger(__name__)

CLOSE_LIMIT: Final = 10.0
ROWS: Final = 500
"""In one write; small enough that a single file behind them does not wait long."""


class Recorder:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = asyncio.Lock()

    async def accept(self, found: Sequence[Found]) -> list[Intake]:
        """Ledger rows and jobs, for 500 files at most."""
        async with self._turn:
            return await self._store.accept(found)

    async def claim(self, file: FileVersion) -> FileClaim:
        async with self._turn:
            return await self._store.claim_file(file)

    async def give_up(self, claim: int) -> None:
        async with self._turn:
            await self._store.give_up_claim(claim)

    async def sight(self, sightings: Sequence[Sighting]) -> None:
        for start in range(0, len(sightings), ROWS):
            async with self._turn:
                await self._store.sight(sightings[start : start + ROWS])

    async def vanish(self, paths: Sequence[bytes]) -> None:
        for start in range(0, len(paths), ROWS):
            async with self._turn:
                await self._store.vanish(paths[start : start + ROWS])

    async def missed(self, watch: WatchName, count: int) -> None:
        async with self._turn:
            await self._store.missed(watch, count)

    async def surveyed(self, watch: WatchName) -> None:
        async with self._turn:
            await self._store.surveyed(watch)

    async def close(self) -> None:
        """Wait for the write under way, and keep the turn for ever."""
        try:
            async with asyncio.timeout(CLOSE_LIMIT):
                await self._turn.acquire()
        except TimeoutError:
            log.warning("the store does not answer; leaving", extra={"limit": CLOSE_LIMIT})
