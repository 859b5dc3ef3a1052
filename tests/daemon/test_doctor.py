"""`pq check` and `pq doctor` beside a running daemon, which looks for itself; and without one."""

from __future__ import annotations

import json
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from pq_daemon.store.sqlite.examining import reset_bug
from tests.support.daemon_process import FILES_WATCH, HASH_QUEUE, DaemonProcess
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.daemon

SECRET = "hush-hush"
QUEUES = HASH_QUEUE + f'env = {{ API_TOKEN = "{SECRET}" }}\n'
USER = """
[[user]]
name = "anna"
role = "manager"
password_hash = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2E$"""  # the rest follows
HASH = "A" * 43


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    with DaemonProcess(
        tmp_path, queues=QUEUES, more=f'{USER}{HASH}"', daemon='log_file = "pq.log"'
    ) as daemon:
        yield daemon


def grades(text: str) -> dict[str, str]:
    """The worst is last."""
    return {line.split()[1].rstrip(":"): line.split()[0] for line in text.splitlines()}


def test_the_daemon_finds_the_same(daemon: DaemonProcess) -> None:
    done = daemon.pq("check")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("The running daemon finds the same.\n")


def test_the_daemon_may_find_something_else(daemon: DaemonProcess) -> None:
    daemon.configure(queues='[queue.files]\ncommand = ["true"]\n', watches=FILES_WATCH)
    done = daemon.pq("check")
    assert "The running daemon finds, with its own rights and configuration:" in done.stdout
    assert "sha256sum" in done.stdout.rpartition("configuration:")[2]


def test_what_the_service_hides_is_said(tmp_path: Path) -> None:
    watch = '[[watch]]\nname = "files"\npath = "/home/nobody-of-this-name/in"\n'
    invocation = {"INVOCATION_ID": "0"}  # systemd says it to what it starts
    daemon = DaemonProcess(tmp_path, watches=watch, environment=invocation)
    try:
        daemon.start(probe="/healthz")
        answer = daemon.api.get("/api/v1/check").body["items"]
    finally:
        daemon.end()
    assert answer[0]["grade"] == "missing"
    assert (
        "hidden by ProtectHome: pq service allow /home/nobody-of-this-name/in" in answer[0]["what"]
    )


def test_all_is_well(daemon: DaemonProcess) -> None:
    daemon.drop("a.txt")
    wait_for(lambda: daemon.api.jobs("&state=succeeded"))
    done = daemon.pq("doctor")
    assert done.returncode == 0, done.stdout
    assert set(grades(done.stdout)) == {
        "daemon", "pq", "python", "kernel", "state", "space", "sizes", "lock", "watch.files",
        "inotify", "nofile", "lease", "clock", "engine", "database", "jobs",
    }  # fmt: skip
    assert f"lock: held by process {daemon.pid} (this daemon)" in done.stdout
    assert "a probe was written, renamed and removed" in done.stdout
    assert "integrity ok" in done.stdout
    assert "jobs: 1 succeeded" in done.stdout
    assert sorted(path.name for path in daemon.files.iterdir()) == ["a.txt"]
    assert len(daemon.api.jobs()) == 1, "the probe became a job"


def test_a_folder_that_vanished_is_red(daemon: DaemonProcess) -> None:
    daemon.files.rmdir()
    done = daemon.pq("doctor")
    assert done.returncode == 1
    assert grades(done.stdout)["watch.files"] == "bad"


def test_without_a_daemon_it_looks_for_itself(daemon: DaemonProcess) -> None:
    daemon.drop("a.txt")
    wait_for(lambda: daemon.api.jobs("&state=succeeded"))
    assert daemon.stop() == 0
    done = daemon.pq("doctor")
    assert done.returncode == 0, done.stdout
    found = grades(done.stdout)
    assert (found["daemon"], found["lock"], found["database"]) == ("warning", "ok", "ok")
    assert {f["where"] for f in json.loads(daemon.pq("--json", "doctor").stdout)["items"]} == set(
        found
    )


def test_a_damaged_database_is_red(daemon: DaemonProcess) -> None:
    for number in range(20):
        daemon.drop(f"{number}.txt", f"{number}\n")
    wait_for(lambda: len(daemon.api.jobs("&state=succeeded")) == 20)
    assert daemon.stop() == 0
    with (daemon.state_dir / "queue.db").open("r+b") as file:
        file.seek(2 * 4096)
        file.write(os.urandom(4096 * 8))
    done = daemon.pq("doctor")
    assert done.returncode == 1
    assert grades(done.stdout)["database"] == "bad"


def test_the_bundle_has_what_is_needed_and_no_secret(daemon: DaemonProcess) -> None:
    daemon.drop("a.txt")
    wait_for(lambda: daemon.api.jobs("&state=succeeded"))
    place = daemon.directory / "for support.tar.gz"
    done = daemon.pq("doctor", "--bundle", str(place))
    assert done.returncode == 0
    assert "look through it before you send it" in done.stderr
    assert place.stat().st_mode & 0o777 == 0o600
    with tarfile.open(place) as bundle:
        files = {
            member.name.removeprefix("pq-doctor/"): _read(bundle, member)
            for member in bundle.getmembers()
        }
    assert set(files) == {
        "doctor.txt", "config.json", "config-in-force.json", "stats.json", "queues.json",
        "watches.json", "consumers.json", "log.txt",
    }  # fmt: skip
    assert files["doctor.txt"].decode() == done.stdout
    assert b"ready" in files["log.txt"]
    whole = b"".join(files.values())
    assert SECRET.encode() not in whole
    assert HASH.encode() not in whole
    again = daemon.pq("doctor", "--bundle", str(place))
    assert (again.returncode, "is there already" in again.stderr) == (1, True)


def _read(bundle: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = bundle.extractfile(member)
    assert file is not None
    return file.read()


@pytest.mark.parametrize(
    ("version", "has_it"),
    [
        ((3, 6, 23), False), ((3, 7, 0), True), ((3, 40, 1), True), ((3, 44, 5), True),
        ((3, 44, 6), False), ((3, 45, 0), True), ((3, 50, 6), True), ((3, 50, 7), False),
        ((3, 51, 2), True), ((3, 51, 3), False), ((3, 52, 0), False), ((4, 0, 0), False),
    ],
)  # fmt: skip
def test_which_versions_of_sqlite_have_the_bug(version: tuple[int, int, int], has_it: bool) -> None:
    assert reset_bug(version).startswith("has") is has_it
