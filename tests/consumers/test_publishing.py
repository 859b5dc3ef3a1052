"""Outputs: whole under their final name, or not there at all."""

from __future__ import annotations

import os
import random
import stat
import sys
from typing import TYPE_CHECKING

import pytest

from pq_daemon.consumers import publishing
from pq_daemon.consumers.environment import output_target, temporary
from pq_daemon.consumers.publishing import finish_or_remove
from pq_daemon.consumers.scratch import Scratch
from pq_daemon.jobs.model import EpochId
from pq_daemon.jobs.placeholders import PlaceholderError
from pq_daemon.jobs.states import Event, Reason, State
from pq_daemon.jobs.versions import Identity
from pq_daemon.runtime import renaming
from pq_daemon.store.protocol import Orphan, Publication
from tests.consumers.shop import a_queue, a_shop, python, shell, written
from tests.support.builders import PERSON, a_running_job
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from pq_daemon.store.sqlite.engine import SqliteStore
    from tests.consumers.shop import Shop


def files_in(directory: Path) -> list[str]:
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file())


COPY = 'cp "$PQ_PATH" "$PQ_OUTPUT"; echo "$PQ_OUTPUT"'


async def test_an_output_reaches_its_name(tmp_path: Path) -> None:
    out = tmp_path / "out"
    queue = shell(COPY, output=f"{out}/{{relparent}}/{{stem}}.copy", umask="027")
    path = written(tmp_path / "in" / "sub" / "a.txt", b"content")
    async with a_shop(tmp_path, queue) as shop:
        root = os.fsencode(tmp_path / "in")
        job = await shop.ended(await shop.submit_file(path, root=root, relpath=b"sub/a.txt"))
        written_to = await shop.stdout(job)
    target = out / "sub" / "a.copy"
    assert job.state is State.SUCCEEDED
    assert target.read_bytes() == b"content"
    assert written_to == os.fsencode(out / "sub" / f".pq-{job.id}-1-a.copy") + b"\n"
    assert files_in(out) == ["sub/a.copy"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert stat.S_IMODE(target.parent.stat().st_mode) == 0o750


async def test_a_relative_output_is_relative_to_the_configuration(tmp_path: Path) -> None:
    async with a_shop(tmp_path, shell('echo x > "$PQ_OUTPUT"', output="made/{job_id}.txt")) as shop:
        job = await shop.run()
    assert (tmp_path / "made" / f"{job.id}.txt").read_text() == "x\n"


async def test_a_function_writes_its_output(tmp_path: Path) -> None:
    source = "async def work(job):\n    job.output.write_text('from the loop')\n"
    queue = python(source, tmp_path, output="made/{job_id}.txt", umask="0022")
    before = os.umask(0o077)
    try:
        async with a_shop(tmp_path, queue) as shop:
            job = await shop.run()
    finally:
        os.umask(before)
    target = tmp_path / "made" / f"{job.id}.txt"
    assert target.read_text() == "from the loop"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("true", "no output"),
        ('mkdir "$PQ_OUTPUT"', "no output"),
        ('ln -s /etc/passwd "$PQ_OUTPUT"', "no output"),
        ('echo half > "$PQ_OUTPUT"; exit 4', "exit 4"),
        ('echo half > "$PQ_OUTPUT"; kill -9 $$', "killed by SIGKILL"),
    ],
)
async def test_what_is_not_a_whole_output_is_not_published(
    tmp_path: Path, script: str, reason: str
) -> None:
    queue = shell(script, output="made/out.txt", max_attempts=1)
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.run()
        assert (await shop.only_attempt(job)).reason == reason
    assert job.state is State.FAILED
    assert files_in(tmp_path / "made") == []


# --- names that are taken ------------------------------------------------------------------------


async def three_times(tmp_path: Path, on_conflict: str) -> list[State]:
    queue = shell('echo $PQ_JOB_ID > "$PQ_OUTPUT"', output="made/a.tar.gz",
                  on_conflict=on_conflict, max_attempts=1)  # fmt: skip
    async with a_shop(tmp_path, queue) as shop:
        return [(await shop.run()).state for _ in range(3)]


async def test_a_taken_name_gets_a_number(tmp_path: Path) -> None:
    assert await three_times(tmp_path, "number") == [State.SUCCEEDED] * 3
    made = tmp_path / "made"
    assert files_in(made) == ["a.tar-2.gz", "a.tar-3.gz", "a.tar.gz"]
    assert [(made / name).read_text() for name in files_in(made)] == ["2\n", "3\n", "1\n"]


async def test_a_taken_name_is_replaced(tmp_path: Path) -> None:
    assert await three_times(tmp_path, "replace") == [State.SUCCEEDED] * 3
    assert (tmp_path / "made" / "a.tar.gz").read_text() == "3\n"
    assert files_in(tmp_path / "made") == ["a.tar.gz"]


async def test_a_taken_name_fails_the_attempt(tmp_path: Path) -> None:
    assert await three_times(tmp_path, "fail") == [State.SUCCEEDED, State.FAILED, State.FAILED]
    assert (tmp_path / "made" / "a.tar.gz").read_text() == "1\n"
    assert files_in(tmp_path / "made") == ["a.tar.gz"]


async def test_many_at_once_get_one_name_each(tmp_path: Path) -> None:
    queue = shell('echo $PQ_JOB_ID > "$PQ_OUTPUT"', output="made/a.txt")
    async with a_shop(tmp_path, queue, workers=8) as shop:
        jobs = [await shop.submit() for _ in range(16)]
        for job in jobs:
            assert (await shop.ended(job)).state is State.SUCCEEDED
    made = tmp_path / "made"
    assert len(files_in(made)) == 16
    assert {(made / name).read_text().strip() for name in files_in(made)} == {
        str(job.id) for job in jobs
    }


def test_the_name_may_be_taken_in_the_last_instant(tmp_path: Path) -> None:
    temp = written(tmp_path / ".pq-1-1-a.txt", b"new")
    target = written(tmp_path / "a.txt", b"somebody's")
    publication = Publication(temp, target, Identity(0, 0, 0, 0), 0)
    assert publishing.place(publication, replace=False) is False
    assert (tmp_path / "a.txt").read_bytes() == b"somebody's"
    assert publishing.choose(target, "number", after=target) == target[:-4] + b"-2.txt"


def test_without_noreplace_a_link_does_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renaming, "_NOREPLACE", 1 << 20)  # the kernel answers EINVAL
    source = written(tmp_path / "source", b"new")
    taken = written(tmp_path / "taken", b"old")
    with pytest.raises(FileExistsError):
        renaming.rename_new(source, taken)
    renaming.rename_new(source, os.fsencode(tmp_path / "free"))
    assert files_in(tmp_path) == ["free", "taken"]
    assert (tmp_path / "free").read_bytes() == b"new"
    assert (tmp_path / "taken").read_bytes() == b"old"


def test_numbered_names_fit() -> None:
    assert renaming.numbered(b"a.pdf", 1) == b"a.pdf"
    assert renaming.numbered(b"a.pdf", 12) == b"a-12.pdf"
    assert renaming.numbered(b".hidden", 2) == b".hidden-2"
    assert renaming.numbered(b"x" * 251 + b".pdf", 2) == b"x" * 249 + b"-2.pdf"
    assert len(renaming.numbered(b"a." + b"s" * 253, 2)) == 255


# --- where it may go -----------------------------------------------------------------------------


def values(**given: bytes) -> dict[str, bytes]:
    return {"stem": b"a", "relparent": b".", "parent": b"/srv/in"} | given


@pytest.mark.parametrize(
    ("template", "given", "target"),
    [
        ("/srv/out/{stem}.pdf", {}, b"/srv/out/a.pdf"),
        ("/srv/out/{relparent}/{stem}.pdf", {"relparent": b"x/y"}, b"/srv/out/x/y/a.pdf"),
        ("out/{stem}", {}, b"/etc/pq/out/a"),
        ("{parent}/{stem}.pdf", {}, b"/srv/in/a.pdf"),
        ("/srv/{{x}}/{stem}", {}, b"/srv/{x}/a"),
        ("/srv/out/{stem}..", {}, b"/srv/out/a.."),
    ],
)
def test_where_an_output_goes(template: str, given: dict[str, bytes], target: bytes) -> None:
    assert output_target(template, values(**given), b"/etc/pq") == target


@pytest.mark.parametrize(
    ("template", "given"),
    [
        ("/srv/out/{relparent}/{stem}", {"relparent": b"../../etc"}),
        ("/srv/out/{stem}/{stem}x", {"stem": b".."}),
        ("/srv/out/{stem}", {"stem": b".."}),
        ("/srv/out/{stem}", {"stem": b""}),
        ("/srv/out/{relparent}/", {}),
        ("out/{relparent}/{stem}", {"relparent": b"../.."}),
        ("/srv/out/{stem}", {"stem": b"x" * 256}),
        ("/srv/out/{suffix}", {}),
    ],
)
def test_where_an_output_may_not_go(template: str, given: dict[str, bytes]) -> None:
    with pytest.raises(PlaceholderError):
        output_target(template, values(**given), b"/etc/pq")


def test_the_temporary_name_fits() -> None:
    assert temporary(b"/srv/a.pdf", 17, 2) == b"/srv/.pq-17-2-a.pdf"
    assert len(os.path.basename(temporary(b"/srv/" + b"x" * 255, 17, 2))) == 255  # noqa: PTH119


# --- deaths --------------------------------------------------------------------------------------

SLOW = """
import os, sys, time
with open(os.environ["PQ_OUTPUT"], "wb", buffering=0) as out:
    for i in range(40):
        out.write(b"%04d\\n" % i)
        time.sleep(0.002)
"""
WHOLE = b"".join(b"%04d\n" % i for i in range(40))


async def test_kills_of_a_slow_writer_never_leave_part_of_an_output(
    tmp_path: Path, long: bool
) -> None:
    """Killed at random moments, each file that ever appears under a final name is whole."""
    chance = random.Random(20261124)  # noqa: S311
    kills = 200 if long else 60
    queue = a_queue(sys.executable, "-c", SLOW, output="made/{job_id}.txt", max_attempts=1000)
    made = tmp_path / "made"
    async with a_shop(tmp_path, queue, workers=4) as shop:
        jobs = [await shop.submit() for _ in range(4)]
        for _ in range(kills):
            if not shop.pool.busy:
                jobs.append(await shop.submit())
            await _kill_one(shop, chance)
            assert all((made / name).read_bytes() == WHOLE for name in published(made))
        for job in jobs:
            assert (await shop.ended(job)).state is State.SUCCEEDED
        killed = sum([len(await shop.attempts(job)) - 1 for job in jobs])
    assert files_in(made) == sorted(f"{job.id}.txt" for job in jobs)
    assert killed > kills / 10


async def _kill_one(shop: Shop, chance: random.Random) -> None:
    """Kill a handler of the pool, at a random moment of its life."""
    leaders = shop.pool._tools.leaders.pids
    await wait_until(lambda: leaders or not shop.pool.busy, what="a handler")
    if not leaders:
        return
    pid = chance.choice(sorted(leaders))
    moment = shop.store.now() + chance.randrange(0, 140)
    await wait_until(lambda: shop.store.now() >= moment or pid not in leaders)
    if pid in leaders:
        os.kill(pid, 9)


def published(made: Path) -> list[str]:
    return [name for name in files_in(made) if not name.startswith(".pq-")] if made.exists() else []


async def test_a_cancelled_writer_leaves_nothing(tmp_path: Path) -> None:
    queue = shell('echo half > "$PQ_OUTPUT"; echo on; sleep 60', output="made/x.txt")
    async with a_shop(tmp_path, queue) as shop:
        job = await shop.submit()
        await shop.says(job, b"on")
        assert len(files_in(tmp_path / "made")) == 1
        await shop.store.act(job.id, Event.CANCEL, PERSON)
        job = await shop.ended(job)
    assert (job.state, job.reason) == (State.CANCELLED, Reason.CANCELLED)
    assert files_in(tmp_path / "made") == []
    assert files_in(tmp_path / "state" / "scratch") == []


def test_what_a_dead_daemon_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    temp = written(tmp_path / "made" / ".pq-7-1-x.txt", b"half")
    other = written(tmp_path / "made" / "innocent.txt", b"whole")
    scratch = Scratch(tmp_path)
    scratch.clear()
    scratch.note_temporary(7, 1, temp)  # type: ignore[arg-type]
    scratch.note_temporary(8, 1, other)  # type: ignore[arg-type] # not a name of ours: left alone
    scratch.renew(1)
    written(tmp_path / "scratch" / "slot-1" / "deep" / "file", b"rest")
    Scratch(tmp_path).clear()
    assert files_in(tmp_path) == ["made/innocent.txt"]


async def an_orphan(store: SqliteStore, publication: Publication | None) -> Orphan:
    return Orphan(await a_running_job(store), EpochId(1), "token", publication)


async def test_a_rescue_finds_whether_the_rename_had_happened(
    store: SqliteStore, tmp_path: Path
) -> None:
    temp, target = os.fsencode(tmp_path / ".pq-1-1-x"), os.fsencode(tmp_path / "x")
    written(temp, b"whole")
    identity = publishing.ready(temp, 0o022, by_us=False)
    assert isinstance(identity, Identity)
    orphan = await an_orphan(store, Publication(temp, target, identity, 0))

    assert finish_or_remove(orphan) is False  # the commit, and then the end
    assert [name for name in files_in(tmp_path) if name.startswith(".pq")] == []

    written(temp, b"whole")
    identity = publishing.ready(temp, 0o022, by_us=False)
    assert isinstance(identity, Identity)
    orphan = await an_orphan(store, Publication(temp, target, identity, 0))
    assert publishing.place(orphan.publication, replace=False)  # type: ignore[arg-type]
    assert finish_or_remove(orphan) is True  # the rename, and then the end

    written(target, b"somebody else's")
    assert finish_or_remove(orphan) is False
    assert finish_or_remove(await an_orphan(store, None)) is False
