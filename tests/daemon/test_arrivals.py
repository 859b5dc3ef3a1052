"""Files that are still being written are never read, whatever their names are."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemon_process import DaemonProcess
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.daemon, pytest.mark.timeout(120)]

NAMES = [
    b"line\nbreak.txt",
    b"tab\there.txt",
    b'it\'s "quoted" `here`.txt',
    b"-rf",
    b"<script>alert(1)<img src=x onerror=alert(2)>.txt",
    "\N{PARTY POPPER} \u202etxt.exe".encode(),
    b"n" * 251 + b".txt",
    b"\xff\xfe not utf-8.bin",
    b"$(touch pwned); rm *",
    b"{path} %s {} \\n",
    b" leading and trailing ",
]


def ended(daemon: DaemonProcess, count: int) -> list[dict[str, Any]]:
    def enough() -> list[dict[str, Any]] | None:
        jobs = daemon.api.jobs()
        done = [job for job in jobs if job["state"] == "succeeded"]
        return done if len(done) >= count else None

    found: list[dict[str, Any]] = wait_for(enough, timeout=60, what=f"{count} succeeded jobs")
    return found


def test_a_file_held_open_is_read_once_and_whole(tmp_path: Path) -> None:
    """A 20 MB file in pieces with pauses far beyond the settle time."""
    piece, pieces = os.urandom(1_000_000), 20
    with DaemonProcess(tmp_path) as daemon:
        pause = threading.Event()
        with (daemon.files / "big.bin").open("wb") as file:
            for _ in range(pieces):
                file.write(piece)
                file.flush()
                pause.wait(0.25)
            waiting = daemon.api.get("/api/v1/watches/files/files?state=waiting").body["items"]
            assert daemon.api.jobs() == []
            assert [entry["reason"] for entry in waiting] == ["open for writing"]
        [job] = ended(daemon, 1)
        output = daemon.api.get(f"/api/v1/jobs/{job['id']}/attempts/1/output").content
    assert output.split()[0].decode() == hashlib.sha256(piece * pieces).hexdigest()
    assert job["size"] == len(piece) * pieces


def test_moved_into_place_and_rsynced_files_are_whole(tmp_path: Path) -> None:
    rsync = shutil.which("rsync")
    if rsync is None:
        pytest.skip("rsync is missing: apt-get install rsync")
    content = os.urandom(3_000_000)
    (tmp_path / "source.bin").write_bytes(content)
    (tmp_path / "d").mkdir()
    with DaemonProcess(tmp_path / "d") as daemon:
        copy = shutil.copyfile(tmp_path / "source.bin", tmp_path / "d" / "staged.bin")
        copy.rename(daemon.files / "moved.bin")
        subprocess.run(
            [rsync, "--bwlimit=4000", str(tmp_path / "source.bin"), f"{daemon.files}/"], check=True
        )
        jobs = ended(daemon, 2)
        digests = {
            daemon.api.get(f"/api/v1/jobs/{job['id']}/attempts/1/output").content.split()[0]
            for job in jobs
        }
    assert {job["name"] for job in jobs} == {"moved.bin", "source.bin"}
    assert digests == {hashlib.sha256(content).hexdigest().encode()}


def test_every_name_reaches_the_command_byte_for_byte(tmp_path: Path) -> None:
    queue = "[queue.files]\ncommand = ['printf', '%s\\0', '{name}', '{relpath}', '{path}']\n"
    with DaemonProcess(tmp_path, queues=queue) as daemon:
        for name in NAMES:
            with open(os.fsencode(daemon.files) + b"/" + name, "wb") as file:  # noqa: PTH123 - bytes
                file.write(b"content of " + name)
        seen = {}
        for job in ended(daemon, len(NAMES)):
            output = daemon.api.get(f"/api/v1/jobs/{job['id']}/attempts/1/output").content
            name, relpath, path, end = output.split(b"\0")
            assert (relpath, path, end) == (name, os.fsencode(daemon.files) + b"/" + name, b"")
            raw = job.get("path_b64")
            assert raw is None or base64.b64decode(raw) == path
            seen[name] = job["name"]
            page = daemon.api.get(f"/manager/jobs/{job['id']}")
            assert page.status == 200
            assert b"<script>alert" not in page.content
            assert b"<img src=x" not in page.content
        assert set(seen) == set(NAMES)
        assert daemon.api.get("/manager").status == 200
