"""The lease, and what it cannot tell; hashing; who may not read. On real files, in real threads."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pq_daemon.producer import readiness
from pq_daemon.producer.readiness import (
    Lease,
    Question,
    Verdict,
    ask_lease,
    examine,
    examine_one,
    identity_of,
)
from pq_daemon.producer.roots import KINDS, Settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from pq_daemon.producer.readiness import Answer

GO_ON = threading.Event()
NOBODY = 65534
SYS_SETRESUID = {"x86_64": 117, "aarch64": 147}.get(os.uname().machine)


def question(path: Path, *, unchanged: float = 60, settle: Settle | None = None) -> Question:
    return Question(bytes(path), identity_of(path.lstat()), unchanged, settle or Settle(0.1))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def test_a_closed_file_is_ready_with_its_hash(file: Path) -> None:
    answer = examine_one(question(file), GO_ON)
    assert answer.verdict is Verdict.READY
    assert answer.sha256 == hashlib.sha256(b"content").digest()
    assert answer.identity == identity_of(file.lstat())


def test_readers_do_not_matter(file: Path) -> None:
    with file.open("rb"):
        assert examine_one(question(file), GO_ON).verdict is Verdict.READY


def _open(file: Path) -> Callable[[], None]:
    return file.open("r+b").close


def _open_by_another_link(file: Path) -> Callable[[], None]:
    (file.parent / "link").hardlink_to(file)
    return (file.parent / "link").open("r+b").close


def _mapped(file: Path) -> Callable[[], None]:
    with file.open("r+b") as opened:
        return mmap.mmap(opened.fileno(), 0).close


@pytest.mark.parametrize("hold", [_open, _open_by_another_link, _mapped])
def test_a_writer_is_seen_whichever_way_it_holds_the_file(
    file: Path, hold: Callable[[Path], Callable[[], None]]
) -> None:
    let_go = hold(file)
    asked = question(file)
    assert examine_one(asked, GO_ON).verdict is Verdict.BUSY
    let_go()
    assert examine_one(asked, GO_ON).verdict is Verdict.READY


def test_a_change_since_the_question(file: Path) -> None:
    asked = question(file)
    file.write_bytes(b"changed")
    answer = examine_one(asked, GO_ON)
    assert (answer.verdict, answer.identity) == (Verdict.CHANGED, identity_of(file.lstat()))


def test_a_change_while_it_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, digest = question(file), readiness.digest

    def slow_digest(fd: int, stopping: threading.Event) -> bytes | None:
        found = digest(fd, stopping)
        file.write_bytes(b"changed")
        return found

    monkeypatch.setattr(readiness, "digest", slow_digest)
    assert examine_one(asked, GO_ON).verdict is Verdict.CHANGED


def test_a_writer_that_comes_while_it_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, digest = question(file), readiness.digest
    held = []

    def slow_digest(fd: int, stopping: threading.Event) -> bytes | None:
        held.append(file.open("r+b"))
        return digest(fd, stopping)

    monkeypatch.setattr(readiness, "digest", slow_digest)
    assert examine_one(asked, GO_ON).verdict is Verdict.BUSY
    held.pop().close()


def test_another_file_moved_into_its_place_while_it_is_read(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, digest = question(file), readiness.digest

    def slow_digest(fd: int, stopping: threading.Event) -> bytes | None:
        (file.parent / "other").write_bytes(b"another")
        (file.parent / "other").rename(file)
        return digest(fd, stopping)

    monkeypatch.setattr(readiness, "digest", slow_digest)
    assert examine_one(asked, GO_ON).verdict is Verdict.CHANGED


def test_what_is_no_file(tmp_path: Path, file: Path) -> None:
    """Opening a pipe must not wait for its other end."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "directory").mkdir()
    for name in ("pipe", "link", "directory"):
        assert examine_one(question(tmp_path / name), GO_ON).verdict is Verdict.NOT_A_FILE, name


def test_what_is_gone(file: Path) -> None:
    asked = question(file)
    file.unlink()
    assert examine_one(asked, GO_ON).verdict is Verdict.GONE


def test_an_empty_file_needs_longer(file: Path) -> None:
    file.write_bytes(b"")
    early = examine_one(question(file, unchanged=1.9), GO_ON)
    assert (early.verdict, early.wait) == (Verdict.EARLY, 2.0)
    assert examine_one(question(file, unchanged=2), GO_ON).verdict is Verdict.READY


def test_on_a_shared_file_system_the_lease_is_not_asked(file: Path) -> None:
    with file.open("r+b") as held:
        assert ask_lease(held.fileno()) is Lease.BUSY
        for kind in KINDS.values():
            assert (ask_lease(held.fileno(), kind) is Lease.UNTOLD) == kind.shared


def test_stopping_ends_a_long_hash(file: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate(10 * 2**30)
    asked, stopping = question(file), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        answering = pool.submit(examine, [asked, asked], stopping)
        stopping.set()
        assert [answer.verdict for answer in answering.result(10)] == [Verdict.STOPPED] * 2


# --- files of other people -----------------------------------------------------------------------


def as_nobody(work: Callable[[], Answer]) -> Answer:
    """Run in a thread that has another user's rights: the raw call changes this thread alone."""
    if os.geteuid() != 0 or SYS_SETRESUID is None:
        pytest.skip("only root can be somebody else")
    libc = ctypes.CDLL(None, use_errno=True)

    def disguised() -> Answer:
        assert libc.syscall(SYS_SETRESUID, -1, NOBODY, -1) == 0
        try:
            return work()
        finally:
            assert libc.syscall(SYS_SETRESUID, -1, 0, -1) == 0

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(disguised).result(10)


@pytest.fixture
def open_to_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that other users can reach; the usual one is closed to them."""
    path = tmp_path_factory.mktemp("open")
    for directory in (path, *path.parents):
        if directory.stat().st_mode & 0o001 == 0:
            directory.chmod(directory.stat().st_mode | 0o055)
    return path


def test_another_owners_file_is_readable_but_not_ours_to_lease(open_to_all: Path) -> None:
    file = open_to_all / "file"
    file.write_bytes(b"content")
    file.chmod(0o644)
    early = as_nobody(lambda: examine_one(question(file, unchanged=1.0), GO_ON))
    assert (early.verdict, early.wait) == (Verdict.EARLY, 2.0)
    ready = as_nobody(lambda: examine_one(question(file, unchanged=2.0), GO_ON))
    assert ready.verdict is Verdict.READY


def test_a_file_we_may_not_read_says_whose_it_is(open_to_all: Path) -> None:
    file = open_to_all / "file"
    file.write_bytes(b"content")
    file.chmod(0o600)
    answer = as_nobody(lambda: examine_one(question(file), GO_ON))
    assert answer.verdict is Verdict.UNREADABLE
    assert answer.reason == "unreadable: owner root, mode 0600"


# --- the danger of the lease ----------------------------------------------------------------------


def test_breaking_our_lease_does_not_kill_us(tmp_path: Path) -> None:
    """Without F_SETSIG the kernel's SIGIO ends the process; a child shows both."""
    file = tmp_path / "file"
    file.write_bytes(b"x")
    program = """
import fcntl, os, signal, subprocess, sys
from pq_daemon.producer.readiness import F_SETSIG
fd = os.open(sys.argv[1], os.O_RDONLY)
if sys.argv[2] == "safe":
    fcntl.fcntl(fd, F_SETSIG, signal.SIGURG)
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
writer = subprocess.Popen([sys.executable, "-c", f"open({sys.argv[1]!r}, 'r+b')"])
while fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK: pass
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
sys.exit(writer.wait())
"""
    ends = [
        subprocess.run(
            [sys.executable, "-c", program, str(file), how],
            check=False,
            cwd=Path(__file__).parents[2],
            timeout=50,
        ).returncode
        for how in ("safe", "unsafe")
    ]
    assert ends == [0, -signal.SIGIO]
