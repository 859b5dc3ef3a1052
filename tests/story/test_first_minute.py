"""A newcomer's first minute.

You have cloned pq-daemon and typed `make run`, which is `pq run --demo`. This is what you see, and
how each state of a job comes to be. Read it as a tour; it runs as a test, on a copy of the
repository's own config.toml.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from pq_daemon.jobs.states import State
from tests.support.daemon_process import REPOSITORY, DaemonProcess
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.daemon, pytest.mark.timeout(150)]

A_MINUTE = 60.0


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[DaemonProcess]:
    """The demo, with one change: a port that is free."""
    daemon = DaemonProcess(tmp_path, state_dir=tmp_path / "data/state", arguments=("run", "--demo"))
    ours = (REPOSITORY / "config.toml").read_text(encoding="utf-8")
    daemon.config.write_text(ours.replace("127.0.0.1:8501", f"127.0.0.1:{daemon.port}"))
    shutil.copy(REPOSITORY / "README.md", tmp_path)
    with daemon:
        yield daemon


def states_seen(daemon: DaemonProcess) -> set[str]:
    """Every state that a job has come to, by the feed of events."""
    events = daemon.api.get("/api/v1/events").body["items"]
    told = {event["data"].get("state") for event in events}
    return {str(state) for state in told if state} | {job["state"] for job in daemon.api.jobs()}


def test_your_first_minute(demo: DaemonProcess) -> None:
    # The daemon tells where to go: two pages, who logs in, what is watched, how to stop.
    welcome = wait_for(lambda: "Ctrl-C" in demo.log() and demo.log())
    assert f"Manager   {demo.url}/manager" in welcome
    assert f"Ops       {demo.url}/ops" in welcome
    assert "Log in    user admin, password admin123" in welcome
    assert "Watched   data/files -> queue files" in welcome
    assert "Log       logs/pq.log" in welcome

    # It proposes something to try. You do.
    assert "Try: cp README.md data/files/" in welcome
    files = demo.directory / "data/files"
    shutil.copy(demo.directory / "README.md", files)

    # A second later your file is a job, and the job has succeeded: sha256sum has read it.
    [job] = wait_for(lambda: demo.api.jobs("&search=README.md&state=succeeded"))
    printed = demo.pq("logs", job["id"]).stdout
    assert printed.split()[0] == job["sha256"]

    # Copying the same file again makes no second job: its content is known.
    shutil.copy(demo.directory / "README.md", files)
    (files / "README.md").touch()

    # Meanwhile samples arrive. Within a minute, jobs have come to every state there is.
    wait_for(
        lambda: states_seen(demo) >= {str(state) for state in State},
        timeout=A_MINUTE,
        what="every state",
    )
    assert len(demo.api.jobs("&search=README.md")) == 1

    # The slow ones show how far they are, on the page, in the list, on the command line.
    running = wait_for(
        lambda: [
            each
            for each in demo.api.jobs("&state=running&queue=demo-slow")
            if each["progress"] and each["progress"]["percent"] > 0
        ],
        timeout=30,
    )
    assert "step" in running[0]["progress"]["text"]

    # A flaky one has failed twice and then succeeded; its three attempts are its history.
    [flaky, *_] = wait_for(lambda: demo.api.jobs("&state=succeeded&queue=demo-flaky"), timeout=30)
    outcomes = [attempt["outcome"] for attempt in demo.api.attempts(flaky["id"])]
    assert sorted(outcomes) == ["failed", "failed", "succeeded"]

    # A failing one has told why, and its last words are kept.
    [failing, *_] = wait_for(lambda: demo.api.jobs("&state=failed&queue=demo-failing"))
    assert failing["reason"] == "attempts"
    assert "this sample is broken on purpose" in demo.pq("show", failing["id"]).stdout

    # The demo keeps to its own folders, and to a few files.
    assert {path.name for path in (demo.directory / "data").iterdir()} == {"files", "demo", "state"}
    assert len(list((demo.directory / "data").glob("**/sample-*.txt"))) <= 50

    # A reload leaves the demo what it is.
    assert demo.pq("reload").returncode == 0
    names = [queue["name"] for queue in demo.api.get("/api/v1/queues").body["items"]]
    assert names == ["files", "demo-slow", "demo-failing", "demo-flaky"]

    # Ctrl-C (here: SIGTERM) stops it. Nothing that was accepted is lost: it goes on next time.
    before = {each["id"] for each in demo.api.jobs()}
    assert demo.stop() == 0
    demo.start()
    assert before <= {each["id"] for each in demo.api.jobs()}
