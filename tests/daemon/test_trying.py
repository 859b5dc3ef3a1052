"""`pq try`: what a job would meet, seen at once, and nothing kept of it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon_process import FILES_WATCH, DaemonProcess
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.daemon

QUEUES = r"""
[queue.files]
command = ["sh", "-c", 'echo "$PQ_QUEUE $PQ_WATCH $PQ_RELPATH $HOME $SPECIAL"; pwd >&2; umask']
umask = "0027"
env = { SPECIAL = "{stem}" }

[queue.copy]
command = ["cp", "--", "{path}", "{output}"]
output = "out/{relparent}/{stem}.copy"

[queue.nothing]
command = ["true"]
output = "out/{stem}.copy"

[queue.fail]
command = ["sh", "-c", "echo oh no >&2; exit 3"]
backoff = { base = "3s", jitter = 0 }

[queue.once]
command = ["false"]
max_attempts = 1

[queue.slow]
command = ["sh", "-c", "echo begun; exec sleep 60"]
timeout = "1s"
kill_grace = "1s"

[queue.wait]
command = ["sh", "-c", "echo begun; exec sleep 60"]
kill_grace = "1s"

[queue.postponed]
command = ["sh", "-c", "exit 75"]

[queue.much]
command = ["seq", "1", "1000000"]
output_limit = "64KiB"
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """Not running: `try` needs none. Everything temporary of it is looked for afterwards."""
    (tmp_path / "tmp").mkdir()
    watch = FILES_WATCH + 'on_success = "move:done"\n'
    daemon = DaemonProcess(
        tmp_path, queues=QUEUES, watches=watch, environment={"TMPDIR": str(tmp_path / "tmp")}
    )
    (daemon.files / "a b.txt").write_text("text\n")
    yield daemon
    left = [path.name for path in (tmp_path / "tmp").iterdir()]
    assert [name for name in left if not name.startswith("pq-output-")] == []
    assert not daemon.state_dir.exists(), "it used the daemon's own store"


def tried(daemon: DaemonProcess, queue: str) -> subprocess.CompletedProcess[str]:
    return daemon.pq("try", queue, "files/a b.txt")


def facts(text: str) -> dict[str, str]:
    """What is said after the output, by its name."""
    pairs = (line.split("  ", 1) for line in f"\n{text}".rpartition("\n\n")[2].splitlines())
    return {name: value.strip() for name, value in pairs}


def test_it_is_given_what_a_job_is_given(daemon: DaemonProcess) -> None:
    done = tried(daemon, "files")
    assert done.returncode == 0, done.stderr
    first, mask = done.stdout.splitlines()[:2]
    assert first == f"files files a b.txt {daemon.state_dir} a b"
    assert mask == "0027"
    assert done.stderr.strip().endswith("/scratch/slot-1")
    told = facts(done.stdout)
    assert (told["outcome"], told["exit"]) == ("succeeded", "0")
    assert told["a real job"] == "would have succeeded, and its file would be put away: move:done"
    assert (daemon.files / "a b.txt").exists()


def test_the_output_goes_to_a_place_of_its_own(daemon: DaemonProcess) -> None:
    told = facts(tried(daemon, "copy").stdout)
    place, _, real = told["output"].partition("' (a real job: ")
    assert Path(place.removeprefix("'")).read_text() == "text\n"
    assert real == f"{daemon.directory}/out/a b.copy)"
    assert not (daemon.directory / "out").exists()


def test_an_output_that_was_not_written(daemon: DaemonProcess) -> None:
    done = tried(daemon, "nothing")
    assert done.returncode == 1
    assert "did not write {output}" in done.stdout
    assert list((daemon.directory / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("queue", "outcome", "then"),
    [
        ("fail", "failed", "would be tried again in about 3s, 1 of 5 attempts spent"),
        ("once", "failed", "would be failed (attempts)"),
        ("slow", "timed_out", "would be tried again in about 15s, 1 of 5 attempts spent"),
        ("postponed", "postponed", "would be tried again in about 15s, no attempt spent"),
    ],
)
def test_what_a_real_job_would_become(
    daemon: DaemonProcess, queue: str, outcome: str, then: str
) -> None:
    done = tried(daemon, queue)
    assert done.returncode == 1
    told = facts(done.stdout)
    assert (told["outcome"], told["a real job"]) == (outcome, then)


def test_the_output_streams_while_it_runs_and_ctrl_c_ends_it_all(daemon: DaemonProcess) -> None:
    with subprocess.Popen(
        [*daemon.command[:-1], "try", "wait", "files/a b.txt"],
        cwd=daemon.directory,
        env={**os.environ, "TMPDIR": str(daemon.directory / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as trying:
        assert trying.stdout is not None
        assert trying.stdout.readline() == b"begun\n"
        [handler] = wait_for(daemon.handlers)
        trying.send_signal(signal.SIGINT)
        assert trying.wait(20) == 130
    assert not Path(f"/proc/{handler}").exists()


def test_much_output_is_cut_as_a_jobs_would_be(daemon: DaemonProcess) -> None:
    done = tried(daemon, "much")
    assert done.stdout.startswith("1\n2\n")
    assert "1000000\n\n" in done.stdout
    assert len(done.stdout) < 100_000
    assert "bytes are left out here: output_limit" in done.stderr


def test_a_file_from_anywhere(daemon: DaemonProcess) -> None:
    done = daemon.pq("try", "files", str(daemon.config))
    assert done.stdout.startswith(f"files  config.toml {daemon.state_dir}")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("nosuch", "files/a b.txt"), 1, "there are: files, copy"),
        (("files", "absent"), 1, "No such file"),
        (("files", "files"), 1, "not a regular file"),
        (("files",), 2, "FILE"),
    ],
)
def test_what_cannot_be_tried(
    daemon: DaemonProcess, words: tuple[str, ...], status: int, said: str
) -> None:
    done = daemon.pq("try", *words)
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
