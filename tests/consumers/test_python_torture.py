"""Python jobs of every bad kind in any order: each ends as documented, and nothing is left."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import random
import time
from typing import TYPE_CHECKING, Final

import pytest

from pq_daemon.jobs.states import Outcome, Reason, State
from pq_daemon.runtime import memory, processes
from tests.consumers.shop import Shop, a_shop, python
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pq_daemon.jobs.model import Job

MIB: Final = 2**20

SOURCE: Final = """
import ctypes, os, subprocess, sys, threading
import pq_daemon

def work(job):
    kind, number = job.payload["kind"], job.payload["number"]
    print("begin", number)
    value = globals()[kind](job, job.payload["size"])
    print("end", number)
    return value

def well(job, size):
    return os.getpid()

def broken(job, size):
    raise ValueError("broken")

def encrypted(job, size):
    raise pq_daemon.Discard("encrypted")

def exits(job, size):
    os._exit(3)

def segfault(job, size):
    ctypes.string_at(0)

def endless(job, size):
    while True:
        pass

def hog(job, size):
    kept = bytearray(400 * 2**20)
    threading.Event().wait()

def flood(job, size):
    block = "x" * 999_999
    for _ in range(size):
        print(block)

def litter(job, size):
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 600 & wait"])
    return os.getpid()
"""

EXPECTED: Final[Mapping[str, tuple[State, Reason | None, Outcome, str | None]]] = {
    "well": (State.SUCCEEDED, None, Outcome.SUCCEEDED, None),
    "litter": (State.SUCCEEDED, None, Outcome.SUCCEEDED, None),
    "flood": (State.SUCCEEDED, None, Outcome.SUCCEEDED, None),
    "broken": (State.FAILED, Reason.ATTEMPTS, Outcome.FAILED, "ValueError: broken"),
    "encrypted": (State.FAILED, Reason.DISCARDED, Outcome.FAILED, "encrypted"),
    "exits": (State.FAILED, Reason.ATTEMPTS, Outcome.FAILED, "worker exit 3"),
    "segfault": (State.FAILED, Reason.ATTEMPTS, Outcome.FAILED, "worker killed by SIGSEGV"),
    "endless": (State.FAILED, Reason.ATTEMPTS, Outcome.TIMED_OUT, "still running after 1 s"),
    "hog": (State.FAILED, Reason.MEMORY, Outcome.FAILED, "memory_limit is 200MiB"),
}
SHARES: Final = {
    "well": 60, "litter": 4, "flood": 4, "broken": 8, "encrypted": 4, "exits": 6, "segfault": 6,
    "endless": 4, "hog": 4,
}  # fmt: skip
"""In a hundred."""


def kinds(count: int, seed: int) -> list[str]:
    """As many of each kind as their shares say, at least one, in a random order."""
    every = [kind for kind, share in SHARES.items() for _ in range(max(1, share * count // 100))]
    every += ["well"] * (count - len(every))
    random.Random(seed).shuffle(every)  # noqa: S311 - a test's order
    return every


@pytest.mark.timeout(1200)
async def test_every_bad_kind_in_any_order(tmp_path: Path, long: bool) -> None:
    if long:  # it takes its time, and a dump of living threads can crash Python 3.11
        faulthandler.cancel_dump_traceback_later()
    count, flood = (1000, 100) if long else (60, 20)
    given = {"isolation": "process", "max_attempts": 1, "memory_limit": 200 * MIB}
    queues = {
        "files": python(SOURCE, tmp_path, timeout=120.0, **given),
        "endless": python(SOURCE, tmp_path, timeout=1.0, **given),
    }
    async with a_shop(tmp_path, queues=queues, workers=4) as shop:
        begun, before, most = time.monotonic(), memory.resident(os.getpid()), 0
        jobs = await submitted(shop, kinds(count, seed=count), flood)
        while await unfinished(shop):
            most = max(most, memory.resident(os.getpid()) - before)
            await asyncio.sleep(0.05)
        for number, (kind, job) in enumerate(jobs):
            await check(shop, kind, await shop.ended(job, timeout=300), number, flood)
        prefix = f"{shop.store.epoch.token}."

        def only_idle_workers() -> bool:
            return len(processes.find_by_token(prefix)) <= 4

        await wait_until(only_idle_workers, what="no more than the workers")
        started = shop.pool._tools.workers._started
    assert processes.find_by_token(prefix) == []
    print(f"{count} jobs in {time.monotonic() - begun:.0f} s, {started} workers, "
          f"resident memory +{most / MIB:.1f} MiB at most")  # fmt: skip
    assert most < 32 * MIB


async def unfinished(shop: Shop) -> int:
    live = {State.QUEUED, State.RUNNING, State.RETRYING}
    return sum(
        record.counts.get(state, 0) for record in await shop.store.queues() for state in live
    )


async def submitted(shop: Shop, order: list[str], flood: int) -> list[tuple[str, Job]]:
    jobs = []
    for number, kind in enumerate(order):
        queue = "endless" if kind == "endless" else "files"
        payload = f'{{"kind": "{kind}", "number": {number}, "size": {flood}}}'
        jobs.append((kind, await shop.submit(queue, payload)))
    return jobs


async def check(shop: Shop, kind: str, job: Job, number: int, flood: int) -> None:
    attempt = await shop.only_attempt(job)
    state, reason, outcome, error = EXPECTED[kind]
    told = f"{kind} {job}"
    assert (job.state, job.reason, attempt.outcome) == (state, reason, outcome), told
    assert error in (None, job.error) or (error or "") in (job.error or ""), told
    out = await shop.stdout(job)
    begin, end = f"begin {number}\n".encode(), f"end {number}\n".encode()
    if kind == "flood":
        assert attempt.output.stdout == len(begin) + flood * 1_000_000 + len(end), told
        assert (out.startswith(begin), out.endswith(end)) == (True, True), told
    elif state is State.SUCCEEDED:
        assert out == begin + end, told
    elif kind != "endless":  # whose worker may have been too slow to begin
        assert out == begin, told
