"""Looks each second whether an attempt holds more memory than its queue allows, and ends it.

What counts is the tree of its processes, those that left it too. There is no warning: a handler
that grows fast would take the machine down in the time it was given.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from pq_daemon.config.values import size_text
from pq_daemon.consumers.handlers.outcome import Stop
from pq_daemon.runtime import memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pq_daemon.consumers.attempt import Attempt, Tools

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 1.0
MIB: Final = 2**20


class MemoryWatch:
    """Looks at what runs."""

    def __init__(self, tools: Tools, running: Callable[[], Iterable[Attempt]]) -> None:
        self._tools = tools
        self._running = running

    async def look(self) -> None:
        """One look; it costs nothing while no attempt with a limit runs."""
        limited = [
            attempt for attempt in self._running() if attempt.leader and attempt.memory_limit
        ]
        for attempt in limited:
            leader = attempt.leader
            left = self._tools.leaders.adopted_with(attempt.process_token)
            held = await self._tools.threads.run(_held, [leader, *left], attempt.memory_limit)
            if held is not None and attempt.leader == leader:
                self._end(attempt, held)

    @staticmethod
    def _end(attempt: Attempt, held: int) -> None:
        limit = size_text(attempt.memory_limit)
        attempt.detail = f"it held {held / MIB:.0f} MiB of memory, memory_limit is {limit}"
        log.warning("over its memory limit", extra={"job": attempt.job.id, "bytes": held})
        attempt.stop(Stop.MEMORY, now=True)


def _held(leaders: list[int], limit: int) -> int | None:
    return memory.excess(memory.tree(leaders), limit)
