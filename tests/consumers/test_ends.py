"""Ends from outside: timeout, cancel, what ignores TERM or leaves its group. Nothing survives."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pq_daemon.jobs.states import Event, Outcome, Reason, State
from pq_daemon.jobs.status import SlotState
from pq_daemon.runtime import processes
from tests.consumers.shop import a_queue, a_shop, shell
from tests.support.builders import PERSON
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.consumers.shop import Shop


def alive(token_prefix: str) -> list[int]:
    return processes.find_by_token(token_prefix)


def zombies() -> list[int]:
    return [
        pid
        for pid in processes.children()
        if (standing := processes.standing(pid)) and standing.is_zombie
    ]


async def nothing_is_left(shop: Shop) -> None:
    assert alive(shop.store.epoch.token) == []
    await wait_until(lambda: not zombies(), what="the end of all zombies")


def is_there(pid: int | str) -> bool:
    return Path(f"/proc/{str(pid).strip()}").exists()


@contextmanager
def a_child_of_other_code(**environment: str) -> Iterator[int]:
    """A child of this very process that the pool has not started."""
    pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], environment, setsid=True)
    try:
        yield pid
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


# --- the ladder ----------------------------------------------------------------------------------


async def test_a_timeout_terms_the_group(tmp_path: Path) -> None:
    script = f"trap 'echo got TERM > {tmp_path}/proof; exit 3' TERM; echo on; sleep 60 & wait"
    async with a_shop(tmp_path, shell(script, timeout=0.3, max_attempts=1)) as shop:
        job = await shop.run()
        attempt = await shop.only_attempt(job)
        await nothing_is_left(shop)
    assert (job.state, job.reason, job.spent) == (State.FAILED, Reason.ATTEMPTS, 1)
    assert (attempt.outcome, attempt.reason) == (Outcome.TIMED_OUT, "timeout")
    assert attempt.exit_code == 3
    assert (tmp_path / "proof").read_text() == "got TERM\n"
    assert job.error == "still running after 0.3 s"


async def test_what_ignores_term_is_killed_after_its_grace(tmp_path: Path) -> None:
    script = "trap '' TERM; echo on; while :; do sleep 1; done"
    queue = shell(script, timeout=0.2, kill_grace=0.4, max_attempts=1)
    async with a_shop(tmp_path, queue) as shop:
        begun = time.monotonic()
        job = await shop.run()
        took = time.monotonic() - begun
        attempt = await shop.only_attempt(job)
        await nothing_is_left(shop)
    assert (attempt.outcome, attempt.signal) == (Outcome.TIMED_OUT, signal.SIGKILL)
    assert took >= 0.6


async def test_a_stopped_group_can_be_ended(tmp_path: Path) -> None:
    queue = shell("kill -STOP $$", timeout=0.2, kill_grace=5, max_attempts=1)
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.run()
        attempt = await shop.only_attempt(job)
    assert (attempt.outcome, attempt.signal) == (Outcome.TIMED_OUT, signal.SIGTERM)


async def test_no_grace_is_kill_at_once(tmp_path: Path) -> None:
    script = f"trap 'echo TERM > {tmp_path}/proof' TERM; echo on; while :; do sleep 1; done"
    queue = shell(script, timeout=0.2, kill_grace=0, max_attempts=1)
    async with a_shop(tmp_path, queue) as shop:
        attempt = await shop.only_attempt(await shop.run())
    assert attempt.signal == signal.SIGKILL
    assert not (tmp_path / "proof").exists()


async def test_a_timeout_is_tried_again(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = f"[ -e {mark} ] || {{ touch {mark}; sleep 60; }}"
    async with a_shop(tmp_path, shell(script, timeout=0.5)) as shop:
        job = await shop.run()
        attempts = await shop.attempts(job)
    assert [a.outcome for a in attempts] == ["timed_out", "succeeded"]


# --- what is left behind by a leader that ends ---------------------------------------------------


async def test_children_of_a_leader_that_ended_are_ended(tmp_path: Path) -> None:
    script = f"sleep 60 & sleep 60 & echo $! > {tmp_path}/pid; exit 0"
    async with a_shop(tmp_path, shell(script)) as shop:
        job = await shop.run()
        await nothing_is_left(shop)
    assert job.state is State.SUCCEEDED
    assert not is_there((tmp_path / "pid").read_text())


async def test_stdout_kept_open_by_a_child_holds_up_nothing(tmp_path: Path) -> None:
    script = "echo before; (trap '' TERM; echo child; sleep 60) & exit 0"
    async with a_shop(tmp_path, shell(script, kill_grace=0.2)) as shop:
        begun = time.monotonic()
        job = await shop.run()
        took = time.monotonic() - begun
        output = await shop.stdout(job)
        await nothing_is_left(shop)
    assert job.state is State.SUCCEEDED
    assert output.startswith(b"before\n")
    assert took < 10


ESCAPE = """
import os, sys, time, signal
if os.fork() == 0:                      # double fork and setsid: out of the group, out of reach
    os.setsid()
    if os.fork() == 0:
        {ignore}
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(60)
    os._exit(0)
while not os.path.exists(sys.argv[1]):
    time.sleep(.001)
{end}
"""


@pytest.mark.parametrize("ignore", ["pass", "signal.signal(15, signal.SIG_IGN)"])
async def test_a_daemonised_grandchild_is_found_and_ended(tmp_path: Path, ignore: str) -> None:
    source = ESCAPE.format(ignore=ignore, end="")
    queue = a_queue(sys.executable, "-c", source, str(tmp_path / "pid"), kill_grace=0.2)
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.run()
        await nothing_is_left(shop)
    assert job.state is State.SUCCEEDED
    assert not is_there((tmp_path / "pid").read_text())


async def test_a_daemonised_grandchild_of_a_timed_out_handler_is_ended(tmp_path: Path) -> None:
    source = ESCAPE.format(ignore="pass", end="time.sleep(60)")
    queue = a_queue(sys.executable, "-c", source, str(tmp_path / "pid"), timeout=1, max_attempts=1)
    async with a_shop(tmp_path, queue) as shop:
        attempt = await shop.only_attempt(await shop.run())
        await nothing_is_left(shop)
    assert attempt.outcome is Outcome.TIMED_OUT


async def test_the_escaped_child_of_one_attempt_is_not_that_of_another(tmp_path: Path) -> None:
    """Two attempts at once: the end of one leaves the other's processes alone."""
    stays = shell(f"setsid sh -c 'echo up > {tmp_path}/up; sleep 60'", kill_grace=0.2)
    async with a_shop(tmp_path, queues={"stays": stays, "files": shell("true")}) as shop:
        long = await shop.submit("stays")
        await wait_until((tmp_path / "up").exists, what="the long handler")
        for _ in range(3):
            await shop.run()
        assert (await shop.job(long)).state is State.RUNNING
        assert alive(f"{shop.store.epoch.token}.{long.id}.")
        await shop.store.act(long.id, Event.CANCEL, PERSON)
        assert (await shop.ended(long)).state is State.CANCELLED
        await nothing_is_left(shop)


async def test_a_stray_that_was_missed_is_ended_by_the_next_look(tmp_path: Path) -> None:
    """Somebody else's child carries the token of an attempt that is over."""
    async with a_shop(tmp_path, shell("true")) as shop:
        job = await shop.run()
        token = f"{shop.store.epoch.token}.{job.id}.1"
        with a_child_of_other_code(PQ_TOKEN=token) as pid:
            await wait_until(lambda: not is_there(pid), what="the end of the stray")


async def test_children_of_other_code_are_left_alone(tmp_path: Path) -> None:
    async with a_shop(tmp_path, shell("sleep 0.2 & true")) as shop:
        with a_child_of_other_code() as pid:
            for _ in range(5):
                await shop.run()
            assert is_there(pid)


# --- cancel --------------------------------------------------------------------------------------


async def test_cancelling_a_running_command(tmp_path: Path) -> None:
    async with a_shop(tmp_path, shell("echo on; sleep 60")) as shop:
        job = await shop.submit()
        await shop.says(job, b"on")
        answer = await shop.store.act(job.id, Event.CANCEL, PERSON)
        assert answer.state is State.RUNNING
        job = await shop.ended(job)
        attempt = await shop.only_attempt(job)
        await nothing_is_left(shop)
    assert (job.state, job.reason, job.spent) == (State.CANCELLED, Reason.CANCELLED, 0)
    assert (attempt.outcome, attempt.reason) == (Outcome.CANCELLED, "cancelled")
    assert attempt.signal == signal.SIGTERM


async def test_a_cancelled_command_that_ignores_term_stays_running_until_it_is_gone(
    tmp_path: Path,
) -> None:
    script = "trap '' TERM; echo on; while :; do sleep 0.05; done"
    async with a_shop(tmp_path, shell(script, kill_grace=0.5)) as shop:
        job = await shop.submit()
        await shop.says(job, b"on")
        await shop.store.act(job.id, Event.CANCEL, PERSON)
        assert (await shop.job(job)).state is State.RUNNING
        [slot] = [slot for slot in shop.pool.slots() if slot.job == job.id]
        assert slot.state is SlotState.RUNNING
        job = await shop.ended(job)
        await nothing_is_left(shop)
    assert job.state is State.CANCELLED


async def test_exit_0_before_term_was_sent_is_a_success(tmp_path: Path) -> None:
    """The command has ended; its background child takes a while to go; then comes the cancel."""
    script = "(trap '' TERM; echo on; sleep 60) & sleep 0.2; exit 0"
    async with a_shop(tmp_path, shell(script, kill_grace=1.0)) as shop:
        job = await shop.submit()
        await shop.says(job, b"on")
        leader = alive(f"{shop.store.epoch.token}.{job.id}.")[0]
        await wait_until(lambda: not is_there(leader), what="the leader's end")
        await shop.store.act(job.id, Event.CANCEL, PERSON)
        job = await shop.ended(job)
        await nothing_is_left(shop)
    assert job.state is State.SUCCEEDED


async def test_a_cancel_that_comes_with_the_claim(tmp_path: Path) -> None:
    """Whatever the order in which claim and cancel are told, the job ends cancelled, once."""
    async with a_shop(tmp_path, shell("sleep 60"), workers=2) as shop:
        for _ in range(30):
            job = await shop.submit()
            await shop.store.act(job.id, Event.CANCEL, PERSON)
            assert (await shop.ended(job)).state is State.CANCELLED
            assert len(await shop.attempts(job)) <= 1
        await nothing_is_left(shop)
