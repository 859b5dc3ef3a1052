"""The `python` handler in the loop: an async function, awaited in its consumer's own task.

The hot path: no thread, no task, no timer of its own. Whatever the function raises, SystemExit
too, ends its attempt and nothing else. It is ended by cancelling it; code that ignores that keeps
its slot. Only when the pool itself must end is it left where it stands.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pq_daemon import handler
from pq_daemon.consumers.handlers.outcome import SUCCEEDED, Ended, Stop, failed, stopped
from pq_daemon.consumers.handlers.resolve import Unresolved
from pq_daemon.consumers.lines import LINE_MOST, TEXT_MOST
from pq_daemon.jobs.model import Progress
from pq_daemon.jobs.states import Outcome, Reason
from pq_daemon.store.outputs import Stream

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from types import TracebackType

    from pq_daemon.consumers.attempt import Attempt

RESULT_MOST: Final = LINE_MOST
"""Bytes of a result as JSON."""


class Scope:
    """A function at work in the task that awaits this: it can be cancelled apart from the task."""

    __slots__ = ("_abandoned", "_coroutine", "_task", "cancels")

    def __init__(self, coroutine: Coroutine[Any, Any, object], task: asyncio.Task[Any]) -> None:
        self._coroutine = coroutine
        self._task = task
        self._abandoned = False
        self.cancels = 0  # that are ours, of those the task counts

    def stop(self, *, now: bool = False) -> None:
        self._abandoned = self._abandoned or now
        self.cancels += 1
        self._task.cancel()

    def abandon(self) -> None:
        self.stop(now=True)

    def __await__(self) -> Generator[Any, Any, object]:
        step, given = self._coroutine.send, None
        while True:
            try:
                awaited = step(given)
            except StopIteration as end:
                return end.value
            try:
                given = yield awaited
                step = self._coroutine.send
            except BaseException as error:
                if self._abandoned:
                    _leave(self._coroutine)
                    raise
                step, given = self._coroutine.throw, error


def _leave(coroutine: Coroutine[Any, Any, object]) -> None:
    """Close a function that would not end."""
    try:
        coroutine.close()
    except RuntimeError:
        # It ignores even that. Python would close it again when it is freed, outside any loop,
        # where such code goes round for ever: so it is never freed.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(coroutine))


async def run_in_loop(attempt: Attempt, task: asyncio.Task[Any], output: bytes | None) -> Ended:
    """Await the queue's function with the job. A cancellation of the task itself goes on after."""
    function = attempt.plan.function
    if function is None or isinstance(function, Unresolved):
        return _unresolved(attempt, function)
    cancels = 0
    try:
        scope = Scope(function(_job_for(attempt, output)), task)
        attempt.holder = scope
        try:
            value = await scope
        finally:
            attempt.holder = None
            cancels = scope.cancels
    except BaseException as error:  # noqa: BLE001 - the handler's door: it may raise anything
        if task.cancelling() > cancels:
            attempt.stop(Stop.INTERRUPT)  # the pool falls
        ended = _raised(attempt, error)
    else:
        ended = SUCCEEDED if value is None else _returned(value)
    for _ in range(cancels):
        task.uncancel()
    if attempt.stopped is not None:
        return stopped(attempt.stopped, attempt.plan.queue.timeout)
    return ended


def _job_for(attempt: Attempt, output: bytes | None) -> handler.Job:
    job = attempt.job
    file = job.file

    def add_line(text: str) -> None:
        if not attempt.over:
            attempt.write(Stream.STDOUT, (text + "\n").encode("utf-8", "backslashreplace"))

    def note(fraction: float, text: str) -> None:
        percent = max(0.0, min(100.0, float(fraction) * 100.0))
        attempt.note_progress(Progress(percent, text[:TEXT_MOST]))

    return handler.Job(
        str(job.id),
        job.run,
        None if file is None else Path(os.fsdecode(file.path)),
        None if job.payload is None else json.loads(job.payload),
        job.attempt,
        job.queue,
        None if file is None else file.watch,
        None if output is None else Path(os.fsdecode(output)),
        add_line,
        note,
    )


def _returned(value: object) -> Ended:
    try:
        result = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return failed("result", f"the result cannot be written as JSON: {error}")
    if len(result) > RESULT_MOST:
        return failed("result", f"the result has {len(result)} bytes, {RESULT_MOST} is the most")
    return Ended(Outcome.SUCCEEDED, result=result)


def _raised(attempt: Attempt, error: BaseException) -> Ended:
    if isinstance(error, handler.Retry):
        reason = error.reason or "asked to be tried again"
        return Ended(Outcome.POSTPONED, reason, reason, after=error.after)
    if isinstance(error, handler.Discard):
        reason = error.reason or "discarded"
        return Ended(Outcome.FAILED, reason, reason, Reason.DISCARDED)
    if not (isinstance(error, asyncio.CancelledError) and attempt.stopped):
        text = "".join(traceback.format_exception(type(error), error, _theirs(error)))
        attempt.write(Stream.STDERR, text.encode("utf-8", "backslashreplace"))
    last = traceback.format_exception_only(error)[-1].strip()
    return failed(type(error).__name__, last)


def _theirs(error: BaseException) -> TracebackType | None:
    """Leave out our own frames, which tell a handler's author nothing."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    return frames


def _unresolved(attempt: Attempt, function: Unresolved | None) -> Ended:
    if function is None:
        return failed("handler", f"queue {attempt.job.queue} has no function")
    if function.traceback:
        attempt.write(Stream.STDERR, function.traceback.encode("utf-8", "backslashreplace"))
    return failed("handler", function.why)
