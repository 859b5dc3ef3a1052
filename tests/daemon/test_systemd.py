"""What systemd is told, read from a socket that the test binds in its place."""

from __future__ import annotations

import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon_process import DaemonProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.daemon


class Listener:
    """The end of the socket that systemd would hold."""

    def __init__(self, door: socket.socket) -> None:
        self._door = door

    def until(self, line: str) -> list[list[str]]:
        """Read datagrams until one has the line; return all that were read."""
        read: list[list[str]] = []
        while not read or line not in read[-1]:
            read.append(self._door.recv(4096).decode().splitlines())
        return read


@contextmanager
def listener(address: str) -> Iterator[Listener]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(address)
        door.settimeout(20)
        yield Listener(door)


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_a_life_as_systemd_sees_it(tmp_path: Path, kind: str) -> None:
    place = str(tmp_path / "notify")
    address = place if kind == "path" else f"\0{place}"
    told = place if kind == "path" else f"@{place}"
    environment = {"NOTIFY_SOCKET": told, "WATCHDOG_USEC": "400000"}
    with listener(address) as systemd, DaemonProcess(tmp_path, environment=environment) as daemon:
        first = [lines for lines in systemd.until("READY=1") if lines != ["WATCHDOG=1"]]
        assert "READY=1" in first[-1]
        assert any(line.startswith("STATUS=") for line in first[-1])
        assert all("READY=1" not in lines for lines in first[:-1])
        assert daemon.api.get("/readyz").status == 200, "ready was said and is true"

        for _ in range(3):
            systemd.until("WATCHDOG=1")

        daemon.send(signal.SIGHUP)
        reloading = systemd.until("RELOADING=1")[-1]
        [moment] = [line for line in reloading if line.startswith("MONOTONIC_USEC=")]
        assert int(moment.partition("=")[2]) > 0
        systemd.until("READY=1")

        daemon.send(signal.SIGTERM)
        stopping = systemd.until("STOPPING=1")[-1]
        assert any("Stopping: 0 jobs running" in line for line in stopping)
        assert daemon.wait() == 0


def test_handlers_do_not_speak_for_the_daemon(tmp_path: Path) -> None:
    queues = '[queue.files]\ncommand = ["env"]\n'
    place = str(tmp_path / "notify")
    environment = {"NOTIFY_SOCKET": place, "WATCHDOG_USEC": "30000000"}
    with (
        listener(place),
        DaemonProcess(tmp_path, queues=queues, environment=environment) as daemon,
    ):
        job = daemon.api.post("/api/v1/jobs", {"queue": "files", "payload": {}}).body["id"]
        seen = daemon.pq("logs", job, "--follow").stdout
        assert "PQ_JOB_ID=" in seen
        assert "NOTIFY_SOCKET" not in seen
        assert "WATCHDOG" not in seen


def test_without_systemd_it_is_silent(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path) as daemon:
        assert daemon.stop() == 0
        assert "NOTIFY" not in daemon.log()
