"""The looks the daemon is asked for, each in a thread, answered as the API shows them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from pq_daemon.inspection import checking, diagnosing
from pq_daemon.inspection.explaining import explain
from pq_daemon.inspection.findings import as_json

if TYPE_CHECKING:
    from pq_daemon.config import Settings
    from pq_daemon.store.protocol import Store


async def explained(path: bytes, settings: Settings) -> dict[str, Any]:
    return await asyncio.to_thread(explain, path, settings)


async def checked(settings: Settings) -> list[dict[str, Any]]:
    """Look at folders and programs; Python handlers are left to whoever asks."""
    found = await asyncio.to_thread(lambda: list(checking.findings(settings, imports=False)))
    return list(as_json(found))


async def diagnosed(settings: Settings, store: Store) -> list[dict[str, Any]]:
    condition = await store.examine()
    states: Counter[str] = Counter()
    for queue in await store.queues():
        states.update({state.value: count for state, count in queue.counts.items()})
    now = store.now() / 1000
    found = await asyncio.to_thread(diagnosing.diagnose, settings, now)
    found += diagnosing.database(condition)
    found.append(diagnosing.counts(states.items()))
    return list(as_json(found))
