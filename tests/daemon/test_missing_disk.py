"""A disk that is not there: its jobs wait, nothing is called gone, and it goes on afterwards."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon_process import DaemonProcess
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.daemon, pytest.mark.timeout(180)]

PAUSED = '[queue.files]\ncommand = ["sha256sum", "--", "{path}"]\npaused = true\n'


@contextmanager
def disk(image: Path) -> Iterator[Path]:
    """A file system in a file; `mount` and `umount` are the plug."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    with image.open("wb") as file:
        file.truncate(16_000_000)
    made = subprocess.run(["mkfs.ext4", "-q", str(image)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"mkfs.ext4 is missing: {made.stderr!r}")
    yield image


def mount(image: Path, at: Path) -> None:
    done = subprocess.run(
        ["mount", "-o", "loop", str(image), str(at)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"cannot mount a loop device here: {done.stderr!r}")


def umount(at: Path) -> None:
    subprocess.run(["umount", str(at)], check=True)


def test_a_disk_that_is_away_over_a_restart(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path / "d", queues=PAUSED)
    with disk(tmp_path / "image") as image:
        mount(image, daemon.files)
        try:
            with daemon:
                daemon.drop("a.txt", "on the disk\n")
                wait_for(daemon.api.jobs, what="the job")
                assert daemon.stop() == 0
                umount(daemon.files)
                daemon.start(probe="/healthz")
                daemon.api.post("/api/v1/queues/files/resume", {})
                [job] = daemon.api.jobs()
                wait_for(lambda: daemon.api.attempts(job["id"]), what="an attempt")
                [attempt, *_] = wait_for(
                    lambda: [one for one in daemon.api.attempts(job["id"]) if one["outcome"]],
                    what="its end",
                )
                assert attempt["outcome"] == "interrupted"
                assert daemon.api.job(job["id"])["state"] == "retrying"
                counts = daemon.api.get("/api/v1/watches").body["items"][0]["counts"]
                assert counts["vanished"] == 0
                mount(image, daemon.files)
                daemon.api.post(f"/api/v1/jobs/{job['id']}/run-now", {})
                wait_for(
                    lambda: daemon.api.job(job["id"])["state"] == "succeeded",
                    timeout=60,
                    what="the job to succeed once its disk is back",
                )
                assert len(daemon.api.jobs()) == 1
        finally:
            subprocess.run(["umount", str(daemon.files)], capture_output=True, check=False)
