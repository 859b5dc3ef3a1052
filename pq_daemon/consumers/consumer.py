"""One consumer: a numbered slot that takes a job, carries it out, hands back how it ended, waits.

Carrying out is a pipeline with a closed end: prepare, run, confirm, publish, clean up, each step
deciding whether the next one comes. Whatever happens, a claimed job is handed back: also when the
consumer itself is cancelled or breaks, then as interrupted.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple

from pq_daemon.consumers.capture import NOTHING
from pq_daemon.consumers.environment import output_target, temporary, values
from pq_daemon.consumers.handlers.command import run_command, start_of
from pq_daemon.consumers.handlers.http import post
from pq_daemon.consumers.handlers.outcome import Ended, Stop, failed, put_back, stopped
from pq_daemon.consumers.handlers.python_loop import run_in_loop
from pq_daemon.consumers.handlers.python_process import run_in_worker
from pq_daemon.consumers.settling import afters
from pq_daemon.consumers.work import Work
from pq_daemon.errors import StoreError
from pq_daemon.jobs.states import Outcome
from pq_daemon.store.protocol import Ending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pq_daemon.consumers.attempt import Attempt, Tools
    from pq_daemon.jobs.model import OutputSize
    from pq_daemon.store.protocol import Publication

Given = TypeVarTuple("Given")
T = TypeVar("T")

NEVER_BEGUN: Final = stopped(Stop.INTERRUPT, 0.0)


class Stopped(Exception):
    """A step was cut short, because the attempt is to end."""


class Consumer:
    """A slot of the pool."""

    def __init__(
        self, slot: int, tools: Tools, hand_back: Callable[[Consumer, Ending], None]
    ) -> None:
        self.slot = slot
        self.attempt: Attempt | None = None
        self._tools = tools
        self._hand_back = hand_back
        self._loop = asyncio.get_running_loop()
        self._given: asyncio.Future[Attempt | None] = self._loop.create_future()
        self._task: asyncio.Task[Any] | None = None
        self.is_gone = False  # it takes no more jobs
        self._alarm = Alarm(self._loop, self._time_is_up)

    def __repr__(self) -> str:
        return f"<Consumer {self.slot} {self.attempt or 'idle'}>"

    def give(self, attempt: Attempt) -> None:
        """Have a claimed job carried out. Only for an idle consumer."""
        self.attempt = attempt
        self._given.set_result(attempt)

    def leave(self) -> None:
        """Have an idle consumer end."""
        if not self._given.done():
            self._given.set_result(None)

    async def serve(self) -> None:
        """Carry out what is given until told to leave."""
        self._task = asyncio.current_task()
        try:
            while (attempt := await self._given) is not None:
                self._given = self._loop.create_future()
                await self._serve_one(attempt)
                if self.is_gone:
                    raise asyncio.CancelledError  # it had to wait until the job was handed back
        finally:
            self.is_gone = True
            self._alarm.close()
            if self.attempt is not None:  # given in the moment we were cancelled
                self._hand_back(self, self._ending(self.attempt, NEVER_BEGUN, NOTHING, None))

    async def _serve_one(self, attempt: Attempt) -> None:
        ended, size, inline = NEVER_BEGUN, NOTHING, None
        self._alarm.set(attempt.plan.queue.timeout)
        try:
            ended = await self._carry_out(attempt)
            attempt.close()
            size, inline = await attempt.output()
        except BaseException:
            self.is_gone = True
            raise
        finally:
            attempt.close()
            self._alarm.clear()
            self.attempt = None
            self.is_gone = self.is_gone or self._own_task.cancelling() > 0
            self._hand_back(self, self._ending(attempt, ended, size, inline))

    def _ending(
        self, attempt: Attempt, ended: Ended, size: OutputSize, inline: bytes | None
    ) -> Ending:
        job = attempt.job
        on_success, on_failure = afters(attempt.setup.settings, job)
        return Ending(
            job=job.id,
            attempt=job.attempt,
            epoch=self._tools.store.epoch.id,
            outcome=ended.outcome,
            reason=ended.reason,
            final_reason=ended.final_reason,
            after=ended.after,
            backoff=attempt.plan.backoff,
            chance=random.random(),  # noqa: S311 - jitter
            exit_code=ended.exit_code,
            signal=ended.signal,
            error=ended.error,
            result=ended.result or attempt.result,
            progress=attempt.progress,
            output=size,
            inline=inline,
            on_success=on_success,
            on_failure=on_failure,
        )

    # --- the pipeline -----------------------------------------------------------------------------

    async def _carry_out(self, attempt: Attempt) -> Ended:
        plan, job = attempt.plan, attempt.job
        if attempt.stopped is not None:
            return self._stopped(attempt)
        if plan.trouble:
            return failed("not started", plan.trouble)
        if job.file is None and plan.is_in_loop and not plan.queue.output:
            return await run_in_loop(attempt, self._own_task, None)
        try:
            work = self._work(attempt)
        except ValueError as error:  # a placeholder without a value, text that cannot be bytes
            return failed("placeholder", str(error))
        try:
            return await self._with_files(attempt, work)
        except Stopped:
            return self._stopped(attempt)
        finally:
            if work.needs_cleaning:
                await self._tools.threads.see_through(work.clean)

    @staticmethod
    def _stopped(attempt: Attempt) -> Ended:
        return stopped(attempt.stopped or Stop.INTERRUPT, attempt.plan.queue.timeout)

    def _work(self, attempt: Attempt) -> Work:
        queue, job = attempt.plan.queue, attempt.job
        target = temp = None
        if queue.output:
            target = output_target(queue.output, values(job, None), attempt.setup.directory)
            temp = temporary(target, job.id, job.attempt)
        return Work(
            job=job,
            slot=self.slot,
            scratch=self._tools.scratch,
            roots=self._tools.roots,
            needs_scratch=attempt.plan.has_process,
            target=target,
            temporary=temp,
            umask=attempt.plan.umask,
            on_conflict=queue.on_conflict,
        )

    async def _with_files(self, attempt: Attempt, work: Work) -> Ended:
        ended = await self._prepare(attempt, work)
        if ended is None:
            ended = await self._run(attempt, work)
        if ended.outcome is not Outcome.SUCCEEDED or not work.needs_look:
            return ended
        grace = attempt.plan.queue.kill_grace
        confirmed = await self._in_thread(attempt, grace, work.confirm, ended)
        if isinstance(confirmed, Ended):
            return confirmed
        return await self._publish(work, confirmed, ended)

    async def _prepare(self, attempt: Attempt, work: Work) -> Ended | None:
        ended = None
        if work.needs_look:
            ended = await self._in_thread(attempt, 0.0, work.prepare)
        if ended is None and work.needs_room:
            ended = await self._tools.threads.see_through(work.make_room)
        return ended

    async def _run(self, attempt: Attempt, work: Work) -> Ended:
        if attempt.plan.is_in_loop:
            return await run_in_loop(attempt, self._own_task, work.temporary)
        if attempt.plan.is_http:
            now = self._tools.store.now()
            sending = post(attempt, self._tools.client, self._tools.threads, now)
            return await self._cuttable(attempt, 0.0, sending)
        job = attempt.job
        scratch = self._tools.scratch.path(self.slot)
        try:
            start = start_of(attempt, values(job, work.temporary), scratch)
        except ValueError as error:  # a placeholder without a value, text that cannot be bytes
            return failed("placeholder", str(error))
        if attempt.stopped is not None:
            return self._stopped(attempt)
        if attempt.plan.is_command:
            return await run_command(attempt, start, self._tools.leaders)
        return await run_in_worker(attempt, start, work.temporary, self._tools.workers)

    async def _publish(self, work: Work, first: Publication, ended: Ended) -> Ended:
        """Commit to the rename, rename; with the next name when the first was taken meanwhile."""
        job, wanted = work.job, first
        while True:
            try:
                if not await self._tools.store.publishing(job.id, job.attempt, wanted):
                    return failed("late", "the attempt is no longer ours")
            except StoreError as error:
                return put_back(str(error), 5.0)
            answer = await self._tools.threads.see_through(work.place, wanted)
            if answer is None:
                return ended
            if isinstance(answer, Ended):
                return answer
            wanted = answer

    # --- being stopped ----------------------------------------------------------------------------

    @property
    def _own_task(self) -> asyncio.Task[Any]:
        assert self._task is not None  # noqa: S101 - serve() has set it
        return self._task

    def _time_is_up(self) -> None:
        if self.attempt is not None:
            self.attempt.stop(Stop.TIMEOUT)

    async def _in_thread(
        self, attempt: Attempt, grace: float, work: Callable[[*Given], T], *given: *Given
    ) -> T:
        """Wait for a thread, unless the attempt is to end: a dead mount must not hold it.

        Raises:
            Stopped: it is; what the thread does is of no interest any more.

        """
        return await self._cuttable(attempt, grace, self._tools.threads.run(work, *given))

    async def _cuttable(self, attempt: Attempt, grace: float, step_of_it: Awaitable[T]) -> T:
        """Wait for a step that only waits itself, unless the attempt is to end.

        Raises:
            Stopped: it is.

        """
        step = Step(self._own_task, grace)
        attempt.holder = step
        try:
            return await step_of_it
        except asyncio.CancelledError:
            attempt.holder = None
            if self._own_task.cancelling() > step.cancels:
                attempt.stop(Stop.INTERRUPT)  # the pool falls
            raise Stopped from None
        finally:
            attempt.holder = None
            step.close()


class Step:
    """A step of the pipeline that waits for a thread; it can be cut short after a grace."""

    def __init__(self, task: asyncio.Task[Any], grace: float) -> None:
        self._task = task
        self._grace = grace
        self._timer: asyncio.TimerHandle | None = None
        self.cancels = 0  # that are ours, of those the task counts

    def stop(self, *, now: bool) -> None:
        if now or self._grace <= 0:
            self._cut()
        elif self._timer is None:
            self._timer = self._task.get_loop().call_later(self._grace, self._cut)

    def abandon(self) -> None:
        self._cut()

    def _cut(self) -> None:
        self.cancels += 1
        self._task.cancel()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for _ in range(self.cancels):
            self._task.uncancel()


class Alarm:
    """Rings once when the time is up. To set and clear it costs nothing: one timer sleeps on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._due:
            self._sleep_until(self._due)

    def clear(self) -> None:
        self._due = None

    def close(self) -> None:
        self._due = None
        if self._timer is not None:
            self._timer.cancel()

    def _sleep_until(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(moment, self._wake)

    def _wake(self) -> None:
        self._timer = None
        if self._due is None:
            return
        if self._loop.time() >= self._due:
            self._due = None
            self._ring()
        else:
            self._sleep_until(self._due)
