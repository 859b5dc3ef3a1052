"""The producer's own threads: a hung network mount must not use up the threads of other rooms.

Work that is long looks at `stopping` and gives up. What hangs in the kernel at the end is left to
the process's end, after a limit.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

THREADS: Final = 32
"""They are made when needed; semaphores of their users keep the usual number under ten."""

END_LIMIT: Final = 10.0


class Threads:
    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="producer")

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work in a thread."""
        return await self.start(work, *args, **kwargs)

    def start(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._pool, partial(work, *args, **kwargs))

    async def end(self) -> None:
        self.stopping.set()
        try:
            async with asyncio.timeout(END_LIMIT):
                await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)
        except TimeoutError:
            log.warning("threads hang in the kernel; leaving them", extra={"limit": END_LIMIT})


@asynccontextmanager
async def own_threads() -> AsyncIterator[Threads]:
    threads = Threads()
    try:
        yield threads
    finally:
        await threads.end()
