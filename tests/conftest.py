"""What every test stands on: a real store on a real file, and a guard against leftovers."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pq_daemon.jobs.model import QueueName
from pq_daemon.store.engines import open_store
from pq_daemon.store.protocol import QueueEntry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from pq_daemon.store.sqlite.engine import SqliteStore

SLOW_CALLBACK = 0.5
"""Seconds. A callback that holds the loop longer fails its test; shared machines need the slack."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run kills and faults in full size")
    parser.addoption("--bench", action="store_true", help="run the measurements")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--bench"):
        return
    skip = pytest.mark.skip(reason="a measurement: ask for it with --bench")
    for item in items:
        if "bench" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long"))


def open_files() -> set[str]:
    """Every open descriptor, with what it is."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{entry.name} -> {entry.readlink()}")
        except OSError:
            continue
    return found


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread, a child process or a file descriptor behind."""
    threads = set(threading.enumerate())
    files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    yield
    if "browser" in request.keywords:  # the browser's driver keeps its own between tests
        return
    left = {
        thread for thread in set(threading.enumerate()) - threads
        if not thread.name.startswith(("asyncio_", "AnyIO"))
    }  # fmt: skip
    for thread in left:
        thread.join(1.0)  # told to end, it may still be on its last line
    left = {thread for thread in left if thread.is_alive()}
    assert not left, f"threads left behind: {left}"
    more = len(os.listdir("/proc/self/fd")) - files  # noqa: PTH208
    assert more <= 0, f"{more} descriptors left behind: {sorted(open_files())}"


@pytest.fixture(autouse=True)
async def no_task_left_behind(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Fail a test that leaves a task running, or holds up the loop."""
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = SLOW_CALLBACK
    tasks = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - tasks - {asyncio.current_task()}
    assert not left, f"tasks left behind: {left}"
    slow = [r.getMessage() for r in caplog.get_records("call") if r.name == "asyncio"]
    assert not slow, f"the loop was held up, or asyncio complained: {slow}"


@pytest.fixture
async def open_a_store(
    tmp_path: Path,
) -> AsyncIterator[Callable[..., Awaitable[SqliteStore]]]:
    """Open stores that are closed with the test; each has the queue `files` configured."""
    async with AsyncExitStack() as stack:

        async def opened(state_dir: Path = tmp_path / "state", **options: object) -> SqliteStore:
            store = await stack.enter_async_context(open_store(state_dir, **options))  # type: ignore[arg-type]
            await store.configure_queues([QueueEntry(QueueName("files"), "command", 0, False)])
            return store

        yield opened


@pytest.fixture
async def store(open_a_store: Callable[..., Awaitable[SqliteStore]]) -> SqliteStore:
    """A real store on a real file, with one queue: `files`."""
    return await open_a_store()
