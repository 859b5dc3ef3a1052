"""Files that are moved before acceptance: where they lie, and what every broken step leaves."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pq_daemon.errors import StoreError
from pq_daemon.jobs.model import FileVersion, QueueName
from pq_daemon.producer import claiming, intake
from pq_daemon.producer.claiming import place_of, put_back, take_away
from pq_daemon.producer.moving import DONE, dispose
from pq_daemon.producer.readiness import identity_of
from pq_daemon.store.engines import open_store
from pq_daemon.store.protocol import Disposition, FileState
from tests.producer.folder import FILES, all_jobs, count, entry, reason
from tests.producer.runner import settled
from tests.producer.test_disposals import move_to, run_all
from tests.producer.test_restarting import a_process, asked
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pq_daemon.store.protocol import FileClaim, Found, Intake, Store
    from pq_daemon.store.sqlite.engine import SqliteStore
    from tests.producer.conftest import Watching


async def taken(store: Store) -> Counter[tuple[bytes, bytes]]:
    """Where the files of all jobs were found, and what is in them where they are."""
    files = [job.file for job in await all_jobs(store) if job.file]
    return Counter([(file.relpath, content(file)) for file in files])


def content(file: FileVersion) -> bytes:
    assert file.place is not None
    with open(file.path, "rb") as opened:  # noqa: PTH123 - the name is bytes
        return opened.read()


async def are_taken(store: Store, *wanted: tuple[bytes, bytes]) -> bool:
    return await taken(store) == Counter(wanted)


def on_disk(root: Path) -> set[str]:
    found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return {str(path) for path in found}


async def test_a_file_lies_in_its_place_of_work(
    watching: Watching, store: Store, root: Path
) -> None:
    (root / "sub").mkdir()
    async with watching(claim="move") as producer:
        (root / "sub/a").write_text("first")
        await wait_until(partial(are_taken, store, (b"sub/a", b"first")))
        [job] = await all_jobs(store)
        assert job.file is not None
        assert job.file.path.startswith(bytes(root) + b"/.pq/work/")
        assert not (root / "sub/a").exists()
        await settled(producer)
        assert await count(store) == 1
        assert await count(store, FileState.VANISHED) == 0
        (root / "sub/a").write_text("first")
        await wait_until(partial(are_taken, store, *2 * [(b"sub/a", b"first")]))
        await settled(producer)
    assert len(await all_jobs(store)) == 2
    assert await store.file_claims() == []


async def test_what_makes_no_job_is_not_kept(watching: Watching, store: Store, root: Path) -> None:
    (root / "old").write_text("old")
    options = {"claim": "move", "existing": "skip", "duplicates": "skip"}
    async with watching(**options) as producer:
        await wait_until(partial(says, store, root / "old", "existing"))
        (root / "a").write_text("same")
        await wait_until(partial(are_taken, store, (b"a", b"same")))
        (root / "b").write_text("same")
        await wait_until(partial(says, store, root / "b", "duplicate of a"))
        await settled(producer)
        assert await reason(store, root / "b") == "duplicate of a"
    assert {"old", "b"} < on_disk(root)
    assert len(await all_jobs(store)) == 1
    assert await store.file_claims() == []


async def says(store: Store, path: Path, words: str) -> bool:
    return await reason(store, path) == words


async def test_a_file_that_was_taken_in_place_stays(
    watching: Watching, store: Store, root: Path
) -> None:
    async with watching():
        (root / "a").write_text("a")
        await wait_until(lambda: has_jobs(store, 1))
    (root / "a").chmod(0o600)
    async with watching(claim="move") as producer:
        await settled(producer)
    assert (root / "a").exists()
    assert len(await all_jobs(store)) == 1


async def has_jobs(store: Store, number: int) -> bool:
    return len(await all_jobs(store)) == number


async def test_a_marker_goes_along(watching: Watching, store: Store, root: Path) -> None:
    async with watching(claim="move", marker=".done"):
        (root / "a").write_text("a")
        (root / "a.done").touch()
        await wait_until(partial(are_taken, store, (b"a", b"a")))
    [job] = await all_jobs(store)
    assert job.file is not None
    assert os.path.exists(job.file.path + b".done")  # noqa: PTH110, ASYNC240 - bytes
    wanted = Disposition(job.id, "move", bytes(root / "done"), job.file)
    assert dispose(wanted, True, b".done").result == DONE
    assert on_disk(root) == {"done/a", "done/a.done"}
    assert list((root / ".pq/work").iterdir()) == []


async def test_a_finished_file_goes_from_its_place_of_work_to_its_target(
    watching: Watching, store: Store, root: Path
) -> None:
    (root / "sub").mkdir()
    async with watching(claim="move", on_success="move:done") as producer:
        (root / "sub/a").write_text("a")
        await wait_until(partial(are_taken, store, (b"sub/a", b"a")))
        (root / "sub/a").write_text("next")
        await wait_until(lambda: has_jobs(store, 2))
        await run_all(store, on_success=move_to(root / "done"))
        await wait_until((root / "done/sub/a-2").exists)
        await wait_until(lambda: is_put_away(store, root / "sub/a"))
        await settled(producer)
    assert on_disk(root) == {"done/sub/a", "done/sub/a-2"}
    assert list((root / ".pq/work").iterdir()) == []
    assert await count(store, FileState.VANISHED) == 1
    assert len(await all_jobs(store)) == 2


async def is_put_away(store: Store, file: Path) -> bool:
    found = await entry(store, file)
    return (
        found is not None and found.state is FileState.VANISHED and not await store.dispositions()
    )


async def test_who_writes_on_after_the_move_is_noticed(root: Path, store: Store) -> None:
    claim = await a_claim(store, root)
    with (root / "a").open("ab"):
        moved = take_away(claim, b"", inodes_count=True)
    assert moved == claiming.Refused("open for writing")
    claim = await a_claim(store, root)
    (root / "a").write_text("another")
    assert take_away(claim, b"", inodes_count=True) == claiming.Refused("settling")
    assert on_disk(root) == {"a"}


async def test_a_folder_that_may_not_be_changed_is_told(
    watching: Watching, store: Store, root: Path
) -> None:
    (root / ".pq").write_text("in the way")
    async with watching(claim="move"):
        (root / "a").write_text("a")
        await wait_until(partial(says, store, root / "a", "cannot be claimed: Not a directory"))
    assert (root / "a").exists()
    assert await store.file_claims() == []


# --- broken off ----------------------------------------------------------------------------------


async def a_claim(store: Store, root: Path) -> FileClaim:
    file = root / "a"
    if not file.exists():
        file.write_text("a")
    identity = identity_of(file.lstat())
    await store.configure_watches([(FILES, bytes(root), QueueName("files"))])
    return await store.claim_file(FileVersion(FILES, bytes(root), b"a", identity, True, None))


def committed(_root: Path, _claim: FileClaim) -> None:
    """Killed before anything was done."""


def directory_made(_root: Path, claim: FileClaim) -> None:
    os.makedirs(os.path.dirname(place_of(claim)))  # noqa: PTH103, PTH120


def renamed(root: Path, claim: FileClaim) -> None:
    directory_made(root, claim)
    os.rename(root / "a", place_of(claim))  # noqa: PTH104


def marker_renamed(root: Path, claim: FileClaim) -> None:
    renamed(root, claim)
    os.rename(root / "a.done", place_of(claim) + b".done")  # noqa: PTH104


def put_back_and_not_recorded(root: Path, claim: FileClaim) -> None:
    marker_renamed(root, claim)
    assert put_back(claim, b".done")


STEPS = [committed, directory_made, renamed, marker_renamed, put_back_and_not_recorded]


@pytest.mark.parametrize("step", STEPS)
async def test_killed_after_a_step(
    watching: Watching, store: Store, root: Path, step: Callable[[Path, FileClaim], None]
) -> None:
    claim = await a_claim(store, root)
    (root / "a.done").touch()
    step(root, claim)
    async with watching(claim="move", marker=".done") as producer:
        await wait_until(partial(are_taken, store, (b"a", b"a")))
        await settled(producer)
    assert await taken(store) == {(b"a", b"a"): 1}
    assert await store.file_claims() == []
    assert [path.name for path in (root / ".pq/work").iterdir()] == [str(claim.id + 1)]


async def test_killed_and_another_has_taken_the_name(
    watching: Watching, store: Store, root: Path
) -> None:
    renamed(root, await a_claim(store, root))
    (root / "a").write_text("new")
    async with watching(claim="move"):
        await wait_until(partial(are_taken, store, (b"a", b"new"), (b"a-2", b"a")))


async def test_killed_and_the_file_is_gone(watching: Watching, store: Store, root: Path) -> None:
    directory_made(root, await a_claim(store, root))
    (root / "a").unlink()
    async with watching(claim="move"):

        async def none_is_open() -> bool:
            return await store.file_claims() == []

        await wait_until(none_is_open)
    assert await all_jobs(store) == []


async def test_another_disk_tells_nothing_of_a_claim(store: Store, root: Path) -> None:
    claim = await a_claim(store, root)
    renamed(root, claim)
    exchange(root)
    assert not put_back(claim, b"")


def exchange(root: Path) -> None:
    root.rename(root.with_name("unmounted"))
    root.mkdir()


async def test_a_store_that_fails_after_the_move(
    watching: Watching, store: SqliteStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it has happened is unknown: the open claims tell."""
    monkeypatch.setattr(intake, "STORE_PAUSE", (0.05, 0.1))
    accept, troubles = store.accept, ["before", "after"]

    async def fail_twice(found: Sequence[Found]) -> list[Intake]:
        trouble = troubles.pop(0) if troubles else ""
        if trouble == "before":
            raise StoreError("database or disk is full")
        done = await accept(found)
        if trouble == "after":
            raise StoreError("fsync failed")
        return done

    monkeypatch.setattr(store, "accept", fail_twice)
    async with watching(claim="move") as producer:
        (root / "a").write_text("a")
        await wait_until(partial(are_taken, store, (b"a", b"a")))
        await settled(producer)
    assert await taken(store) == {(b"a", b"a"): 1}
    assert await store.file_claims() == []
    found = await entry(store, root / "a")
    assert found is not None
    assert found.gone


@pytest.mark.faults
@pytest.mark.timeout(120)
async def test_killed_at_any_moment(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAIM", "move")
    chance = random.Random(3)  # noqa: S311 - which moments, no secret
    state, wanted = tmp_path / "state", set()
    for turn in range(5):
        async with a_process(state, root) as process:
            for number in range(60):
                name = f"{turn}-{number}".encode()
                (root / name.decode()).write_bytes(name)
                wanted.add((name, name))
            await asyncio.sleep(chance.uniform(0.1, 0.5))
            process.kill()
    async with a_process(state, root) as process:
        await asked(process, b"scan")
        await asked(process, b"scan")
        process.kill()
    async with open_store(state) as store:
        assert await taken(store) == Counter(wanted)
        assert await store.file_claims() == []
