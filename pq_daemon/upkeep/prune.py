"""Retention: what finished long ago goes, in small batches that leave room for other work.

Jobs go by finished_at, with their attempts and outputs; then, while outputs together take more
than `output_total`, the oldest ones of succeeded jobs; audit rows after their own time; ledger rows
30 days after their file has vanished. Freed pages go back to the filesystem a few at a time.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from pq_daemon.jobs.order import HOUR_MS, Moment
from pq_daemon.store.protocol import Retention

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pq_daemon.config.settings import RetentionSettings
    from pq_daemon.jobs.model import JobId
    from pq_daemon.store.protocol import Store

log = logging.getLogger(__name__)

PRUNE_EVERY: Final = 60.0
BATCH: Final = 200
VANISHED_KEPT_MS: Final = 30 * 24 * HOUR_MS
PAGES: Final = 1000


def retention(settings: RetentionSettings, now: Moment) -> Retention:
    """Return the moments before which things may go."""

    def before(seconds: float) -> Moment:
        return Moment(now - round(seconds * 1000))

    return Retention(
        succeeded=before(settings.succeeded),
        cancelled=before(settings.cancelled),
        failed=before(settings.failed),
        audit=before(settings.audit),
        vanished=Moment(now - VANISHED_KEPT_MS),
    )


async def forget_the_old(store: Store, settings: RetentionSettings) -> None:
    """Remove all that is due."""
    removed = 0
    while batch := await store.prune(retention(settings, store.now()), BATCH):
        await asyncio.to_thread(_remove_files, store, _attempts(batch.jobs))
        removed += len(batch.jobs)
    while outputs := await store.prune_outputs(settings.output_total, BATCH):
        await asyncio.to_thread(_remove_files, store, outputs)
    await store.vacuum(PAGES)
    if removed:
        log.info("old jobs forgotten", extra={"jobs": removed})


def _attempts(jobs: Iterable[tuple[JobId, int]]) -> list[tuple[JobId, int]]:
    return [(job, number) for job, last in jobs for number in range(1, last + 1)]


def _remove_files(store: Store, outputs: Iterable[tuple[JobId, int]]) -> None:
    for job, attempt in outputs:
        store.outputs.remove(job, attempt)
