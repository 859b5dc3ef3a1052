# ruff: noqa: ASYNC240 - a test makes and moves small files where it stands
"""Every way in which notifications are known to lose files, or to die. None may lose a job.

The scan by the clock is out of reach here (`rescan` stays 60 s) unless a test says otherwise, so
what is found quickly was found by an event or by a scan that trouble called for.
"""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import shutil
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from pq_daemon.jobs.status import WatchState
from pq_daemon.producer import events
from pq_daemon.store.protocol import FileState
from tests.producer.folder import (
    FILES,
    accepted,
    all_jobs,
    count,
    entry,
    jobs_of,
    on_disk,
    reason,
    record,
)
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from pq_daemon.producer.folders import Producer
    from pq_daemon.store.protocol import Store
    from tests.producer.conftest import Watching


async def all_taken(store: Store, root: Path, *, timeout: float = 20) -> None:  # noqa: ASYNC109
    """Wait until every file below `root` has exactly one job."""
    wanted = await asyncio.to_thread(on_disk, root)

    async def is_so() -> bool:
        return await accepted(store) == wanted

    await wait_until(is_so, timeout=timeout, what=f"{len(wanted)} files to be taken once")


async def survey_is_over(producer: Producer) -> None:
    await wait_until(lambda: all(status.last_scan for status in producer.statuses()))


async def test_a_file_in_directories_made_at_once(
    watching: Watching, store: Store, root: Path
) -> None:
    """A new directory is watched a moment late; what came before told nobody."""
    async with watching() as producer:
        await survey_is_over(producer)
        for number in range(40):
            deep = root / f"{number}/b/c"
            deep.mkdir(parents=True)
            (deep / "file").write_text(f"{number}")
        await all_taken(store, root)


async def test_a_populated_directory_moved_in(
    watching: Watching, store: Store, root: Path, tmp_path: Path
) -> None:
    """Only the directory is told, nothing of what is in it."""
    full = tmp_path / "full"
    for number in range(20):
        (full / f"{number}").mkdir(parents=True)
        (full / f"{number}" / "file").write_text(f"{number}")
    async with watching() as producer:
        await survey_is_over(producer)
        full.rename(root / "full")
        await all_taken(store, root)


async def test_a_burst_that_fills_the_kernels_queue(
    watching: Watching, store: Store, root: Path
) -> None:
    """6,000 files in one go of the loop: 24,000 kernel events where 16,384 have room."""
    async with watching() as producer:
        await survey_is_over(producer)
        await asyncio.to_thread(_write_many, root, 6_000)
        await all_taken(store, root, timeout=50)


def _write_many(root: Path, number: int) -> None:
    for place in range(number):
        (root / f"{place:05}").write_bytes(b"%d" % place)


async def test_a_batch_too_large_is_left_to_a_full_scan(
    watching: Watching, store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "FLOOD", 10)
    async with watching() as producer:
        await survey_is_over(producer)
        await asyncio.to_thread(_write_many, root, 200)
        await all_taken(store, root)
    assert (await record(store)).missed_by_events == 0


async def test_a_name_that_is_not_utf8(
    watching: Watching, store: Store, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It kills the watcher with all that was pending; the daemon scans and arms anew."""
    caplog.set_level(logging.INFO)
    bad = bytes(root) + b"/\xff\xfe\n.bin"
    async with watching() as producer:
        await survey_is_over(producer)
        (root / "good1").write_text("one")
        with open(bad, "wb") as file:  # noqa: PTH123, ASYNC230
            file.write(b"bad")
        (root / "good2").write_text("two")
        await all_taken(store, root)
        await wait_until(
            lambda: (
                any(r.message == "notifications lost" for r in caplog.records)
                and all(s.state is WatchState.OK for s in producer.statuses())
            ),
            what="the watcher to die and be armed again",
        )
        (root / "good3").write_text("three")
        await all_taken(store, root)
    [job] = await jobs_of(store, bad)
    assert job.file is not None
    assert job.file.relpath == b"\xff\xfe\n.bin"


@pytest.mark.parametrize("is_there_before", [True, False])
async def test_a_directory_whose_name_is_not_utf8(
    watching: Watching, store: Store, root: Path, is_there_before: bool
) -> None:
    """The watcher cannot even start on it: scanning alone, said so, and back when it is gone."""
    foreign = bytes(root) + b"/d\xff"
    if is_there_before:
        os.mkdir(foreign)  # noqa: PTH102
    async with watching() as producer:
        if not is_there_before:
            await survey_is_over(producer)
            os.mkdir(foreign)  # noqa: PTH102
        await wait_until(lambda: "is not UTF-8" in producer.statuses()[0].reason)
        assert producer.statuses()[0].state is WatchState.DEGRADED
        with open(foreign + b"/inside", "wb") as file:  # noqa: PTH123, ASYNC230
            file.write(b"inside")
        (root / "beside").write_text("beside")
        await all_taken(store, root)
        shutil.rmtree(foreign)
        await wait_until(lambda: producer.statuses()[0].state is WatchState.OK)


async def test_a_root_whose_name_is_not_utf8(store: Store, tmp_path: Path) -> None:
    from pq_daemon.producer.folders import watch_folders  # noqa: PLC0415
    from tests.producer.folder import a_watch, settings_of  # noqa: PLC0415

    root = tmp_path / os.fsdecode(b"r\xff")
    root.mkdir()
    async with watch_folders(settings_of(tmp_path / "state", a_watch(root)), store) as producer:
        assert producer.statuses()[0].state is WatchState.DEGRADED
        (root / "a").write_text("a")
        await all_taken(store, root)


async def test_a_write_through_a_mapping(watching: Watching, store: Store, root: Path) -> None:
    """No event at all; the scan sees the time, the lease sees the mapping."""
    file = root / "mapped"
    file.write_bytes(b"a" * 4096)
    async with watching() as producer:
        await all_taken(store, root)
        with file.open("r+b") as opened:
            mapping = mmap.mmap(opened.fileno(), 4096)
        mapping[:4] = b"half"
        producer.rescan(FILES)
        await wait_until(lambda: _waits_for_its_writer(store, file))
        mapping[4:8] = b"done"
        mapping.close()
        await wait_until(lambda: _has_jobs(store, file, 2))
    assert {job.file.sha256 for job in await jobs_of(store, file) if job.file} >= {
        digest for _, digest in on_disk(root)
    }


async def _waits_for_its_writer(store: Store, file: Path) -> bool:
    return await reason(store, file) == "open for writing"


async def _has_jobs(store: Store, file: Path, number: int) -> bool:
    return len(await jobs_of(store, file)) == number


async def test_a_write_through_a_link_outside(
    watching: Watching, store: Store, root: Path, tmp_path: Path
) -> None:
    """No event: only the scan by the clock finds it, and counts that no event had told."""
    file = root / "linked"
    file.write_text("first")
    (tmp_path / "outside").hardlink_to(file)
    async with watching(rescan="3s") as producer:
        await all_taken(store, root)
        scanned = producer.statuses()[0].last_scan or 0
        await wait_until(lambda: (producer.statuses()[0].last_scan or 0) > scanned)
        (tmp_path / "outside").write_text("second")
        await wait_until(lambda: _has_jobs(store, file, 2))
        await wait_until(lambda: _has_missed(store, 1))
    assert await accepted(store) > on_disk(root)


async def _has_missed(store: Store, number: int) -> bool:
    return (await record(store)).missed_by_events == number


async def test_what_events_tell_is_never_counted_as_missed(
    watching: Watching, store: Store, root: Path
) -> None:
    async with watching(rescan="200ms") as producer:
        for number in range(100):
            (root / f"{number}").write_text(f"{number}")
            await asyncio.sleep(0)
        await all_taken(store, root)
        scanned = producer.statuses()[0].last_scan or 0
        await wait_until(lambda: (producer.statuses()[0].last_scan or 0) > scanned + 2500)
    assert (await record(store)).missed_by_events == 0


async def test_touch_and_chmod_make_no_job(watching: Watching, store: Store, root: Path) -> None:
    file = root / "file"
    file.write_text("content")
    async with watching():
        await all_taken(store, root)
        file.chmod(0o600)
        os.utime(file, (1, 1))
        await wait_until(lambda: _is_known_as_it_is(store, file))
    assert len(await all_jobs(store)) == 1


async def _is_known_as_it_is(store: Store, file: Path) -> bool:
    """Whether the ledger has accepted the very identity that is on the disk."""
    found, stat = await entry(store, file), file.stat()
    return (
        found is not None
        and found.state is FileState.ACCEPTED
        and found.accepted is not None
        and found.accepted.ctime_ns == stat.st_ctime_ns
        and found.accepted.mtime_ns == stat.st_mtime_ns
    )


async def test_the_same_content_written_again_makes_no_job(
    watching: Watching, store: Store, root: Path, tmp_path: Path
) -> None:
    file = root / "file"
    file.write_text("content")
    async with watching():
        await all_taken(store, root)
        file.write_text("content")
        await wait_until(lambda: _is_known_as_it_is(store, file))
        (tmp_path / "other").write_text("content")
        (tmp_path / "other").rename(file)
        await wait_until(lambda: _is_known_as_it_is(store, file))
    assert len(await all_jobs(store)) == 1


async def test_new_content_makes_one_job(watching: Watching, store: Store, root: Path) -> None:
    file = root / "file"
    file.write_text("first")
    async with watching():
        await all_taken(store, root)
        file.write_text("other")
        await wait_until(lambda: _has_jobs(store, file, 2))
        await wait_until(lambda: _is_known_as_it_is(store, file))
    assert len(await all_jobs(store)) == 2


async def test_removed_and_made_again_with_the_same_content_makes_one(
    watching: Watching, store: Store, root: Path
) -> None:
    """Both ways: the removal was seen, or came in one unordered batch with the return."""
    file = root / "file"
    file.write_text("content")
    async with watching():
        await all_taken(store, root)
        file.unlink()
        await wait_until(lambda: _is_in(store, file, FileState.VANISHED))
        file.write_text("content")
        await wait_until(lambda: _has_jobs(store, file, 2))
        file.unlink()
        file.write_text("content")
        await wait_until(lambda: _has_jobs(store, file, 3))


async def _is_in(store: Store, file: Path, state: FileState) -> bool:
    found = await entry(store, file)
    return found is not None and found.state is state


async def test_renamed_away_and_back_at_once_makes_none(
    watching: Watching, store: Store, root: Path
) -> None:
    file = root / "file"
    file.write_text("content")
    async with watching():
        await all_taken(store, root)
        file.rename(root / "away")
        (root / "away").rename(file)
        await wait_until(lambda: _is_known_as_it_is(store, file))
    assert len(await all_jobs(store)) == 1


async def test_a_removed_directory_takes_its_files_with_it(
    watching: Watching, store: Store, root: Path
) -> None:
    for number in range(30):
        (root / "a" / f"{number}").mkdir(parents=True)
        (root / "a" / f"{number}" / "file").write_text(f"{number}")
    async with watching():
        await all_taken(store, root)
        (root / "a").rename(root.parent / "elsewhere")
        await wait_until(lambda: _counts(store, FileState.VANISHED, 30))


async def _counts(store: Store, state: FileState, number: int) -> bool:
    return await count(store, state) == number


async def test_what_is_no_file_is_left_alone(watching: Watching, store: Store, root: Path) -> None:
    """Links are not followed, a pipe is not opened for long; each has a row that says why not."""
    (root.parent / "target").mkdir()
    (root.parent / "target" / "file").write_text("x")
    async with watching() as producer:
        await survey_is_over(producer)
        os.mkfifo(root / "pipe")
        (root / "link").symlink_to(root.parent / "target" / "file")
        (root / "dirlink").symlink_to(root.parent / "target")
        (root / "file").write_text("y")
        await wait_until(lambda: _counts(store, FileState.IGNORED, 3))
        await wait_until(lambda: _counts(store, FileState.ACCEPTED, 1))
        assert await reason(store, root / "pipe") == "not a regular file"
    assert Counter(job.file.relpath for job in await all_jobs(store) if job.file) == {b"file": 1}
