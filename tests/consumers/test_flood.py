"""A handler that floods its output: we do not grow, the loop answers, the handler waits."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING

from pq_daemon.jobs.states import State
from pq_daemon.store.outputs import Stream, content
from tests.consumers.shop import a_queue, a_shop

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20
PAGE = os.sysconf("SC_PAGE_SIZE")

FLOOD = """
import os, sys
block = b"0123456789abcde\\n" * 4096
out, err = int(sys.argv[1]), int(sys.argv[2])
os.write(1, b"FIRST\\n")
for i in range(max(out, err) * 16):
    if i < out * 16:
        left = block
        while left: left = left[os.write(1, left):]
    if i < err * 16:
        left = block
        while left: left = left[os.write(2, left):]
os.write(1, b"LAST\\n")
"""


def resident() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * PAGE


async def test_a_flood_leaves_memory_flat_and_the_loop_awake(tmp_path: Path, long: bool) -> None:
    mibs = 1024 if long else 128
    queue = a_queue(sys.executable, "-c", FLOOD, str(mibs), str(mibs // 4), timeout=600)
    async with a_shop(tmp_path, queue, workers=2) as shop:
        before = resident()
        job = await shop.submit()
        most, slowest = 0, 0.0
        while shop.pool.busy or not (await shop.job(job)).is_final:
            begun = time.perf_counter()
            await asyncio.sleep(0.005)
            slowest = max(slowest, time.perf_counter() - begun)
            most = max(most, resident() - before)
        job = await shop.job(job)
        attempt = await shop.only_attempt(job)
        framed = await shop.framed(job)
    assert job.state is State.SUCCEEDED
    assert attempt.output.stdout == mibs * MIB + 11
    assert attempt.output.stderr == mibs // 4 * MIB
    assert attempt.output.cut == attempt.output.stdout + attempt.output.stderr - MIB
    assert len(content(framed)) == MIB
    assert content(framed, Stream.STDOUT).startswith(b"FIRST\n")
    assert content(framed, Stream.STDOUT).endswith(b"LAST\n")
    assert most < 32 * MIB
    assert slowest < 1.0


async def test_a_flood_does_not_hold_up_others(tmp_path: Path) -> None:
    queues = {
        "files": a_queue(sys.executable, "-c", FLOOD, "100000", "0", timeout=600),
        "other": a_queue("/bin/true"),
    }
    async with a_shop(tmp_path, queues=queues, workers=2) as shop:
        await shop.says(await shop.submit(), b"FIRST")
        for _ in range(20):
            assert (await shop.run("other")).state is State.SUCCEEDED
        assert await shop.pool.drain(0.0) == 1
