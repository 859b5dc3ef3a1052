"""Clean up behind a daemon that died: before anything new is claimed, no timer involved.

We hold the state directory, so nobody else can own a running job: each one of a dead epoch is an
orphan. In this order: what survived of its handlers is ended (found by the token in their
environment), an output that had already reached its place makes its job a success, and every other
orphan is closed as lost with its output so far. A crash in the middle repeats it all.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from pq_daemon.jobs.states import Outcome
from pq_daemon.runtime.processes import end_by_token
from pq_daemon.store.protocol import Claim, Ending

if TYPE_CHECKING:
    from collections.abc import Callable

    from pq_daemon.store.protocol import After, Orphan, Store

log = logging.getLogger(__name__)

GRACE: Final = 2.0
"""Seconds from TERM to KILL for survivors: their daemon is dead, nobody waits for their work."""

BATCH: Final = 200


async def rescue(
    store: Store,
    *,
    was_published: Callable[[Orphan], bool],
    afters: Callable[[Orphan], tuple[After | None, After | None]],
) -> int:
    """Close what dead epochs left open; return how many jobs were running.

    Args:
        store: opened, nothing claimed yet.
        was_published: whether the orphan's output had reached its place (blocking, in a thread);
            removes what did not.
        afters: what to do with the orphan's file on success and on failure.

    """
    dead = await store.dead_epochs()
    for epoch in dead:
        survivors = await end_by_token(f"{epoch.token}.", GRACE)
        if survivors:
            log.warning("survivors ended", extra={"epoch": epoch.id, "processes": survivors})
    orphans = await store.orphans()
    for start in range(0, len(orphans), BATCH):
        batch = orphans[start : start + BATCH]
        endings = [await _ending(store, orphan, was_published, afters) for orphan in batch]
        await store.exchange(endings, Claim())
        for ending in endings:
            if ending.inline is not None:  # it is in the store's row now
                await asyncio.to_thread(store.outputs.remove, ending.job, ending.attempt)
    if dead:
        await store.rescued()
        log.warning("rescued", extra={"epochs": len(dead), "jobs": len(orphans)})
    return len(orphans)


async def _ending(
    store: Store,
    orphan: Orphan,
    was_published: Callable[[Orphan], bool],
    afters: Callable[[Orphan], tuple[After | None, After | None]],
) -> Ending:
    published = await asyncio.to_thread(was_published, orphan)
    kept = await asyncio.to_thread(store.outputs.settle, orphan.job.id, orphan.job.attempt)
    size, inline = kept or (None, None)
    on_success, on_failure = afters(orphan)
    log.info("orphan closed", extra={"job": orphan.job.id, "published": published})
    return Ending(
        orphan.job.id,
        orphan.job.attempt,
        orphan.epoch,
        Outcome.SUCCEEDED if published else Outcome.LOST,
        reason=None if published else "the daemon died",
        exit_code=orphan.publication.exit_code if published and orphan.publication else None,
        output=size,
        inline=inline,
        on_success=on_success,
        on_failure=on_failure,
    )
