"""A reload applies all of a file, or nothing of it; what runs is not touched."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon_process import FILES_WATCH, HASH_QUEUE, DaemonProcess
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.daemon

SOON = 3.0
"""Seconds within which a reload must show; a second on an idle machine, the tests share theirs."""

SLOW = '[queue.slow]\ncommand = ["sleep", "60"]\nkill_grace = "1s"\nconcurrency = {limit}\n'


def broken(daemon: DaemonProcess) -> int:
    """Write a configuration with one mistake; return the mistake's line."""
    daemon.configure(queues=HASH_QUEUE + 'setle = "1s"\n', watches=FILES_WATCH)
    lines = daemon.config.read_text().splitlines()
    return lines.index('setle = "1s"') + 1


def test_a_broken_file_changes_nothing_and_everybody_says_so(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path) as daemon:
        line = broken(daemon)
        daemon.send(signal.SIGHUP)
        wait_for(lambda: "configuration refused" in daemon.log())
        daemon.drop("a.txt")
        wait_for(lambda: daemon.api.jobs("&state=succeeded"))

        refused = daemon.pq("reload")
        assert refused.returncode == 78
        assert f"config.toml:{line}: queue.files.setle: unknown key" in refused.stderr
        assert "nothing was changed" in refused.stderr

        page = daemon.api.get("/manager").content.decode()
        assert "queue.files.setle" in page
        health = daemon.api.get("/api/v1/stats").body["health"]
        assert health["level"] == "warning"

        daemon.configure(queues=HASH_QUEUE, watches=FILES_WATCH)
        assert daemon.pq("reload").returncode == 0
        assert "queue.files.setle" not in daemon.api.get("/manager").content.decode()


def test_the_answer_for_programs_is_the_problem_itself(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path) as daemon:
        line = broken(daemon)
        answer = daemon.api.post("/api/v1/reload")
        assert answer.status == 422
        [error] = answer.body["errors"]
        assert (error["key"], error["line"]) == ("queue.files.setle", line)
        printed = daemon.pq("--json", "reload")
        assert printed.returncode == 78
        assert json.loads(printed.stdout)["errors"] == [error]


def test_a_changed_limit_and_a_new_watch_work_soon_and_what_runs_is_not_touched(
    tmp_path: Path,
) -> None:
    (tmp_path / "more").mkdir()
    more = (
        FILES_WATCH + '[[watch]]\nname = "more"\npath = "more"\nqueue = "files"\nsettle = "100ms"\n'
    )
    with DaemonProcess(tmp_path, queues=HASH_QUEUE + SLOW.format(limit=1)) as daemon:
        for number in range(3):
            daemon.api.post("/api/v1/jobs", {"queue": "slow", "payload": number})
        [running] = wait_for(lambda: daemon.api.jobs("&state=running"))

        daemon.configure(queues=HASH_QUEUE + SLOW.format(limit=2), watches=more)
        began = time.monotonic()
        daemon.send(signal.SIGHUP)
        wait_for(lambda: len(daemon.api.jobs("&state=running")) == 2, timeout=SOON)
        (tmp_path / "more/new.txt").write_text("in a new watch\n")
        wait_for(lambda: daemon.api.jobs("&watch=more&state=succeeded"), timeout=SOON)
        assert time.monotonic() - began < SOON

        after = daemon.api.job(running["id"])
        assert (after["state"], after["attempt"]) == ("running", 1)
        assert after["started_at"] == running["started_at"]


def test_reload_tells_what_changed_and_what_needs_a_restart(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path) as daemon:
        assert "nothing has changed" in daemon.pq("reload").stdout
        text = daemon.config.read_text()
        changed = text.replace("workers = 4", "workers = 6").replace(
            f":{daemon.port}", f":{daemon.port + 1}"
        )
        daemon.config.write_text(changed)
        told = daemon.pq("reload")
        assert told.returncode == 0
        assert "changed  daemon.workers" in told.stdout
        assert "restart  server.listen" in told.stdout
        assert len(daemon.api.get("/api/v1/consumers").body["items"]) == 6


def test_a_removed_queue_with_live_jobs_stays_listed(tmp_path: Path) -> None:
    queues = HASH_QUEUE + SLOW.format(limit=1)
    with DaemonProcess(tmp_path, queues=queues) as daemon:
        for number in range(2):
            daemon.api.post("/api/v1/jobs", {"queue": "slow", "payload": number})
        [running] = wait_for(lambda: daemon.api.jobs("&state=running"))
        [queued] = daemon.api.jobs("&state=queued")

        daemon.configure(queues=HASH_QUEUE, watches=FILES_WATCH)
        assert daemon.pq("reload").returncode == 0
        slow = daemon.api.get("/api/v1/queues/slow").body
        assert slow["removed"] is True
        assert daemon.api.job(running["id"])["state"] == "running"

        assert daemon.pq("cancel", running["id"], queued["id"]).returncode == 0
        wait_for(lambda: daemon.api.job(running["id"])["state"] == "cancelled")
        assert daemon.api.job(queued["id"])["state"] == "cancelled"
        names = [queue["name"] for queue in daemon.api.get("/api/v1/queues").body["items"]]
        assert names == ["files"]


def test_a_queue_that_a_watch_names_cannot_be_removed(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path) as daemon:
        daemon.configure(queues='[queue.other]\ncommand = ["true"]\n', watches=FILES_WATCH)
        refused = daemon.pq("reload")
        assert refused.returncode == 78
        assert "there is no [queue.files]" in refused.stderr


def test_a_new_password_counts_after_the_reload(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path) as daemon:
        made = daemon.pq("passwd", "anna", stdin="a long enough one\n")
        assert made.returncode == 0, made.stderr
        told = daemon.pq("reload")
        assert "user" in told.stdout


def test_the_log_file_is_opened_anew(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, daemon='log_file = "pq.log"') as daemon:
        log = tmp_path / "pq.log"
        wait_for(lambda: "ready" in log.read_text())
        log.rename(tmp_path / "pq.log.1")
        daemon.send(signal.SIGHUP)
        wait_for(lambda: log.exists() and "configuration reloaded" in log.read_text())


def test_a_watch_that_is_removed_and_added_again_runs_nothing_twice(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path) as daemon:
        daemon.drop("a.txt")
        wait_for(lambda: daemon.api.jobs("&state=succeeded"))
        daemon.configure(queues=HASH_QUEUE, watches="")
        assert daemon.pq("reload").returncode == 0
        renamed = FILES_WATCH.replace('"files"\npath', '"letters"\nqueue = "files"\npath')
        daemon.configure(queues=HASH_QUEUE, watches=renamed)
        assert daemon.pq("reload").returncode == 0
        daemon.drop("b.txt", "the second\n")
        wait_for(lambda: daemon.api.jobs("&search=b.txt&state=succeeded"))
        assert len(daemon.api.jobs()) == 2
