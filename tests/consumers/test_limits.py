"""What a handler may take of the machine, and the secrets it is given."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import pytest

from pq_daemon.jobs.states import Outcome, Reason, State
from pq_daemon.runtime import memory, processes
from tests.consumers.shop import a_queue, a_shop, python, settings_for, shell
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from pq_daemon.config.settings import QueueSettings

MIB = 2**20
HOG = "x = bytearray({} * 2**20)\nimport threading; threading.Event().wait()"


def a_hog(mibs: int, limit: int) -> QueueSettings:
    script = HOG.format(mibs)
    return a_queue(sys.executable, "-c", script, memory_limit=limit * MIB, kill_grace=60)


def grown(mibs: int, tmp_path: Path, limit: int) -> QueueSettings:
    source = (
        f"import threading\ndef work(job):\n    x = bytearray({mibs} * 2**20)\n"
        "    threading.Event().wait()\n"
    )
    return python(source, tmp_path, isolation="process", memory_limit=limit * MIB, kill_grace=60)


@pytest.mark.parametrize("kind", ["command", "worker", "child", "stray"])
async def test_over_its_memory_limit_a_job_fails_for_good(tmp_path: Path, kind: str) -> None:
    hog = f'{sys.executable} -c "{HOG.format(200)}"'
    queue = {
        "command": a_hog(200, 100),
        "worker": grown(200, tmp_path, 100),
        "child": shell(f"({hog}) & wait", memory_limit=100 * MIB),
        "stray": shell(f"(setsid {hog} &) ; sleep 60", memory_limit=100 * MIB),
    }[kind]
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.run()
        attempt = await shop.only_attempt(job)
        assert processes.find_by_token(f"{shop.store.epoch.token}.") == []
    assert (job.state, job.reason) == (State.FAILED, Reason.MEMORY)
    assert (attempt.outcome, attempt.reason, attempt.signal) == (Outcome.FAILED, "memory", 9)
    assert (job.error or "").endswith("MiB of memory, memory_limit is 100MiB")


async def test_what_several_share_counts_once(tmp_path: Path) -> None:
    script = (
        "import os, sys\nx = bytes(60 * 2**20).replace(b'\\0', b'x')\n"
        "for _ in range(3):\n    if os.fork() == 0: break\nelse: print('on', flush=True)\n"
        "import threading; threading.Event().wait()"
    )
    queue = a_queue(sys.executable, "-c", script, memory_limit=150 * MIB)
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.submit()
        await shop.says(job, b"on")
        [attempt] = shop.pool._running.values()
        pids = memory.tree([attempt.leader])
        assert len(pids) == 4
        assert sum(map(memory.resident, pids)) > 200 * MIB
        assert memory.excess(pids, 150 * MIB) is None
        assert memory.excess(pids, 50 * MIB) is not None
        assert await shop.pool.drain(0) == 1


async def test_a_worker_that_has_grown_is_not_kept_for_the_next_job(tmp_path: Path) -> None:
    source = (
        "import os\nkept = []\ndef work(job):\n"
        "    kept.append(bytearray(120 * 2**20))\n    return os.getpid()\n"
    )
    queue = python(source, tmp_path, isolation="process", memory_limit=200 * MIB)
    async with a_shop(tmp_path, queue, workers=1) as shop:
        jobs = [await shop.run() for _ in range(3)]
    assert [job.state for job in jobs] == [State.SUCCEEDED] * 3
    assert len({job.result for job in jobs}) == 3


@pytest.mark.parametrize("kind", ["command", "worker"])
async def test_nice_and_idle_io_are_inherited(tmp_path: Path, kind: str) -> None:
    script = "nice; (nice; ionice); sh -c 'nice; ionice'"
    source = f"import subprocess\ndef work(job):\n    subprocess.run({script!r}, shell=True)\n"
    given = {"nice": 7, "io": "idle"}
    queue = {
        "command": lambda: shell(f"sleep 0.05; {script}", **given),
        "worker": lambda: python(source, tmp_path, isolation="process", **given),
    }[kind]()
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.run()
        said = (await shop.stdout(job)).split()
    assert job.state is State.SUCCEEDED
    assert said == [b"7", b"7", b"idle", b"7", b"idle"]


@pytest.mark.parametrize("kind", ["command", "worker"])
async def test_secrets_reach_the_handler_and_nobody_else(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "secrets"
    file.write_text("TOKEN=hunter2\n")
    file.chmod(0o600)
    source = "import os\ndef work(job):\n    return len(os.environ['TOKEN'])\n"
    queue = {
        "command": lambda: shell("echo ::result ${#TOKEN}", env_file=file, env={"TOKEN": "x"}),
        "worker": lambda: python(source, tmp_path, isolation="process", env_file=file),
    }[kind]()
    async with a_shop(tmp_path, queue) as shop:
        assert (await shop.run()).result == "7"
        assert "hunter2" not in repr(shop.pool._setup)
        file.write_text("TOKEN=hunter2again\n")
        await shop.pool.configure(settings_for(tmp_path, {"files": queue}), 1)
        assert (await shop.run()).result == "12"
        file.unlink()
        await shop.pool.configure(settings_for(tmp_path, {"files": queue}), 1)
        job = await shop.submit(max_attempts=1)
        job = await shop.ended(job)
    assert job.error == f"env_file {file} cannot be read: No such file or directory"
    assert "hunter2" not in caplog.text


async def test_only_what_has_a_limit_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def excess(_: set[int], limit: int) -> None:
        looks.append(limit)

    monkeypatch.setattr(memory, "excess", excess)
    monkeypatch.setattr("pq_daemon.consumers.pool.LOOK_EVERY", 0.01)
    queues = {"files": shell("echo on; sleep 60"), "other": shell("sleep 60", memory_limit=MIB)}
    async with a_shop(tmp_path, queues=queues) as shop:
        await shop.says(await shop.submit(), b"on")
        assert looks == []
        await shop.submit("other")
        await wait_until(lambda: len(looks) > 3, what="looks")
        assert set(looks) == {MIB}
        assert await shop.pool.drain(0) == 2
