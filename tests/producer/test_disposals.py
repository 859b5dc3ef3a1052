"""After-actions from the job's end to the record, with the real store and through restarts."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pq_daemon.jobs.model import QueueName
from pq_daemon.jobs.states import Event, Outcome
from pq_daemon.producer import disposals
from pq_daemon.producer.plan import make_plan
from pq_daemon.store.protocol import After, Claim, Ending, FileState
from tests.producer.folder import a_watch, accepted, all_jobs, count, entry, jobs_of, settings_of
from tests.support.builders import PERSON
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from pq_daemon.jobs.model import Job
    from pq_daemon.store.protocol import Store
    from tests.producer.conftest import Watching


async def a_job_for(store: Store, file: Path) -> Job:
    async def made() -> list[Job]:
        return await jobs_of(store, file)

    jobs: list[Job] = await wait_until(made)
    return jobs[0]


async def run_all(store: Store, outcome: Outcome = Outcome.SUCCEEDED, **after: After) -> None:
    """Claim and end every queued job."""
    claim = Claim(tuple(range(1, 100)), {QueueName("files"): 100})
    exchange = await store.exchange([], claim)
    endings = [
        Ending(
            job.id,
            job.attempt,
            store.epoch.id,
            outcome,
            on_success=after.get("on_success"),
            on_failure=after.get("on_failure"),
        )
        for _, job in exchange.claimed
    ]
    await store.exchange(endings, Claim())


def move_to(path: Path) -> After:
    return After("move", bytes(path))


async def test_a_succeeded_job_moves_its_file_and_makes_no_new_one(
    watching: Watching, store: Store, root: Path
) -> None:
    file = root / "sub" / "a.txt"
    async with watching(on_success="move:done", rescan="200ms"):
        file.parent.mkdir()
        file.write_text("content")
        await a_job_for(store, file)
        await run_all(store, on_success=move_to(root / "done"))
        await wait_until((root / "done/sub/a.txt").exists)
        await wait_until(lambda: _is_put_away(store, file))
        (root / "other").write_text("other")
        await a_job_for(store, root / "other")
    assert len(await all_jobs(store)) == 2
    assert not await store.dispositions()


async def _is_put_away(store: Store, file: Path) -> bool:
    found = await entry(store, file)
    return found is not None and found.gone and found.state is FileState.VANISHED


async def test_a_file_that_returns_after_it_was_moved_is_a_new_version(
    watching: Watching, store: Store, root: Path
) -> None:
    file = root / "a.txt"
    async with watching(on_success="move:done"):
        for number in (1, 2, 3):
            file.write_text("always the same")
            await wait_until(partial(_has_jobs, store, file, number))
            await run_all(store, on_success=move_to(root / "done"))
            await wait_until(lambda: _is_put_away(store, file))
    assert sorted(path.name for path in (root / "done").iterdir()) == [
        "a-2.txt",
        "a-3.txt",
        "a.txt",
    ]


async def _has_jobs(store: Store, file: Path, number: int) -> bool:
    return len(await jobs_of(store, file)) == number


async def test_what_was_left_open_is_done_at_the_start(
    watching: Watching, store: Store, root: Path
) -> None:
    file = root / "a.txt"
    async with watching():
        file.write_text("content")
        await a_job_for(store, file)
    await run_all(store, on_success=After("delete"))
    assert file.exists()
    async with watching():
        await wait_until(lambda: not file.exists())
        await wait_until(lambda: _nothing_is_open(store))


async def _nothing_is_open(store: Store) -> bool:
    return not await store.dispositions()


async def test_a_rewritten_file_is_the_next_job(
    watching: Watching, store: Store, root: Path
) -> None:
    file = root / "a.txt"
    async with watching(on_success="delete"):
        file.write_text("first")
        await a_job_for(store, file)
        file.write_text("next one")
        await run_all(store, on_success=After("delete"))
        await wait_until(lambda: _nothing_is_open(store))
        await wait_until(lambda: _has_jobs(store, file, 2))
        assert file.read_text() == "next one"


async def test_a_failed_job_moves_its_file(watching: Watching, store: Store, root: Path) -> None:
    """It fails for good at its last attempt, not before."""
    file = root / "a.txt"
    async with watching(on_failure="move:failed"):
        file.write_text("content")
        job = await a_job_for(store, file)
        for _ in range(job.max_attempts):
            await run_all(store, Outcome.FAILED, on_failure=move_to(root / "failed"))
            found = await store.job(job.id)
            if not found.is_final:
                assert file.exists()
                await store.act(job.id, Event.RUN_NOW, PERSON)
        await wait_until((root / "failed/a.txt").exists)


async def test_what_fails_is_said_and_tried_again(
    watching: Watching, store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disposals, "PAUSE", (0.05, 0.1))
    file = root / "a.txt"
    (root / "done").write_text("in the way")
    async with watching(on_success="move:done") as producer:
        file.write_text("content")
        await a_job_for(store, file)
        await run_all(store, on_success=move_to(root / "done"))
        await wait_until(lambda: "1 finished files" in producer.statuses()[0].reason)
        (root / "done").unlink()
        await wait_until((root / "done/a.txt").exists)
        await wait_until(lambda: producer.statuses()[0].reason == "")


async def test_many(watching: Watching, store: Store, root: Path) -> None:
    async with watching(on_success="move:done"):
        await asyncio.to_thread(_write_many, root, 300)

        async def all_there() -> bool:
            return len(await accepted(store)) == 300

        await wait_until(all_there)
        for _ in range(4):
            await run_all(store, on_success=move_to(root / "done"))
        await wait_until(lambda: _nothing_is_open(store), timeout=30)
        assert await count(store, FileState.VANISHED) == 300
    assert len(list((root / "done").iterdir())) == 300
    assert len(await all_jobs(store)) == 300


def _write_many(root: Path, number: int) -> None:
    for place in range(number):
        (root / f"{place}").write_text(f"{place}")


@pytest.mark.parametrize("directory", ["done", "done/", "./done"])
def test_the_target_is_left_out_however_it_is_written(tmp_path: Path, directory: str) -> None:
    watch = a_watch(tmp_path, on_success=f"move:{directory}")
    plan = make_plan(settings_of(tmp_path / "state", watch))
    assert plan.is_left_out(bytes(tmp_path / "done"))
    assert plan.lies_left_out(bytes(tmp_path / "done/sub/file"))
    assert not plan.lies_left_out(bytes(tmp_path / "doner/file"))


def test_a_target_that_is_watched_is_the_next_stage(tmp_path: Path) -> None:
    first = a_watch(tmp_path / "one", on_success="move:two")
    second = a_watch(tmp_path / "one/two", name="second")
    plan = make_plan(settings_of(tmp_path / "state", first, second))
    assert not plan.lies_left_out(bytes(tmp_path / "one/two/file"))
    judged = plan.judge(bytes(tmp_path / "one/two/file"), 1, regular=True)
    assert judged is not None
    assert judged.watch.name == "second"
