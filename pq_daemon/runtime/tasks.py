"""A task that works beside a block of code, and ends with it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine


@asynccontextmanager
async def beside(
    work: Coroutine[Any, Any, None],
    *,
    name: str,
    stop: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[None]:
    """Run `work` while the block runs; its crash cancels the block and comes out as a group.

    At the block's end `stop` is awaited, which makes the work end by itself; without it the work
    is cancelled. The block's own error comes out as itself, not wrapped in a group: callers of a
    room catch what the room says.
    """
    failure: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work, name=name)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - carried past the group, raised below
            failure = error
        finally:
            if stop is None:
                task.cancel()
            else:
                await stop()
    if failure is not None:
        raise failure
