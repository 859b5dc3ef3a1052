"""Move the write-ahead log into the database now and then, so a quiet daemon leaves a short log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pq_daemon.store.protocol import Store

CHECKPOINT_EVERY: Final = 60.0


async def checkpoint(store: Store) -> None:
    await store.checkpoint()
