"""Python functions in workers of their own: what they get, how they end, what of them is kept."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from pq_daemon.jobs.states import Event, Outcome, Reason, State
from pq_daemon.runtime import processes
from tests.consumers.shop import Shop, a_shop, python, written
from tests.support.builders import PERSON
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from pq_daemon.config.settings import QueueSettings


def in_process(source: str, directory: Path, **changes: Any) -> QueueSettings:
    return python(source, directory, **({"isolation": "process"} | changes))


def workers_of(shop: Shop) -> list[int]:
    """The living processes of the pool's workers, and of what these started."""
    return processes.find_by_token(f"{shop.store.epoch.token}.worker.")


async def test_a_file_goes_in_and_a_result_comes_out(tmp_path: Path) -> None:
    source = """
import os, sys
def work(job):
    assert job.output is None and job.payload is None
    return {"id": job.id, "run": job.run, "attempt": job.attempt, "queue": job.queue,
            "text": job.path.read_text(), "path": os.environ["PQ_PATH"], "cwd": os.listdir(),
            "own": os.environ["MINE"], "session": os.getsid(0) == os.getpid(),
            "stdin": sys.stdin.read(), "home": os.environ["HOME"]}
"""
    path = written(tmp_path / "in" / "ä b.txt", b"content")
    async with a_shop(tmp_path, in_process(source, tmp_path, env={"MINE": "{name}!"})) as shop:
        job = await shop.ended(await shop.submit_file(path))
        attempt = await shop.only_attempt(job)
    assert job.result == (
        f'{{"id": "{job.id}", "run": 1, "attempt": 1, "queue": "files", "text": "content", '
        f'"path": "{tmp_path}/in/ä b.txt", "cwd": [], "own": "ä b.txt!", "session": true, '
        f'"stdin": "", "home": "{tmp_path}/state"}}'
    )
    assert (attempt.outcome, attempt.exit_code) == (Outcome.SUCCEEDED, None)


async def test_names_are_bytes(tmp_path: Path) -> None:
    source = """
import os
def work(job):
    return [os.fsencode(job.path).hex(), os.environb[b"PQ_NAME"].hex()]
"""
    name = b"\xff\n' $x"
    path = written(os.fsencode(tmp_path) + b"/in/" + name, b"x")
    async with a_shop(tmp_path, in_process(source, tmp_path, env={"LC_ALL": "C"})) as shop:
        job = await shop.ended(await shop.submit_file(path))
    assert job.result == f'["{path.hex()}", "{name.hex()}"]'


async def test_an_async_function_gets_a_loop_of_its_own(tmp_path: Path) -> None:
    source = """
import asyncio
async def work(job):
    await asyncio.sleep(0.001)
    return job.payload
"""
    async with a_shop(tmp_path, in_process(source, tmp_path), workers=1) as shop:
        assert [(await shop.run(payload=f"{n}")).result for n in range(3)] == ["0", "1", "2"]


async def test_an_output_is_published(tmp_path: Path) -> None:
    source = "def work(job):\n    job.output.write_text('whole')\n"
    queue = in_process(source, tmp_path, output="made/{job_id}", umask="0027")
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.run()
    made = tmp_path / "made" / str(job.id)
    assert (job.state, made.read_text()) == (State.SUCCEEDED, "whole")
    assert made.stat().st_mode & 0o777 == 0o640


async def test_log_and_progress(tmp_path: Path) -> None:
    source = """
def work(job):
    job.log("one\\nline \\udcff")
    job.progress(0.25, "a quarter")
    open(job.payload).read()
    job.progress(1.5)
    try:
        job.progress(float("nan"))
    except ValueError:
        return "refused"
"""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    async with a_shop(tmp_path, in_process(source, tmp_path)) as shop:
        job = await shop.submit(payload=f'"{fifo}"')
        progress = await wait_until(lambda: shop.pool.progress(job.id), what="progress")
        assert (progress.percent, progress.text) == (25.0, "a quarter")
        fifo_open(fifo)
        job = await shop.ended(job)
        assert await shop.stdout(job) == b"one\nline \\udcff\n"
    assert job.progress is not None
    assert (job.progress.percent, job.result) == (100.0, '"refused"')


def fifo_open(fifo: Path) -> None:
    """Let whoever reads the fifo go on."""
    os.close(os.open(fifo, os.O_WRONLY))


@pytest.mark.parametrize(
    ("statement", "reason", "outcome", "said"),
    [
        ("raise ValueError('broken')", Reason.ATTEMPTS, Outcome.FAILED, "ValueError: broken"),
        ("raise SystemExit(3)", Reason.ATTEMPTS, Outcome.FAILED, "SystemExit: 3"),
        ("raise KeyboardInterrupt", Reason.ATTEMPTS, Outcome.FAILED, "KeyboardInterrupt"),
        ("raise GeneratorExit", Reason.ATTEMPTS, Outcome.FAILED, "GeneratorExit"),
        ("raise Discard('encrypted')", Reason.DISCARDED, Outcome.FAILED, "encrypted"),
        ("return {1, 2}", Reason.ATTEMPTS, Outcome.FAILED, "JSON"),
        ("return float('nan')", Reason.ATTEMPTS, Outcome.FAILED, "JSON"),
        ("return 'x' * 70_000", Reason.ATTEMPTS, Outcome.FAILED, "70002 bytes"),
        ("return '\\udcff'", Reason.ATTEMPTS, Outcome.FAILED, "surrogate"),
        ("os._exit(7)", Reason.ATTEMPTS, Outcome.FAILED, "worker exit 7: last words"),
        ("os.abort()", Reason.ATTEMPTS, Outcome.FAILED, "worker killed by SIGABRT"),
        ("os.kill(os.getpid(), 9)", Reason.ATTEMPTS, Outcome.FAILED, "worker killed by SIGKILL"),
        ("ctypes.string_at(0)", Reason.ATTEMPTS, Outcome.FAILED, "worker killed by SIGSEGV"),
        ("os.closerange(3, 99); gate()", Reason.ATTEMPTS, Outcome.FAILED, "closed its channel"),
        ("os.write(3, b'xxxxxxxx')", Reason.ATTEMPTS, Outcome.FAILED, "no message"),
    ],
)
async def test_how_a_function_ends(
    tmp_path: Path, statement: str, reason: Reason, outcome: Outcome, said: str
) -> None:
    source = f"""
import ctypes, os, sys, threading
from pq_daemon import Discard
def gate():
    threading.Event().wait()
def channel():
    return next(int(arg) for arg in sys.orig_argv if arg.isdigit())
def work(job):
    if job.payload == "well":
        return "well"
    print("last words", file=sys.stderr)
    {statement.replace("os.write(3", "os.write(channel()")}
"""
    queue = in_process(source, tmp_path, max_attempts=1)
    async with a_shop(tmp_path, queue, workers=1) as shop:
        job = await shop.run()
        attempt = await shop.only_attempt(job)
        assert (await shop.run(payload='"well"')).result == '"well"'
    assert (job.state, job.reason, attempt.outcome) == (State.FAILED, reason, outcome)
    assert said in (job.error or "")


async def test_the_traceback_is_kept_and_tells_of_the_handler_alone(tmp_path: Path) -> None:
    for head in ("def", "async def"):
        source = f"{head} work(job):\n    return 1 / 0\n"
        (directory := tmp_path / head[:3]).mkdir()
        async with a_shop(directory, in_process(source, directory, max_attempts=1)) as shop:
            job = await shop.run()
            text = (await shop.stderr(job)).decode()
        assert text.startswith("Traceback (most recent call last):\n")
        assert "return 1 / 0" in text
        assert "program.py" not in text
        assert "asyncio" not in text
        assert job.error == "ZeroDivisionError: division by zero"


async def test_retry_waits_as_long_as_it_was_asked_to(tmp_path: Path) -> None:
    source = """
from pq_daemon import Retry
def work(job):
    if job.attempt == 1:
        raise Retry("not yet", after=0.05)
"""
    async with a_shop(tmp_path, in_process(source, tmp_path, max_attempts=1)) as shop:
        job = await shop.run()
        first, second = await shop.attempts(job)
    assert (job.state, job.spent) == (State.SUCCEEDED, 0)
    assert (first.outcome, first.reason) == (Outcome.POSTPONED, "not yet")
    assert second.started_at - (first.finished_at or 0) >= 50


# --- output --------------------------------------------------------------------------------------


async def test_what_a_job_prints_is_its_own_exactly(tmp_path: Path) -> None:
    source = """
import ctypes, sys
libc = ctypes.CDLL(None)
def work(job):
    n = job.payload
    sys.stdout.write(f"out {n} without an end")
    libc.printf(b"C %d\\n", n)
    sys.stderr.write(f"err {n}" * n)
"""
    async with a_shop(tmp_path, in_process(source, tmp_path), workers=1) as shop:
        jobs = [await shop.run(payload=f"{n}") for n in range(20)]
        for n, job in enumerate(jobs):
            assert await shop.stdout(job) == b"out %d without an endC %d\n" % (n, n)
            assert await shop.stderr(job) == f"err {n}".encode() * n


async def test_lines_on_stdout_mean_something_here_too(tmp_path: Path) -> None:
    source = "def work(job):\n    print('::progress 42 so far')\n    print('::result [1]')\n"
    async with a_shop(tmp_path, in_process(source, tmp_path)) as shop:
        job = await shop.run()
    assert job.progress is not None
    assert (job.progress.percent, job.result) == (42.0, "[1]")


async def test_a_flood_between_small_outputs(tmp_path: Path) -> None:
    source = """
def work(job):
    for _ in range(job.payload):
        print("x" * 99)
    print("end", job.payload)
"""
    async with a_shop(tmp_path, in_process(source, tmp_path), workers=1) as shop:
        for lines in (1, 200_000, 2, 100_000, 0):
            job = await shop.run(payload=f"{lines}")
            attempt = await shop.only_attempt(job)
            assert attempt.output.stdout == lines * 100 + len(f"end {lines}\n")
            assert (await shop.stdout(job)).endswith(f"end {lines}\n".encode())
        assert shop.pool._tools.workers._started == 1


# --- being ended ---------------------------------------------------------------------------------

SLEEP = """
import threading
def work(job):
    job.log("on")
    try:
        threading.Event().wait()
    finally:
        job.log("cleaned up")
"""
ASLEEP = """
import asyncio
async def work(job):
    job.log("on")
    try:
        await asyncio.Event().wait()
    finally:
        job.log("cleaned up")
"""
DEAF = """
import signal, threading
def work(job):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    job.log("on")
    while True:
        pass
"""


STUBBORN = """
import threading
def work(job):
    job.log("on")
    try:
        threading.Event().wait()
    except SystemExit:
        return "done all the same"
"""


@pytest.mark.parametrize(
    ("source", "said", "number"),
    [
        (STUBBORN, b"on\n", 15),
        (SLEEP, b"on\ncleaned up\n", 15),
        (ASLEEP, b"on\ncleaned up\n", 15),
        (DEAF, b"on\n", 9),
    ],
)
async def test_a_timeout(tmp_path: Path, source: str, said: bytes, number: int) -> None:
    queue = in_process(source, tmp_path, timeout=1.0, max_attempts=1, kill_grace=0.3)
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.run()
        attempt = await shop.only_attempt(job)
        assert (attempt.outcome, attempt.reason) == (Outcome.TIMED_OUT, "timeout")
        assert attempt.signal == number
        assert await shop.stdout(job) == said
        assert workers_of(shop) == []


async def test_a_cancel_ends_the_worker_and_not_the_slot(tmp_path: Path) -> None:
    async with a_shop(tmp_path, in_process(SLEEP, tmp_path), workers=1) as shop:
        for _ in range(2):
            job = await shop.submit()
            await shop.says(job, b"on")
            await shop.store.act(job.id, Event.CANCEL, PERSON)
            job = await shop.ended(job)
            assert (job.state, job.spent) == (State.CANCELLED, 0)
            assert workers_of(shop) == []


async def test_a_drain_interrupts(tmp_path: Path) -> None:
    async with a_shop(tmp_path, in_process(SLEEP, tmp_path)) as shop:
        job = await shop.submit()
        await shop.says(job, b"on")
        assert await shop.pool.drain(0.05) == 1
        assert ((await shop.job(job)).state, (await shop.job(job)).spent) == (State.QUEUED, 0)
        assert workers_of(shop) == []
