"""The commands a newcomer meets first, and those that answer "why?", with real daemons."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemon_process import HASH_QUEUE, DaemonProcess
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.daemon

QUEUES = (
    HASH_QUEUE
    + """
[queue.later]
command = ["true"]
hold_new = true
"""
)
WATCHES = """
[[watch]]
name = "files"
path = "files"
settle = "100ms"

[[watch]]
name = "later"
path = "later"
settle = "100ms"
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    directory = tmp_path_factory.mktemp("daemon")
    (directory / "later").mkdir()
    with DaemonProcess(directory, queues=QUEUES, watches=WATCHES) as daemon:
        yield daemon


def said(daemon: DaemonProcess, *words: str, status: int = 0) -> str:
    """What a command prints on stdout."""
    done = daemon.pq(*words)
    assert done.returncode == status, done.stderr + done.stdout
    return done.stdout


def body(daemon: DaemonProcess, *words: str) -> Any:
    return json.loads(said(daemon, "--json", *words))


def of_queue(daemon: DaemonProcess, name: str) -> dict[str, Any]:
    [found] = [queue for queue in body(daemon, "queues")["items"] if queue["name"] == name]
    return dict(found)


# --- limits and held files -----------------------------------------------------------------------


def test_a_limit_is_set_and_given_back(daemon: DaemonProcess) -> None:
    assert said(daemon, "limit", "files", "1", "--reason", "the disk") == "files  limit 1\n"
    assert of_queue(daemon, "files")["concurrency"] == 1
    told = said(daemon, "limit", "files", "--reset")
    assert told == "files  limit as many as there are slots, as the configuration says\n"
    assert of_queue(daemon, "files")["concurrency"] == 0
    [reset, limited] = daemon.api.get("/api/v1/audit?limit=2").body["items"]
    assert (limited["reason"], reset["reason"]) == ("the disk", "")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("limit", "files"), 2),
        (("limit", "files", "many"), 2),
        (("limit", "files", "2", "--reset"), 2),
        (("limit", "files", "1025"), 1),
        (("limit", "nosuch", "1"), 1),
    ],
)
def test_what_is_no_limit(daemon: DaemonProcess, words: tuple[str, ...], status: int) -> None:
    done = daemon.pq(*words)
    assert done.returncode == status
    assert done.stderr


def test_a_queue_that_holds_what_is_new_holds_files_too(daemon: DaemonProcess) -> None:
    (daemon.directory / "later/a.txt").write_text("later\n")
    [job] = wait_for(lambda: daemon.api.jobs("&queue=later"))
    assert job["state"] == "held"
    said(daemon, "release", job["id"])
    wait_for(lambda: daemon.api.job(job["id"])["state"] == "succeeded")
