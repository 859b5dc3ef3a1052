"""Compares passwords off the loop, two at a time: each costs 19 MiB and some 36 ms.

Whoever is not known costs the same work as whoever is, so the time of an answer tells no names. The
line before the desk is short; a storm of logins is turned away there, not in the daemon's memory.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pq_daemon.config import passwords
from pq_daemon.server.problems import Problem

if TYPE_CHECKING:
    from pq_daemon.config import Settings
    from pq_daemon.config.settings import UserSettings

AT_ONCE: Final = 2
LINE_MOST: Final = 32


class PasswordDesk:
    def __init__(self) -> None:
        self._room = asyncio.Semaphore(AT_ONCE)
        self._line = 0
        self._demo: tuple[Settings, tuple[str, ...]] | None = None

    def __repr__(self) -> str:
        return f"<PasswordDesk line={self._line}>"

    async def knows(self, user: UserSettings | None, stand_in: UserSettings, password: str) -> bool:
        """Whether this is the user's password; without a user, the work for `stand_in`, and no.

        Raises:
            Problem: 429, too many wait already.

        """
        if self._line >= LINE_MOST:
            headers = {"Retry-After": "2"}
            raise Problem(429, "too_many_logins", "too many logins at once", headers=headers)
        self._line += 1
        try:
            async with self._room:
                asked = user or stand_in
                matches = await asyncio.to_thread(passwords.verify, asked.password_hash, password)
        finally:
            self._line -= 1
        return matches and user is not None

    async def demo_users(self, settings: Settings) -> tuple[str, ...]:
        """Return who still has the demo's password; worked out once a configuration."""
        if self._demo is None or self._demo[0] is not settings:
            async with self._room:
                names = tuple(await asyncio.to_thread(passwords.demo_users, settings))
            self._demo = (settings, names)
        return self._demo[1]
