# ruff: noqa: ASYNC240 - a test makes and moves small files where it stands
"""What happens to the watched directory itself: gone, back, renamed away, replaced, unmounted.

Nothing vanishes because its root did, and what is dropped into the directory that stands there is
taken, whatever stood there before.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

import pytest

from pq_daemon.jobs.order import Moment
from pq_daemon.jobs.status import WatchState
from pq_daemon.producer import roots
from pq_daemon.producer.folders import watch_folders
from pq_daemon.producer.grounds import scan_interval
from pq_daemon.producer.plan import make_plan
from pq_daemon.producer.reconcile import _gone_from
from pq_daemon.producer.roots import KINDS, LOCAL, Filesystem, Settle
from pq_daemon.store.protocol import FileState, LedgerEntry
from tests.producer.folder import (
    FILES,
    a_watch,
    accepted,
    all_jobs,
    count,
    jobs_of,
    on_disk,
    settings_of,
)
from tests.support.builders import an_identity
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pq_daemon.producer.folders import Producer
    from pq_daemon.store.protocol import Store
    from tests.producer.conftest import Watching


async def is_missing(producer: Producer, words: str = "missing") -> None:
    await wait_until(
        lambda: (
            producer.statuses()[0].state is WatchState.MISSING
            and words in producer.statuses()[0].reason
        ),
        what=f"the watch to be red: {words}",
    )


async def is_well(producer: Producer) -> None:
    await wait_until(lambda: producer.statuses()[0].state is WatchState.OK)


async def are_taken(store: Store, number: int) -> None:
    async def are_so() -> bool:
        return len(await all_jobs(store)) == number

    await wait_until(are_so, what=f"{number} jobs")


async def test_a_missing_root_is_red_and_never_made(
    watching: Watching, store: Store, root: Path
) -> None:
    root.rmdir()
    async with watching() as producer:
        await is_missing(producer)
        assert not root.exists()
        root.mkdir()
        (root / "a").write_text("a")
        await are_taken(store, 1)
        await is_well(producer)


async def test_removed_and_made_again(watching: Watching, store: Store, root: Path) -> None:
    """The watcher is silent for ever after; ext4 gives the new directory the old inode number."""
    async with watching() as producer:
        (root / "a").write_text("a")
        await are_taken(store, 1)
        shutil.rmtree(root)
        root.mkdir()
        (root / "b").write_text("b")
        await are_taken(store, 2)
        (root / "c").write_text("c")
        await are_taken(store, 3)
        await is_well(producer)


async def test_renamed_away_nothing_vanishes_and_back_nothing_runs_again(
    watching: Watching, store: Store, root: Path
) -> None:
    """The watcher goes on telling of the old directory under the old path: phantoms."""
    for number in range(20):
        (root / f"{number}").write_text(f"{number}")
    away = root.with_name("away")
    async with watching() as producer:
        await are_taken(store, 20)
        root.rename(away)
        (away / "phantom").write_text("phantom")
        (away / "3").unlink()
        await is_missing(producer)
        assert await count(store, FileState.VANISHED) == 0
        (away / "phantom").unlink()
        away.rename(root)
        await is_well(producer)

        async def three_is_gone() -> bool:
            return await count(store, FileState.VANISHED) == 1

        await wait_until(three_is_gone)
    assert len(await all_jobs(store)) == 20


async def test_replaced_by_an_empty_directory_nothing_vanishes_even_over_a_restart(
    watching: Watching, store: Store, root: Path
) -> None:
    """As an unmounted disk leaves one: its files are elsewhere, not gone."""
    for number in range(20):
        (root / f"{number}").write_text(f"{number}")
    away = root.with_name("away")
    path = bytes(root)
    async with watching() as producer:
        await are_taken(store, 20)
        accepted_at = store.now()
        assert producer.out_of_reach(path, accepted_at) == ""
        root.rename(away)
        await wait_until(lambda: producer.out_of_reach(path, accepted_at) == "missing")
        root.mkdir()
        await is_missing(producer, "20 known files are not in it")
        assert "another directory" in producer.out_of_reach(path, accepted_at)
        assert producer.out_of_reach(path, store.now()) == ""
    async with watching() as producer:
        await is_missing(producer, "20 known files are not in it")
        (root / "new").write_text("new")
        await are_taken(store, 21)
        await is_well(producer)
        (root / "new").unlink()

        async def new_is_gone() -> bool:
            return await count(store, FileState.VANISHED) == 1

        await wait_until(new_is_gone)
    root.rmdir()
    away.rename(root)
    async with watching() as producer:
        await is_well(producer)
        (root / "last").write_text("last")
        await are_taken(store, 22)
    assert await count(store, FileState.ACCEPTED) == 21


@contextmanager
def mounted(where: Path) -> Iterator[None]:
    """A tmpfs mounted at `where`; skips, loudly, where we may not."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "pq-test", os.fspath(where)]
    done = subprocess.run(mount, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"CANNOT MOUNT A TMPFS, SO UNMOUNTING IS NOT TESTED: {done.stderr}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", os.fspath(where)], check=False, capture_output=True)


async def test_mounted_over_and_unmounted(watching: Watching, store: Store, root: Path) -> None:
    """No event at all for either."""
    (root / "below").write_text("below")
    async with watching() as producer:
        await are_taken(store, 1)
        with mounted(root):
            (root / "on").write_text("on")
            await are_taken(store, 2)
            (root / "on2").write_text("on2")
            await are_taken(store, 3)
            await is_well(producer)
        await wait_until(lambda: "1 known files" not in producer.statuses()[0].reason)
        (root / "below2").write_text("below2")
        await are_taken(store, 4)
    assert await count(store, FileState.VANISHED) == 0


async def test_a_root_that_is_no_directory(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_text("a file")
    async with watch_folders(settings_of(tmp_path / "state", a_watch(path)), store) as producer:
        await is_missing(producer, "not a directory")


async def test_a_link_that_is_set_to_another_directory(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pq_daemon.producer.folders.FOLLOW_EVERY", 0.2)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    link = tmp_path / "in"
    link.symlink_to("one")
    async with watch_folders(settings_of(tmp_path / "state", a_watch(link)), store):
        await are_taken(store, 1)
        link.unlink()
        link.symlink_to("two")
        await are_taken(store, 2)
    assert await accepted(store) == on_disk(tmp_path / "one") + on_disk(tmp_path / "two")


def test_nothing_is_gone_from_a_root_that_is_not_the_same_any_more(tmp_path: Path) -> None:
    """The paths are looked at first, the root after them: whatever happens in between is seen."""
    root = tmp_path / "in"
    root.mkdir()
    plan = make_plan(settings_of(tmp_path / "state", a_watch(root)))
    path, before = bytes(root / "a"), roots.look(bytes(root))
    rows = [an_entry(path)]
    assert _gone_from(plan, bytes(root), before, rows, ()) == {path}
    root.rename(tmp_path / "away")
    assert _gone_from(plan, bytes(root), before, rows, ()) == frozenset()
    root.mkdir()
    assert _gone_from(plan, bytes(root), before, rows, ()) == frozenset()


def an_entry(path: bytes) -> LedgerEntry:
    identity = an_identity()
    return LedgerEntry(
        path, FILES, FileState.ACCEPTED, None, identity, identity, b"", None, False, Moment(0)
    )


def test_live_tells_directories_apart_that_share_an_inode_number(tmp_path: Path) -> None:
    path = tmp_path / "d"
    seen = set()
    for _ in range(5):
        path.mkdir()
        seen.add(roots.look(bytes(path)).live)
        path.rmdir()
    assert len(seen) == 5


async def test_a_shared_file_system_is_scanned_and_waited_for_longer(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory dressed up as NFS: no notifications, no lease, no inode numbers."""
    shared = Filesystem("NFS", shared=True, inodes_count=False, settle=5.0)
    monkeypatch.setitem(cast("dict[int, Filesystem]", KINDS), TMPFS_MAGIC, shared)
    with TemporaryDirectory(dir="/dev/shm") as name:
        root = Path(name)
        settings = settings_of(tmp_path / "state", a_watch(root))
        async with watch_folders(settings, store) as producer:
            assert producer.statuses()[0].state is WatchState.DEGRADED
            assert "NFS does not tell" in producer.statuses()[0].reason
            (root / "a").write_text("a")
            await are_taken(store, 1)
            (root / "b").write_text("a")
            (root / "b").replace(root / "a")  # another inode, as a server may give after a restart
            os.utime(root / "a", ns=(1, 1))
            (root / "c").write_text("c")
            await are_taken(store, 2)
    [job] = await jobs_of(store, root / "c")
    assert job.file is not None
    assert not job.file.inodes_count
    waited = job.created_at - job.file.identity.mtime_ns // 1_000_000
    assert waited >= 2000


TMPFS_MAGIC = 0x01021994


def test_settle_follows_what_can_be_told() -> None:
    auto, asked = Settle(), Settle(0.1)
    nfs, fuse = KINDS[0x6969], KINDS[0x65735546]
    assert auto.seconds(LOCAL, empty=False, lease_tells=True) == 1.0
    assert auto.seconds(LOCAL, empty=True, lease_tells=True) == 2.0
    assert auto.seconds(LOCAL, empty=False, lease_tells=False) == 2.0
    assert auto.seconds(nfs, empty=False, lease_tells=False) == 5.0
    assert auto.seconds(fuse, empty=True, lease_tells=False) == 10.0
    assert asked.seconds(LOCAL, empty=False, lease_tells=True) == 0.1
    assert asked.seconds(nfs, empty=False, lease_tells=False) == 2.0


@pytest.mark.parametrize(
    ("rescan", "duration", "has_events", "seconds"),
    [
        (60, 0.1, True, 60),  # a safety net, as configured
        (60, 15, True, 300),  # but it rests 20 times as long as it took
        (60, 0.01, False, 2),  # the only way to find files
        (60, 1, False, 20),
        (60, 15, False, 60),  # never slower than configured
        (60, 30, False, 120),  # unless it would work all the time
        (0.5, 0.01, False, 0.5),
    ],
)
def test_when_a_scan_is_due(
    rescan: float,
    duration: float,
    has_events: bool,
    seconds: float,
) -> None:
    assert scan_interval(rescan, duration, has_events=has_events) == pytest.approx(seconds)
