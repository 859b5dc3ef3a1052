"""Short ways to make the values tests talk about."""

from __future__ import annotations

import itertools
from dataclasses import replace
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
    return Identity(next(_inodes), 5, 10**18, 10**18)._replace(**changes)


def a_file(relpath: bytes = b"a.txt", **changes: Any) -> FileVersion:
    plain = FileVersion(WATCH, ROOT, relpath, an_identity(), True, b"\x01" * 32)
    return replace(plain, **changes)


def found(
    relpath: bytes = b"a.txt", *, hold: bool = False, skip: bool = False, **file: Any
) -> Found:
    return Found(a_file(relpath, **file), FILES, Priority.NORMAL, 5, hold=hold, skip=skip)


def a_submission(**changes: Any) -> Submission:
    return replace(Submission(FILES, Priority.NORMAL, 5, payload="{}"), **changes)


def ending(store: Store, job: Job, outcome: Outcome = Outcome.SUCCEEDED, **changes: Any) -> Ending:
    return replace(Ending(job.id, job.attempt, store.epoch.id, outcome), **changes)


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
