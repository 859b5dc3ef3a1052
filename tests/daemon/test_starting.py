"""A daemon starts, says when it is ready, and refuses to start where it would do harm."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon_process import DaemonProcess
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.daemon


def test_it_starts_works_stops_and_starts_again_on_the_same_store(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path) as daemon:
        daemon.drop("a.txt")
        wait_for(lambda: daemon.api.jobs("&state=succeeded"))
        assert daemon.stop() == 0
        assert not daemon.socket.exists()
        daemon.drop("b.txt", "came while the daemon was down\n")
        daemon.start()
        wait_for(lambda: len(daemon.api.jobs("&state=succeeded")) == 2)
        assert [job["relpath"] for job in daemon.api.jobs()] == ["b.txt", "a.txt"]


def test_run_says_where_to_go_once_it_is_up(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path, daemon='log_file = "pq.log"') as daemon:
        log = wait_for(lambda: "Ctrl-C" in daemon.log() and daemon.log())
        assert f"is up (process {daemon.pid})" in log
        assert f"{daemon.url}/manager" in log
        assert f"{daemon.url}/ops" in log
        assert "nobody can yet: pq passwd" in log
        assert "Watched   files -> queue files" in log
        assert "Log       pq.log" in log
        assert "Try: cp SOME-FILE files/" in log


def test_the_state_directory_is_private(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path) as daemon:
        assert daemon.state_dir.stat().st_mode & 0o777 == 0o700
        assert daemon.socket.stat().st_mode & 0o777 == 0o600


def test_a_second_daemon_on_the_same_state_exits_75_and_names_the_first(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path / "one") as first:
        second = DaemonProcess(tmp_path / "two", state_dir=first.state_dir)
        refused = second.pq("run")
        assert refused.returncode == 75
        assert str(first.pid) in refused.stderr
        assert first.api.get("/readyz").status == 200


def test_after_a_kill_the_lock_is_free_again(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path) as daemon:
        daemon.kill()
        assert daemon.socket.exists(), "nobody was left to take it away"
        daemon.start()
        assert daemon.api.get("/readyz").status == 200


def test_a_port_in_use_exits_78_and_says_who_has_it(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", daemon.port))
        taken.listen()
        refused = daemon.pq("run")
    assert refused.returncode == 78
    assert f"127.0.0.1:{daemon.port}" in refused.stderr
    assert f"process {os.getpid()}" in refused.stderr


def test_a_broken_configuration_exits_78_with_every_problem(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path, queues='[queue.files]\ncommand = "true"\ntimeout = 5\n')
    refused = daemon.pq("run")
    assert refused.returncode == 78
    [command, timeout] = refused.stderr.splitlines()
    assert "queue.files.command" in command
    assert "queue.files.timeout" in timeout
    assert not daemon.state_dir.exists()


def test_a_missing_folder_is_a_red_watch_and_is_never_created(tmp_path: Path) -> None:
    watches = '[[watch]]\nname = "disk"\npath = "mnt/disk"\nqueue = "files"\n'
    daemon = DaemonProcess(tmp_path, watches=watches)
    try:
        daemon.start(probe="/healthz")
        [watch] = wait_for(lambda: daemon.api.get("/api/v1/watches").body["items"])
        assert watch["status"] == "missing"
        ready = daemon.api.get("/readyz")
        assert ready.status == 503
        assert not (tmp_path / "mnt").exists()

        (tmp_path / "mnt/disk").mkdir(parents=True)
        wait_for(lambda: daemon.api.get("/readyz").status == 200)
    finally:
        daemon.end()


def test_a_socket_path_longer_than_an_address_may_be(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    with DaemonProcess(tmp_path, state_dir=deep) as daemon:
        assert daemon.pq("queues").returncode == 0


@pytest.mark.parametrize("nobody", ["a closed pipe", "a full disk", "no stdout"])
def test_nobody_has_to_listen_to_what_it_says(tmp_path: Path, nobody: str) -> None:
    daemon = DaemonProcess(tmp_path)
    way = {"a closed pipe": "| true", "a full disk": "> /dev/full", "no stdout": ">&-"}[nobody]
    pid = tmp_path / "pid"
    line = f'(echo $BASHPID > "{pid}"; exec {shlex.join(daemon.command)}) {way}'
    with subprocess.Popen(["bash", "-c", line], cwd=tmp_path, stderr=subprocess.DEVNULL) as shell:
        try:
            wait_for(lambda: daemon.socket.exists() and daemon.api.get("/readyz").status == 200)
            assert daemon.pq("queues").returncode == 0
        finally:
            os.kill(int(pid.read_text()), signal.SIGTERM)
            shell.wait(20)


def test_ctrl_c_stops_it(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path) as daemon:
        daemon.send(signal.SIGINT)
        assert daemon.wait() == 0
        assert "KeyboardInterrupt" not in daemon.log()


def test_it_inherits_nothing_from_who_starts_it(tmp_path: Path) -> None:
    """A descriptor or a signal mask left over in the parent must not reach the handlers."""
    queues = (
        '[queue.files]\ncommand = ["sh", "-c", '
        '"ls -l /proc/self/fd; grep Sig /proc/self/status; env"]\n'
    )
    with (
        (tmp_path / "secret").open("w") as secret,
        DaemonProcess(tmp_path, queues=queues, environment={"DB_PASSWORD": "x"}) as daemon,
    ):
        os.set_inheritable(secret.fileno(), True)
        daemon.stop()
        daemon.start()
        daemon.drop("a.txt")
        [job] = wait_for(lambda: daemon.api.jobs("&state=succeeded"))
        seen = daemon.pq("logs", job["id"]).stdout
    assert "DB_PASSWORD" not in seen
    assert "queue.db" not in seen
    assert "SigBlk:\t0000000000000000" in seen
    assert "pq.sock" not in seen


def test_nobody_else_may_have_its_own_state_directory_watched(tmp_path: Path) -> None:
    watches = '[[watch]]\nname = "files"\npath = "."\n'
    refused = DaemonProcess(tmp_path, watches=watches).pq("run")
    assert refused.returncode == 78
    assert "state_dir" in refused.stderr


def test_the_processes_of_a_daemon_that_was_killed_are_hunted_at_the_next_start(
    tmp_path: Path,
) -> None:
    queues = '[queue.files]\ncommand = ["sleep", "300"]\n'
    with DaemonProcess(tmp_path, queues=queues) as daemon:
        daemon.drop("a.txt")
        [old] = wait_for(daemon.handlers)
        daemon.kill()
        assert subprocess.run(["kill", "-0", str(old)], check=False).returncode == 0
        daemon.start()
        [new] = wait_for(daemon.handlers)
        assert new != old
        [job] = daemon.api.jobs()
        assert [attempt["outcome"] for attempt in daemon.api.attempts(job["id"])] == [None, "lost"]
        assert job["spent"] == 0
