# ruff: noqa: ASYNC240 - a test makes and moves small files where it stands
"""A reload: watches that are new, changed, removed, renamed, nested; what is told about them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pq_daemon.errors import NotFoundError
from pq_daemon.jobs.model import WatchName
from pq_daemon.jobs.status import WatchState
from pq_daemon.producer.events import Watcher
from pq_daemon.producer.folders import watch_folders
from pq_daemon.store.protocol import FileState
from tests.producer.folder import (
    a_watch,
    accepted,
    all_jobs,
    entry,
    jobs_of,
    on_disk,
    reason,
    settings_of,
)
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pq_daemon.config import Settings, WatchSettings
    from pq_daemon.store.feed import Told
    from pq_daemon.store.protocol import Store
    from tests.producer.conftest import Watching

WITHIN = 1.0
"""Seconds in which a reload must be in force."""


@pytest.fixture
def two(tmp_path: Path) -> Path:
    path = tmp_path / "two"
    path.mkdir()
    return path


def configured(tmp_path: Path, *watches: WatchSettings) -> Settings:
    return settings_of(tmp_path / "state", *watches)


async def is_taken(store: Store, path: Path, times: int = 1) -> None:
    async def it_is() -> bool:
        return len(await jobs_of(store, path)) == times

    await wait_until(it_is, what=f"{path} to be taken {times} times")


async def test_a_new_watch_works_within_a_second(
    store: Store, root: Path, two: Path, tmp_path: Path
) -> None:
    loop = asyncio.get_running_loop()
    async with watch_folders(configured(tmp_path, a_watch(root)), store) as producer:
        began = loop.time()
        both = configured(tmp_path, a_watch(root), a_watch(two, name="second"))
        await producer.configure(both)
        (two / "a").write_text("a")
        (root / "b").write_text("b")
        await is_taken(store, two / "a")
        await is_taken(store, root / "b")
        assert loop.time() - began < WITHIN
        assert [status.name for status in producer.statuses()] == ["files", "second"]


async def test_a_removed_watch_takes_nothing_more_and_comes_back_without_repeating(
    store: Store, root: Path, two: Path, tmp_path: Path
) -> None:
    one, both = a_watch(root), (a_watch(root), a_watch(two, name="second"))
    async with watch_folders(configured(tmp_path, *both), store) as producer:
        (two / "a").write_text("a")
        await is_taken(store, two / "a")
        await producer.configure(configured(tmp_path, one))
        (two / "b").write_text("b")
        (root / "b").write_text("b")
        await is_taken(store, root / "b")
        assert await jobs_of(store, two / "b") == []
        await producer.configure(configured(tmp_path, one, a_watch(two, name="renamed")))
        await is_taken(store, two / "b")
        assert len(await jobs_of(store, two / "a")) == 1


async def test_changed_filters_judge_anew_what_waits_and_what_was_ignored(
    watching: Watching, store: Store, root: Path, tmp_path: Path
) -> None:
    async with watching(include=("*.txt",), min_size=4) as producer:
        (root / "a.pdf").write_text("long enough")
        (root / "b.txt").write_text("no")
        await wait_until(lambda: _says(store, root / "a.pdf", "not included"))
        await wait_until(lambda: _says(store, root / "b.txt", "too small"))
        await producer.configure(configured(tmp_path, a_watch(root, include=("*.pdf", "*.txt"))))
        await is_taken(store, root / "a.pdf")
        await is_taken(store, root / "b.txt")


async def _says(store: Store, path: Path, words: str) -> bool:
    return await reason(store, path) == words


async def test_a_nested_watch_takes_over_without_repeating(
    store: Store, root: Path, tmp_path: Path
) -> None:
    inner = root / "inner"
    inner.mkdir()
    (inner / "old").write_text("old")
    async with watch_folders(configured(tmp_path, a_watch(root)), store) as producer:
        await is_taken(store, inner / "old")
        nested = configured(tmp_path, a_watch(root), a_watch(inner, name="inner"))
        await producer.configure(nested)
        (inner / "new").write_text("new")
        (root / "beside").write_text("beside")
        await is_taken(store, inner / "new")
        await is_taken(store, root / "beside")
        assert await accepted(store) == on_disk(root)
        found = await entry(store, inner / "new")
        assert found is not None
        assert found.watch == "inner"
        (inner / "new").unlink()
        await wait_until(lambda: _is_in(store, inner / "new", FileState.VANISHED))


async def _is_in(store: Store, path: Path, state: FileState) -> bool:
    found = await entry(store, path)
    return found is not None and found.state is state


async def test_flat_and_deep_watches_together(
    store: Store, root: Path, two: Path, tmp_path: Path
) -> None:
    settings = configured(
        tmp_path, a_watch(root, recursive=False), a_watch(two, name="deep"), a_watch(two, name="x")
    )
    (root / "sub").mkdir()
    async with watch_folders(settings, store):
        (root / "sub" / "left alone").write_text("x")
        (root / "a").write_text("a")
        (two / "b").mkdir()
        (two / "b" / "c").write_text("c")
        await is_taken(store, root / "a")
        await is_taken(store, two / "b" / "c")
    assert len(await all_jobs(store)) == 2


async def test_a_reload_that_changes_no_folder_keeps_the_notifications(
    watching: Watching, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching() as producer:
        armed: list[str] = []
        monkeypatch.setattr(Watcher, "rearm", lambda self: armed.append(repr(self)))
        await producer.configure(configured(tmp_path, a_watch(root)))
        assert armed == []


async def test_what_changes_about_a_watch_is_told_once(
    watching: Watching, store: Store, root: Path
) -> None:
    heard: list[tuple[str, str]] = []

    def listen(told: Sequence[Told]) -> None:
        heard.extend((one.fact.type, one.fact.data["watch"]) for one in told if is_watch(one))

    def is_watch(one: Told) -> bool:
        return one.fact.type.startswith("watch.")

    with store.feed.listening(listen):
        async with watching() as producer:
            await wait_until(lambda: producer.statuses()[0].state is WatchState.OK)
            root.rename(root.with_name("away"))
            await wait_until(lambda: producer.statuses()[0].state is WatchState.MISSING)
            root.with_name("away").rename(root)
            await wait_until(lambda: producer.statuses()[0].state is WatchState.OK)
            await wait_until(lambda: ("watch.ok", "files") in heard[-1:])
    assert [kind for kind, _ in heard] == ["watch.ok", "watch.missing", "watch.ok"]


async def test_a_scan_can_be_asked_for(watching: Watching) -> None:
    async with watching() as producer:
        await wait_until(lambda: producer.statuses()[0].last_scan)
        first = producer.statuses()[0].last_scan or 0
        producer.rescan(WatchName("files"))
        await wait_until(lambda: (producer.statuses()[0].last_scan or 0) > first)
        with pytest.raises(NotFoundError):
            producer.rescan(WatchName("nobody"))


async def test_no_watches_at_all(store: Store, tmp_path: Path, root: Path) -> None:
    async with watch_folders(configured(tmp_path), store) as producer:
        assert producer.statuses() == []
        await producer.configure(configured(tmp_path, a_watch(root)))
        (root / "a").write_text("a")
        await is_taken(store, root / "a")


async def test_a_bug_in_a_task_ends_the_block(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_self: object, _root: object) -> bool:
        raise ZeroDivisionError

    async def run_until_it_breaks() -> None:
        async with watching():
            monkeypatch.setattr("pq_daemon.producer.keeping.Keeper.look", broken)
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as caught:
        await run_until_it_breaks()
    assert caught.group_contains(ZeroDivisionError)
