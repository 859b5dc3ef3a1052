"""A pool at work on a real store, with real processes, for one test."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pq_daemon.config.settings import (
    BackoffSettings,
    DaemonSettings,
    QueueSettings,
    Settings,
    WatchSettings,
)
from pq_daemon.consumers.pool import Pool, run_consumers
from pq_daemon.jobs.model import FileVersion, QueueName, WatchName
from pq_daemon.jobs.order import Priority
from pq_daemon.jobs.states import State
from pq_daemon.jobs.versions import Identity
from pq_daemon.store.engines import open_store
from pq_daemon.store.outputs import Stream, content
from pq_daemon.store.protocol import QueueEntry, Submission
from tests.support.builders import PERSON
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from pq_daemon.jobs.model import Attempt, Job
    from pq_daemon.store.sqlite.engine import SqliteStore

SOON = BackoffSettings(base=0.01, factor=1.0, max=0.05, jitter=0.0)


def a_queue(*command: str, **changes: Any) -> QueueSettings:
    """A queue that runs a command and tries again at once."""
    given: dict[str, Any] = {"command": command or None, "backoff": SOON, "kill_grace": 0.5}
    return QueueSettings(**(given | changes))


def shell(script: str, **changes: Any) -> QueueSettings:
    """A queue that runs a shell script; braces in it are taken as they are."""
    return a_queue("sh", "-c", script.replace("{", "{{").replace("}", "}}"), **changes)


def python(source: str, directory: Path, **changes: Any) -> QueueSettings:
    """A queue that runs the function `work` of a module made from `source`."""
    name = f"handler_{len(list(directory.glob('handler_*.py')))}"
    (directory / f"{name}.py").write_text(source)
    return a_queue(python=f"{name}:work", **({"isolation": "loop"} | changes))


def settings_for(
    directory: Path,
    queues: Mapping[str, QueueSettings],
    workers: int = 4,
    watches: Sequence[WatchSettings] = (),
) -> Settings:
    return Settings(
        daemon=DaemonSettings(state_dir=directory / "state", workers=workers),
        queues={name: queue.model_copy(update={"name": name}) for name, queue in queues.items()},
        watches=tuple(watches),
        source=directory / "config.toml",
    )


@dataclass
class Shop:
    directory: Path
    store: SqliteStore
    pool: Pool
    settings: Settings

    async def submit(self, queue: str = "files", payload: str | None = "{}", **changes: Any) -> Job:
        given: dict[str, Any] = {
            "queue": QueueName(queue),
            "priority": Priority.NORMAL,
            "max_attempts": self.settings.queues[queue].max_attempts,
            "payload": payload,
        }
        job, _ = await self.store.submit(Submission(**(given | changes)), PERSON)
        return job

    async def submit_file(self, path: bytes | Path, queue: str = "files", **changes: Any) -> Job:
        file = version_of(os.fsencode(path), **changes)
        return await self.submit(queue, None, file=file)

    async def job(self, job: Job) -> Job:
        return await self.store.job(job.id)

    async def ended(self, job: Job, timeout: float = 20.0) -> Job:  # noqa: ASYNC109
        """Wait until the job is final."""
        await self.reached(job, *(state for state in State if state in FINAL), timeout=timeout)
        return await self.job(job)

    async def reached(self, job: Job, *states: State, timeout: float = 20.0) -> Job:  # noqa: ASYNC109
        async def is_there() -> bool:
            return (await self.job(job)).state in states

        await wait_until(is_there, timeout=timeout, what=f"job {job.id} {states}")
        return await self.job(job)

    async def run(self, queue: str = "files", **changes: Any) -> Job:
        """Submit a job and wait for its end."""
        return await self.ended(await self.submit(queue, **changes))

    async def attempts(self, job: Job) -> list[Attempt]:
        return sorted(await self.store.attempts(job.id), key=lambda attempt: attempt.number)

    async def only_attempt(self, job: Job) -> Attempt:
        [attempt] = await self.attempts(job)
        return attempt

    async def framed(self, job: Job, attempt: int = 1) -> bytes:
        """The output as it is kept: in the row, or in its file."""
        inline = await self.store.inline_output(job.id, attempt)
        return self.store.outputs.read(job.id, attempt) or b"" if inline is None else inline

    async def stdout(self, job: Job, attempt: int = 1) -> bytes:
        return content(await self.framed(job, attempt), Stream.STDOUT)

    async def stderr(self, job: Job, attempt: int = 1) -> bytes:
        return content(await self.framed(job, attempt), Stream.STDERR)

    async def says(self, job: Job, words: bytes, attempt: int = 1) -> None:
        """Wait until the running job has written these words."""

        def is_said() -> bool:
            return words in content(self.store.outputs.read(job.id, attempt) or b"")

        await wait_until(is_said, what=f"{words!r} in the output of job {job.id}")


FINAL = {State.SUCCEEDED, State.FAILED, State.CANCELLED}


@asynccontextmanager
async def a_shop(
    directory: Path,
    queue: QueueSettings | None = None,
    *,
    workers: int = 4,
    queues: Mapping[str, QueueSettings] | None = None,
    watches: Sequence[WatchSettings] = (),
) -> AsyncIterator[Shop]:
    """Open a store and run a pool on it; `queue` is the one called `files`."""
    every = dict(queues or {})
    if queue is not None:
        every["files"] = queue
    settings = settings_for(directory, every, workers, watches)
    async with open_store(settings.daemon.state_dir) as store:
        await configure_store(store, settings)
        config = await store.remember_config("test")
        async with run_consumers(settings, store, config) as pool:
            yield Shop(directory, store, pool, settings)


async def configure_store(store: SqliteStore, settings: Settings) -> None:
    entries = [
        QueueEntry(QueueName(name), queue.handler, queue.concurrency, queue.paused)
        for name, queue in settings.queues.items()
    ]
    await store.configure_queues(entries)
    await store.configure_watches(
        [
            (WatchName(watch.name), os.fsencode(watch.path), QueueName(watch.queue or watch.name))
            for watch in settings.watches
        ]
    )


def written(path: bytes | Path, data: bytes) -> bytes:
    """Write a file, with its directories; return its path as bytes."""
    place = Path(os.fsdecode(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return os.fsencode(place)


def version_of(path: bytes, **changes: Any) -> FileVersion:
    """A file version as the producer would take it, by a look at the real file."""
    found = os.lstat(path)
    root, _, name = path.rpartition(b"/")
    given: dict[str, Any] = {
        "watch": None,
        "root": root,
        "relpath": name,
        "identity": Identity(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns),
        "inodes_count": True,
        "sha256": None,
    }
    return FileVersion(**(given | changes))
