"""The service on a real systemd: started, fed by others, reloaded, hung, killed, stopped."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import wait_for
from tests.systemd.service import HASHING, WAITING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.systemd.service import Service

pytestmark = [pytest.mark.daemon, pytest.mark.timeout(180)]


def waiting(service: Service) -> list[dict[str, Any]]:
    target = "/api/v1/watches/in/files?state=waiting"
    found: list[dict[str, Any]] = service.api.get(target).body["items"]
    return found


def test_a_start_returns_when_it_is_ready(service: Service) -> None:
    service.configure(HASHING)
    service.start()
    assert service.shown("ActiveState") == "active"
    assert service.shown("StatusText") == "Ready at 127.0.0.1:8501"
    assert service.api.get("/readyz").status == 200
    status = (service.root / f"proc/{service.shown('MainPID')}/status").read_text()
    assert "CapBnd:\t0000000010000000" in status, "CAP_LEASE and nothing else"
    assert "CapAmb:\t0000000010000000" in status


def test_files_of_others_are_taken_when_they_have_closed_them(service: Service) -> None:
    service.configure(HASHING)
    service.start()
    service.drop("whole.txt", "whole", user="partner")
    service.job_of("whole.txt")

    writing = 'umask 027; exec 3>"$1"; echo half >&3; read line; echo rest >&3'
    with subprocess.Popen(
        service.machine.command("sh", "-c", writing, "sh", "/srv/in/held.txt", user="partner"),
        stdin=subprocess.PIPE,
        text=True,
    ) as writer:
        wait_for(lambda: any(f["reason"] == "open for writing" for f in waiting(service)))
        assert [file["relpath"] for file in waiting(service)] == ["held.txt"]
        writer.communicate("\n")
    job = service.job_of("held.txt")
    assert job["size"] == len("half\nrest\n")
    assert service.printed(job["id"]).startswith(job["sha256"]), "the handler could read it, too"


def test_a_reload_returns_when_it_is_done(service: Service) -> None:
    service.configure(HASHING)
    service.start()
    for number in range(3):
        service.configure(HASHING, f'[queue.more{number}]\ncommand = ["true"]\n')
        service.systemctl("reload", "pq")
        queues = service.api.get("/api/v1/queues").body["items"]
        assert f"more{number}" in {queue["name"] for queue in queues if not queue["removed"]}
    assert service.shown("ActiveState") == "active"


def test_a_reload_fails_when_the_configuration_is_refused(service: Service) -> None:
    service.configure(HASHING)
    service.start()
    first = service.shown("MainPID")
    service.configure(HASHING + 'setle = "1s"\n')
    assert service.systemctl("reload", "pq", check=False).returncode != 0
    assert "queue.in.setle: unknown key" in service.journal()
    assert (service.shown("ActiveState"), service.shown("MainPID")) == ("active", first)
    service.drop("a.txt", "a", user="partner")
    service.job_of("a.txt")


def test_a_hung_daemon_is_restarted_and_everything_recovered(service: Service) -> None:
    service.configure(HASHING, WAITING)
    service.drop_in("watchdog", "WatchdogSec=1s")
    service.start()
    job = service.submit("waiting")
    service.in_state(job, "running")

    service.systemctl("kill", "--kill-who=main", "--signal=STOP", "pq")
    service.drop("meanwhile.txt", "meanwhile", user="partner")
    wait_for(service.restarted, timeout=20)

    journal = service.journal()
    assert "Watchdog timeout" in journal
    assert "Fatal Python error: Aborted" in journal, "what it was doing"
    service.in_state(job, "running")
    service.let_go(job)
    service.in_state(job, "succeeded")
    assert service.outcomes(job) == ["lost", "succeeded"]
    service.job_of("meanwhile.txt")


def test_a_killed_daemon_is_restarted_and_everything_recovered(service: Service) -> None:
    service.configure(HASHING, WAITING)
    service.start()
    job = service.submit("waiting")
    service.in_state(job, "running")
    service.systemctl("kill", "--kill-who=main", "--signal=KILL", "pq")
    wait_for(service.restarted)
    service.in_state(job, "running")
    service.let_go(job)
    service.in_state(job, "succeeded")
    assert service.outcomes(job) == ["lost", "succeeded"]


def test_a_stop_lets_jobs_finish_and_hands_back_the_rest(service: Service, tmp_path: Path) -> None:
    service.configure(HASHING, WAITING)
    service.start()
    ends, endless = service.submit("waiting"), service.submit("waiting")
    for job in (ends, endless):
        service.in_state(job, "running")

    begun = time.monotonic()
    service.systemctl("stop", "--no-block", "pq")
    wait_for(lambda: service.shown("StatusText").startswith("Stopping: 2 jobs running"))
    service.let_go(ends)
    wait_for(lambda: service.shown("ActiveState") == "inactive")
    assert time.monotonic() - begun < 10, "a second to drain, a moment to end"
    assert (service.shown("Result"), service.shown("ExecMainStatus")) == ("success", "0")

    states, outcomes = service.ask_store(
        tmp_path / "state",
        "SELECT state, spent FROM jobs ORDER BY id",
        "SELECT outcome FROM attempts ORDER BY job",
    )
    assert states == [("succeeded", 0), ("queued", 0)]
    assert outcomes == [("succeeded",), ("interrupted",)]

    service.start()
    service.let_go(endless)
    service.in_state(endless, "succeeded")


def test_a_wrong_configuration_is_not_tried_again(service: Service) -> None:
    service.configure(HASHING + 'setle = "1s"\n')
    assert service.systemctl("start", "pq", check=False).returncode != 0
    assert_given_up(service, 78)
    assert "queue.in.setle: unknown key" in service.journal()


def test_a_held_state_directory_is_not_tried_again(service: Service) -> None:
    service.configure(HASHING)
    other = "/opt/pq/bin/pq --config /etc/pq/config.toml run"
    service.machine.shell(
        f"""
        install -d -m 0700 -o pq -g pq /var/lib/pq
        systemd-run --quiet --unit=other --uid=pq --gid=pq {other}
        """
    )
    try:
        wait_for((service.state_dir / "pq.sock").exists)
        assert service.systemctl("start", "pq", check=False).returncode != 0
        assert_given_up(service, 75)
    finally:
        service.systemctl("stop", "other")


def assert_given_up(service: Service, status: int) -> None:
    """Failed, not "activating (auto-restart)"."""
    assert service.shown("ExecMainStatus") == str(status)
    assert (service.shown("ActiveState"), service.shown("NRestarts")) == ("failed", "0")
