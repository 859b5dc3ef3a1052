"""A file is taken when it is whole, once, under its exact name; until then its row says why not."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from pq_daemon.errors import StoreError
from pq_daemon.jobs.states import State
from pq_daemon.producer import intake
from pq_daemon.store.protocol import FileState
from tests.producer.folder import accepted, all_jobs, count, entry, jobs_of, on_disk, reason
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pq_daemon.store.protocol import Found, Intake, Store
    from pq_daemon.store.sqlite.engine import SqliteStore
    from tests.producer.conftest import Watching

NAMES = [
    b"line\nbreak",
    b"tab\tand\x1besc",
    b"-rf",
    b"<script>alert(1)<script>",
    b"'single' \"double\" `back` $(true)",
    b" leading and trailing ",
    "\N{GRINNING FACE}.txt".encode(),
    "café".encode(),
    b"cafe\xcc\x81",
    b"x" * 255,
    b"\xff\xfe not utf-8",
    b"%s {path} \\",
]


async def all_taken(store: Store, root: Path) -> None:
    wanted = await asyncio.to_thread(on_disk, root)

    async def is_so() -> bool:
        return await accepted(store) == wanted

    await wait_until(is_so, timeout=20, what=f"{len(wanted)} files to be taken once")


async def waits_with(store: Store, path: Path, words: str) -> None:
    async def it_does() -> bool:
        return await reason(store, path) == words

    await wait_until(it_does, what=f"the row to say {words!r}")


async def test_a_writer_that_stalls_longer_than_settle_is_never_cut_short(
    watching: Watching, store: Store, root: Path
) -> None:
    """Held open, with pauses of several settle times: the lease knows."""
    file = root / "slow"
    writer = """
import sys, time
with open(sys.argv[1], "wb") as file:
    for number in range(6):
        file.write(b"%d" % number * 1000)
        file.flush()
        time.sleep(0.4)
"""
    async with watching():
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", writer, str(file))
        await waits_with(store, file, "open for writing")
        assert await all_jobs(store) == []
        assert await process.wait() == 0
        await all_taken(store, root)
    [job] = await all_jobs(store)
    assert job.file is not None
    assert job.file.identity.size == 6000


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
@pytest.mark.parametrize("option", ["--times", "--inplace", "--delay-updates"])
async def test_rsync(watching: Watching, store: Store, root: Path, option: str) -> None:
    source = root.with_name("source")
    for number in range(30):
        (source / f"{number % 3}").mkdir(parents=True, exist_ok=True)
        (source / f"{number % 3}" / f"{number}.bin").write_bytes(os.urandom(200_000))
    async with watching():
        process = await asyncio.create_subprocess_exec(
            "rsync", "-r", option, "--bwlimit=20M", f"{source}/", str(root)
        )
        assert await process.wait() == 0
        await all_taken(store, root)
        assert [digest for _, digest in await accepted(store)].count(b"") == 0
    assert await count(store) == 30


async def test_moved_into_place(watching: Watching, store: Store, root: Path) -> None:
    async with watching():
        for number in range(20):
            beside = root.with_name("beside")
            beside.write_bytes(os.urandom(100_000))
            beside.rename(root / f"{number}")
        await all_taken(store, root)


async def test_names_are_exact(watching: Watching, store: Store, root: Path) -> None:
    async with watching():
        for name in NAMES:
            with open(bytes(root) + b"/" + name, "wb") as file:  # noqa: PTH123, ASYNC230
                file.write(name)
        await all_taken(store, root)
    assert {job.file.relpath for job in await all_jobs(store) if job.file} == set(NAMES)


async def test_empty_and_too_small_files_wait_with_the_reason(
    watching: Watching, store: Store, root: Path
) -> None:
    async with watching(min_size="4B"):
        (root / "empty").touch()
        (root / "small").write_text("abc")
        await waits_with(store, root / "empty", "empty")
        await waits_with(store, root / "small", "too small")
        (root / "empty").write_text("grown up")
        await all_taken_of(store, root / "empty")
    assert len(await all_jobs(store)) == 1


async def all_taken_of(store: Store, path: Path) -> None:
    async def is_taken() -> bool:
        return len(await jobs_of(store, path)) == 1

    await wait_until(is_taken)


async def test_an_empty_file_is_let_in_after_two_seconds(
    watching: Watching, store: Store, root: Path
) -> None:
    loop = asyncio.get_running_loop()
    async with watching(min_size="0B"):
        (root / "empty").touch()
        began = loop.time()
        await all_taken_of(store, root / "empty")
        assert loop.time() - began >= 1.9


async def test_filtered_files_are_rows_too(watching: Watching, store: Store, root: Path) -> None:
    (root / "early.tmp").write_text("x")
    async with watching(include=("*.txt", "*.tmp"), exclude=("draft*",)):
        (root / "late.part").write_text("x")
        (root / "draft.txt").write_text("x")
        (root / "image.png").write_text("x")
        (root / "report.TXT").write_text("x")
        await waits_with(store, root / "early.tmp", "temporary name")
        await waits_with(store, root / "late.part", "temporary name")
        await waits_with(store, root / "draft.txt", "excluded")
        await waits_with(store, root / "image.png", "not included")
        await all_taken_of(store, root / "report.TXT")
        assert await count(store, FileState.IGNORED) == 4
        (root / "late.part").rename(root / "late.txt")
        await all_taken_of(store, root / "late.txt")


async def test_a_file_that_settles_long_says_so(
    watching: Watching, store: Store, root: Path
) -> None:
    async with watching(settle="60s") as producer:
        (root / "a").write_text("a")
        await waits_with(store, root / "a", "settling")
        assert producer.waiting() == 1
        (root / "a").unlink()
        await wait_until(lambda: producer.waiting() == 0)


async def test_large_files_do_not_hold_up_small_ones(
    watching: Watching, store: Store, root: Path
) -> None:
    async with watching():
        for number in range(3):
            with (root / f"large{number}").open("wb") as file:
                file.truncate(400 * 2**20)
        (root / "small").write_text("small")
        await all_taken_of(store, root / "small")
        taken = await accepted(store)
        assert len(taken) < 4
        await wait_until(lambda: _has_count(store, 4), timeout=30)


async def _has_count(store: Store, number: int) -> bool:
    return await count(store) == number


async def test_a_store_that_cannot_write_is_tried_again(
    watching: Watching, store: SqliteStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: the files stay on the desk, and are taken when there is room."""
    monkeypatch.setattr(intake, "STORE_PAUSE", (0.05, 0.1))
    accept, refusals = store.accept, 3

    async def refuse_at_first(found: Sequence[Found]) -> list[Intake]:
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            raise StoreError("database or disk is full")
        return await accept(found)

    monkeypatch.setattr(store, "accept", refuse_at_first)
    async with watching():
        (root / "a").write_text("a")
        await all_taken_of(store, root / "a")
    assert refusals < 0


async def test_a_file_that_changes_while_it_is_read_is_read_again(
    watching: Watching, store: Store, root: Path
) -> None:
    """A writer that closes and opens again while a large file is hashed."""
    file = root / "large"
    with file.open("wb") as opened:
        opened.truncate(300 * 2**20)
    async with watching():
        for _ in range(10):
            with file.open("ab") as opened:
                opened.write(b"more")
            await asyncio.sleep(0.05)
        await all_taken(store, root)
        assert await entry(store, file) is not None


@pytest.mark.parametrize("existing", ["run", "skip", "hold"])
async def test_files_that_were_there_before_the_watch(
    watching: Watching, store: Store, root: Path, existing: str
) -> None:
    for number in range(5):
        (root / f"old{number}").write_text(f"{number}")
    async with watching(existing=existing):
        (root / "new").write_text("new")
        await all_taken_of(store, root / "new")
        await wait_until(lambda: _is_surveyed(store))
    states = {
        (job.file.relpath, job.state) for job in await all_jobs(store) if job.file is not None
    }
    old = {f"old{number}".encode() for number in range(5)}
    assert (b"new", State.QUEUED) in states
    if existing == "run":
        assert states >= {(name, State.QUEUED) for name in old}
    elif existing == "hold":
        assert states >= {(name, State.HELD) for name in old}
    else:
        assert states == {(b"new", State.QUEUED)}
        async with watching(existing=existing):
            (root / "old0").write_text("changed")
            await all_taken_of(store, root / "old0")
            (root / "old1").touch()
            (root / "last").write_text("last")
            await all_taken_of(store, root / "last")
        assert len(await all_jobs(store)) == 3


async def _is_surveyed(store: Store) -> bool:
    return all(record.surveyed for record in await store.watches())
