"""What every engine promises about jobs: accepting, claiming, ending, a person's hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pq_daemon.errors import ConflictError, NotFoundError
from pq_daemon.jobs.model import JobId, OutputSize, QueueName
from pq_daemon.jobs.order import Moment, Priority
from pq_daemon.jobs.retry import Backoff
from pq_daemon.jobs.states import Event, Outcome, Reason, State
from pq_daemon.store.protocol import After, Claim, JobFilter, QueueEntry
from tests.support.builders import (
    FILES,
    PERSON,
    a_claim,
    a_job,
    a_running_job,
    a_submission,
    ending,
    found,
)

if TYPE_CHECKING:
    from pq_daemon.jobs.model import Job
    from pq_daemon.store.protocol import Store


async def end(store: Store, job: Job, outcome: Outcome, **how: object) -> State | None:
    return (await store.exchange([ending(store, job, outcome, **how)], Claim())).settled[0]


# --- accepting ---------------------------------------------------------------------------------


async def test_a_submitted_job_is_queued_and_counted(engine: Store) -> None:
    job = await a_job(engine)
    [queue] = await engine.queues()
    assert (job.state, job.attempt, job.run) == (State.QUEUED, 0, 1)
    assert queue.counts[State.QUEUED] == 1
    assert queue.oldest_queued_at == job.created_at


async def test_a_key_finds_the_stored_job(engine: Store) -> None:
    first, made = await engine.submit(a_submission(key="k"), PERSON)
    again, made_again = await engine.submit(a_submission(key="k", payload="[]"), PERSON)
    assert (made, made_again, again) == (True, False, first)


async def test_a_job_for_later_is_scheduled_and_comes_due(engine: Store) -> None:
    ahead = Moment(engine.now() + 60_000)
    job, _ = await engine.submit(a_submission(run_at=ahead), PERSON)
    exchange = await engine.exchange([], a_claim())
    assert job.state is State.SCHEDULED
    assert (exchange.claimed, exchange.next_due) == ([], ahead)


async def test_a_run_at_that_has_passed_is_queued_at_once(engine: Store) -> None:
    job, _ = await engine.submit(a_submission(run_at=Moment(engine.now() - 1)), PERSON)
    assert job.state is State.QUEUED


async def test_an_unknown_queue_is_refused_and_nothing_is_kept(engine: Store) -> None:
    with pytest.raises(NotFoundError, match="no queue 'nowhere'"):
        await engine.submit(a_submission(queue=QueueName("nowhere")), PERSON)
    assert (await engine.jobs(JobFilter(), None, 10)).items == []


# --- claiming ----------------------------------------------------------------------------------


async def test_a_claim_fills_free_slots_in_order(engine: Store) -> None:
    jobs = [await a_job(engine) for _ in range(3)]
    exchange = await engine.exchange([], Claim((4, 7), {FILES: 10}))
    assert [(slot, job.id) for slot, job in exchange.claimed] == [(4, jobs[0].id), (7, jobs[1].id)]
    assert all(job.state is State.RUNNING and job.attempt == 1 for _, job in exchange.claimed)
    [attempt] = await engine.attempts(jobs[0].id)
    assert (attempt.number, attempt.slot, attempt.outcome) == (1, 4, None)


async def test_a_claim_respects_the_queues_limit(engine: Store) -> None:
    for _ in range(5):
        await a_job(engine)
    assert len((await engine.exchange([], a_claim(9, files=2))).claimed) == 2
    assert len((await engine.exchange([], a_claim(9, files=2))).claimed) == 0
    assert len((await engine.exchange([], a_claim(9, files=3))).claimed) == 1


async def test_priority_goes_first_and_ties_go_by_id(engine: Store) -> None:
    low = await a_job(engine, priority=Priority.LOW)
    normal = [await a_job(engine) for _ in range(2)]
    urgent = await a_job(engine, priority=Priority.URGENT)
    exchange = await engine.exchange([], a_claim(9))
    assert [job.id for _, job in exchange.claimed] == [
        urgent.id, normal[0].id, normal[1].id, low.id,
    ]  # fmt: skip


async def test_a_slot_goes_to_the_queue_whose_head_ranks_lowest(engine: Store) -> None:
    other = QueueName("other")
    await engine.configure_queues(
        [QueueEntry(FILES, "command", 0, False), QueueEntry(other, "command", 0, False)]
    )
    first = await a_job(engine, queue=other)
    second = await a_job(engine, queue=FILES)
    third = await a_job(engine, queue=other, priority=Priority.HIGH)
    exchange = await engine.exchange([], a_claim(9, files=9, other=9))
    claimed = [job.id for _, job in exchange.claimed]
    assert claimed[0] == third.id
    assert set(claimed[1:]) == {first.id, second.id}


async def test_a_paused_queue_gives_nothing(engine: Store) -> None:
    await a_job(engine)
    await engine.pause(FILES, PERSON, "maintenance")
    assert (await engine.exchange([], a_claim())).claimed == []
    await engine.resume(FILES, PERSON)
    assert len((await engine.exchange([], a_claim())).claimed) == 1


async def test_an_ending_and_the_next_claim_share_an_exchange(engine: Store) -> None:
    first = await a_running_job(engine)
    second = await a_job(engine)
    exchange = await engine.exchange([ending(engine, first)], a_claim(1, files=1))
    assert exchange.settled == [State.SUCCEEDED]
    assert [job.id for _, job in exchange.claimed] == [second.id]


# --- ending ------------------------------------------------------------------------------------


async def test_success_is_recorded_with_everything(engine: Store) -> None:
    running = await a_running_job(engine)
    state = await end(
        engine, running, Outcome.SUCCEEDED,
        exit_code=0, result='{"pages": 3}', output=OutputSize(5, 2, 0), inline=b"frames",
    )  # fmt: skip
    job = await engine.job(running.id)
    [attempt] = await engine.attempts(running.id)
    assert state is job.state is State.SUCCEEDED
    assert (job.result, job.reason, job.spent) == ('{"pages": 3}', None, 0)
    assert job.finished_at is not None
    assert (attempt.outcome, attempt.exit_code) == (Outcome.SUCCEEDED, 0)
    assert attempt.output == OutputSize(5, 2, 0)
    assert await engine.inline_output(running.id, 1) == b"frames"


async def test_a_failure_waits_for_its_backoff_then_runs_again(engine: Store) -> None:
    running = await a_running_job(engine)
    backoff = Backoff(base=0.0, jitter=0.0)
    assert await end(engine, running, Outcome.FAILED, backoff=backoff) is State.RETRYING
    [(_, again)] = (await engine.exchange([], a_claim())).claimed
    assert (again.id, again.attempt, again.spent) == (running.id, 2, 1)


async def test_attempts_run_out(engine: Store) -> None:
    running = await a_running_job(engine, max_attempts=1)
    assert await end(engine, running, Outcome.FAILED, error="exit 3") is State.FAILED
    job = await engine.job(running.id)
    assert (job.reason, job.error) == (Reason.ATTEMPTS, "exit 3")


async def test_a_late_ending_changes_nothing(engine: Store) -> None:
    """The fence is (job, attempt, epoch): exactly one ending wins."""
    running = await a_running_job(engine)
    stranger = ending(engine, running, Outcome.FAILED, epoch=engine.epoch.id + 1)
    wrong_attempt = ending(engine, running, Outcome.FAILED, attempt=9)
    right = ending(engine, running)
    exchange = await engine.exchange([stranger, wrong_attempt], Claim())
    assert exchange.settled == [None, None]
    exchange = await engine.exchange([right, right], Claim())
    assert exchange.settled == [State.SUCCEEDED, None]
    assert (await engine.exchange([right], Claim())).settled == [None]


async def test_a_running_job_is_cancelled_when_it_has_ended(engine: Store) -> None:
    running = await a_running_job(engine)
    asked = await engine.act(running.id, Event.CANCEL, PERSON)
    assert (asked.state, asked.cancel_requested_at is None) == (State.RUNNING, False)
    assert await end(engine, running, Outcome.INTERRUPTED) is State.CANCELLED
    assert (await engine.job(running.id)).reason is Reason.CANCELLED


async def test_interrupt_keeps_the_place_in_the_queue(engine: Store) -> None:
    running = await a_running_job(engine)
    later = await a_job(engine)
    assert await end(engine, running, Outcome.INTERRUPTED) is State.QUEUED
    exchange = await engine.exchange([], a_claim(2))
    assert [job.id for _, job in exchange.claimed] == [running.id, later.id]
    assert exchange.claimed[0][1].spent == 0


async def test_the_third_loss_in_a_row_is_the_end(engine: Store) -> None:
    job = await a_running_job(engine)
    for attempt in (1, 2, 3):
        state = await end(engine, job, Outcome.LOST)
        assert state is (State.FAILED if attempt == 3 else State.QUEUED)
        if state is State.QUEUED:
            [(_, job)] = (await engine.exchange([], a_claim())).claimed
    assert (await engine.job(job.id)).reason is Reason.QUARANTINED


async def test_an_after_action_is_committed_with_the_end(engine: Store) -> None:
    await engine.accept([found(b"in/a.pdf")])
    [(_, job)] = (await engine.exchange([], a_claim())).claimed
    after = After("move", b"/srv/files/done")
    await end(engine, job, Outcome.SUCCEEDED, on_success=after, on_failure=After("delete"))
    [disposition] = await engine.dispositions()
    assert (disposition.job, disposition.kind) == (job.id, "move")
    assert (disposition.directory, disposition.file) == (b"/srv/files/done", job.file)
    with pytest.raises(ConflictError, match="about to be put away"):
        await engine.act(job.id, Event.RETRY, PERSON)
    await engine.disposed(job.id, "done", b"/srv/files/done/in/a.pdf")
    assert await engine.dispositions() == []
    entry = (await engine.entries([b"/srv/files/in/a.pdf"]))[b"/srv/files/in/a.pdf"]
    assert (entry.state, entry.gone) == ("vanished", True)


async def test_a_superseded_job_leaves_the_file_alone(engine: Store) -> None:
    await engine.accept([found()])
    [(_, job)] = (await engine.exchange([], a_claim())).claimed
    await end(
        engine, job, Outcome.CANCELLED, final_reason=Reason.SUPERSEDED,
        on_success=After("delete"), on_failure=After("delete"),
    )  # fmt: skip
    assert await engine.dispositions() == []


# --- a person's hand ---------------------------------------------------------------------------


async def test_cancel_hold_release_run_now(engine: Store) -> None:
    job = await a_job(engine)
    assert (await engine.act(job.id, Event.HOLD, PERSON)).state is State.HELD
    assert (await engine.exchange([], a_claim())).claimed == []
    assert (await engine.act(job.id, Event.RELEASE, PERSON)).state is State.QUEUED
    assert (await engine.act(job.id, Event.CANCEL, PERSON)).state is State.CANCELLED


async def test_release_goes_back_to_scheduled_while_its_time_is_ahead(engine: Store) -> None:
    ahead = Moment(engine.now() + 60_000)
    job, _ = await engine.submit(a_submission(run_at=ahead), PERSON)
    await engine.act(job.id, Event.HOLD, PERSON)
    released = await engine.act(job.id, Event.RELEASE, PERSON)
    assert (released.state, released.run_at) == (State.SCHEDULED, ahead)
    now = await engine.act(job.id, Event.RUN_NOW, PERSON)
    assert (now.state, now.run_at) == (State.QUEUED, None)


async def test_a_persons_retry_gives_a_fresh_budget_and_keeps_history(engine: Store) -> None:
    running = await a_running_job(engine, max_attempts=1)
    await end(engine, running, Outcome.FAILED)
    job = await engine.act(running.id, Event.RETRY, PERSON, priority=Priority.HIGH, max_attempts=7)
    assert (job.state, job.run, job.spent, job.attempt) == (State.QUEUED, 2, 0, 1)
    assert (job.priority, job.max_attempts) == (Priority.HIGH, 7)
    assert len(await engine.attempts(job.id)) == 1


@pytest.mark.parametrize("event", [Event.RELEASE, Event.RUN_NOW, Event.RETRY])
async def test_an_illegal_move_says_why_and_changes_nothing(engine: Store, event: Event) -> None:
    job = await a_job(engine)
    with pytest.raises(ConflictError, match=f"job {job.id} is queued"):
        await engine.act(job.id, event, PERSON)
    assert await engine.job(job.id) == job


async def test_an_unknown_job_is_not_found(engine: Store) -> None:
    with pytest.raises(NotFoundError, match="no job 999"):
        await engine.act(JobId(999), Event.CANCEL, PERSON)
    with pytest.raises(NotFoundError):
        await engine.job(JobId(999))


async def test_who_did_what_is_kept(engine: Store) -> None:
    job = await a_job(engine)
    await engine.act(job.id, Event.CANCEL, PERSON, reason="wrong folder")
    cancelled, submitted = (await engine.audit_entries(None, 10, job=job.id)).items
    assert (submitted.action, cancelled.action) == ("job.submit", "job.cancel")
    assert (cancelled.actor, cancelled.reason) == (PERSON, "wrong folder")
    assert cancelled.detail == {"from": "queued", "to": "cancelled"}


async def test_a_waiting_job_can_be_amended_and_keeps_its_moment(engine: Store) -> None:
    first, second = await a_job(engine), await a_job(engine)
    urgent = await engine.amend(second.id, PERSON, priority=Priority.URGENT)
    assert urgent.priority is Priority.URGENT
    [(_, claimed)] = (await engine.exchange([], a_claim(1))).claimed
    assert claimed.id == second.id
    back = await engine.amend(first.id, PERSON, priority=Priority.LOW)
    again = await engine.amend(first.id, PERSON, priority=Priority.NORMAL)
    assert (back.priority, again.rank) == (Priority.LOW, first.rank)
    with pytest.raises(ConflictError, match="only waiting jobs"):
        await engine.amend(claimed.id, PERSON, priority=Priority.LOW)


async def test_only_a_job_that_waits_for_a_time_gets_another_one(engine: Store) -> None:
    ahead = Moment(engine.now() + 60_000)
    scheduled, _ = await engine.submit(a_submission(run_at=ahead), PERSON)
    sooner = await engine.amend(scheduled.id, PERSON, run_at=Moment(ahead - 1000))
    assert (sooner.state, sooner.run_at) == (State.SCHEDULED, ahead - 1000)
    queued = await a_job(engine)
    with pytest.raises(ConflictError, match="waits for no time"):
        await engine.amend(queued.id, PERSON, run_at=ahead)


async def test_stuck_after_actions_do_not_hide_newer_ones(engine: Store) -> None:
    await engine.accept([found(b"%d.pdf" % number) for number in range(3)])
    claimed = [job for _, job in (await engine.exchange([], a_claim(9))).claimed]
    away = After("delete")
    await engine.exchange([ending(engine, job, on_success=away) for job in claimed], Claim())
    first = await engine.dispositions(limit=2)
    rest = await engine.dispositions(first[-1].job, limit=2)
    assert [one.job for one in first + rest] == sorted(job.id for job in claimed)
