"""The demo: sample work beside the daemon, so that a newcomer sees every state within a minute.

Its queues and watches are added to the configuration in memory; its files lie below the
configuration's own directory and nowhere else. It is a polite producer: it drops a file whole
(written aside, then renamed), waits while the jobs of the last ones are not through, and takes its
old files away again. What only a person does (hold, release, schedule, cancel) it asks of the API.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.cli import demo_handler
from pq_daemon.cli.client import connected
from pq_daemon.cli.moments import Later
from pq_daemon.config.problems import ConfigurationError, file_problem
from pq_daemon.config.settings import BackoffSettings, QueueSettings, Settings, WatchSettings
from pq_daemon.config.socket import socket_path
from pq_daemon.errors import InvalidRequestError, PqError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pq_daemon.cli.client import Api

log = logging.getLogger(__name__)

FOLDER: Final = Path("data/demo")
FILES: Final = Path("data/files")
QUICK: Final = "quick"
KINDS: Final = tuple(demo_handler.KINDS)
ROUND: Final = (QUICK, "slow", QUICK, "flaky", QUICK, "failing")
BUSY: Final = 10
"""A queue with so many jobs that are not through gets no more samples."""

KEPT: Final = 12
"""Sample files that stay in a folder. More than BUSY, so that no waiting job loses its file."""

PAUSE: Final = 3.0
CALM: Final = 15.0
"""Seconds between two samples: in the first round of minutes, and later."""

LIVELY: Final = 60
"""Samples before it calms down."""


# --- the configuration ---------------------------------------------------------------------------


def with_samples(settings: Settings) -> Settings:
    """Add the demo's queues and watches; what the configuration itself says stays.

    Raises:
        ConfigurationError: it has other plans for the demo's folder.

    """
    names = {f"demo-{kind}" for kind in KINDS}
    _refuse_overlap(settings, names)
    watches = tuple(watch for watch in settings.watches if watch.name not in names)
    return settings.model_copy(
        update={
            "watches": watches + tuple(_watch(settings, kind) for kind in KINDS),
            "queues": {**settings.queues, **{f"demo-{kind}": _queue(kind) for kind in KINDS}},
        }
    )


def _refuse_overlap(settings: Settings, names: set[str]) -> None:
    ours = settings.directory / FOLDER
    taken = {
        f"watch {watch.name}": watch.path for watch in settings.watches if watch.name not in names
    }
    for what, path in {**taken, "daemon.state_dir": settings.daemon.state_dir}.items():
        if path.is_relative_to(ours) or ours.is_relative_to(path):
            problem = file_problem(f"{what} and the demo would share {ours}", "one without --demo")
            raise ConfigurationError(settings.source, (problem,))


def _queue(kind: str) -> QueueSettings:
    return QueueSettings(
        name=f"demo-{kind}",
        command=(sys.executable, "-I", demo_handler.__file__, kind),
        max_attempts=2 if kind == "failing" else demo_handler.SUCCEEDS_AT,
        concurrency=2,
        timeout=60.0,
        backoff=BackoffSettings(base=4.0, factor=2.0, max=10.0),
    )


def _watch(settings: Settings, kind: str) -> WatchSettings:
    return WatchSettings(
        name=f"demo-{kind}", path=settings.directory / FOLDER / kind, queue=f"demo-{kind}"
    )


def places(settings: Settings) -> dict[str, WatchSettings]:
    """Where each kind of sample goes: quick ones into data/files, if that is watched."""
    files = settings.directory / FILES
    found = {watch.path: watch for watch in settings.watches}
    ours = {watch.name.removeprefix("demo-"): watch for watch in settings.watches}
    quick = {QUICK: found[files]} if files in found else {}
    return quick | {kind: ours[kind] for kind in KINDS}


def make_folders(settings: Settings) -> None:
    """Create the folders that samples go to. No other one: it may be a disk that is not mounted.

    Raises:
        InvalidRequestError: they cannot be made there.

    """
    for watch in places(settings).values():
        try:
            watch.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidRequestError(f"--demo: {watch.path}: {error.strerror}") from None


# --- the samples ---------------------------------------------------------------------------------


async def keep_dropping(settings: Settings, ready: asyncio.Event) -> None:
    """Drop samples from when the daemon is ready until cancelled."""
    await ready.wait()
    where = places(settings)
    names = _names()
    kinds = itertools.chain(where, itertools.cycle([kind for kind in ROUND if kind in where]))
    async with (
        connected(socket_path(settings)) as api,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(act_as_person(api))
        for number, kind in enumerate(kinds):
            try:
                await _drop_unless_busy(api, where[kind], kind, next(names))
            except (PqError, OSError) as error:
                log.warning("no sample", extra={"kind": kind, "why": str(error)})
            if number >= len(where) - 1:
                await asyncio.sleep(PAUSE if number < LIVELY else CALM)


def _names() -> Iterator[str]:
    start = datetime.now().astimezone()
    return (f"{start:%Y%m%d-%H%M%S}-{number:03}.txt" for number in itertools.count(1))


async def _drop_unless_busy(api: Api, watch: WatchSettings, kind: str, name: str) -> None:
    queue = (await api.get(f"/queues/{watch.queue}")).body
    if not is_busy(queue["counts"]):
        await asyncio.to_thread(drop, watch.path, f"sample-{kind}-{name}", kind)


def is_busy(counts: Mapping[str, int]) -> bool:
    final = ("succeeded", "failed", "cancelled")
    return sum(count for state, count in counts.items() if state not in final) >= BUSY


def drop(folder: Path, name: str, kind: str) -> Path:
    """Put one whole sample into the folder, and take old ones away."""
    hidden = folder / f".{name}.part"
    at = datetime.now(UTC).isoformat()
    hidden.write_text(f"A {kind} sample of pq-daemon, written at {at}.\n", encoding="utf-8")
    target = hidden.rename(folder / name)
    ours = sorted(folder.glob("sample-*.txt"), key=lambda path: path.stat().st_mtime_ns)
    for old in ours[:-KEPT]:
        old.unlink(missing_ok=True)
    return target


# --- the person ----------------------------------------------------------------------------------


async def act_as_person(api: Api) -> None:
    """Hold, release, schedule and cancel, once a minute: states that no file comes to by itself."""
    while True:
        try:
            await _one_round(api)
        except PqError as error:
            log.warning("no sample", extra={"kind": "person", "why": str(error)})
        await asyncio.sleep(60 - 25)


async def _one_round(api: Api) -> None:
    """Show held, scheduled and cancelled within 25 seconds."""
    held = await _ask_for(api, "a job on hold, released after 20 seconds", hold=True)
    in_a_while = datetime.now(UTC) + timedelta(seconds=15)
    await _ask_for(api, "a job scheduled for later", run_at=Later(in_a_while).text)
    unwanted = await _ask_for(api, "a job that is cancelled while it runs", priority="urgent")
    await asyncio.sleep(4)
    await api.post(f"/jobs/{unwanted}/cancel")
    await asyncio.sleep(16)
    await api.post(f"/jobs/{held}/release")
    await asyncio.sleep(5)


async def _ask_for(api: Api, sample: str, **more: Any) -> str:
    body = {"queue": "demo-slow", "payload": {"sample": sample}, **more}
    return str((await api.post("/jobs", body)).body["id"])
