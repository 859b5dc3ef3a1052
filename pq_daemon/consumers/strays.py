"""Processes that left their handler's group and its parents behind: noticed, ended, reaped.

At the end of each attempt its own strays are looked for, but the kernel's list of children may miss
one while others end. So once a second all adopted children are looked at: who carries the token of
an attempt that is over is ended, and a zombie that nobody waits for is reaped. Children of other
code in this process are left alone.
"""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING, Final

from pq_daemon.runtime import processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from pq_daemon.consumers.handlers.process import Leaders

log = logging.getLogger(__name__)

EVERY: Final = 1.0
NOBODY: Final = 2
"""Looks that see a zombie of unknown origin: whose child it was would have reaped it by then."""


class Strays:
    """What adopted children were seen doing."""

    def __init__(self, prefix: str, leaders: Leaders, is_running: Callable[[str], bool]) -> None:
        self._prefix = prefix  # of our epoch's tokens
        self._leaders = leaders
        self._is_running = is_running  # by token
        self._told: set[int] = set()
        self._zombies: dict[int, int] = {}

    async def look(self) -> None:
        """One look. Cheap: a few small reads from /proc."""
        strangers = self._leaders.strangers()
        for pid in strangers:
            self._look_at(pid)
        self._told.intersection_update(strangers)
        self._zombies = {pid: seen for pid, seen in self._zombies.items() if pid in strangers}

    def _look_at(self, pid: int) -> None:
        standing = processes.standing(pid)
        if standing is None:
            return
        if standing.is_zombie:
            self._look_at_zombie(pid, standing.session)
            return
        token = processes.token_of(pid)
        if token is None or not token.startswith(self._prefix) or self._is_running(token):
            return
        log.warning("ending a stray process", extra={"pid": pid})
        processes.signal_one(pid, signal.SIGKILL if pid in self._told else signal.SIGTERM)
        self._told.add(pid)

    def _look_at_zombie(self, pid: int, session: int) -> None:
        if session == os.getsid(0):
            return  # a child of other code here, which will wait for it
        self._zombies[pid] = self._zombies.get(pid, 0) + 1
        if pid in self._told or self._zombies[pid] >= NOBODY:
            processes.has_gone(pid)
