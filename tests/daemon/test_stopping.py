"""SIGTERM: nothing new starts, what runs may end, what does not goes back to its queue unspent."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon_process import DaemonProcess
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.daemon

SLACK = 12.0
"""Seconds a stop may take beyond the drain limit."""

SLEEP = '[queue.files]\ncommand = ["sleep", "60"]\nkill_grace = "1s"\n'
STUBBORN = """[queue.files]
command = ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]
kill_grace = "1s"
"""
PAUSED = "paused = true\n"


def ten_running(daemon: DaemonProcess) -> None:
    for number in range(10):
        daemon.drop(f"{number}.txt", str(number))
    wait_for(lambda: busy_slots(daemon) == 10)


def busy_slots(daemon: DaemonProcess) -> int:
    slots = daemon.api.get("/api/v1/consumers").body["items"]
    return sum(slot["state"] == "running" for slot in slots)


@pytest.mark.parametrize("queues", [SLEEP, STUBBORN], ids=["obedient", "ignores TERM"])
def test_ten_long_commands_go_back_to_the_queue(tmp_path: Path, queues: str) -> None:
    with DaemonProcess(tmp_path, queues=queues, workers=10, drain="2s") as daemon:
        ten_running(daemon)
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 2 + SLACK
        assert daemon.handlers() == []
        assert "Stopping: 10 jobs running, waiting up to 2 s. Again stops now." in daemon.log()

        daemon.configure(queues=queues + PAUSED, watches="")
        daemon.start()
        jobs = daemon.api.jobs()
        assert {(job["state"], job["spent"], job["attempt"]) for job in jobs} == {("queued", 0, 1)}
        assert len(jobs) == 10
        outcomes = {daemon.api.attempts(job["id"])[0]["outcome"] for job in jobs}
        assert outcomes == {"interrupted"}


def test_what_can_end_within_the_limit_does(tmp_path: Path) -> None:
    queues = '[queue.files]\ncommand = ["sh", "-c", "sleep 2; echo done"]\n'
    with DaemonProcess(tmp_path, queues=queues, drain="30s", workers=1) as daemon:
        daemon.drop("a.txt")
        daemon.drop("b.txt", "waits for the slot")
        wait_for(lambda: daemon.api.jobs("&state=running"))
        assert daemon.stop() == 0
        daemon.configure(queues=queues + PAUSED, watches="")
        daemon.start()
        states = {job["state"] for job in daemon.api.jobs()}
        assert states == {"succeeded", "queued"}


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, queues=STUBBORN, workers=10, drain="60s") as daemon:
        ten_running(daemon)
        daemon.send(signal.SIGTERM)
        wait_for(lambda: "Stopping: 10 jobs running" in daemon.log())
        assert daemon.api.get("/readyz").status == 503
        daemon.send(signal.SIGTERM)
        assert daemon.wait(SLACK) == 0
        assert daemon.handlers() == []


def test_while_it_drains_it_answers_and_accepts_nothing(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, queues=SLEEP, drain="60s") as daemon:
        daemon.drop("a.txt")
        wait_for(lambda: daemon.api.jobs("&state=running"))
        daemon.send(signal.SIGTERM)
        wait_for(lambda: daemon.api.get("/readyz").status == 503)
        assert daemon.api.get("/healthz").status == 200
        refused = daemon.pq("add", "files", "--payload", "{}")
        assert refused.returncode == 1
        assert "stopping" in refused.stderr
        daemon.drop("late.txt", "comes too late\n")
        [job] = daemon.api.jobs()
        assert daemon.pq("cancel", job["id"]).returncode == 0
        assert daemon.wait(SLACK) == 0

        daemon.start()
        late = wait_for(lambda: daemon.api.jobs("&search=late.txt"))
        assert len(late) == 1
        assert daemon.api.job(job["id"])["state"] == "cancelled"


def test_an_idle_daemon_stops_at_once(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, drain="60s") as daemon:
        assert daemon.stop(within=SLACK) == 0
