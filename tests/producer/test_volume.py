"""Many files: flat memory, a loop that stays awake, and what the producer's promises cost.

The measurements (`--bench -s`) print figures and assert none.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import statistics
import time
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.producer.folder import FILES, count, jobs_of, record
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pq_daemon.producer.folders import Producer
    from pq_daemon.store.protocol import Store
    from tests.producer.conftest import Watching


def grow(root: Path, files: int, directories: int) -> None:
    for place in range(directories):
        (root / f"{place:04}").mkdir(parents=True, exist_ok=True)
    for number in range(files):
        path = root / f"{number % directories:04}" / f"{number:07}"
        path.write_bytes(b"%d" % number)


def resident() -> int:
    """Return the process's resident memory in bytes."""
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def lag(
    clock: Callable[[], float] = time.perf_counter, rest: float = 0.005
) -> AsyncIterator[list[float]]:
    """Measure how late the loop wakes, in seconds, while the block runs."""
    late: list[float] = []

    async def feel() -> None:
        while True:
            began = clock()
            await asyncio.sleep(0.005)
            late.append(clock() - began - rest)

    async with asyncio.TaskGroup() as tasks:
        feeling = tasks.create_task(feel())
        yield late
        feeling.cancel()


async def all_accepted(store: Store, number: int, *, patience: float = 50) -> None:
    async def are_so() -> bool:
        return await count(store) == number

    await wait_until(are_so, timeout=patience, what=f"{number} files to be accepted")


async def scanned_again(producer: Producer) -> None:
    before = producer.statuses()[0].last_scan
    producer.rescan(FILES)
    await wait_until(lambda: producer.statuses()[0].last_scan != before, timeout=60)


async def test_twenty_thousand_files_at_the_start(
    watching: Watching, store: Store, root: Path
) -> None:
    """The loop is never busy for long, and memory does not grow with the number of files.

    Busy is what its own thread computes between two wakes: other people's load does not count.
    """
    await asyncio.to_thread(grow, root, 20_000, 200)
    asyncio.get_running_loop().set_debug(False)  # its own price would be measured
    before = resident()
    async with lag(time.thread_time, rest=0) as busy, watching():
        await all_accepted(store, 20_000)
    busy.sort()
    assert busy[len(busy) * 99 // 100] < 0.1, busy[-5:]
    assert resident() - before < 60 * 2**20
    assert (await record(store)).missed_by_events == 0


async def test_a_scan_of_known_files_keeps_nothing_in_memory(
    watching: Watching, store: Store, root: Path
) -> None:
    await asyncio.to_thread(grow, root, 5_000, 50)
    async with watching() as producer:
        await all_accepted(store, 5_000)
        await asyncio.to_thread(gc.collect)
        before = len(gc.get_objects())
        for _ in range(3):
            await scanned_again(producer)
        assert producer.waiting() == 0
        await asyncio.to_thread(gc.collect)
        assert len(gc.get_objects()) - before < 5_000


# --- measurements --------------------------------------------------------------------------------


@pytest.mark.bench
async def test_measure_the_way_from_close_to_job(
    watching: Watching, store: Store, root: Path
) -> None:
    asyncio.get_running_loop().set_debug(False)
    times = []
    async with watching(settle="100ms"):
        for number in range(100):
            path = root / f"{number}"
            path.write_bytes(b"%d" % number)
            closed = time.time()
            await wait_until(partial(jobs_of, store, path))
            [job] = await jobs_of(store, path)
            times.append(job.created_at / 1000 - closed)
    times.sort()
    print(f"\nclose to job, settle 100 ms: p50 {times[50] * 1000:.0f} p95 {times[95] * 1000:.0f}"
          f" max {times[-1] * 1000:.0f} ms")  # fmt: skip


@pytest.mark.bench
@pytest.mark.timeout(300)
@pytest.mark.parametrize("directories", [1, 500])
async def test_measure_fifty_thousand_copied(
    watching: Watching, store: Store, root: Path, tmp_path: Path, directories: int
) -> None:
    asyncio.get_running_loop().set_debug(False)
    source = tmp_path / "source"
    await asyncio.to_thread(grow, source, 50_000, directories)
    before = resident()
    async with lag() as late, watching(settle="100ms") as producer:
        began = time.perf_counter()
        copying = await asyncio.create_subprocess_exec("cp", "-r", str(source), str(root))
        peak = 0
        while copying.returncode is None:
            await asyncio.sleep(0.1)
            peak = max(peak, producer.waiting())
        copied = time.perf_counter() - began
        await all_accepted(store, 50_000, patience=200)
        taken = time.perf_counter() - began
        await _several_scans(producer)
    late.sort()
    print(
        f"\n50,000 files in {directories} directories: copied in {copied:.1f} s, all accepted after"
        f" {taken:.1f} s ({50_000 / taken:.0f}/s), desk at most {peak},"
        f" memory +{(resident() - before) / 2**20:.0f} MiB,"
        f" loop lag p50 {statistics.median(late) * 1000:.1f}"
        f" p99 {late[len(late) * 99 // 100] * 1000:.0f} max {late[-1] * 1000:.0f} ms,"
        f" missed by events {(await record(store)).missed_by_events}"
    )
    shutil.rmtree(source)


async def _several_scans(producer: Producer) -> None:
    for _ in range(3):
        began = time.perf_counter()
        await scanned_again(producer)
        print(f"scan of known files {time.perf_counter() - began:.2f} s")
