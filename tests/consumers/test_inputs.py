"""The file of a job: is it still the version that was accepted, before and after?"""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from pq_daemon.config.settings import WatchSettings
from pq_daemon.consumers import inputs
from pq_daemon.consumers.inputs import Look, Roots, Unreachable, look
from pq_daemon.consumers.settling import afters
from pq_daemon.jobs.model import WatchName
from pq_daemon.jobs.order import Moment
from pq_daemon.jobs.states import Event, Outcome, Reason, State
from pq_daemon.store.protocol import After
from tests.consumers.shop import a_shop, settings_for, shell, version_of, written
from tests.support.builders import PERSON
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path


NOW = Moment(1_000)


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


# --- one look ------------------------------------------------------------------------------------


def test_a_file_that_nobody_touched_is_the_same(tmp_path: Path) -> None:
    file = version_of(written(tmp_path / "a", b"one"))
    assert look(file, NOW, Roots()) is Look.SAME


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    file = version_of(written(tmp_path / "a", b"one"))
    (tmp_path / "a").unlink()
    assert look(file, NOW, Roots()) is Look.GONE


@pytest.mark.parametrize("what", ["content", "directory", "link"])
def test_another_thing_in_its_place(tmp_path: Path, what: str) -> None:
    path = tmp_path / "a"
    file = version_of(written(path, b"one"), sha256=digest(b"one"))
    path.unlink()
    if what == "content":
        path.write_bytes(b"two")
    elif what == "directory":
        path.mkdir()
    else:
        path.symlink_to("/etc/passwd")
    assert look(file, NOW, Roots()) is Look.OTHER


def test_a_touched_file_is_the_same_version(tmp_path: Path) -> None:
    path = written(tmp_path / "a", b"one")
    file = version_of(path, sha256=digest(b"one"))
    os.utime(path, (1, 1))
    assert look(file, NOW, Roots()) is Look.SAME
    assert look(version_of(path), NOW, Roots()) is Look.SAME


def test_a_file_rewritten_in_place_with_another_content_of_the_same_size(tmp_path: Path) -> None:
    path = written(tmp_path / "a", b"one")
    file = version_of(path, sha256=digest(b"one"))
    (tmp_path / "a").write_bytes(b"two")
    os.utime(path, (1, 1))
    assert look(file, NOW, Roots()) is Look.OTHER


def test_without_a_hash_a_touched_file_is_another(tmp_path: Path) -> None:
    path = written(tmp_path / "a", b"one")
    file = version_of(path)
    os.utime(path, (1, 1))
    assert look(file, NOW, Roots()) is Look.OTHER


def test_a_root_that_is_missing_says_nothing_about_its_files(tmp_path: Path) -> None:
    root = tmp_path / "root"
    file = version_of(written(root / "a", b"one"))
    shutil.rmtree(root)
    found = look(file, NOW, Roots())
    assert isinstance(found, Unreachable)
    assert (found.reason, found.wait) == ("watch root missing", inputs.WAIT_LEAST)


def test_a_root_that_was_replaced_says_nothing_about_its_files(tmp_path: Path) -> None:
    """As an unmounted disk does: its empty mount point is there."""
    root = tmp_path / "root"
    file = version_of(written(root / "a", b"one"))
    roots = Roots()
    roots.remember([root])
    root.rename(tmp_path / "elsewhere")
    root.mkdir()
    found = look(file, NOW, roots)
    assert isinstance(found, Unreachable)
    assert found.reason == "watch root replaced"
    roots.remember([root])  # a reload: now it is the root
    assert look(file, NOW, roots) is Look.GONE


def test_a_root_that_was_another_one_at_acceptance_says_nothing(tmp_path: Path) -> None:
    """The daemon was started while the disk was away: what stands there now looks settled."""
    root = tmp_path / "root"
    file = version_of(written(root / "a", b"one"))
    (root / "a").unlink()
    asked = []

    def out_of_reach(of: bytes, at: Moment) -> str:
        asked.append((of, at))
        return "another directory stands there"

    found = look(file, NOW, Roots(out_of_reach))
    assert isinstance(found, Unreachable)
    assert found.reason == "another directory stands there"
    assert asked == [(file.root, NOW)]


def test_the_longer_a_root_is_away_the_longer_its_jobs_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("pq_daemon.consumers.inputs.time.monotonic", lambda: now)
    root = tmp_path / "root"
    path = written(root / "a", b"one")
    file, roots = version_of(path), Roots()
    root.rename(tmp_path / "away")
    waits = []
    for later in (0, 40, 100, 1000):
        now = 1000.0 + later
        found = look(file, NOW, roots)
        assert isinstance(found, Unreachable)
        waits.append(found.wait)
    assert waits == [30, 40, 100, 300]
    (tmp_path / "away").rename(root)
    assert look(file, NOW, roots) is Look.SAME
    root.rename(tmp_path / "away")
    found = look(file, NOW, roots)
    assert isinstance(found, Unreachable)
    assert found.wait == 30


# --- in the pool ---------------------------------------------------------------------------------


async def test_a_file_that_is_gone_before_its_attempt(tmp_path: Path) -> None:
    path = written(tmp_path / "in" / "a", b"one")
    async with a_shop(tmp_path, shell(f"touch {tmp_path}/ran")) as shop:
        await shop.store.pause(shop.store._names.queue[1], PERSON)
        job = await shop.submit_file(path)
        os.unlink(path)  # noqa: PTH108
        await shop.store.resume(job.queue, PERSON)
        job = await shop.ended(job)
        attempt = await shop.only_attempt(job)
    assert (job.state, job.reason) == (State.FAILED, Reason.INPUT_GONE)
    assert (attempt.outcome, attempt.reason) == (Outcome.FAILED, "input_gone")
    assert not (tmp_path / "ran").exists()


async def test_a_file_that_has_changed_before_its_attempt(tmp_path: Path) -> None:
    path = written(tmp_path / "in" / "a", b"one")
    async with a_shop(tmp_path, shell(f"touch {tmp_path}/ran")) as shop:
        await shop.store.pause(shop.store._names.queue[1], PERSON)
        job = await shop.submit_file(path)
        written(path, b"another")
        await shop.store.resume(job.queue, PERSON)
        job = await shop.ended(job)
    assert (job.state, job.reason) == (State.CANCELLED, Reason.SUPERSEDED)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("script", "state", "reason"),
    [
        ('rm "$PQ_PATH"', State.FAILED, Reason.INPUT_GONE),
        ('echo more >> "$PQ_PATH"', State.CANCELLED, Reason.SUPERSEDED),
        ('touch -d 2001-01-01 "$PQ_PATH"', State.SUCCEEDED, None),
        ('rm "$PQ_PATH"; exit 3', State.FAILED, Reason.ATTEMPTS),
    ],
)
async def test_a_file_that_has_changed_under_its_handler(
    tmp_path: Path, script: str, state: State, reason: Reason | None
) -> None:
    path = written(tmp_path / "in" / "a", b"one")
    async with a_shop(tmp_path, shell(script, max_attempts=1)) as shop:
        job = await shop.ended(await shop.submit_file(path, sha256=digest(b"one")))
    assert (job.state, job.reason) == (state, reason)


async def test_the_output_of_a_superseded_version_is_not_published(tmp_path: Path) -> None:
    path = written(tmp_path / "in" / "a", b"one")
    queue = shell('cp "$PQ_PATH" "$PQ_OUTPUT"; echo more >> "$PQ_PATH"', output="made/x")
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.ended(await shop.submit_file(path))
    assert job.reason is Reason.SUPERSEDED
    assert list((tmp_path / "made").iterdir()) == []


async def test_a_job_whose_root_is_missing_waits_and_spends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "WAIT_LEAST", 0.02)
    monkeypatch.setattr(inputs, "WAIT_MOST", 0.02)
    root = tmp_path / "in"
    path = written(root / "a", b"one")
    async with a_shop(tmp_path, shell("true", max_attempts=1)) as shop:
        await shop.store.pause(shop.store._names.queue[1], PERSON)
        job = await shop.submit_file(path)
        root.rename(tmp_path / "away")
        await shop.store.resume(job.queue, PERSON)

        async def has_waited() -> bool:
            return len(await shop.attempts(job)) > 25  # more than any budget

        await wait_until(has_waited, what="attempts that could not begin")
        (tmp_path / "away").rename(root)
        job = await shop.ended(job)
        attempts = await shop.attempts(job)
    assert (job.state, job.spent) == (State.SUCCEEDED, 0)
    assert {(a.outcome, a.reason) for a in attempts[:-1]} == {
        (Outcome.INTERRUPTED, "watch root missing")
    }


async def test_a_cancel_while_the_input_cannot_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount that hangs: the thread stays where it is, the slot is free again."""
    fifo = tmp_path / "hang"
    os.mkfifo(fifo)
    path = written(tmp_path / "in" / "a", b"one")

    def hanging(*_: object) -> Look:
        fifo.read_bytes()  # until somebody opens it for writing
        return Look.SAME

    monkeypatch.setattr("pq_daemon.consumers.work.look", hanging)
    async with a_shop(tmp_path, shell("true"), workers=1) as shop:
        job = await shop.submit_file(path)
        await wait_until(lambda: shop.pool.busy == 1, what="a hanging attempt")
        await shop.store.act(job.id, Event.CANCEL, PERSON)
        assert (await shop.ended(job)).state is State.CANCELLED
        assert (await shop.run()).state is State.SUCCEEDED
        fifo.write_bytes(b"")


# --- after-actions -------------------------------------------------------------------------------


async def test_the_after_actions_of_a_watch_go_with_the_ending(tmp_path: Path) -> None:
    root = tmp_path / "in"
    path = written(root / "sub" / "a", b"one")
    watch = WatchSettings(
        name="files", path=root, queue="files", on_success="move:done", on_failure="move:bad/worse"
    )
    queue = shell('[ "$PQ_ATTEMPT" = 1 ] && exit 1; exit 0')
    async with a_shop(tmp_path, queue, watches=[watch]) as shop:
        job = await shop.submit_file(
            path, watch=WatchName("files"), root=os.fsencode(root), relpath=b"sub/a"
        )
        await shop.ended(job)
        [disposition] = await shop.store.dispositions()
    assert disposition.kind == "move"
    assert disposition.directory == os.fsencode(root / "done")
    settings = settings_for(tmp_path, {"files": queue}, watches=[watch])
    assert afters(settings, job) == (
        After("move", os.fsencode(root / "done")),
        After("move", os.fsencode(root / "bad" / "worse")),
    )
