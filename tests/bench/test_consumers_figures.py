"""Figures of the consumers alone, in one process with their store (FULL): where the time goes.

    python -m pytest tests/bench/test_consumers_figures.py --bench -s

Each round measures everything once, so that ratios come from the same minute of a noisy machine.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from pq_daemon.consumers.pool import run_consumers
from pq_daemon.jobs.model import QueueName
from pq_daemon.jobs.states import Outcome, State
from pq_daemon.store.engines import open_store
from pq_daemon.store.protocol import Claim
from tests.consumers.shop import a_queue, configure_store, settings_for
from tests.support.builders import FILES, PERSON, a_submission, ending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pq_daemon.config.settings import QueueSettings, Settings
    from pq_daemon.store.protocol import Ending
    from pq_daemon.store.sqlite.engine import SqliteStore

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

ROUNDS = 5
JOBS = 30_000
COMMANDS = 2_000
NOTHING = "async def nothing(job):\n    return None\n"


@asynccontextmanager
async def filled(settings: Settings, count: int) -> AsyncIterator[SqliteStore]:
    async with open_store(settings.daemon.state_dir) as store:
        await configure_store(store, settings)
        await store.pause(FILES, PERSON)
        for _ in range(0, count, 1000):
            async with asyncio.TaskGroup() as tasks:
                for _ in range(1000):
                    tasks.create_task(store.submit(a_submission(), PERSON))
        yield store


async def all_succeeded(store: SqliteStore, count: int) -> None:
    while True:
        [record] = await store.queues()
        if record.counts.get(State.SUCCEEDED, 0) >= count:
            return
        await asyncio.sleep(0.02)


async def pool_rate(directory: Path, queue: QueueSettings, workers: int, count: int) -> float:
    settings = settings_for(directory, {"files": queue}, workers)
    async with filled(settings, count) as store, run_consumers(settings, store, 1):
        begun = time.perf_counter()
        await store.resume(FILES, PERSON)
        await all_succeeded(store, count)
        return count / (time.perf_counter() - begun)


async def store_rate(directory: Path, slots: int, count: int) -> float:
    """The same exchanges without anybody who runs anything: what the pool can reach at most."""
    settings = settings_for(directory, {"files": a_queue("/bin/true")}, slots)
    async with filled(settings, count) as store:
        await store.resume(FILES, PERSON)
        begun = time.perf_counter()
        endings: list[Ending] = []
        claim = Claim(range(1, slots + 1), {QueueName("files"): slots}, 1)
        while (answer := await store.exchange(endings, claim)).claimed:
            endings = [ending(store, job, Outcome.SUCCEEDED) for _, job in answer.claimed]
        return count / (time.perf_counter() - begun)


def xargs_rate(count: int) -> float:
    xargs = shutil.which("xargs") or "xargs"
    begun = time.perf_counter()
    subprocess.run([xargs, "-P2", "-n1", "/bin/true"], input="x\n" * count, text=True, check=True)
    return count / (time.perf_counter() - begun)


def said(name: str, values: list[float], unit: str) -> None:
    low, middle, high = min(values), statistics.median(values), max(values)
    print(f"{name}: {middle:,.2f} {unit} (min {low:,.2f}, max {high:,.2f}, {len(values)} rounds)")


def test_no_op_functions_in_the_loop(tmp_path: Path) -> None:
    rates, ratios = [], []
    with asyncio.Runner(debug=False) as runner:
        for number in range(ROUNDS):
            directory = tmp_path / str(number)
            directory.mkdir()
            (directory / "handlers.py").write_text(NOTHING)
            queue = a_queue(python="handlers:nothing", isolation="loop", concurrency=64)
            alone = runner.run(store_rate(directory / "alone", 64, JOBS))
            rates.append(runner.run(pool_rate(directory, queue, 64, JOBS)))
            ratios.append(rates[-1] / alone)
    print(f"\nload {os.getloadavg()[0]:.1f}")
    said("no-op, 64 slots, FULL", rates, "jobs/s")
    said("of what the store alone exchanges", ratios, "x")


@pytest.mark.parametrize("slots", [2, 8])
def test_true(tmp_path: Path, slots: int) -> None:
    rates, ratios = [], []
    with asyncio.Runner(debug=False) as runner:
        for number in range(ROUNDS):
            reference = xargs_rate(COMMANDS)
            directory = tmp_path / str(number)
            rates.append(runner.run(pool_rate(directory, a_queue("/bin/true"), slots, COMMANDS)))
            ratios.append(rates[-1] / statistics.mean([reference, xargs_rate(COMMANDS)]))
    print(f"\nload {os.getloadavg()[0]:.1f}")
    said(f"/bin/true, {slots} slots, FULL", rates, "commands/s")
    said("beside xargs -P2", ratios, "x")
