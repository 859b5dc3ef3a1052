"""What becomes of a job's file when the job has ended: the after-actions its watch asks for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pq_daemon.store.protocol import After

if TYPE_CHECKING:
    from pq_daemon.config.settings import Settings
    from pq_daemon.jobs.model import Job

Afters = tuple[After | None, After | None]
"""On success, on failure; None keeps the file where it is."""


def afters(settings: Settings, job: Job) -> Afters:
    """Return the after-actions of a job under a configuration."""
    if job.file is None:
        return None, None
    for watch in settings.watches:
        if watch.name == job.file.watch:
            root = job.file.root
            return action(watch.on_success, root), action(watch.on_failure, root)
    return None, None


def action(wanted: str, root: bytes) -> After | None:
    """Read "keep", "delete" or "move:DIR". DIR is relative to the watch's root."""
    kind, _, directory = wanted.partition(":")
    if kind == "delete":
        return After("delete")
    if kind == "move":
        return After("move", os.path.join(root, os.fsencode(directory)))  # noqa: PTH118 - bytes
    return None
