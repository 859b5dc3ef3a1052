"""Watches that share a folder or lie inside each other: each by its own rules, none twice."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from pq_daemon.jobs.model import WatchName
from pq_daemon.jobs.status import WatchState
from pq_daemon.producer.folders import watch_folders
from pq_daemon.store.protocol import FileState
from tests.producer.folder import a_watch, all_jobs, count, entry, reason, settings_of
from tests.producer.runner import settled
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pq_daemon.producer.folders import Producer
    from pq_daemon.store.protocol import Store

SLOW = 5.0


async def takers(store: Store) -> dict[str, str]:
    """The watch that took each file, by the end of its path."""
    jobs = [job.file for job in await all_jobs(store)]
    return {file.path.rpartition(b"/")[2].decode(): str(file.watch) for file in jobs if file}


async def are_taken_by(store: Store, wanted: Mapping[str, str]) -> bool:
    return await takers(store) == wanted


async def test_two_patterns_on_one_folder(store: Store, root: Path, tmp_path: Path) -> None:
    (root / "old.pdf").write_text("old")
    settings = settings_of(
        tmp_path / "state",
        a_watch(root, name="pdf", include=("*.pdf",)),
        a_watch(root, name="rest", exclude=("*.doc",), min_size=2),
    )
    async with watch_folders(settings, store):
        (root / "new.pdf").write_text("x")
        (root / "long.txt").write_text("long enough")
        (root / "x.txt").write_text("x")
        (root / "a.doc").write_text("x")
        wanted = {"old.pdf": "pdf", "new.pdf": "pdf", "long.txt": "rest"}
        await wait_until(partial(are_taken_by, store, wanted))
        await wait_until(partial(_says, store, root / "x.txt", "too small"))
        await wait_until(partial(_says, store, root / "a.doc", "not included"))
        assert await count(store, name=WatchName("rest")) == 1
        assert await count(store, FileState.WAITING, WatchName("rest")) == 1
        assert await count(store, name=WatchName("pdf")) == 2
        assert await count(store, FileState.IGNORED, WatchName("pdf")) == 1


async def _says(store: Store, path: Path, words: str) -> bool:
    return await reason(store, path) == words


async def test_a_flat_watch_around_a_deep_one(store: Store, root: Path, tmp_path: Path) -> None:
    inner = root / "a/inner"
    inner.mkdir(parents=True)
    settings = settings_of(
        tmp_path / "state", a_watch(root, recursive=False), a_watch(inner, name="inner")
    )
    async with watch_folders(settings, store) as producer:
        (root / "top").write_text("x")
        (root / "a/between").write_text("x")
        (inner / "in").write_text("x")
        (inner / "deep/er").mkdir(parents=True)
        (inner / "deep/er/below").write_text("x")
        wanted = {"top": "files", "in": "inner", "below": "inner"}
        await wait_until(partial(are_taken_by, store, wanted))
        await settled(producer)
        assert await takers(store) == wanted
        assert await entry(store, root / "a/between") is None


async def test_each_settles_by_its_own_time(store: Store, root: Path, tmp_path: Path) -> None:
    (root / "slow").mkdir()
    settings = settings_of(
        tmp_path / "state", a_watch(root), a_watch(root / "slow", name="slow", settle=SLOW)
    )
    async with watch_folders(settings, store):
        (root / "slow/a").write_text("a")
        (root / "b").write_text("b")
        await wait_until(partial(are_taken_by, store, {"b": "files"}))
        await wait_until(partial(_says, store, root / "slow/a", "settling"))


async def test_an_inner_folder_that_is_missing_is_its_own_watchs_trouble(
    store: Store, root: Path, tmp_path: Path
) -> None:
    inner = root / "inner"
    inner.mkdir()
    settings = settings_of(tmp_path / "state", a_watch(root), a_watch(inner, name="inner"))

    def states() -> list[WatchState]:
        return [status.state for status in producer.statuses()]

    async with watch_folders(settings, store) as producer:
        (inner / "a").write_text("a")
        await wait_until(partial(are_taken_by, store, {"a": "inner"}))
        inner.rename(tmp_path / "away")
        await wait_until(lambda: states() == [WatchState.OK, WatchState.MISSING])
        await scanned(producer, "files")
        found = await entry(store, inner / "a")
        assert found is not None
        assert found.state is FileState.ACCEPTED
        (tmp_path / "away").rename(inner)
        (inner / "b").write_text("b")
        await wait_until(partial(are_taken_by, store, {"a": "inner", "b": "inner"}))
        await wait_until(lambda: states() == [WatchState.OK, WatchState.OK])


async def scanned(producer: Producer, watch: str, place: int = 0) -> None:
    before = producer.statuses()[place].last_scan
    producer.rescan(WatchName(watch))
    await wait_until(lambda: producer.statuses()[place].last_scan != before)


async def test_what_an_inner_watch_has_put_away_is_left_out_by_all(
    store: Store, root: Path, tmp_path: Path
) -> None:
    """Also below a flat one, into which the watch around it goes."""
    (root / "flat/done").mkdir(parents=True)
    (root / "flat/done/old").write_text("x")
    (root / "flat/sub").mkdir()
    (root / "flat/sub/new").write_text("x")
    settings = settings_of(
        tmp_path / "state",
        a_watch(root),
        a_watch(root / "flat", name="flat", recursive=False, on_success="move:done"),
    )
    async with watch_folders(settings, store) as producer:
        await wait_until(partial(are_taken_by, store, {"new": "files"}))
        await settled(producer)
        assert await entry(store, root / "flat/done/old") is None


async def test_what_was_there_is_skipped_or_run_by_each_watchs_own_word(
    store: Store, root: Path, tmp_path: Path
) -> None:
    (root / "old.pdf").write_text("x")
    (root / "old.txt").write_text("x")
    settings = settings_of(
        tmp_path / "state",
        a_watch(root, name="pdf", include=("*.pdf",), existing="skip"),
        a_watch(root, name="rest"),
    )
    async with watch_folders(settings, store):
        await wait_until(partial(_says, store, root / "old.pdf", "existing"))
        (root / "new.pdf").write_text("y")
        wanted = {"old.txt": "rest", "new.pdf": "pdf"}
        await wait_until(partial(are_taken_by, store, wanted))


async def test_the_watch_around_takes_over_when_an_inner_one_is_removed(
    store: Store, root: Path, tmp_path: Path
) -> None:
    inner = root / "inner"
    inner.mkdir()
    outer = a_watch(root)
    both = settings_of(tmp_path / "state", outer, a_watch(inner, name="inner", include=("*.pdf",)))
    async with watch_folders(both, store) as producer:
        (inner / "a.txt").write_text("x")
        await wait_until(partial(_says, store, inner / "a.txt", "not included"))
        await producer.configure(settings_of(tmp_path / "state", outer))
        await wait_until(partial(are_taken_by, store, {"a.txt": "files"}))


async def test_a_name_that_blinds_an_inner_folder_is_told_of_the_outer_one(
    store: Store, root: Path, tmp_path: Path
) -> None:
    inner = root / "inner"
    foreign = bytes(inner) + b"/\xff"
    inner.mkdir()
    settings = settings_of(tmp_path / "state", a_watch(root), a_watch(inner, name="inner"))
    async with watch_folders(settings, store) as producer:
        os.mkdir(foreign)  # noqa: PTH102 - the name is bytes
        await wait_until(
            lambda: [s.state for s in producer.statuses()] == [WatchState.DEGRADED] * 2, timeout=10
        )
        assert "not UTF-8" in producer.statuses()[0].reason
        (root / "a").write_text("a")
        await wait_until(partial(are_taken_by, store, {"a": "files"}), timeout=10)
