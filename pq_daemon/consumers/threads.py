"""The consumers' own threads, for file system work that may be long or hang.

They are apart from the loop's default ones, so that an input on a dead mount holds up jobs that
need it and nobody else. At the end a thread that hangs is left behind, not waited for.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

Given = TypeVarTuple("Given")
T = TypeVar("T")

MOST: Final = 1100
"""Threads are made when no other is idle; the bound is above the largest pool of consumers."""

PATIENCE: Final = 2.0
"""Seconds that the end waits for threads that still work."""


class Threads:
    """Runs functions in threads."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self._loop = asyncio.get_running_loop()

    def start(self, work: Callable[[*Given], T], *given: *Given) -> asyncio.Future[T]:
        """Have `work` done; the future is set in the loop."""
        return self._loop.run_in_executor(self._executor, work, *given)

    async def run(self, work: Callable[[*Given], T], *given: *Given) -> T:
        """Wait for `work`. A caller that is cancelled leaves it to happen."""
        return await self.start(work, *given)

    async def see_through(self, work: Callable[[*Given], T], *given: *Given) -> T:
        """Wait for `work` to its end, for what must not be left half done.

        A cancellation meanwhile does not end the wait; the task counts it (`Task.cancelling`), and
        whoever owns the task raises it when nothing is held any more.
        """
        future = self.start(work, *given)
        await outlast(future)
        return future.result()


async def outlast(future: asyncio.Future[T]) -> None:
    """Wait until a future is done, whatever happens. See `see_through` about cancellation."""
    while not future.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([future])


@asynccontextmanager
async def own_threads() -> AsyncIterator[Threads]:
    executor = ThreadPoolExecutor(MOST, thread_name_prefix="pq-files")
    try:
        yield Threads(executor)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        await _joined(executor)


async def _joined(executor: ThreadPoolExecutor) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.to_thread(executor.shutdown)
    except TimeoutError:
        return
