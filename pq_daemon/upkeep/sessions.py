"""Forget sessions that nobody can use any more: they end 12 hours after the login at the latest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pq_daemon.jobs.order import HOUR_MS, Moment

if TYPE_CHECKING:
    from pq_daemon.store.protocol import Store

FORGET_EVERY: Final = 3600.0
OLDEST: Final = 12 * HOUR_MS


async def forget_old_sessions(store: Store) -> None:
    await store.forget_sessions(Moment(store.now() - OLDEST))
