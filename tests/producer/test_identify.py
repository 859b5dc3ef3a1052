"""What names a version: its content, or its stat alone; and content that is there twice."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from pq_daemon.producer import readiness
from pq_daemon.store.protocol import FileState
from tests.producer.folder import all_jobs, entry, jobs_of, reason
from tests.producer.runner import has_accepted, settled
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from pq_daemon.store.protocol import Store
    from tests.producer.conftest import Watching


async def test_by_stat_no_file_is_read(
    watching: Watching, store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    monkeypatch.setattr(readiness, "digest", lambda *_: read.append("a file"))
    async with watching(identify="stat"):
        (root / "a").write_text("a")
        await wait_until(partial(has_accepted, store, 1))
    [job] = await all_jobs(store)
    assert job.file is not None
    assert job.file.sha256 is None
    assert read == []


async def test_by_stat_a_new_mode_is_no_version_and_a_new_mtime_is_one(
    watching: Watching, store: Store, root: Path
) -> None:
    file = root / "a"
    file.write_text("a")
    async with watching(identify="stat") as producer:
        await wait_until(partial(has_accepted, store, 1))
        file.chmod(0o600)
        await settled(producer)
        assert len(await all_jobs(store)) == 1
        found = await entry(store, file)
        assert found is not None
        assert found.seen.ctime_ns == file.stat().st_ctime_ns
        os.utime(file, (1, 1))
        await wait_until(partial(has_jobs, store, 2))


async def has_jobs(store: Store, number: int) -> bool:
    return len(await all_jobs(store)) == number


async def test_the_same_content_under_another_name(
    watching: Watching, store: Store, root: Path
) -> None:
    async with watching(duplicates="skip") as producer:
        (root / "a").write_text("same")
        await wait_until(partial(has_accepted, store, 1))
        (root / "sub").mkdir()
        (root / "sub/b").write_text("same")
        (root / "c").write_text("other")
        await wait_until(partial(has_accepted, store, 2))
        await settled(producer)
        (root / "sub/b").chmod(0o600)
        await settled(producer)
        found = await entry(store, root / "sub/b")
        assert found is not None
        assert (found.state, found.reason) == (FileState.IGNORED, "duplicate of a")
        (root / "sub/b").write_text("not the same any more")
        await wait_until(partial(has_accepted, store, 3))
    assert len(await jobs_of(store, root / "sub/b")) == 1


async def test_copies_in_one_batch_make_one_job(
    watching: Watching, store: Store, root: Path
) -> None:
    for number in range(20):
        (root / f"{number:02}").write_text("same")
    async with watching(duplicates="skip") as producer:
        await wait_until(partial(has_accepted, store, 1))
        await settled(producer)
        [job] = await all_jobs(store)
        assert job.file is not None
        first = job.file.relpath.decode()
        others = {await reason(store, root / f"{n:02}") for n in range(20) if f"{n:02}" != first}
    assert others == {f"duplicate of {first}"}
