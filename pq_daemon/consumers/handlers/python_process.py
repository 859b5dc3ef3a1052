"""The `python` handler in processes: one job in a worker of its queue, from request to answer.

The worker is a process like a command's and ends like one: TERM, grace, KILL, verified empty. When
it answers, what it had printed is in its pipes, so these are read before the answer counts: the
output of a job is exact and never reaches the next one. A worker that leaves processes, threads or
redirected streams behind is ended with them before the job has ended.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pq_daemon.consumers.handlers.command import Ears, not_started
from pq_daemon.consumers.handlers.outcome import (
    SUCCEEDED,
    Ended,
    Stop,
    failed,
    signal_name,
    stopped,
)
from pq_daemon.consumers.handlers.process import LOST
from pq_daemon.consumers.handlers.workers import interpreter
from pq_daemon.consumers.lines import TEXT_MOST, Result, understand
from pq_daemon.jobs.model import Progress
from pq_daemon.jobs.states import Outcome, Reason
from pq_daemon.runtime.processes import VARIABLE

if TYPE_CHECKING:
    from pq_daemon.consumers.attempt import Attempt
    from pq_daemon.consumers.handlers.process import Start
    from pq_daemon.consumers.handlers.workers import Message, Worker, Workers
    from pq_daemon.store.outputs import Stream


async def run_in_worker(
    attempt: Attempt, start: Start, output: bytes | None, workers: Workers
) -> Ended:
    """Have a worker run it, to its end. A cancellation ends it first, and goes on afterwards.

    Args:
        attempt: what runs.
        start: the surroundings of the attempt, as a command would get them.
        output: where the function writes its result.
        workers: who has them.

    """
    try:
        worker = workers.take(attempt.setup, attempt.plan, start)
    except (OSError, ValueError) as error:
        return not_started(error, replace(start, arguments=[interpreter(attempt.plan)]))
    errand = Errand(attempt, worker)
    worker.begin(errand, request(attempt, start, output, worker.token))
    attempt.take_hold(errand, worker.process.leader, worker.token)
    await _wait(attempt, errand)
    attempt.let_go()
    worker.finish()
    workers.give_back(worker)
    return errand.ended()


async def _wait(attempt: Attempt, errand: Errand) -> None:
    cancelled = False
    while not errand.is_over:
        try:
            await errand.wait()
        except asyncio.CancelledError:  # the pool falls: its consumer sees it when this is over
            attempt.stop(Stop.INTERRUPT, now=cancelled)
            cancelled = True


def request(attempt: Attempt, start: Start, output: bytes | None, token: str) -> Message:
    """Return what the worker is told of a job."""
    job, file = attempt.job, attempt.job.file
    surroundings = {**start.environment, VARIABLE.encode(): token.encode()}
    return {
        "id": str(job.id),
        "run": job.run,
        "attempt": job.attempt,
        "queue": job.queue,
        "watch": None if file is None else file.watch,
        "path": None if file is None else as_text(file.path),
        "output": None if output is None else as_text(output),
        "payload": job.payload,
        "environment": [(as_text(name), as_text(value)) for name, value in surroundings.items()],
        "cwd": as_text(start.cwd),
        "umask": start.umask,
    }


def as_text(raw: bytes) -> str:
    """Bytes as JSON can carry them, exactly."""
    return raw.decode("latin-1")


class Errand:
    """One job in a worker: what it says meanwhile, and how it ends."""

    def __init__(self, attempt: Attempt, worker: Worker) -> None:
        self._ears = Ears(attempt)
        self._ears.hold = self._hold
        self._attempt = attempt
        self._worker = worker
        self._answer: Message | None = None
        self._waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_over = False

    def __repr__(self) -> str:
        return f"<Errand {self._attempt!r} in {self._worker!r} over={self.is_over}>"

    async def wait(self) -> None:
        """Wait until it is over. Cancelling this ends nothing: `stop` does."""
        if not self.is_over:
            if self._waiter.done():
                self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def _hold(self, held: bool) -> None:
        if not self.is_over:
            self._worker.hold(held)

    # --- being ended ------------------------------------------------------------------------------

    def stop(self, *, now: bool) -> None:
        """End the worker, unless it has answered and the loop has only not told us yet."""
        if not self.is_over:
            self._worker.hear()
            self._worker.process.stop(now=now)

    def abandon(self) -> None:
        self._worker.process.abandon()

    # --- what the worker says ---------------------------------------------------------------------

    def hear(self, stream: Stream, data: bytes) -> None:
        self._ears.hear(stream, data)

    def note(self, message: Message) -> None:
        """Take a message: progress, or the answer."""
        if "progress" in message:
            self._note_progress(message["progress"], message.get("text", ""))
        elif self._answer is None and not self._worker.process.was_told:  # else it is too late
            self._answer = message
            self._worker.process.catch_up()
            if self._worker.is_clean(message):
                self.conclude()
            else:
                self._worker.process.stop()

    def _note_progress(self, fraction: object, text: object) -> None:
        if isinstance(fraction, (int, float)) and math.isfinite(fraction):
            percent = max(0.0, min(100.0, fraction * 100.0))
            self._attempt.note_progress(Progress(percent, str(text)[:TEXT_MOST]))

    def conclude(self) -> None:
        """It is over: answered, or its worker is gone."""
        self.is_over = True
        if not self._waiter.done():
            self._waiter.set_result(None)

    # --- how it ended -----------------------------------------------------------------------------

    def ended(self) -> Ended:
        self._ears.end()
        if self._answer is not None:
            return answered(self._answer)
        status = self._worker.process.status
        status = LOST if status is None else status
        if self._attempt.stopped is not None and self._worker.process.was_told:
            timeout = self._attempt.plan.queue.timeout
            return stopped(self._attempt.stopped, timeout, status, self._attempt.detail)
        return unanswered(status, self._worker.trouble, self._ears.last_words)


def answered(answer: Message) -> Ended:
    """Read an answer. It comes from a process that runs others' code: nothing of it is certain."""
    reason = as_words(answer.get("reason"))
    match answer.get("end"):
        case "returned":
            return _returned(answer.get("result"))
        case "retry":
            after = answer.get("after")
            seconds = float(after) if isinstance(after, (int, float)) else None
            reason = reason or "asked to be tried again"
            return Ended(Outcome.POSTPONED, reason, reason, after=seconds)
        case "discard":
            reason = reason or "discarded"
            return Ended(Outcome.FAILED, reason, reason, Reason.DISCARDED)
        case _:
            return failed(reason or "failed", as_words(answer.get("error")) or None)


def _returned(result: Any) -> Ended:
    if result is None:
        return SUCCEEDED
    try:
        read = understand(b"::result " + str(result).encode())
    except UnicodeEncodeError:
        return failed("result", "the result contains a lone surrogate, which is no text")
    if isinstance(read, Result):
        return Ended(Outcome.SUCCEEDED, result=read.text)
    return failed("result", "the worker's result is not JSON")


def as_words(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return value.encode("utf-8", "backslashreplace").decode()


def unanswered(status: int, trouble: str, last_words: str) -> Ended:
    """How a worker ended that was not told to, and gave no answer."""
    if trouble:
        return failed("worker", trouble)
    if status == LOST:
        return failed("the worker's exit status was lost")
    if status < 0:
        reason = f"worker killed by {signal_name(-status)}"
        return Ended(Outcome.FAILED, reason, reason, signal=-status)
    reason = f"worker exit {status}"
    error = f"{reason}: {last_words}" if last_words else reason
    return Ended(Outcome.FAILED, reason, error, exit_code=status)
