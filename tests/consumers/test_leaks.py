"""Hundreds of commands leave no descriptor, no zombie, no thread more than a few did."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

from pq_daemon.jobs.model import QueueName
from pq_daemon.jobs.states import State
from pq_daemon.runtime import processes
from tests.consumers.shop import Shop, a_shop, python, shell
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path


async def many(shop: Shop, queue: str, count: int) -> None:
    before = await succeeded(shop, queue)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(count):
            tasks.create_task(shop.submit(queue))

    async def all_ended() -> bool:
        return await succeeded(shop, queue) == before + count

    await wait_until(all_ended, timeout=50, what=f"{count} jobs")


async def succeeded(shop: Shop, queue: str) -> int:
    for record in await shop.store.queues():
        if record.name == QueueName(queue):
            return record.counts.get(State.SUCCEEDED, 0)
    return 0


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


async def test_nothing_grows(tmp_path: Path) -> None:
    queues = {
        "files": shell("echo out; echo err >&2; sleep 0 & touch made", output=""),
        "output": shell('echo x > "$PQ_OUTPUT"', output="made/{job_id}"),
        "loop": python("async def work(job):\n    job.log('x')\n", tmp_path),
    }
    async with a_shop(tmp_path, queues=queues, workers=8) as shop:
        for queue in queues:
            await many(shop, queue, 16)
        files, threads = descriptors(), threading.active_count()
        await many(shop, "files", 400)
        await many(shop, "output", 100)
        await many(shop, "loop", 200)
        assert descriptors() <= files
        assert threading.active_count() <= threads + 8  # never more than slots at work
        await wait_until(lambda: not processes.children(), what="no children, no zombies")
        output = tmp_path / "state" / "output"
        await wait_until(lambda: not any(output.iterdir()), what="an empty output directory")
        assert shop.pool._running == {}
        assert shop.pool._tools.leaders.pids == set()
