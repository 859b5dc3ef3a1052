"""What every engine promises about files: one job a version, a ledger that balances."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pq_daemon.errors import ConflictError, NotFoundError
from pq_daemon.jobs.model import QueueName, WatchName
from pq_daemon.jobs.states import Outcome, Reason, State
from pq_daemon.jobs.versions import Identity
from pq_daemon.store.protocol import (
    Claim,
    FileState,
    JobFilter,
    Publication,
    Sighting,
    Taken,
)
from tests.support.builders import (
    FILES,
    PERSON,
    ROOT,
    WATCH,
    a_claim,
    a_file,
    a_submission,
    an_identity,
    ending,
    found,
)

if TYPE_CHECKING:
    from pq_daemon.store.protocol import Found, Store

ONE = Identity(inode=7, size=5, mtime_ns=100, ctime_ns=200)
SAME = b"\x01" * 32
OTHER = b"\x02" * 32


async def take(store: Store, *files: Found) -> list[Taken]:
    return [intake.taken for intake in await store.accept(files)]


async def counts(store: Store) -> dict[str, int]:
    [watch] = await store.watches()
    return {state.value: n for state, n in watch.counts.items() if n}


async def test_a_new_file_becomes_one_job_with_its_ledger_row(engine: Store) -> None:
    [intake] = await engine.accept([found(b"sub/a.txt", identity=ONE)])
    [job] = (await engine.jobs(JobFilter(), None, 10)).items
    entry = (await engine.entries([b"/srv/files/sub/a.txt"]))[b"/srv/files/sub/a.txt"]
    assert (intake.taken, intake.job) == (Taken.ACCEPTED, job.id)
    assert job.file is not None
    assert (job.file.path, job.file.identity) == (b"/srv/files/sub/a.txt", ONE)
    assert (entry.state, entry.job, entry.accepted) == (FileState.ACCEPTED, job.id, ONE)
    assert await counts(engine) == {"accepted": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"ctime_ns": 201},  # chmod
        {"mtime_ns": 101, "ctime_ns": 201},  # touch
        {"inode": 8, "ctime_ns": 201},  # rewritten with the same content
    ],
)
async def test_the_same_content_makes_no_second_job(engine: Store, changes: dict[str, int]) -> None:
    await take(engine, found(identity=ONE))
    again = ONE._replace(**changes)
    assert await take(engine, found(identity=again)) == [Taken.KNOWN]
    [job] = (await engine.jobs(JobFilter(), None, 10)).items
    assert job.file is not None
    assert job.file.identity == again  # a live job knows its file again
    assert await counts(engine) == {"accepted": 1}


async def test_other_content_makes_one_job_more(engine: Store) -> None:
    await take(engine, found(identity=ONE))
    rewritten = found(identity=ONE._replace(mtime_ns=101, ctime_ns=201), sha256=OTHER)
    assert await take(engine, rewritten, rewritten) == [Taken.ACCEPTED, Taken.KNOWN]


async def test_a_file_that_was_gone_is_new_when_it_returns(engine: Store) -> None:
    await take(engine, found(identity=ONE))
    await engine.vanish([b"/srv/files/a.txt"])
    assert await counts(engine) == {"vanished": 1}
    assert await take(engine, found(identity=ONE)) == [Taken.ACCEPTED]
    assert await counts(engine) == {"accepted": 1}


@pytest.mark.parametrize("reason", [Reason.SUPERSEDED, Reason.INPUT_GONE])
async def test_content_whose_job_never_did_it_is_new(engine: Store, reason: Reason) -> None:
    """A file that was swapped and swapped back must not fall between two looks."""
    await take(engine, found(identity=ONE))
    [(_, job)] = (await engine.exchange([], a_claim())).claimed
    await engine.exchange([ending(engine, job, Outcome.FAILED, final_reason=reason)], Claim())
    assert await take(engine, found(identity=ONE)) == [Taken.ACCEPTED]


async def test_existing_files_may_be_skipped_or_held(engine: Store) -> None:
    skipped, held = found(b"old", skip=True), found(b"kept", hold=True)
    assert await take(engine, skipped, held) == [Taken.SKIPPED, Taken.ACCEPTED]
    [job] = (await engine.jobs(JobFilter(), None, 10)).items
    assert job.state is State.HELD
    assert await take(engine, found(b"old", identity=skipped.file.identity)) == [Taken.KNOWN]
    assert await counts(engine) == {"accepted": 1, "ignored": 1}
    rewritten = found(b"old", identity=skipped.file.identity._replace(size=9), sha256=OTHER)
    assert await take(engine, rewritten) == [Taken.ACCEPTED]


async def test_the_ledger_belongs_to_the_directory_not_to_the_watchs_name(engine: Store) -> None:
    await take(engine, found(identity=ONE))
    await engine.surveyed(WATCH)
    renamed = WatchName("renamed")
    records = await engine.configure_watches([(renamed, ROOT, FILES)])
    assert records[renamed].surveyed
    assert await take(engine, found(identity=ONE, watch=renamed)) == [Taken.KNOWN]
    by_name = {record.name: record for record in await engine.watches()}
    assert by_name[renamed].counts[FileState.ACCEPTED] == 1
    assert (by_name[WATCH].counts[FileState.ACCEPTED], by_name[WATCH].removed) == (0, True)


async def test_waiting_files_are_rows_with_their_reason(engine: Store) -> None:
    await engine.sight(
        [Sighting(WATCH, ROOT, b"a.txt", FileState.WAITING, "open for writing", ONE)]
    )
    [entry] = (await engine.files(WATCH, frozenset({FileState.WAITING}), None, 10)).items
    assert (entry.reason, entry.seen, entry.accepted) == ("open for writing", ONE, None)
    await take(engine, found(identity=ONE))
    assert await counts(engine) == {"accepted": 1}


async def test_a_sighting_keeps_the_accepted_version(engine: Store) -> None:
    await take(engine, found(identity=ONE))
    seen = ONE._replace(size=6)
    await engine.sight([Sighting(WATCH, ROOT, b"a.txt", FileState.WAITING, "settling", seen)])
    entry = (await engine.entries([b"/srv/files/a.txt"]))[b"/srv/files/a.txt"]
    assert (entry.state, entry.seen, entry.accepted) == (FileState.WAITING, seen, ONE)
    assert await take(engine, found(identity=ONE)) == [Taken.KNOWN]
    assert await counts(engine) == {"accepted": 1}


async def test_an_output_is_never_an_input(engine: Store) -> None:
    await take(engine, found())
    [(_, job)] = (await engine.exchange([], a_claim())).claimed
    target = b"/srv/files/out.pdf"
    publication = Publication(b"/srv/files/.pq-1", target, ONE, 0)
    assert await engine.publishing(job.id, job.attempt, publication)
    assert await take(engine, found(b"out.pdf", identity=ONE)) == [Taken.OUTPUT]
    touched = found(b"out.pdf", identity=ONE._replace(mtime_ns=999, ctime_ns=999))
    assert await take(engine, touched) == [Taken.OUTPUT]
    assert await counts(engine) == {"accepted": 1, "ignored": 1}


async def test_only_the_running_attempt_may_publish(engine: Store) -> None:
    await take(engine, found())
    [(_, job)] = (await engine.exchange([], a_claim())).claimed
    await engine.exchange([ending(engine, job)], Claim())
    publication = Publication(b"/srv/files/.pq-1", b"/srv/files/out", ONE, 0)
    assert not await engine.publishing(job.id, job.attempt, publication)


async def test_the_ledger_is_read_in_order_of_its_paths(engine: Store) -> None:
    names = [b"a", b"a.b", b"a/b", b"a0", b"\xff\xfe", b"z"]
    await take(engine, *[found(name) for name in names])
    await take(engine, found(b"x", root=b"/srv/files0", watch=WATCH))
    first = await engine.ledger(b"", None, 3, within=ROOT)
    rest = await engine.ledger(first[-1].path, None, 100, within=ROOT)
    assert [entry.path for entry in first + rest] == sorted(ROOT + b"/" + name for name in names)
    some = await engine.ledger(ROOT + b"/a", ROOT + b"/a0", 100, within=ROOT)
    assert [entry.path for entry in some] == [ROOT + b"/a.b", ROOT + b"/a/b", ROOT + b"/a0"]


async def test_files_page_newest_first_without_gaps(engine: Store) -> None:
    names = [b"f%03d" % number for number in range(25)]
    await take(engine, *[found(name) for name in names])
    seen, cursor = [], None
    while True:
        page = await engine.files(WATCH, frozenset(), cursor, 10)
        seen += [entry.path for entry in page.items]
        if (cursor := page.next) is None:
            break
    assert sorted(seen) == [ROOT + b"/" + name for name in names]


async def test_huge_inode_numbers_survive(engine: Store) -> None:
    huge = an_identity(inode=2**64 - 3)
    await take(engine, found(identity=huge))
    entry = (await engine.entries([b"/srv/files/a.txt"]))[b"/srv/files/a.txt"]
    assert entry.accepted == huge


async def test_misses_are_counted(engine: Store) -> None:
    await engine.missed(WATCH, 3)
    await engine.missed(WATCH, 2)
    [watch] = await engine.watches()
    assert watch.missed_by_events == 5
    assert watch.queue == QueueName("files")


# --- duplicates, stat, once more, claims ---------------------------------------------------------


async def test_the_same_content_under_another_name_may_be_skipped(engine: Store) -> None:
    await take(engine, found(b"a.txt", sha256=SAME))
    copy = replace(found(b"b.txt", sha256=SAME), unique=True)
    assert await take(engine, copy, copy) == [Taken.DUPLICATE, Taken.KNOWN]
    [entry] = (await engine.files(WATCH, frozenset({FileState.IGNORED}), None, 10)).items
    assert entry.reason == "duplicate of a.txt"
    rewritten = replace(found(b"b.txt", sha256=OTHER), unique=True)
    assert await take(engine, rewritten) == [Taken.ACCEPTED]


async def test_a_file_that_comes_back_is_no_duplicate_of_itself(engine: Store) -> None:
    await take(engine, found(b"a.txt", identity=ONE))
    await engine.vanish([b"/srv/files/a.txt"])
    back = replace(found(b"a.txt", identity=ONE), unique=True)
    assert await take(engine, back) == [Taken.ACCEPTED]


async def test_without_content_the_stat_decides(engine: Store) -> None:
    plain = found(identity=ONE, sha256=None)
    await take(engine, plain)
    chmod = found(identity=ONE._replace(ctime_ns=201), sha256=None)
    touch = found(identity=ONE._replace(mtime_ns=101, ctime_ns=201), sha256=None)
    assert await take(engine, chmod, touch) == [Taken.KNOWN, Taken.ACCEPTED]


async def test_a_known_version_is_processed_once_more(engine: Store) -> None:
    await take(engine, found(identity=ONE))
    now_there = a_file(identity=ONE, sha256=None)
    job = await engine.again(a_submission(payload=None), now_there, PERSON)
    assert job.file is not None
    assert (job.run, job.file.sha256) == (1, SAME)
    entry = (await engine.entries([b"/srv/files/a.txt"]))[b"/srv/files/a.txt"]
    assert (entry.job, entry.state) == (job.id, FileState.ACCEPTED)
    assert await counts(engine) == {"accepted": 1}
    with pytest.raises(ConflictError, match="has changed"):
        await engine.again(a_submission(payload=None), a_file(), PERSON)
    with pytest.raises(NotFoundError, match="never accepted"):
        await engine.again(a_submission(payload=None), a_file(b"new.txt"), PERSON)


async def test_a_claim_is_fulfilled_by_its_acceptance_or_given_up(engine: Store) -> None:
    first = await engine.claim_file(a_file(b"in/a.pdf", identity=ONE))
    second = await engine.claim_file(a_file(b"in/b.pdf"))
    assert await engine.file_claims() == [first, second]
    place = b"/srv/files/.pq/work/%d/a.pdf" % first.id
    moved = replace(found(b"in/a.pdf", identity=ONE, place=place), claim=first.id)
    assert await take(engine, moved) == [Taken.ACCEPTED]
    await engine.give_up_claim(second.id)
    assert await engine.file_claims() == []
    [job] = (await engine.jobs(JobFilter(), None, 10)).items
    assert job.file is not None
    assert (job.file.path, job.file.origin) == (place, b"/srv/files/in/a.pdf")
    assert b"/srv/files/in/a.pdf" in await engine.entries([b"/srv/files/in/a.pdf"])


async def test_a_submitted_file_of_a_watch_is_not_found_again_by_a_scan(engine: Store) -> None:
    file = a_file(identity=ONE)
    job, made = await engine.submit(a_submission(file=file, payload=None), PERSON)
    assert made
    assert await take(engine, found(identity=ONE)) == [Taken.KNOWN]
    entry = (await engine.entries([file.origin]))[file.origin]
    assert (entry.job, entry.state) == (job.id, FileState.ACCEPTED)
    assert await counts(engine) == {"accepted": 1}


async def test_a_submitted_file_outside_every_watch_has_no_ledger_row(engine: Store) -> None:
    file = a_file(watch=None)
    await engine.submit(a_submission(file=file, payload=None), PERSON)
    assert await engine.entries([file.origin]) == {}
