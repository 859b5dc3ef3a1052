"""Every command of pq against a running daemon, as people and as programs use them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemon_process import HASH_QUEUE, DaemonProcess
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.daemon

QUEUES = (
    HASH_QUEUE
    + r"""
[queue.sleep]
command = ["sleep", "60"]
kill_grace = "1s"

[queue.fail]
command = ["sh", "-c", "echo one; echo two >&2; exit 3"]
max_attempts = 1

[queue.wild]
command = ["printf", 'plain\n\033]0;title\007\377\n']

[queue.steps]
command = ["sh", "-c", "echo begun; until [ -e GO ]; do sleep 0.05; done; echo ended"]

[queue.relay]
command = ["sh", "-c", '''echo try $PQ_ATTEMPT
  until [ -e GO ]; do sleep 0.1; done
  exit $((2 - PQ_ATTEMPT))''']
backoff = { base = "100ms" }

[queue.again]
command = ["sh", "-c", "echo try $PQ_ATTEMPT; [ $PQ_ATTEMPT = 2 ]"]
backoff = { base = "100ms" }

[queue.often]
command = ["false"]
backoff = { base = "1h" }
"""
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    directory = tmp_path_factory.mktemp("daemon")
    queues = QUEUES.replace("GO", str(directory / "go"))
    with DaemonProcess(directory, queues=queues, daemon='log_file = "pq.log"') as daemon:
        yield daemon


def said(daemon: DaemonProcess, *words: str, status: int = 0) -> str:
    """What a command prints on stdout."""
    done = daemon.pq(*words)
    assert done.returncode == status, done.stderr + done.stdout
    return done.stdout


def body(daemon: DaemonProcess, *words: str) -> Any:
    return json.loads(said(daemon, "--json", *words))


def a_job(daemon: DaemonProcess, queue: str, *words: str) -> str:
    """Submit a payload; return the job's id."""
    job: str = body(daemon, "add", queue, "--payload", "{}", *words)["id"]
    return job


def until(daemon: DaemonProcess, job: str, state: str) -> dict[str, Any]:
    found: dict[str, Any] = wait_for(
        lambda: (found := daemon.api.job(job))["state"] == state and found, what=f"{job} {state}"
    )
    return found


# --- jobs ----------------------------------------------------------------------------------------


def test_add_takes_a_path_once_more(daemon: DaemonProcess) -> None:
    path = daemon.drop("letter.txt", "dear all\n")
    wait_for(lambda: daemon.api.jobs("&search=letter.txt"))
    line = said(daemon, "add", "files", str(path))
    assert line.split()[2:] == ["letter.txt"]
    until(daemon, line.split()[0], "succeeded")


def test_add_takes_a_name_that_is_not_utf_8(daemon: DaemonProcess) -> None:
    name = b"na\xefve \x1b[31m.txt"
    path = bytes(daemon.files) + b"/." + name
    with open(path, "wb") as file:  # noqa: PTH123 - the name is bytes
        file.write(b"x")
    line = said(daemon, "add", "files", path.decode("utf-8", "surrogateescape"))
    assert line.rstrip("\n").isprintable()
    job = until(daemon, line.split()[0], "succeeded")
    assert "path_b64" in job


def test_add_with_everything(daemon: DaemonProcess) -> None:
    words = ("--priority", "urgent", "--key", "once", "--hold", "--at", "+2h")
    first = body(daemon, "add", "files", "--payload", '{"n": [1, "ä"]}', *words)
    assert (first["state"], first["priority"], first["key"]) == ("held", "urgent", "once")
    assert first["run_at"] is not None
    again = body(daemon, "add", "files", "--payload", "{}", "--key", "once")
    assert again["id"] == first["id"]


def test_add_refuses_what_the_daemon_does(daemon: DaemonProcess, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.touch()
    refused = daemon.pq("add", "files", str(outside))
    assert refused.returncode == 1
    assert "neither in a watch nor in daemon.submit_roots" in refused.stderr
    refused = daemon.pq("add", "filse", "--payload", "{}")
    assert refused.returncode == 1
    assert "files, sleep" in refused.stderr


def test_jobs_filters_pages_and_says_when_there_are_more(daemon: DaemonProcess) -> None:
    held = [a_job(daemon, "files", "--hold") for _ in range(3)]
    lines = said(daemon, "jobs", "--queue", "files", "--state", "held", "--limit", "2").splitlines()
    assert lines[0].split() == ["ID", "STATE", "QUEUE", "NAME", "ATTEMPT", "AGE", "NOTE"]
    assert [line.split()[0] for line in lines[1:3]] == held[:0:-1]
    assert lines[3].startswith("there are more")
    everything = said(daemon, "jobs", "--all", "--state", "held")
    assert [each for each in held if each not in everything] == []
    assert said(daemon, "jobs", "--search", held[0]).split()[7] == held[0]
    assert [job["id"] for job in body(daemon, "jobs", "--limit", "1")["items"]] == held[-1:]


def test_show_tells_the_attempts_and_the_last_lines(daemon: DaemonProcess) -> None:
    job = a_job(daemon, "fail")
    until(daemon, job, "failed")
    text = said(daemon, "show", job)
    assert "state     failed (attempts)" in text
    assert "attempt   1, 1 of 1 spent" in text
    assert "output of attempt 1:\n  one\n  two\n" in text or "  two\n  one\n" in text
    [line] = [line for line in text.splitlines() if line.startswith("1  ")]
    assert line.split()[:2] == ["1", "failed"]
    assert " 3 " in line
    assert body(daemon, "show", job) == daemon.api.job(job)


def test_an_unknown_id_is_exit_1(daemon: DaemonProcess) -> None:
    for words in (["show"], ["logs"], ["retry"], ["cancel"]):
        refused = daemon.pq(*words, "999999")
        assert refused.returncode == 1
        assert "999999" in refused.stderr


def test_hold_release_cancel_retry(daemon: DaemonProcess) -> None:
    job = a_job(daemon, "sleep", "--at", "+1h")
    assert said(daemon, "hold", job).split() == [job, "held", "(payload)"]
    assert said(daemon, "release", job).split()[1] == "scheduled"
    assert said(daemon, "run-now", job).split()[1] == "queued"
    until(daemon, job, "running")
    assert "asked to end" in said(daemon, "cancel", job)
    until(daemon, job, "cancelled")
    assert said(daemon, "retry", job).split()[1] == "queued"
    until(daemon, job, "running")
    said(daemon, "cancel", job)
    assert until(daemon, job, "cancelled")["run"] == 2


def test_one_refusal_does_not_keep_the_others_from_their_move(daemon: DaemonProcess) -> None:
    ended = a_job(daemon, "fail")
    until(daemon, ended, "failed")
    waiting = a_job(daemon, "files", "--hold")
    done = daemon.pq("cancel", ended, waiting)
    assert done.returncode == 1
    assert f"cancel {ended}: " in done.stderr
    assert done.stdout.split()[:2] == [waiting, "cancelled"]
    refused = daemon.pq("--json", "cancel", ended)
    assert json.loads(refused.stdout)["code"] == "conflict"


def test_run_now_of_a_job_that_waits_for_its_next_try(daemon: DaemonProcess) -> None:
    job = a_job(daemon, "often")
    until(daemon, job, "retrying")
    assert re.search(r"retrying .* in (1h|[45]\dm)", said(daemon, "jobs", "--queue", "often"))
    said(daemon, "run-now", job)
    wait_for(lambda: daemon.api.job(job)["attempt"] == 2)
    said(daemon, "cancel", job)


# --- output --------------------------------------------------------------------------------------


def raw_logs(daemon: DaemonProcess, *words: str) -> bytes:
    return subprocess.run(
        [sys.executable, "-m", "pq_daemon", "--config", str(daemon.config), "logs", *words],
        cwd=daemon.directory,
        capture_output=True,
        check=True,
    ).stdout


def test_logs_gives_the_exact_bytes(daemon: DaemonProcess) -> None:
    job = a_job(daemon, "wild")
    until(daemon, job, "succeeded")
    assert raw_logs(daemon, job) == b"plain\n\x1b]0;title\x07\xff\n"


def test_show_escapes_them(daemon: DaemonProcess) -> None:
    job = a_job(daemon, "wild")
    until(daemon, job, "succeeded")
    text = said(daemon, "show", job)
    assert "  \\x1b]0;title\\x07\\xff\n" in text


def test_logs_takes_one_stream_and_one_attempt(daemon: DaemonProcess) -> None:
    job = a_job(daemon, "fail")
    until(daemon, job, "failed")
    assert raw_logs(daemon, job, "--stream", "stdout") == b"one\n"
    assert raw_logs(daemon, job, "--stream", "stderr") == b"two\n"
    twice = a_job(daemon, "again")
    until(daemon, twice, "succeeded")
    assert raw_logs(daemon, twice) == b"try 2\n"
    assert raw_logs(daemon, twice, "--attempt", "1") == b"try 1\n"
    assert daemon.pq("logs", twice, "--attempt", "9").returncode == 1


def test_logs_of_a_job_that_has_not_run(daemon: DaemonProcess) -> None:
    job = a_job(daemon, "files", "--hold")
    done = daemon.pq("logs", job)
    assert (done.returncode, done.stdout) == (0, "")
    assert "has not run yet" in done.stderr


@contextmanager
def running(daemon: DaemonProcess, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Have a pq command run; it is interrupted at the end if it has not ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pq_daemon", "--config", str(daemon.config), *words],
        cwd=daemon.directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)


def read_until(process: subprocess.Popen[bytes], text: bytes) -> bytes:
    assert process.stdout is not None
    read = b""
    while text not in read:
        line = process.stdout.readline()
        assert line, f"it ended: {read!r}"
        read += line
    return read


def test_logs_follows_until_the_job_has_ended(daemon: DaemonProcess) -> None:
    go = daemon.directory / "go"
    job = a_job(daemon, "steps")
    with running(daemon, "logs", job, "--follow") as following:
        assert read_until(following, b"begun\n") == b"begun\n"
        go.touch()
        out, _ = following.communicate(timeout=20)
        assert out == b"ended\n"
        assert following.returncode == 0
    go.unlink()


def test_logs_follows_from_attempt_to_attempt(daemon: DaemonProcess) -> None:
    go = daemon.directory / "go"
    job = a_job(daemon, "relay")
    with running(daemon, "logs", job, "--follow") as following:
        read_until(following, b"try 1\n")
        go.touch()
        assert read_until(following, b"\n") == b"try 2\n"
        assert following.wait(20) == 0
    go.unlink()


def test_logs_without_an_id_is_the_daemons_log(daemon: DaemonProcess) -> None:
    assert "ready" in said(daemon, "logs")
    assert len(said(daemon, "logs", "--lines", "1").splitlines()) == 1
    with running(daemon, "logs", "--follow", "--lines", "1") as following:
        read_until(following, b"\n")
        (daemon.directory / "pq.log").rename(daemon.directory / "pq.log.1")
        daemon.send(signal.SIGHUP)
        read_until(following, b"configuration reloaded")
        following.send_signal(signal.SIGINT)
        assert following.wait(20) == 0


# --- queues, watches, the whole -------------------------------------------------------------------


def test_queues_pause_and_resume(daemon: DaemonProcess) -> None:
    assert said(daemon, "pause", "fail", "--reason", "disk is being moved") == "fail  paused\n"
    [line] = [each for each in said(daemon, "queues").splitlines() if each.startswith("fail ")]
    assert "paused by" in line
    assert "disk is being moved" in line
    job = a_job(daemon, "fail")
    assert daemon.api.job(job)["state"] == "queued"
    assert body(daemon, "resume", "fail")["paused"] is None
    until(daemon, job, "failed")
    assert len(said(daemon, "pause", "--all").splitlines()) == 8
    said(daemon, "resume", "--all")
    assert daemon.pq("pause", "nosuch").returncode == 1


def test_watches_files_and_rescan(daemon: DaemonProcess) -> None:
    daemon.drop("seen.txt", "seen\n")
    wait_for(lambda: daemon.api.jobs("&search=seen.txt"))
    [line] = [line for line in said(daemon, "watches").splitlines() if line.startswith("files ")]
    assert line.split()[1:3] == ["ok", "files"]
    assert "seen.txt" in said(daemon, "files", "files", "--state", "accepted")
    (daemon.files / "empty.txt").touch()
    waiting = wait_for(
        lambda: (
            "empty.txt" in (text := said(daemon, "files", "files", "--state", "waiting")) and text
        )
    )
    assert "empty" in waiting.splitlines()[1].split()
    assert "scanned" in said(daemon, "rescan", "files")
    assert daemon.pq("rescan", "nosuch").returncode == 1
    assert daemon.pq("files", "nosuch").returncode == 1


def test_stats_and_check_say_whether_all_is_well(daemon: DaemonProcess) -> None:
    text = said(daemon, "stats")
    assert text.startswith("Healthy")
    assert "since ever:" in text
    assert body(daemon, "stats")["slots"]["total"] == 4
    assert "the configuration is valid" in said(daemon, "check")


def test_a_list_for_programs_is_the_answer_of_the_api(daemon: DaemonProcess) -> None:
    for words, target in (
        (("queues",), "/api/v1/queues"),
        (("watches",), "/api/v1/watches"),
        (("files", "files"), "/api/v1/watches/files/files"),
    ):
        assert body(daemon, *words)["items"] == daemon.api.get(target).body["items"]


def test_over_an_url_only_what_needs_no_login(daemon: DaemonProcess) -> None:
    refused = daemon.pq("--url", daemon.url, "jobs")
    assert refused.returncode == 1
    assert "without a login" in refused.stderr


def test_a_reader_that_has_seen_enough(daemon: DaemonProcess) -> None:
    with running(daemon, "tail") as following:
        assert following.stdout is not None
        following.stdout.close()
        a_job(daemon, "fail")
        assert following.wait(20) == 0
        assert following.stderr is not None
        assert b"Traceback" not in following.stderr.read()


# --- tail ----------------------------------------------------------------------------------------


def test_tail_tells_what_happens(daemon: DaemonProcess) -> None:
    with running(daemon, "tail") as following:
        job = a_job(daemon, "fail")
        read = read_until(following, f"job {job}".encode())
        read += read_until(following, b"job.failed")
        assert b"job.accepted" in read or b"job.queued" in read
        following.send_signal(signal.SIGINT)
        assert following.wait(20) == 0


def test_tail_goes_on_over_a_restart_and_says_what_is_missing(tmp_path: Path) -> None:
    with DaemonProcess(tmp_path) as daemon:
        daemon.drop("a.txt")
        wait_for(lambda: daemon.api.jobs("&state=succeeded"))
        with running(daemon, "tail") as following:
            read_until(following, b"job.succeeded")
            assert daemon.stop() == 0
            daemon.start()
            daemon.drop("b.txt", "after the restart\n")
            read_until(following, b"job.succeeded")
            following.send_signal(signal.SIGINT)
            assert following.stderr is not None
            told = following.stderr.read().decode()
            assert "trying again" in told
            assert "some events are missing here" in told
