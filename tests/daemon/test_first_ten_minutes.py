"""The commands a newcomer meets first, and those that answer "why?", with real daemons."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from pq_daemon.cli import recipes
from tests.support.daemon_process import HASH_QUEUE, DaemonProcess
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


# --- explain and process -------------------------------------------------------------------------


def test_explain_tells_the_ledger_and_the_jobs_and_process_adds_one(daemon: DaemonProcess) -> None:
    path = daemon.drop("letter.txt", "dear all\n")
    [first] = wait_for(lambda: daemon.api.jobs("&search=letter.txt&state=succeeded"))
    text = said(daemon, "explain", str(path))
    assert text.startswith(f"{path}\n  It has had job {first['id']} (succeeded).")
    assert f"runs     sha256sum -- {path}" in text
    again = body(daemon, "process", str(path))
    assert (again["relpath"], again["sha256"]) == ("letter.txt", first["sha256"])
    wait_for(lambda: daemon.api.job(again["id"])["state"] == "succeeded")
    seen = body(daemon, "explain", str(path))
    assert [job["id"] for job in seen["jobs"]] == [again["id"], first["id"]]
    assert seen["ledger"]["job"] == again["id"]
    [entry] = daemon.api.get("/api/v1/audit?limit=1").body["items"]
    assert (entry["action"], entry["target"]) == ("file.process", f"job {again['id']}")


def test_explain_says_why_a_file_waits_or_is_left_alone(daemon: DaemonProcess) -> None:
    empty, part = daemon.files / "empty.txt", daemon.files / "big.iso.part"
    empty.touch()
    part.write_text("half\n")
    wait_for(lambda: "empty" in said(daemon, "files", "files", "--state", "waiting"))
    assert "It waits: it is empty" in said(daemon, "explain", str(empty))
    assert "It is not picked up: left alone" in said(daemon, "explain", str(part))
    assert "no watch looks there" in said(daemon, "explain", "/etc/hostname")


def test_what_cannot_be_processed_again(daemon: DaemonProcess) -> None:
    empty = daemon.files / "nothing.txt"
    empty.touch()
    refused = daemon.pq("process", str(empty))
    assert refused.returncode == 1
    assert f"never accepted: it is no known version; why: pq explain {empty}" in refused.stderr
    assert "no watch looks there" in daemon.pq("process", "/etc/hostname").stderr
    gone = daemon.pq("process", str(daemon.files / "gone.txt"))
    assert (gone.returncode, "No such file" in gone.stderr) == (1, True)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"relpath": "../config.toml"}, 400),
        ({"relpath": "out/config.toml"}, 400),
        ({"relpath": "/etc/hostname"}, 400),
        ({"relpath": "link.txt"}, 400),
        ({"relpath": 5}, 400),
        ({"relpath_b64": "%"}, 400),
        ({}, 400),
    ],
)
def test_nothing_outside_of_a_watch_is_processed(
    daemon: DaemonProcess, asked: dict[str, Any], status: int
) -> None:
    for name, target in (("out", daemon.directory), ("link.txt", daemon.config)):
        if not (daemon.files / name).is_symlink():
            (daemon.files / name).symlink_to(target)
    answer = daemon.api.post("/api/v1/watches/files/files/process", asked)
    assert answer.status == status, answer.content


def test_a_name_that_is_not_utf_8_is_explained_and_processed(daemon: DaemonProcess) -> None:
    path = bytes(daemon.files) + b"/na\xefve.txt"
    with open(path + b".part", "wb") as file:  # noqa: PTH123 - the name is bytes
        file.write(b"text\n")
    os.rename(path + b".part", path)  # noqa: PTH104
    name = path.decode("utf-8", "surrogateescape")
    wait_for(lambda: "It has had job" in said(daemon, "explain", name), timeout=20)
    assert body(daemon, "process", name)["relpath"] == "na\\udcefve.txt"


def test_explain_without_a_daemon_looks_for_itself(tmp_path: Path) -> None:
    daemon = DaemonProcess(tmp_path)
    path = daemon.drop(".hidden")
    done = daemon.pq("explain", str(path))
    assert done.returncode == 0
    assert "It is not picked up" in done.stdout
    assert "ledger" not in done.stdout
    assert "as no daemon could be asked" in done.stderr
    assert json.loads(daemon.pq("--json", "explain", str(path)).stdout)["watch"] == "files"


# --- init ----------------------------------------------------------------------------------------


def initialised(directory: Path, kind: str) -> DaemonProcess:
    """A daemon whose configuration is what `pq init` wrote."""
    daemon = DaemonProcess(directory, state_dir=directory / "data/state")
    daemon.config.unlink()
    done = daemon.pq("init", "--folder", "files", "--do", kind)
    assert done.returncode == 0, done.stderr
    return daemon


def the_end_of(daemon: DaemonProcess) -> dict[str, Any]:
    [job] = wait_for(lambda: daemon.api.jobs("&state=succeeded&state=failed"), timeout=20)
    return dict(job)


def test_a_checksum_with_nothing_but_the_three_commands(tmp_path: Path) -> None:
    daemon = initialised(tmp_path, "hash")
    assert daemon.pq("check").returncode == 0
    with daemon:
        daemon.drop("a.txt", "hello\n")
        job = the_end_of(daemon)
        assert daemon.pq("logs", job["id"]).stdout.startswith("5891b5b522d5df086d0ff0b110fbd9d2")


def test_the_python_function_that_init_writes_works(tmp_path: Path) -> None:
    daemon = initialised(tmp_path, "python")
    assert daemon.pq("check").returncode == 0
    with daemon:
        daemon.drop("a.txt", "one\ntwo\n")
        job = the_end_of(daemon)
        assert (job["state"], job["result"]) == ("succeeded", {"lines": 2}), job


PICTURE = (
    "convert", "-size", "900x200", "xc:white", "-font", "DejaVu-Sans", "-pointsize", "72",
    "-fill", "black",
    "-gravity", "center", "-annotate", "0", "INVOICE 4711",
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "result"), [("ocr", "text/a b.txt"), ("thumbnails", "thumbnails/a b.jpg")]
)
def test_pictures(tmp_path: Path, kind: str, result: str) -> None:
    missing = recipes.recipe(kind).missing
    if missing or not _draws(tmp_path / "drawn.png"):
        pytest.skip(f"{missing or 'ImageMagick'} is not installed")
    daemon = initialised(tmp_path, kind)
    assert daemon.pq("check").returncode == 0
    with daemon:
        daemon.drop("a b.png", (tmp_path / "drawn.png").read_bytes())
        job = the_end_of(daemon)
        assert job["state"] == "succeeded", job
    made = (tmp_path / result).read_bytes()
    if kind == "ocr":
        assert b"INVOICE 4711" in made
    else:
        assert made.startswith(b"\xff\xd8\xff")


def _draws(path: Path) -> bool:
    try:
        return not subprocess.run([*PICTURE, str(path)], check=False, timeout=30).returncode
    except FileNotFoundError:
        return False
