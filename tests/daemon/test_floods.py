"""Whole trees arrive every way they can: each file has exactly one job with the right digest."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.support import oracle
from tests.support.daemon_process import DaemonProcess
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.daemon, pytest.mark.timeout(600)]

LIBRARY = Path(sysconfig.get_path("stdlib"))
NOTHING = '[queue.files]\npython = "handlers:nothing"\nisolation = "loop"\nconcurrency = 64\n'
WATCH = '[[watch]]\nname = "files"\npath = "files"\nsettle = "100ms"\nmin_size = "0B"\n'


def library_files(most: int) -> list[Path]:
    """A part of Python's own library: real names, real directories, real sizes."""
    found = sorted(
        path for path in LIBRARY.rglob("*.py")
        if "site-packages" not in path.parts and not path.name.startswith(".")
    )  # fmt: skip
    return found[:most]


def copy_tree(target: Path, most: int) -> None:
    for path in library_files(most):
        copy = target / path.relative_to(LIBRARY)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def all_succeeded(daemon: DaemonProcess, count: int) -> bool:
    counts = daemon.api.get("/api/v1/queues").body["items"][0]["counts"]
    return bool(counts["succeeded"] >= count and sum(counts.values()) == counts["succeeded"])


def run_to_the_end(daemon: DaemonProcess, count: int) -> None:
    wait_for(lambda: all_succeeded(daemon, count), timeout=400, what=f"{count} succeeded jobs")


def jobs_by_path(daemon: DaemonProcess) -> dict[str, str]:
    """relpath -> sha256 of every succeeded job; fails when a path has two jobs."""
    rows = oracle.look(
        daemon.state_dir, "SELECT relpath, hex(sha256) FROM jobs WHERE state = 'succeeded'"
    )
    found = {os.fsdecode(relpath): digest.lower() for relpath, digest in rows}
    assert len(found) == len(rows), "a path has more than one job"
    return found


def test_a_library_copied_moved_in_and_copied_while_down(tmp_path: Path, long: bool) -> None:
    most = 3500 if long else 500
    source = tmp_path / "source"
    copy_tree(source, most)
    shutil.copytree(source, tmp_path / "moved")
    daemon = DaemonProcess(tmp_path / "d", watches=WATCH, workers=8)
    count = len(digests(source))
    with daemon:
        subprocess.run(["cp", "-r", str(source), str(daemon.files / "copied")], check=True)
        (tmp_path / "moved").rename(daemon.files / "moved")
        run_to_the_end(daemon, 2 * count)
        assert daemon.stop() == 0
        subprocess.run(["cp", "-r", str(source), str(daemon.files / "while-down")], check=True)
        daemon.start()
        run_to_the_end(daemon, 3 * count)

        for path in [*(daemon.files / "copied").rglob("*.py")][:100]:
            path.touch()
            path.chmod(0o640)
        rewritten = next((daemon.files / "copied").rglob("*.py"))
        rewritten.write_text("# rewritten\n")
        run_to_the_end(daemon, 3 * count + 1)
        daemon.api.post("/api/v1/watches/files/rescan")
        said = outputs(daemon, 50)
        assert daemon.stop() == 0
    jobs = oracle.look(daemon.state_dir, "SELECT count(*) FROM jobs")
    assert jobs == [(3 * count + 1,)], "touch and chmod make none, a rewrite makes one"
    relpath = os.fsencode(rewritten.relative_to(daemon.files)).hex()
    versions = oracle.look(
        daemon.state_dir,
        f"SELECT count(*) FROM jobs WHERE relpath = x'{relpath}'",  # noqa: S608 - our own hex
    )
    assert versions == [(2,)]
    for name, printed, recorded in said:
        assert printed == recorded, name
    assert oracle.trouble(daemon.state_dir, []) == []


def outputs(daemon: DaemonProcess, most: int) -> list[tuple[str, str, str]]:
    """What sha256sum printed for the newest jobs, beside what was recorded at acceptance."""
    found = []
    for job in daemon.api.jobs()[:most]:
        output = daemon.api.get(f"/api/v1/jobs/{job['id']}/attempts/1/output").content
        found.append((job["relpath"], output.lstrip(b"\\")[:64].decode(), job["sha256"]))
    return found


def test_many_small_files_at_once(tmp_path: Path, long: bool) -> None:
    many = 50_000 if long else 5_000
    source = tmp_path / "source"
    for number in range(many):
        folder = source / f"d{number // 500:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:05d}.txt").write_text(f"{number}\n")
    daemon = DaemonProcess(tmp_path / "d", queues=NOTHING, watches=WATCH, workers=64)
    (daemon.directory / "handlers.py").write_text("async def nothing(job):\n    return None\n")
    with daemon:
        subprocess.run(["cp", "-r", str(source), str(daemon.files / "all")], check=True)
        run_to_the_end(daemon, many)
        watch = daemon.api.get("/api/v1/watches").body["items"][0]["counts"]
        assert daemon.stop() == 0
    assert jobs_by_path(daemon) == {f"all/{k}": v for k, v in digests(source).items()}
    assert watch["seen"] == watch["accepted"] == many
    assert oracle.trouble(daemon.state_dir, []) == []
