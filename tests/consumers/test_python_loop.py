"""Async functions in the loop: what they are given, how they end, how they are ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pq_daemon.consumers.handlers.resolve import Unresolved, resolve
from pq_daemon.jobs.states import Event, Outcome, Reason, State
from pq_daemon.jobs.status import SlotState
from tests.consumers.shop import a_queue, a_shop, python, settings_for, written
from tests.support.builders import PERSON
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_payload_goes_in_and_a_result_comes_out(tmp_path: Path) -> None:
    source = """
async def work(job):
    assert job.path is None and job.output is None and job.watch is None
    return {"id": job.id, "run": job.run, "attempt": job.attempt, "queue": job.queue,
            "n": job.payload["n"] + 1}
"""
    async with a_shop(tmp_path, python(source, tmp_path)) as shop:
        job = await shop.run(payload='{"n": 41}')
        attempt = await shop.only_attempt(job)
    assert job.state is State.SUCCEEDED
    assert job.result == f'{{"id": "{job.id}", "run": 1, "attempt": 1, "queue": "files", "n": 42}}'
    assert (attempt.outcome, attempt.exit_code) == (Outcome.SUCCEEDED, None)


async def test_a_file_goes_in(tmp_path: Path) -> None:
    source = """
async def work(job):
    return [str(job.path), job.path.read_text()]
"""
    path = written(tmp_path / "in" / "a.txt", b"content")
    async with a_shop(tmp_path, python(source, tmp_path)) as shop:
        job = await shop.ended(await shop.submit_file(path))
    assert job.result == f'["{tmp_path}/in/a.txt", "content"]'


async def test_log_and_progress(tmp_path: Path) -> None:
    source = """
import asyncio
gate = asyncio.Event()
async def work(job):
    if job.payload == "open":
        gate.set()
        return
    job.log("one\\nline \\udcff")
    job.progress(0.25, "a quarter")
    await gate.wait()
    job.progress(1.5)
"""
    async with a_shop(tmp_path, python(source, tmp_path)) as shop:
        job = await shop.submit()
        progress = await wait_until(lambda: shop.pool.progress(job.id), what="progress")
        assert (progress.percent, progress.text) == (25.0, "a quarter")
        await shop.run(payload='"open"')
        job = await shop.ended(job)
        assert await shop.stdout(job) == b"one\nline \\udcff\n"
    assert job.progress is not None
    assert job.progress.percent == 100.0
    assert job.result is None


@pytest.mark.parametrize(
    ("statement", "state", "reason", "outcome", "said"),
    [
        ("raise ValueError('broken')", State.FAILED, Reason.ATTEMPTS, Outcome.FAILED, "ValueError"),
        ("raise SystemExit(0)", State.FAILED, Reason.ATTEMPTS, Outcome.FAILED, "SystemExit"),
        ("raise KeyboardInterrupt", State.FAILED, Reason.ATTEMPTS, Outcome.FAILED, "KeyboardInt"),
        ("raise GeneratorExit", State.FAILED, Reason.ATTEMPTS, Outcome.FAILED, "GeneratorExit"),
        ("raise asyncio.CancelledError", State.FAILED, Reason.ATTEMPTS, Outcome.FAILED, "Cancel"),
        ("raise StopIteration", State.FAILED, Reason.ATTEMPTS, Outcome.FAILED, "StopIteration"),
        ("raise Discard('encrypted')", State.FAILED, Reason.DISCARDED, Outcome.FAILED, "encrypted"),
        ("return {1, 2}", State.FAILED, Reason.ATTEMPTS, Outcome.FAILED, "JSON"),
        ("return float('nan')", State.FAILED, Reason.ATTEMPTS, Outcome.FAILED, "JSON"),
        ("return 'x' * 70_000", State.FAILED, Reason.ATTEMPTS, Outcome.FAILED, "bytes"),
    ],
)
async def test_how_a_function_ends(
    tmp_path: Path, statement: str, state: State, reason: Reason, outcome: Outcome, said: str
) -> None:
    source = (
        f"import asyncio\nfrom pq_daemon import Discard\nasync def work(job):\n    {statement}\n"
    )
    async with a_shop(tmp_path, python(source, tmp_path, max_attempts=1)) as shop:
        job = await shop.run()
        attempt = await shop.only_attempt(job)
        again = await shop.run()  # the pool is as well as before
    assert (job.state, job.reason, attempt.outcome) == (state, reason, outcome)
    assert said in (job.error or "")
    assert again.state is state


async def test_the_traceback_is_kept_and_tells_of_the_handler_alone(tmp_path: Path) -> None:
    source = "async def work(job):\n    return 1 / 0\n"
    async with a_shop(tmp_path, python(source, tmp_path, max_attempts=1)) as shop:
        job = await shop.run()
        text = (await shop.stderr(job)).decode()
    assert text.startswith("Traceback (most recent call last):\n")
    assert "return 1 / 0" in text
    assert "pq_daemon" not in text
    assert job.error == "ZeroDivisionError: division by zero"


async def test_retry_waits_as_long_as_it_was_asked_to(tmp_path: Path) -> None:
    source = """
from pq_daemon import Retry
async def work(job):
    if job.attempt == 1:
        raise Retry("not yet", after=0.05)
"""
    async with a_shop(tmp_path, python(source, tmp_path, max_attempts=1)) as shop:
        job = await shop.run()
        first, second = await shop.attempts(job)
    assert (job.state, job.spent) == (State.SUCCEEDED, 0)
    assert (first.outcome, first.reason) == (Outcome.POSTPONED, "not yet")
    assert second.started_at - (first.finished_at or 0) >= 50


SLEEP = """
import asyncio
async def work(job):
    job.log("on")
    try:
        await asyncio.sleep(60)
    finally:
        job.log("cleaned up")
"""


async def test_a_timeout_cancels_the_function(tmp_path: Path) -> None:
    queue = python(SLEEP, tmp_path, timeout=0.1, max_attempts=1)
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.run()
        attempt = await shop.only_attempt(job)
        assert await shop.stdout(job) == b"on\ncleaned up\n"
        assert await shop.stderr(job) == b""
    assert (attempt.outcome, attempt.reason) == (Outcome.TIMED_OUT, "timeout")


async def test_a_cancel_cancels_the_function_and_not_the_slot(tmp_path: Path) -> None:
    async with a_shop(tmp_path, python(SLEEP, tmp_path), workers=1) as shop:
        for _ in range(3):
            job = await shop.submit()
            await shop.says(job, b"on")
            await shop.store.act(job.id, Event.CANCEL, PERSON)
            job = await shop.ended(job)
            assert (job.state, job.spent) == (State.CANCELLED, 0)


async def test_a_drain_interrupts_the_function(tmp_path: Path) -> None:
    async with a_shop(tmp_path, python(SLEEP, tmp_path)) as shop:
        job = await shop.submit()
        await shop.says(job, b"on")
        assert await shop.pool.drain(0.05) == 1
        job = await shop.job(job)
        attempt = await shop.only_attempt(job)
    assert (job.state, job.spent) == (State.QUEUED, 0)
    assert attempt.outcome is Outcome.INTERRUPTED


DEAF = """
import asyncio
async def work(job):
    job.log("on")
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
"""
DEAFER = DEAF.replace("asyncio.CancelledError", "BaseException")


async def test_a_function_that_ignores_cancellation_keeps_its_slot_and_is_shown_stuck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pq_daemon.consumers.attempt.STUCK_AFTER", 0.05)
    queues = {
        "files": python(DEAF, tmp_path, kill_grace=0.1),
        "other": python("async def work(job):\n    return 1\n", tmp_path),
    }
    async with a_shop(tmp_path, queues=queues, workers=2) as shop:
        job = await shop.submit()
        await shop.says(job, b"on")
        await shop.store.act(job.id, Event.CANCEL, PERSON)

        def is_stuck() -> bool:
            return any(s.job == job.id and s.state is SlotState.STUCK for s in shop.pool.slots())

        await wait_until(is_stuck, what="a stuck slot")
        assert (await shop.job(job)).state is State.RUNNING
        assert (await shop.run("other")).state is State.SUCCEEDED  # the loop goes on
        # Only the pool's own end leaves it where it stands.
        assert await shop.pool.drain(0.0) == 0
        job = await shop.job(job)
        assert job.state is State.CANCELLED
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("consumer")]


@pytest.mark.parametrize("source", [DEAF, DEAFER])
async def test_a_deaf_function_does_not_hold_up_a_drain(tmp_path: Path, source: str) -> None:
    async with a_shop(tmp_path, python(source, tmp_path, kill_grace=0.1)) as shop:
        job = await shop.submit()
        await shop.says(job, b"on")
        assert await shop.pool.drain(0.0) == 1
        assert (await shop.job(job)).state is State.QUEUED


# --- finding the function ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "spec", "said"),
    [
        ("async def work(job): ...", "nowhere:work", "No module named 'nowhere'"),
        ("async def work(job): ...", "mine:other", "there is no other in"),
        ("def work(job): ...", "mine:work", "is not an async function"),
        ("work = 3", "mine:work", "is not an async function"),
        ("import sys; sys.exit(3)", "mine:work", "SystemExit: 3"),
        ("def (", "mine:work", "SyntaxError"),
    ],
)
async def test_a_function_that_cannot_be_found_fails_its_attempts(
    tmp_path: Path, source: str, spec: str, said: str
) -> None:
    written(tmp_path / "mine.py", source.encode())
    queue = a_queue(python=spec, isolation="loop", max_attempts=1)
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.run()
    assert job.state is State.FAILED
    assert said in (job.error or "")


def test_a_spec_without_a_function(tmp_path: Path) -> None:
    found = resolve("mine", tmp_path, ())
    assert isinstance(found, Unresolved)
    assert found.why == 'python = "mine": it is written "module:function"'


async def test_a_module_named_like_one_of_pythons_own_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "json.py", b"async def work(job): ...")
    queue = a_queue(python="json:work", isolation="loop", max_attempts=1)
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.run()
    assert "the name json is taken" in (job.error or "")


async def test_the_traceback_of_a_module_is_kept(tmp_path: Path) -> None:
    written(tmp_path / "mine.py", b"raise RuntimeError('at import')")
    queue = a_queue(python="mine:work", isolation="loop", max_attempts=1)
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.run()
        assert b"raise RuntimeError('at import')" in await shop.stderr(job)


async def test_a_reload_imports_fresh_and_python_path_is_searched(tmp_path: Path) -> None:
    lib = tmp_path / "lib"
    written(lib / "helper.py", b"VALUE = 1")
    written(lib / "mine.py", b"import helper\nasync def work(job): return helper.VALUE")
    queue = a_queue(python="mine:work", isolation="loop", python_path=(lib,))
    async with a_shop(tmp_path, queue) as shop:
        assert (await shop.run()).result == "1"
        written(lib / "helper.py", b"VALUE = 2")
        assert (await shop.run()).result == "1"
        await shop.pool.configure(settings_for(tmp_path, {"files": queue}), 1)
        assert (await shop.run()).result == "2"
