"""Stopped, killed, frozen, away: what was dropped meanwhile is taken, and nothing taken twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pq_daemon.store.engines import open_store
from pq_daemon.store.protocol import FileState
from tests.producer.folder import accepted, all_jobs, count, on_disk
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncIterator, Sequence

    import pytest

    from pq_daemon.store.protocol import Found, Intake, Store
    from pq_daemon.store.sqlite.engine import SqliteStore
    from tests.producer.conftest import Watching

HOME = Path(__file__).parents[2]


async def all_taken(store: Store, root: Path) -> None:
    wanted = await asyncio.to_thread(on_disk, root)

    async def is_so() -> bool:
        return await accepted(store) == wanted

    await wait_until(is_so, timeout=30, what=f"{len(wanted)} files to be taken once")


async def test_files_that_came_while_it_was_down(
    watching: Watching, store: Store, root: Path
) -> None:
    (root / "kept").write_text("kept")
    (root / "rewritten").write_text("before")
    (root / "removed").write_text("removed")
    async with watching():
        await all_taken(store, root)
    (root / "rewritten").write_text("after!")
    (root / "removed").unlink()
    for number in range(50):
        (root / f"{number}" / "deep").mkdir(parents=True)
        (root / f"{number}" / "deep" / "file").write_text(f"{number}")
    async with watching():
        wanted = set(on_disk(root))

        async def is_so() -> bool:
            return set(await accepted(store)) >= wanted

        await wait_until(is_so)
    assert len(await all_jobs(store)) == 3 + 1 + 50


async def test_the_end_waits_for_the_write_under_way_and_lets_no_other_begin(
    watching: Watching, store: SqliteStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept, begun = store.accept, asyncio.Event()

    async def slow_accept(found: Sequence[Found]) -> list[Intake]:
        begun.set()
        await asyncio.sleep(0.2)
        return await accept(found)

    with monkeypatch.context() as patch:
        patch.setattr(store, "accept", slow_accept)
        async with watching():
            await asyncio.to_thread(_write_many, root, 1_500)
            await begun.wait()
    at_the_end = len(await all_jobs(store))
    assert 0 < at_the_end < 1500
    await store.healthy()  # whatever was in the write queue is committed now
    assert len(await all_jobs(store)) == at_the_end
    async with watching():
        await all_taken(store, root)


async def test_stopped_in_the_middle_of_the_survey_what_was_there_is_still_skipped(
    watching: Watching, store: Store, root: Path
) -> None:
    await asyncio.to_thread(_write_many, root, 3_000)
    async with watching(existing="skip"):

        async def some() -> bool:
            return await count(store, FileState.IGNORED) > 1_000

        await wait_until(some)
    assert await count(store, FileState.IGNORED) < 3_000
    async with watching(existing="skip"):

        async def all_of_them() -> bool:
            return await count(store, FileState.IGNORED) == 3_000

        await wait_until(all_of_them, timeout=20)
    assert await all_jobs(store) == []


async def test_stopped_at_any_moment(watching: Watching, store: Store, root: Path) -> None:
    """Ten times, in the middle of everything: each file has one job in the end."""
    chance = random.Random(7)  # noqa: S311 - which moments, no secret
    for turn in range(10):
        async with watching():
            for number in range(30):
                directory = root / f"{turn}" / f"{number % 4}"
                directory.mkdir(parents=True, exist_ok=True)
                (directory / f"{number}").write_text(f"{turn} {number}")
                await asyncio.sleep(0)
            await asyncio.sleep(chance.uniform(0, 0.3))
    async with watching():
        await all_taken(store, root)


@asynccontextmanager
async def a_process(
    state: Path, *roots: Path, inside: Sequence[str] = ()
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The producer in its own process, up; killed at the end if it still lives."""
    process = await asyncio.create_subprocess_exec(
        *inside,
        sys.executable,
        "-m",
        "tests.producer.runner",
        str(state),
        *map(str, roots),
        cwd=HOME,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"up\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def taken_in(state: Path) -> Counter[tuple[bytes, bytes]]:
    async with open_store(state) as store:
        return await accepted(store)


async def test_killed_at_any_moment(tmp_path: Path, root: Path) -> None:
    """kill -9 while files stream in, then one quiet run."""
    state, chance = tmp_path / "state", random.Random(11)  # noqa: S311 - which moments, no secret
    number = 0
    for _ in range(6):
        async with a_process(state, root) as process:
            deadline = asyncio.get_running_loop().time() + chance.uniform(0.05, 0.8)
            while asyncio.get_running_loop().time() < deadline:
                number += 1
                directory = root / f"{number % 7}"
                directory.mkdir(exist_ok=True)
                (directory / f"{number}").write_text(f"{number}")
                await asyncio.sleep(0.002)
            process.kill()
    async with open_store(state) as store:
        before = await accepted(store)
    assert max(before.values(), default=1) == 1
    async with a_process(state, root) as process:
        await asked(process, b"scan")
        process.kill()
    assert await taken_in(state) == await asyncio.to_thread(on_disk, root)


async def asked(process: asyncio.subprocess.Process, question: bytes) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(question + b"\n")
    answer = (await process.stdout.readline()).decode()
    assert answer
    return answer.strip()


async def test_frozen_while_six_thousand_files_come(tmp_path: Path, root: Path) -> None:
    """The kernel's queue runs over without a word: 4,096 files fill it."""
    state = tmp_path / "state"
    async with a_process(state, root) as process:
        await asked(process, b"scan")  # so that no scan of the start helps
        os.kill(process.pid, signal.SIGSTOP)
        await asyncio.to_thread(_write_many, root, 6_000)
        os.kill(process.pid, signal.SIGCONT)
        await asked(process, b"6000")
        process.kill()
    assert await taken_in(state) == await asyncio.to_thread(on_disk, root)


def _write_many(root: Path, number: int) -> None:
    for place in range(number):
        (root / f"{place:05}").write_bytes(b"%d" % place)
