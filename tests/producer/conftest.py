"""A watched folder, and an end that waits for other people's threads."""

from __future__ import annotations

import os
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pq_daemon.producer.folders import watch_folders
from tests.producer.folder import a_watch, settings_of
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from pq_daemon.producer.folders import Producer
    from pq_daemon.store.protocol import Store

    Watching = Callable[..., AbstractAsyncContextManager[Producer]]


@pytest.fixture(autouse=True)
def others_have_let_go(nothing_left_behind: None) -> Iterator[None]:  # noqa: ARG001 - runs inside it
    """watchfiles and the database end their threads without waiting; it takes a moment."""
    files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208
    yield
    wait_for(
        lambda: len(os.listdir("/proc/self/fd")) <= files,  # noqa: PTH208
        timeout=5,
        what="descriptors to close",
    )
    wait_for(lambda: _ours() <= threads, timeout=5, what="threads to end")


def _ours() -> int:
    names = [thread.name for thread in threading.enumerate()]
    return len([name for name in names if not name.startswith(("asyncio_", "AnyIO"))])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.mkdir()
    return path


@pytest.fixture
def watching(store: Store, root: Path, tmp_path: Path) -> Watching:
    """Run the producer on the folder `root`: `async with watching(settle="1s") as producer`."""

    @asynccontextmanager
    async def run(**changes: Any) -> AsyncIterator[Producer]:
        settings = settings_of(tmp_path / "state", a_watch(root, **changes))
        async with watch_folders(settings, store) as producer:
            yield producer

    return run
