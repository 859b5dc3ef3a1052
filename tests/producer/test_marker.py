"""Files that wait for their marker, and markers that go where their files go."""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING

from pq_daemon.jobs.model import JobId
from pq_daemon.producer import intake, moving
from pq_daemon.producer.folders import watch_folders
from pq_daemon.producer.moving import DONE, GONE_AWAY, SUPERSEDED, dispose
from pq_daemon.producer.readiness import identity_of
from pq_daemon.store.protocol import Disposition, FileState
from tests.producer.folder import a_watch, all_jobs, count, jobs_of, reason, settings_of
from tests.producer.runner import has_accepted
from tests.support.builders import a_file
from tests.support.waiting import wait_until

JOB = JobId(7)

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from pq_daemon.store.protocol import Store
    from tests.producer.conftest import Watching


async def says(store: Store, path: Path, words: str) -> bool:
    return await reason(store, path) == words


async def test_a_file_waits_for_its_marker(watching: Watching, store: Store, root: Path) -> None:
    async with watching(marker=".done"):
        (root / "a.csv").write_text("a")
        await wait_until(partial(says, store, root / "a.csv", "waiting for a.csv.done"))
        (root / "b.csv.done").touch()
        await wait_until(partial(says, store, root / "b.csv.done", "marker"))
        assert await all_jobs(store) == []
        (root / "a.csv.done").touch()
        (root / "b.csv").write_text("b")
        await wait_until(partial(has_accepted, store, 2))
        await wait_until(partial(says, store, root / "a.csv.done", "marker"))
        assert await count(store, FileState.IGNORED) == 2
    assert len(await all_jobs(store)) == 2


async def test_a_file_that_has_waited_long_is_woken_by_its_marker(
    watching: Watching, store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has left the desk; an event about its marker is one about it."""
    monkeypatch.setattr(intake, "PARK_AFTER", 0.0)
    async with watching(marker=".done") as producer:
        (root / "a").write_text("a")
        await wait_until(partial(says, store, root / "a", "waiting for a.done"))
        await wait_until(lambda: producer.waiting() == 0)
        (root / "a.done").touch()
        await wait_until(partial(has_accepted, store, 1), timeout=5)


async def test_a_directory_is_no_marker_and_filters_are_for_files(
    store: Store, root: Path, tmp_path: Path
) -> None:
    settings = settings_of(
        tmp_path / "state",
        a_watch(root, name="csv", include=("*.csv",), marker=".done"),
        a_watch(root, name="rest"),
    )
    (root / "a.csv.done").mkdir()
    async with watch_folders(settings, store):
        (root / "a.csv").write_text("x")
        (root / "b.csv").write_text("x")
        (root / "b.csv.done").touch()
        (root / "c.txt.done").write_text("x")
        await wait_until(partial(says, store, root / "a.csv", "waiting for a.csv.done"))
        await wait_until(partial(has_accepted, store, 2))
        await wait_until(partial(says, store, root / "b.csv.done", "marker"))
    assert len(await jobs_of(store, root / "b.csv")) == 1
    assert len(await jobs_of(store, root / "c.txt.done")) == 1


# --- after-actions -------------------------------------------------------------------------------


def disposition(file: Path, kind: str, directory: Path | None = None) -> Disposition:
    version = a_file(
        file.name.encode(),
        root=bytes(file.parent),
        identity=identity_of(file.lstat()),
        sha256=None,
    )
    return Disposition(JOB, kind, b"" if directory is None else bytes(directory), version)


def a_pair(root: Path) -> tuple[Path, Path]:
    file, marker = root / "a.csv", root / "a.csv.done"
    file.write_text("a")
    marker.touch()
    return file, marker


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_a_marker_is_moved_with_its_file(root: Path, tmp_path: Path) -> None:
    file, _ = a_pair(root)
    target = tmp_path / "done"
    target.mkdir()
    (target / "a.csv").write_text("another")
    assert dispose(disposition(file, "move", target), True, b".done").result == DONE
    assert names(target) == {"a.csv", "a-2.csv", "a-2.csv.done"}
    assert names(root) == set()


def test_a_marker_is_deleted_with_its_file(root: Path) -> None:
    file, _ = a_pair(root)
    assert dispose(disposition(file, "delete"), True, b".done").result == DONE
    assert names(root) == set()


def test_killed_between_the_file_and_its_marker(root: Path, tmp_path: Path) -> None:
    file, _ = a_pair(root)
    target = tmp_path / "done"
    move, delete = disposition(file, "move", target), disposition(file, "delete")
    assert dispose(move, True).result == DONE
    assert dispose(move, True, b".done").result == DONE
    assert names(target) == {"a.csv", "a.csv.done"}
    a_pair(root)[0].unlink()
    assert dispose(delete, True, b".done").result == GONE_AWAY
    assert names(root) == set()


def test_the_marker_of_the_next_file_stays(root: Path, tmp_path: Path) -> None:
    file, _ = a_pair(root)
    target = tmp_path / "done"
    move = disposition(file, "move", target)
    assert dispose(move, True).result == DONE
    file.write_text("the next one")
    assert dispose(move, True, b".done").result in {DONE, SUPERSEDED}
    assert names(root) == {"a.csv", "a.csv.done"}


def test_a_marker_goes_to_another_file_system(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = moving.rename_noreplace

    def across(source: bytes, target: bytes) -> None:
        if source.rpartition(b"/")[0] != target.rpartition(b"/")[0]:
            raise OSError(errno.EXDEV, "another file system")
        real(source, target)

    monkeypatch.setattr(moving, "rename_noreplace", across)
    file, target = a_pair(root)[0], tmp_path / "done"
    assert dispose(disposition(file, "move", target), True, b".done").result == DONE
    assert names(target) == {"a.csv", "a.csv.done"}
    assert names(root) == set()
