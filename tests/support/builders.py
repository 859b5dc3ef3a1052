"""Short ways to make the values tests talk about."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from pq_daemon.jobs.model import FileVersion, QueueName, WatchName
from pq_daemon.jobs.order import Priority
from pq_daemon.jobs.states import Outcome
from pq_daemon.jobs.versions import Identity
from pq_daemon.store.protocol import Actor, Claim, Ending, Found, Submission

if TYPE_CHECKING:
    from pq_daemon.jobs.model import Job
    from pq_daemon.store.protocol import Store

FILES = QueueName("files")
WATCH = WatchName("files")
ROOT = b"/srv/files"
PERSON = Actor("anna", "manager", "test", "127.0.0.1")

_inodes = itertools.count(1000)


def an_identity(**changes: Any) -> Identity:
    return Identity(
        **({"inode": next(_inodes), "size": 5, "mtime_ns": 10**18, "ctime_ns": 10**18} | changes)
    )


def a_file(relpath: bytes = b"a.txt", **changes: Any) -> FileVersion:
    return FileVersion(
        **(
            {
                "watch": WATCH,
                "root": ROOT,
                "relpath": relpath,
                "identity": an_identity(),
                "inodes_count": True,
                "sha256": b"\x01" * 32,
            }
            | changes
        )
    )


def found(
    relpath: bytes = b"a.txt", *, hold: bool = False, skip: bool = False, **file: Any
) -> Found:
    return Found(a_file(relpath, **file), FILES, Priority.NORMAL, 5, hold=hold, skip=skip)


def a_submission(**changes: Any) -> Submission:
    return Submission(
        **(
            {"queue": FILES, "priority": Priority.NORMAL, "max_attempts": 5, "payload": "{}"}
            | changes
        )
    )


def ending(store: Store, job: Job, outcome: Outcome = Outcome.SUCCEEDED, **changes: Any) -> Ending:
    return Ending(
        **(
            {"job": job.id, "attempt": job.attempt, "epoch": store.epoch.id, "outcome": outcome}
            | changes
        )
    )


def a_claim(slots: int = 1, **limits: int) -> Claim:
    return Claim(
        tuple(range(1, slots + 1)),
        {QueueName(name): limit for name, limit in (limits or {"files": 1000}).items()},
    )


async def a_job(store: Store, **changes: Any) -> Job:
    job, _ = await store.submit(a_submission(**changes), PERSON)
    return job


async def a_running_job(store: Store, **changes: Any) -> Job:
    job = await a_job(store, **changes)
    exchange = await store.exchange([], a_claim(100))
    [running] = [claimed for _, claimed in exchange.claimed if claimed.id == job.id]
    return running
