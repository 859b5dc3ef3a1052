"""Figures of the whole daemon on its store with synchronous=FULL. They print; they assert no time.

    python -m pytest tests/bench --bench -s

Machines are noisy: quote ratios measured in one run, and the spread.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pq_daemon.jobs.states import Outcome
from pq_daemon.store.engines import open_store
from pq_daemon.store.protocol import QueueEntry
from tests.support import oracle
from tests.support.builders import FILES, PERSON, a_claim, a_submission, ending
from tests.support.daemon_process import FILES_WATCH, DaemonProcess
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pq_daemon.store.sqlite.engine import SqliteStore

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

ROUNDS = 5
NOTHING = '[queue.files]\npython = "handlers:nothing"\nisolation = "loop"\nconcurrency = 64\n'
TRUE = "[queue.files]\ncommand = ['/bin/true']\n"


@pytest.fixture(autouse=True)
def plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asyncio's debug mode costs more than what is measured here."""
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "0")


def spread(values: list[float], unit: str) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.0f} {unit} (min {low:,.0f}, max {high:,.0f}, {len(values)} rounds)"


async def fill(store: SqliteStore, count: int) -> None:
    """Queue payload jobs, a thousand a commit."""
    await store.configure_queues([QueueEntry(FILES, "command", 0, False)])
    for start in range(0, count, 1000):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(1000, count - start)):
                tasks.create_task(store.submit(a_submission(), PERSON))


def filled(state_dir: Path, count: int) -> None:
    async def run() -> None:
        async with open_store(state_dir) as store:
            await fill(store, count)

    with asyncio.Runner(debug=False) as runner:
        runner.run(run())


@contextmanager
def working(
    directory: Path, queues: str, workers: int, count: int
) -> Iterator[tuple[DaemonProcess, float]]:
    """A daemon that has worked off `count` queued jobs, and the jobs a second it made."""
    daemon = DaemonProcess(directory, queues=queues, watches="", workers=workers)
    (directory / "handlers.py").write_text("async def nothing(job):\n    return None\n")
    filled(daemon.state_dir, count)
    with daemon:
        wait_for(lambda: succeeded(daemon) >= count, timeout=600, what=f"{count} jobs")
        begun, ended = oracle.look(
            daemon.state_dir, "SELECT min(started_at), max(finished_at) FROM jobs"
        )[0]
        yield daemon, count / ((ended - begun) / 1000)


def succeeded(daemon: DaemonProcess) -> int:
    counts = daemon.api.get("/api/v1/queues").body["items"][0]["counts"]
    return int(counts["succeeded"])


def memory_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_no_op_jobs_from_queued_to_recorded_success(tmp_path: Path) -> None:
    rates, memory = [], []
    for number in range(ROUNDS):
        with working(tmp_path / str(number), NOTHING, 64, 100_000) as (daemon, rate):
            rates.append(rate)
            memory.append(memory_mib(daemon.pid))
    print(f"\nno-op, 64 slots, FULL, 100,000 jobs: {spread(rates, 'jobs/s')}")
    print(f"peak RSS with 100,000 jobs: {spread(memory, 'MiB')}")


def test_true_beside_xargs(tmp_path: Path) -> None:
    count = 3000
    many = "x\n" * count
    xargs = shutil.which("xargs") or "xargs"
    ratios, rates = [], []
    for number in range(ROUNDS):
        began = time.perf_counter()
        subprocess.run([xargs, "-P2", "-n1", "/bin/true"], input=many, text=True, check=True)
        reference = count / (time.perf_counter() - began)
        with working(tmp_path / str(number), TRUE, 8, count) as (_, rate):
            rates.append(rate)
            ratios.append(rate / reference)
    print(f"\n/bin/true, 8 slots, FULL: {spread(rates, 'jobs/s')}")
    print(f"ratio to xargs -P2: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")


def test_from_close_to_start(tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text(
        "import time\nasync def now(job):\n    return time.time()\n"
    )
    queue = '[queue.files]\npython = "handlers:now"\nisolation = "loop"\n'
    delays, pause = [], threading.Event()
    with DaemonProcess(tmp_path, queues=queue, watches=FILES_WATCH) as daemon:
        for number in range(60):
            path = daemon.files / f"{number}.txt"
            path.write_text(str(number))
            closed = time.time()
            wait_for(lambda n=number: succeeded(daemon) > n, what="the job")  # type: ignore[misc]
            job = daemon.api.get("/api/v1/jobs?limit=1").body["items"][0]
            delays.append((float(job["result"]) - closed) * 1000)
            pause.wait(0.05)
    delays.sort()
    print(f"\nfile close to handler start, settle 100ms: {spread(delays, 'ms')}")
    print(f"p95 {delays[int(len(delays) * 0.95)]:.0f} ms")


def test_idle(tmp_path: Path) -> None:
    shares = []
    with DaemonProcess(tmp_path, watches=FILES_WATCH) as daemon:
        for number in range(200):
            daemon.drop(f"{number}.txt", str(number))
        wait_for(lambda: succeeded(daemon) >= 200, what="200 jobs")
        for _ in range(3):
            before, began = processor_s(daemon.pid), time.perf_counter()
            threading.Event().wait(10)
            used = processor_s(daemon.pid) - before
            shares.append(100 * used / (time.perf_counter() - began))
        print(f"\nidle CPU: {', '.join(f'{share:.2f} %' for share in shares)}")
        print(f"RSS after 200 jobs: {memory_mib(daemon.pid):.0f} MiB")


async def claim_ms(store: SqliteStore) -> list[float]:
    """Milliseconds a claim of 64 takes, among jobs that were queued for it."""
    taken = []
    for _ in range(30):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(64):
                tasks.create_task(store.submit(a_submission(), PERSON))
        began = time.perf_counter()
        exchange = await store.exchange([], a_claim(64))
        taken.append((time.perf_counter() - began) * 1000)
        assert len(exchange.claimed) == 64
        await store.exchange([ending(store, job) for _, job in exchange.claimed], a_claim(0))
    return sorted(taken)


BACKED_OFF = """
INSERT INTO jobs (queue, state, priority, rank, run_at, max_attempts, created_at, payload, attempt,
    spent, epoch, slot, started_at)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
SELECT 1, 'retrying', 'normal', i, 9000000000000 + i, 5, 1, '{}', 1, 1, 1, 1, 1 FROM n
"""
FINISHED = """
INSERT INTO jobs (queue, state, priority, rank, max_attempts, created_at, finished_at, payload)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
SELECT 1, 'succeeded', 'normal', i, 5, 1, i, '{}' FROM n
"""


def test_claims_among_many_rows(tmp_path: Path) -> None:
    async def measure(name: str, sql: str | None) -> float:
        async with open_store(tmp_path / name) as store:
            await fill(store, 64)
            exchange = await store.exchange([], a_claim(64))
            endings = [ending(store, job, Outcome.SUCCEEDED) for _, job in exchange.claimed]
            await store.exchange(endings, a_claim(0))
            if sql is not None:
                await store._writer.write(lambda transaction: transaction.change(sql))
            return statistics.median(await claim_ms(store))

    async def run() -> None:
        for turn in range(3):
            empty = await measure(f"empty{turn}", None)
            backed_off = await measure(f"backed-off{turn}", BACKED_OFF)
            finished = await measure(f"finished{turn}", FINISHED)
            print(
                f"\nclaim of 64, median: empty {empty:.2f} ms; 100,000 backed off "
                f"{backed_off / empty:.2f} x; 1,000,000 finished {finished / empty:.2f} x"
            )

    with asyncio.Runner(debug=False) as runner:
        runner.run(run())
