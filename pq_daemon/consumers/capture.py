"""One attempt's output between its streams and the disk: in order, bounded, off the loop.

What is read is written by a thread, one write at a time; what comes meanwhile piles up and goes
with the next, at most fifty times a second unless there is much. When too much has piled up the
streams are not read until it is written: the handler waits at its full pipe, we do not grow.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from pq_daemon.consumers.recording import Recording
from pq_daemon.consumers.threads import outlast
from pq_daemon.jobs.model import OutputSize

if TYPE_CHECKING:
    from collections.abc import Callable

    from pq_daemon.consumers.threads import Threads
    from pq_daemon.jobs.model import Job
    from pq_daemon.store.outputs import OutputFiles, Stream

log = logging.getLogger(__name__)

PAUSE: Final = 0.02
"""Seconds between writes of little."""

MUCH: Final = 32 * 1024
MOST: Final = 256 * 1024
"""Bytes that wait or are being written: from there on the streams wait."""

NOTHING: Final = OutputSize()

Chunk = tuple["Stream", bytes]


class Capture:
    """Takes chunks in the loop; nothing happens on the disk before the first."""

    def __init__(
        self,
        files: OutputFiles,
        threads: Threads,
        job: Job,
        limit: int,
        hold: Callable[[bool], None],
    ) -> None:
        self._threads = threads
        self._recording = Recording(files, job.id, job.attempt, limit)
        self._hold = hold
        self._job = job
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[Stream, bytes]] = []
        self._size = 0  # of what waits and of what is being written
        self._writing: asyncio.Future[None] | None = None
        self._writing_size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._held = False
        self._closed = False
        self._crash: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Capture {self._recording!r} waiting={self._size}>"

    def add(self, stream: Stream, data: bytes) -> None:
        self._waiting.append((stream, data))
        self._size += len(data)
        if self._size >= MOST and not self._held:
            self._held = True
            self._hold(True)
        if self._writing is None and (self._timer is None or self._size >= MUCH):
            self._write()

    async def finish(self) -> tuple[OutputSize, bytes | None]:
        """Write what waits, and close: the sizes, and the frames themselves when they are few.

        Goes through to its end, also when cancelled meanwhile.
        """
        self._closed = True
        self._disarm()
        if self._writing is not None:
            await outlast(self._writing)
        answer = await self._last_write()
        if self._recording.trouble is not None:
            log.warning(
                "output was not kept whole",
                extra={"job": self._job.id, "error": str(self._recording.trouble)},
            )
        return answer

    async def _last_write(self) -> tuple[OutputSize, bytes | None]:
        if self._crash is not None:
            raise self._crash
        if not self._waiting and not self._recording.given:
            return NOTHING, None
        return await self._threads.see_through(self._write_and_finish, self._taken())

    def _write_and_finish(self, rest: list[Chunk]) -> tuple[OutputSize, bytes | None]:
        self._recording.write(rest)
        return self._recording.finish()

    def _write(self) -> None:
        self._disarm()
        self._writing_size = self._size
        self._writing = self._threads.start(self._recording.write, self._taken())
        self._writing.add_done_callback(self._written)

    def _written(self, written: asyncio.Future[None]) -> None:
        self._writing = None
        self._crash = written.exception()
        self._size -= self._writing_size
        if self._held and self._size < MOST:
            self._held = False
            self._hold(False)
        if self._closed or self._crash is not None:
            return
        if self._size >= MUCH:
            self._write()
        else:
            self._timer = self._loop.call_later(PAUSE, self._pause_is_over)

    def _pause_is_over(self) -> None:
        self._timer = None
        if self._waiting:
            self._write()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _taken(self) -> list[Chunk]:
        """Take what waits; neighbours of one stream become one chunk."""
        taken, self._waiting = self._waiting, []
        if len(taken) < 2:  # noqa: PLR2004 - nothing to join
            return taken
        return [
            (stream, b"".join(data for _, data in chunks))
            for stream, chunks in groupby(taken, itemgetter(0))
        ]
