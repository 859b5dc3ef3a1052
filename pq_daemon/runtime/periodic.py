"""The one shape of every chore's loop: work, then wait for the interval or a nudge."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


async def periodically(
    chore: Callable[[], Awaitable[None]],
    *,
    every: float,
    name: str,
    nudge: asyncio.Event | None = None,
) -> None:
    """Run `chore` now and then every `every` seconds, or sooner when nudged. Ends when cancelled.

    A chore that fails is logged and tried again at the next turn: one bad turn must not end
    the room.
    """
    nudge = nudge or asyncio.Event()
    while True:
        nudge.clear()
        try:
            await chore()
        except Exception:  # the periodic door: the next turn is the retry
            log.exception("chore failed", extra={"chore": name})
        try:
            async with asyncio.timeout(every):
                await nudge.wait()
        except TimeoutError:
            continue
