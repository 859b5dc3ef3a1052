"""A watched folder in a test: settings for it, and what has become of the files in it."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from pq_daemon.config import DaemonSettings, QueueSettings, Settings, WatchSettings
from pq_daemon.jobs.model import WatchName
from pq_daemon.store.protocol import FileState, JobFilter

if TYPE_CHECKING:
    from pathlib import Path

    from pq_daemon.jobs.model import Job
    from pq_daemon.store.protocol import LedgerEntry, Store, WatchRecord

FILES = WatchName("files")


def a_watch(path: Path, **changes: Any) -> WatchSettings:
    return WatchSettings(
        **({"name": "files", "path": path, "queue": "files", "settle": "50ms"} | changes)
    )


def settings_of(state_dir: Path, *watches: WatchSettings) -> Settings:
    return Settings(
        daemon=DaemonSettings(state_dir=state_dir),
        watches=watches,
        queues={"files": QueueSettings(name="files", command=("true",))},
    )


async def all_jobs(store: Store) -> list[Job]:
    jobs: list[Job] = []
    cursor = None
    while True:
        page = await store.jobs(JobFilter(), cursor, 1000)
        jobs += page.items
        if (cursor := page.next) is None:
            return jobs


async def accepted(store: Store) -> Counter[tuple[bytes, bytes]]:
    """How many jobs there are for each (path, sha256)."""
    return Counter(
        (job.file.path, job.file.sha256 or b"") for job in await all_jobs(store) if job.file
    )


async def jobs_of(store: Store, path: Path | bytes) -> list[Job]:
    wanted = path if isinstance(path, bytes) else bytes(path)
    return [job for job in await all_jobs(store) if job.file and job.file.path == wanted]


def on_disk(root: Path) -> Counter[tuple[bytes, bytes]]:
    """What `accepted` must become when each regular file below `root` is taken once."""
    return Counter(
        (bytes(path), hashlib.sha256(path.read_bytes()).digest())
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    )


async def record(store: Store, name: WatchName = FILES) -> WatchRecord:
    return next(found for found in await store.watches() if found.name == name)


async def count(
    store: Store, state: FileState = FileState.ACCEPTED, name: WatchName = FILES
) -> int:
    return (await record(store, name)).counts.get(state, 0)


async def entry(store: Store, path: Path | bytes) -> LedgerEntry | None:
    wanted = path if isinstance(path, bytes) else bytes(path)
    return (await store.entries([wanted])).get(wanted)


async def reason(store: Store, path: Path | bytes) -> str | None:
    found = await entry(store, path)
    return None if found is None else found.reason
