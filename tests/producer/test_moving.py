"""Putting a file away: only the job's own file, never over another, and again after any crash."""

from __future__ import annotations

import hashlib
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pq_daemon.jobs.model import FileVersion, JobId, WatchName
from pq_daemon.producer import moving
from pq_daemon.producer.moving import DONE, GONE_AWAY, SUPERSEDED, Done, dispose, names_for
from pq_daemon.producer.readiness import identity_of
from pq_daemon.store.protocol import Disposition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def job_on(root: Path, relpath: str, *, kind: str = "move", to: str = "done") -> Disposition:
    """An after-action for a file as it is now."""
    path = root / relpath
    version = FileVersion(
        WatchName("files"),
        bytes(root),
        relpath.encode(),
        identity_of(path.lstat()),
        inodes_count=True,
        sha256=hashlib.sha256(path.read_bytes()).digest(),
    )
    return Disposition(JobId(7), kind, bytes(root / to), version)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sub" / "report.pdf"
    path.parent.mkdir()
    path.write_text("content")
    return path


@pytest.fixture
def move(tmp_path: Path, file: Path) -> Disposition:
    assert file.exists()
    return job_on(tmp_path, "sub/report.pdf")


def test_moved_with_its_folders(tmp_path: Path, move: Disposition, file: Path) -> None:
    target = tmp_path / "done/sub/report.pdf"
    assert dispose(move, root_is_there=True) == Done(DONE, bytes(target))
    assert target.read_text() == "content"
    assert not file.exists()


def test_a_taken_name_gets_a_number_and_nothing_is_overwritten(
    tmp_path: Path, move: Disposition
) -> None:
    done = tmp_path / "done/sub"
    done.mkdir(parents=True)
    (done / "report.pdf").write_text("one")
    (done / "report-2.pdf").mkdir()
    assert dispose(move, root_is_there=True).target == bytes(done / "report-3.pdf")
    assert (done / "report.pdf").read_text() == "one"
    assert (done / "report-3.pdf").read_text() == "content"


def test_a_deleted_file_is_gone(tmp_path: Path, file: Path) -> None:
    assert dispose(job_on(tmp_path, "sub/report.pdf", kind="delete"), root_is_there=True) == Done(
        DONE
    )
    assert not file.exists()


def _rewrite(file: Path) -> None:
    file.write_text("changed")


def _exchange(file: Path) -> None:
    file.unlink()
    file.write_text("another file")


def _make_a_directory_of_it(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _make_a_link_of_it(file: Path) -> None:
    file.rename(file.with_name("real"))
    file.symlink_to("real")


@pytest.mark.parametrize("kind", ["move", "delete"])
@pytest.mark.parametrize(
    "change", [_rewrite, _exchange, _make_a_directory_of_it, _make_a_link_of_it]
)
def test_what_is_not_the_jobs_file_any_more_is_left_alone(
    tmp_path: Path, file: Path, kind: str, change: Callable[[Path], None]
) -> None:
    wanted = job_on(tmp_path, "sub/report.pdf", kind=kind)
    change(file)
    assert dispose(wanted, root_is_there=True).result == SUPERSEDED
    assert os.path.lexists(file)


@pytest.mark.parametrize("kind", ["move", "delete"])
def test_a_time_set_late_is_the_same_file(tmp_path: Path, file: Path, kind: str) -> None:
    wanted = job_on(tmp_path, "sub/report.pdf", kind=kind)
    os.utime(file, (1, 1))
    assert dispose(wanted, root_is_there=True).result == DONE
    assert not file.exists()


@pytest.mark.parametrize("kind", ["move", "delete"])
def test_a_file_somebody_writes_waits(tmp_path: Path, file: Path, kind: str) -> None:
    wanted = job_on(tmp_path, "sub/report.pdf", kind=kind)
    with file.open("r+b"):
        done = dispose(wanted, root_is_there=True)
    assert done == Done(None, reason="open for writing")
    assert file.exists()


@pytest.mark.parametrize("kind", ["move", "delete"])
def test_gone_is_gone_unless_its_folder_is(tmp_path: Path, file: Path, kind: str) -> None:
    wanted = job_on(tmp_path, "sub/report.pdf", kind=kind)
    file.unlink()
    assert dispose(wanted, root_is_there=True).result == GONE_AWAY
    assert dispose(wanted, root_is_there=False).result is None


def test_a_crash_after_the_rename(tmp_path: Path, move: Disposition, file: Path) -> None:
    target = tmp_path / "done/sub/report.pdf"
    target.parent.mkdir(parents=True)
    file.rename(target)
    assert dispose(move, root_is_there=True) == Done(DONE, bytes(target))


def test_a_crash_after_the_rename_and_a_new_file_of_that_name(
    tmp_path: Path, move: Disposition, file: Path
) -> None:
    target = tmp_path / "done/sub/report.pdf"
    target.parent.mkdir(parents=True)
    file.rename(target)
    file.write_text("content")
    assert dispose(move, root_is_there=True) == Done(DONE, bytes(target))
    assert file.exists()


def test_what_cannot_be_done_is_told_and_can_be_tried_again(
    tmp_path: Path, move: Disposition, file: Path
) -> None:
    (tmp_path / "done").write_text("in the way")
    done = dispose(move, root_is_there=True)
    assert done.result is None
    assert done.reason
    assert file.exists()
    (tmp_path / "done").unlink()
    assert dispose(move, root_is_there=True).result == DONE


# --- without renameat2, without links, across file systems ----------------------------------------


@pytest.fixture
def no_renameat2(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on FUSE: the flag is not known."""
    monkeypatch.setattr(moving, "RENAME_NOREPLACE", 1 << 20)


@pytest.mark.usefixtures("no_renameat2")
def test_moved_by_a_link_where_the_kernel_cannot(tmp_path: Path, move: Disposition) -> None:
    done = tmp_path / "done/sub"
    done.mkdir(parents=True)
    (done / "report.pdf").write_text("one")
    assert dispose(move, root_is_there=True).target == bytes(done / "report-2.pdf")
    assert (done / "report.pdf").read_text() == "one"


def test_moved_over_a_placeholder_where_there_are_no_links(tmp_path: Path, file: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("one")
    with pytest.raises(FileExistsError):
        moving._take_over_placeholder(bytes(file), bytes(taken))
    moving._take_over_placeholder(bytes(file), bytes(tmp_path / "free"))
    assert (tmp_path / "free").read_text() == "content"
    assert taken.read_text() == "one"
    with pytest.raises(FileNotFoundError):
        moving._take_over_placeholder(bytes(file), bytes(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


@contextmanager
def another_file_system(where: Path) -> Iterator[None]:
    where.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "pq-test", os.fspath(where)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"CANNOT MOUNT A TMPFS, SO MOVES ACROSS ARE NOT TESTED: {done.stderr}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", os.fspath(where)], check=True)


def test_across_file_systems(tmp_path: Path, move: Disposition, file: Path) -> None:
    file.chmod(0o640)
    os.utime(file, ns=(10**18, 10**18))
    with another_file_system(tmp_path / "done"):
        (tmp_path / "done/sub").mkdir()
        (tmp_path / "done/sub/report.pdf").write_text("one")
        target = tmp_path / "done/sub/report-2.pdf"
        assert dispose(move, root_is_there=True) == Done(DONE, bytes(target))
        assert target.read_text() == "content"
        assert (target.stat().st_mode & 0o777, target.stat().st_mtime_ns) == (0o640, 10**18)
        assert sorted(os.listdir(target.parent)) == ["report-2.pdf", "report.pdf"]  # noqa: PTH208
    assert not file.exists()


def test_across_file_systems_after_a_crash_at_each_step(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = job_on(tmp_path, "sub/report.pdf")
    with another_file_system(tmp_path / "done"):
        done = tmp_path / "done/sub"
        for step in ("place", "sync"):
            with monkeypatch.context() as crash:
                crash.setattr(moving, step, _crash_unless_renaming_here)
                with pytest.raises(KeyboardInterrupt):
                    dispose(wanted, root_is_there=True)
            assert file.exists()
        assert (done / "report.pdf").read_text() == "content"
        assert dispose(wanted, root_is_there=True) == Done(DONE, bytes(done / "report.pdf"))
        assert not file.exists()
        assert dispose(wanted, root_is_there=True) == Done(DONE, bytes(done / "report.pdf"))
        assert os.listdir(done) == ["report.pdf"]  # noqa: PTH208


_place = moving.place


def _crash_unless_renaming_here(*arguments: bytes) -> bytes:
    """The first try to rename says EXDEV, as ever; what comes after it crashes."""
    if len(arguments) == 2 and not os.path.basename(arguments[0]).startswith(b".pq-"):  # noqa: PTH119
        return _place(*arguments)
    raise KeyboardInterrupt


def test_a_full_target_leaves_the_source_and_no_litter(tmp_path: Path, file: Path) -> None:
    file.write_bytes(os.urandom(3 * 2**20))
    wanted = job_on(tmp_path, "sub/report.pdf")
    with another_file_system(tmp_path / "done"):
        done = dispose(wanted, root_is_there=True)
        assert (done.result, done.reason) == (None, "No space left on device")
        assert os.listdir(tmp_path / "done/sub") == []  # noqa: PTH208
    assert file.exists()


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "second"),
    [
        (b"a.pdf", b"a-2.pdf"),
        (b"a", b"a-2"),
        (b".hidden", b".hidden-2"),
        (b"a.tar.gz", b"a.tar-2.gz"),
        (b"x" * 255, b"x" * 253 + b"-2"),
        (b"x" * 251 + b".pdf", b"x" * 249 + b"-2.pdf"),
    ],
)
def test_the_second_name(name: bytes, second: bytes) -> None:
    names = names_for(b"/d/" + name)
    assert next(names) == b"/d/" + name
    assert next(names) == b"/d/" + second


@given(st.binary(min_size=1, max_size=255).filter(lambda n: b"/" not in n and b"\0" not in n))
def test_names_fit_and_differ(name: bytes) -> None:
    names = names_for(b"/d/" + name)
    first = [next(names) for _ in range(12)]
    assert len(set(first)) == 12
    assert all(len(n) - 3 <= 255 and n.startswith(b"/d/") and b"/" not in n[3:] for n in first)
