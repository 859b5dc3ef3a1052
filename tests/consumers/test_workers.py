"""Workers of Python functions: when one is used again, when it is replaced, under which Python."""

from __future__ import annotations

import ast
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from pq_daemon.consumers.handlers import workers as workers_module
from pq_daemon.consumers.handlers.workers import PROGRAM
from pq_daemon.jobs.states import Reason, State
from tests.consumers.shop import a_queue, a_shop, settings_for, written
from tests.consumers.test_python_process import fifo_open, in_process, workers_of
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

PID = "import os\ndef work(job):\n    return os.getpid()\n"


async def test_a_healthy_worker_is_used_again(tmp_path: Path) -> None:
    async with a_shop(tmp_path, in_process(PID, tmp_path), workers=1) as shop:
        assert len({(await shop.run()).result for _ in range(5)}) == 1


async def test_what_a_job_changes_of_its_process_is_put_back(tmp_path: Path) -> None:
    source = """
import os, tempfile
def work(job):
    seen = [os.getpid(), "LEFT" in os.environ, os.umask(0o77), os.getcwd(), tempfile.gettempdir()]
    os.environ["LEFT"] = "x"
    os.chdir("/")
    return seen
"""
    async with a_shop(tmp_path, in_process(source, tmp_path), workers=1) as shop:
        first, second = await shop.run(), await shop.run()
    assert first.result == second.result
    scratch = tmp_path / "state" / "scratch" / "slot-1"
    assert (first.result or "").endswith(f'false, 18, "{scratch}", "{scratch}"]')


@pytest.mark.parametrize(
    "statement",
    [
        "subprocess.Popen(['sleep', '60'])",
        "subprocess.Popen(['sleep', '60'], start_new_session=True)",
        # returns once the stray is up in its own session: a look before that finds nothing yet
        (
            "p = subprocess.Popen(['sh', '-c', 'setsid sh -c \"echo; exec sleep 60\" &'],"
            " stdout=subprocess.PIPE); p.stdout.readline(); p.wait()"
        ),
        "os.fork() or threading.Event().wait()",
        "threading.Thread(target=threading.Event().wait).start()",
        "os.dup2(os.open('/dev/null', os.O_WRONLY), 1)",
    ],
)
async def test_who_leaves_something_behind_is_replaced(tmp_path: Path, statement: str) -> None:
    source = f"""
import os, subprocess, threading
def work(job):
    {statement}
    return os.getpid()
"""
    async with a_shop(tmp_path, in_process(source, tmp_path), workers=1) as shop:
        first, second = await shop.run(), await shop.run()
        assert first.state is second.state is State.SUCCEEDED
        assert first.result != second.result
        await wait_until(lambda: workers_of(shop) == [], what="nothing left")


async def test_a_forked_copy_that_comes_back_answers_nobody(tmp_path: Path) -> None:
    source = "import os\ndef work(job):\n    print(os.fork() > 0, flush=True)\n    return 'once'\n"
    async with a_shop(tmp_path, in_process(source, tmp_path), workers=1) as shop:
        for _ in range(5):
            job = await shop.run()
            assert (job.state, job.result) == (State.SUCCEEDED, '"once"')
            assert sorted((await shop.stdout(job)).split()) == [b"False", b"True"]


async def test_a_reload_brings_fresh_workers_and_ends_the_old(tmp_path: Path) -> None:
    lib = tmp_path / "lib"
    written(lib / "mine.py", b"def work(job): return 1")
    queue = a_queue(python="mine:work", python_path=(lib,))
    async with a_shop(tmp_path, queue, workers=1) as shop:
        assert (await shop.run()).result == "1"
        [old] = workers_of(shop)
        written(lib / "mine.py", b"def work(job): return 2")
        assert (await shop.run()).result == "1"
        await shop.pool.configure(settings_for(tmp_path, {"files": queue}), 1)
        assert (await shop.run()).result == "2"
        await wait_until(lambda: old not in workers_of(shop), what="the old worker's end")


async def test_a_worker_that_is_busy_in_a_reload_ends_with_its_job(tmp_path: Path) -> None:
    source = "import os\ndef work(job):\n    job.log('on')\n    open(job.payload).read()\n"
    os.mkfifo(tmp_path / "fifo")
    queue = in_process(source, tmp_path)
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.submit(payload=f'"{tmp_path}/fifo"')
        await shop.says(job, b"on")
        await shop.pool.configure(settings_for(tmp_path, {"files": queue}), 1)
        fifo_open(tmp_path / "fifo")
        assert (await shop.ended(job)).state is State.SUCCEEDED
        await wait_until(lambda: workers_of(shop) == [], what="its end")


async def test_idle_workers_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "KEPT", 0.05)
    async with a_shop(tmp_path, in_process(PID, tmp_path)) as shop:
        await shop.run()
        await wait_until(lambda: workers_of(shop) == [], what="no worker")


async def test_never_more_workers_than_slots(tmp_path: Path) -> None:
    queues = {f"q{n}": in_process(PID, tmp_path) for n in range(5)}
    async with a_shop(tmp_path, queues=queues, workers=2) as shop:
        for _ in range(2):
            for queue in queues:
                assert (await shop.run(queue)).state is State.SUCCEEDED
        await wait_until(lambda: len(workers_of(shop)) <= 2, what="two workers")


async def test_a_worker_is_replaced_after_many_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "JOBS_MOST", 2)
    async with a_shop(tmp_path, in_process(PID, tmp_path), workers=1) as shop:
        pids = [(await shop.run()).result for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


async def test_an_idle_worker_that_dies_is_not_used(tmp_path: Path) -> None:
    async with a_shop(tmp_path, in_process(PID, tmp_path, max_attempts=1), workers=1) as shop:
        await shop.run()
        [pid] = workers_of(shop)
        os.kill(pid, signal.SIGKILL)
        assert (await shop.run()).state is State.SUCCEEDED


# --- finding the function, and the Python ---------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "spec", "said"),
    [
        ("def work(job): ...", "nowhere:work", "No module named 'nowhere'"),
        ("def work(job): ...", "mine:other", "there is no other in"),
        ("work = 3", "mine:work", "is not a function"),
        ("import sys; sys.exit(3)", "mine:work", "SystemExit: 3"),
        ("def (", "mine:work", "SyntaxError"),
    ],
)
async def test_a_function_that_cannot_be_found_fails_its_attempts(
    tmp_path: Path, source: str, spec: str, said: str
) -> None:
    written(tmp_path / "mine.py", source.encode())
    async with a_shop(tmp_path, a_queue(python=spec, max_attempts=1)) as shop:
        job = await shop.run()
        written(tmp_path / "mine.py", b"def work(job): return 'mended'")
        if spec == "mine:work":
            assert (await shop.run()).result == '"mended"'
    assert said in (job.error or "")


async def test_the_traceback_of_a_module_is_kept(tmp_path: Path) -> None:
    written(tmp_path / "mine.py", b"raise RuntimeError('at import')")
    async with a_shop(tmp_path, a_queue(python="mine:work", max_attempts=1)) as shop:
        job = await shop.run()
        assert b"raise RuntimeError('at import')" in await shop.stderr(job)


async def test_another_python_with_its_own_libraries(tmp_path: Path) -> None:
    """An environment without pq_daemon, with a library that we have not."""
    program = tmp_path / "env" / "bin" / "python"
    library = tmp_path / "library"
    written(library / "only_there.py", b"VALUE = 42")
    written(program, f'#!/bin/sh\nPYTHONPATH={library} exec {sys.executable} -S "$@"\n'.encode())
    program.chmod(0o755)
    source = """
import only_there, pq_daemon
def work(job):
    assert isinstance(job, pq_daemon.Job)
    raise pq_daemon.Discard(f"{only_there.VALUE}")
"""
    async with a_shop(tmp_path, in_process(source, tmp_path, interpreter=str(program))) as shop:
        job = await shop.run()
    assert (job.reason, job.error) == (Reason.DISCARDED, "42")


@pytest.mark.parametrize(
    ("interpreter", "said"),
    [("/nowhere/python", "/nowhere/python: no such program"), ("/bin/false", "worker exit 1")],
)
async def test_a_python_that_is_none(tmp_path: Path, interpreter: str, said: str) -> None:
    queue = in_process(PID, tmp_path, interpreter=interpreter, max_attempts=1)
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.run()
    assert job.error == said


@pytest.mark.parametrize("file", ["consumers/worker/program.py", "handler.py", "__init__.py"])
def test_what_a_worker_loads_is_read_by_python_3_8(file: str) -> None:
    path = PROGRAM.parents[2] / file
    ast.parse(path.read_text(), feature_version=(3, 8))


async def test_a_cwd_that_cannot_be_entered(tmp_path: Path) -> None:
    queue = in_process(PID, tmp_path, cwd=tmp_path / "nowhere", max_attempts=1)
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.run()
    assert job.error == f"cannot enter cwd {tmp_path}/nowhere: No such file or directory"
