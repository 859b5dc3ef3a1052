"""One run of a queue's handler on a file, as the consumers run it, with nothing to remember it.

The real pool runs a real job in a store that lives for this run in a temporary directory. So what
is tried is what a job will meet: arguments, environment, limits, capture, the end of its processes.
Different are the job's id, and the output, which goes to a place of its own.
"""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pq_daemon.consumers.environment import output_target, values
from pq_daemon.consumers.inputs import sha256
from pq_daemon.consumers.pool import run_consumers
from pq_daemon.errors import InvalidRequestError
from pq_daemon.inspection.explaining import resolved
from pq_daemon.inspection.supposing import supposed
from pq_daemon.jobs import placeholders
from pq_daemon.jobs.model import FileVersion, QueueName
from pq_daemon.jobs.versions import Identity
from pq_daemon.producer.plan import make_plan, parent
from pq_daemon.runtime.names import shown
from pq_daemon.store.engines import open_store
from pq_daemon.store.outputs import frames
from pq_daemon.store.protocol import Actor, QueueEntry, Submission

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pq_daemon.config.settings import QueueSettings, Settings
    from pq_daemon.jobs.model import Attempt, Job
    from pq_daemon.store.outputs import Frame
    from pq_daemon.store.protocol import Store

LOOK_EVERY: Final = 0.05
NEVER: Final = 7 * 86400.0
"""Seconds until a second attempt, which is not to come: the trial is over before."""

TRIER: Final = Actor("pq try", "manager", "cli")


@dataclass(frozen=True, slots=True)
class Tried:
    """How it went. `target` is where a real job would put its output, `output` where it lies."""

    job: Job
    attempt: Attempt
    asked_delay: float | None  # seconds the handler asked to wait
    target: bytes | None
    output: Path | None


def version(path: str, settings: Settings) -> FileVersion:
    """Look at a file as a submission does; it may lie anywhere. Blocks: it is hashed.

    Raises:
        InvalidRequestError: it cannot be read, or is no regular file.

    """
    real = resolved(os.fsencode(path))
    try:
        found = os.lstat(real)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidRequestError(f"{shown(real)} is not a regular file")
        digest = sha256(real)
    except OSError as error:
        raise InvalidRequestError(f"{shown(real)}: {error.strerror}") from None
    plan = make_plan(settings)
    root = plan.owner(parent(real))
    watches = plan.on(root) if root else ()
    root = root or parent(real)
    return FileVersion(
        watch=watches[0].name if watches else None,
        root=root,
        relpath=real[len(root.rstrip(b"/")) + 1 :],
        identity=Identity(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns),
        inodes_count=True,
        sha256=digest,
    )


async def tried(
    file: FileVersion, queue: QueueSettings, settings: Settings, hear: Callable[[Frame], None]
) -> Tried:
    """Run the handler once; `hear` is given its output as it comes.

    Raises:
        PlaceholderError: the output has no name for this file.

    """
    with tempfile.TemporaryDirectory(prefix="pq-try-") as state:
        results = Path(tempfile.mkdtemp(prefix="pq-output-")) if queue.output else None
        try:
            target = _target(file, queue, settings)
            trial = _trial(queue, settings, Path(state), results, target)
            async with _accepted(file, trial.queues[queue.name], trial) as (store, job):
                done, attempt = await _followed(store, job, hear)
            return Tried(done, attempt, _asked(done, attempt), target, _made(results))
        finally:
            if results is not None and not _made(results):
                results.rmdir()


def _target(file: FileVersion, queue: QueueSettings, settings: Settings) -> bytes | None:
    if not queue.output:
        return None
    given = values(supposed(file, queue, queue.priority), None)
    return output_target(queue.output, given, os.fsencode(settings.directory))


def _trial(
    queue: QueueSettings,
    settings: Settings,
    state: Path,
    results: Path | None,
    target: bytes | None,
) -> Settings:
    """Return the settings of the trial: one queue, one slot, nothing watched."""
    output = ""
    if results is not None and target is not None:
        name = os.fsdecode(target.rpartition(b"/")[2])
        output = placeholders.literal(f"{results}/{name}")
    home = {"HOME": placeholders.literal(str(settings.daemon.state_dir))}
    once = queue.backoff.model_copy(update={"base": NEVER, "max": NEVER, "jitter": 0.0})
    tried_queue = queue.model_copy(
        update={"output": output, "env": home | queue.env, "backoff": once, "concurrency": 1}
    )
    daemon = settings.daemon.model_copy(update={"state_dir": state, "workers": 1})
    return settings.model_copy(
        update={"daemon": daemon, "watches": (), "queues": {queue.name: tried_queue}}
    )


@asynccontextmanager
async def _accepted(
    file: FileVersion, queue: QueueSettings, trial: Settings
) -> AsyncIterator[tuple[Store, Job]]:
    """Have the job accepted and the pool run."""
    name = QueueName(queue.name)
    async with open_store(trial.daemon.state_dir, synchronous="normal") as store:
        await store.configure_queues([QueueEntry(name, queue.handler, 1, paused=False)])
        if file.watch is not None:
            await store.configure_watches([(file.watch, file.root, name)])
        wanted = Submission(name, queue.priority, queue.max_attempts, file=file)
        job, _ = await store.submit(wanted, TRIER)
        number = await store.remember_config(trial.text)
        async with run_consumers(trial, store, number):
            yield store, job


async def _followed(store: Store, job: Job, hear: Callable[[Frame], None]) -> tuple[Job, Attempt]:
    """Wait for the end of the attempt; pass on what it prints."""
    ears = Ears(hear)
    while True:
        attempts = await store.attempts(job.id)
        is_over = bool(attempts) and attempts[0].outcome is not None
        raw = await asyncio.to_thread(store.outputs.read, job.id, 1)
        if raw is None and is_over:
            raw = await store.inline_output(job.id, 1)
        ears.listen(raw or b"")
        if is_over:
            return await store.job(job.id), attempts[0]
        await asyncio.sleep(LOOK_EVERY)


class Ears:
    """Tells new output from what was passed on already, by its place in the whole."""

    def __init__(self, hear: Callable[[Frame], None]) -> None:
        self._hear = hear
        self._heard = 0

    def listen(self, raw: bytes) -> None:
        place = 0
        for frame in frames(raw):
            length = len(frame.data) if frame.is_output else int(frame.data)
            place += length
            new = place - self._heard
            if new <= 0:
                continue
            self._hear(frame._replace(data=frame.data[-new:] if frame.is_output else b"%d" % new))
            self._heard = place


def _asked(job: Job, attempt: Attempt) -> float | None:
    """Seconds the handler asked to wait, when it did."""
    if job.run_at is None or attempt.finished_at is None:
        return None
    wait = (job.run_at - attempt.finished_at) / 1000
    return wait if wait < NEVER / 2 else None


def _made(results: Path | None) -> Path | None:
    return None if results is None else next(results.iterdir(), None)
