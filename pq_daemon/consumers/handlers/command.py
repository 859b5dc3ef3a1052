"""The `command` handler: start, listen, wait, and say how it ended."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
from typing import TYPE_CHECKING, Final

from pq_daemon.consumers.attempt import ignore
from pq_daemon.consumers.environment import arguments, environment
from pq_daemon.consumers.handlers.outcome import Ended, Stop, exited, failed, put_back, stopped
from pq_daemon.consumers.handlers.process import LOST, Process, Start
from pq_daemon.consumers.lines import Listener, Result
from pq_daemon.jobs.model import Progress
from pq_daemon.runtime.names import one_line, shown
from pq_daemon.store.outputs import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pq_daemon.consumers.attempt import Attempt
    from pq_daemon.consumers.handlers.process import Leaders
    from pq_daemon.consumers.lines import Said

log = logging.getLogger(__name__)

SHORT_OF: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""The machine's trouble and not the job's."""

SHORT_WAIT: Final = 5.0
WHY: Final[Mapping[int, str]] = {
    errno.ENOENT: "no such program",
    errno.EACCES: "not executable",
    errno.ENOEXEC: "not a program (no #! line?)",
    errno.E2BIG: "arguments and environment are too long",
}
WORDS_MOST: Final = 400
"""Bytes of stderr that are kept for the last line in the error."""


def start_of(attempt: Attempt, given: Mapping[str, bytes], scratch: bytes) -> Start:
    """Return what to start.

    Raises:
        PlaceholderError: a placeholder has no value for this job.

    """
    queue = attempt.plan.queue
    return Start(
        arguments=arguments(queue.command or (), given),
        environment={
            **environment(
                attempt.setup.environment,
                attempt.job,
                own=queue.env,
                given=given,
                token=attempt.token,
                scratch=scratch,
            ),
            **attempt.plan.secrets,
        },
        cwd=os.fsencode(queue.cwd) if queue.cwd else scratch,
        umask=attempt.plan.umask,
        token=attempt.token,
        grace=queue.kill_grace,
        nice=queue.nice,
        io_idle=queue.io == "idle",
    )


async def run_command(attempt: Attempt, start: Start, leaders: Leaders) -> Ended:
    """Run it to its verified end. A cancellation ends it first, and goes on afterwards."""
    ears = Ears(attempt)
    process = Process(start, leaders, ears.hear)
    ears.hold = process.hold
    try:
        process.start()
    except (OSError, ValueError) as error:
        return not_started(error, start)
    attempt.take_hold(process, process.leader)
    await _wait(attempt, process)
    attempt.let_go()
    ears.end()
    status = LOST if process.status is None else process.status
    if attempt.stopped is not None and process.was_told:
        timeout = attempt.plan.queue.timeout
        return stopped(attempt.stopped, timeout, status, attempt.detail)
    if status == LOST:
        return failed("the exit status was lost")
    return exited(status, attempt.plan.codes, ears.last_words)


async def _wait(attempt: Attempt, process: Process) -> None:
    cancelled = False
    while not process.is_over:
        try:
            await process.wait()
        except asyncio.CancelledError:  # the pool falls: its consumer sees it when this is over
            attempt.stop(Stop.INTERRUPT, now=cancelled)
            cancelled = True


class Ears:
    """Listens to the streams: all of it is output, some lines of it are meant for us."""

    def __init__(self, attempt: Attempt) -> None:
        self.hold: Callable[[bool], None] = ignore  # has the streams wait, and go on
        self._attempt = attempt
        self._listener = Listener()
        self._words = b""
        self._has_warned = False

    @property
    def last_words(self) -> str:
        lines = self._words.strip().splitlines()
        return one_line(shown(lines[-1].strip())) if lines else ""

    def hear(self, stream: Stream, data: bytes) -> None:
        if stream is Stream.STDOUT:
            self._note(self._listener.hear(data))
        else:
            self._words = (self._words + data[-WORDS_MOST:])[-WORDS_MOST:]
        self._attempt.write(stream, data, self.hold)

    def end(self) -> None:
        self._note(self._listener.end())

    def _note(self, said: Iterable[Said]) -> None:
        for word in said:
            if isinstance(word, Progress):
                self._attempt.note_progress(word)
            elif isinstance(word, Result):
                self._attempt.result = word.text
            elif not self._has_warned:
                self._has_warned = True  # once: it may come with every line
                log.warning("line ignored", extra={"job": self._attempt.job.id, "reason": word.why})


def not_started(error: OSError | ValueError, start: Start) -> Ended:
    """Say why a program could not be started, in the words of a person who has to mend it."""
    if not isinstance(error, OSError):
        return failed("not started", f"an argument or a variable cannot be passed on: {error}")
    if error.errno in SHORT_OF:
        return put_back(f"cannot start a process now: {error.strerror}", SHORT_WAIT)
    if error.filename == start.cwd:
        return failed("not started", f"cannot enter cwd {shown(start.cwd)}: {error.strerror}")
    program = shown(start.arguments[0]) if start.arguments else "an empty command"
    why = WHY.get(error.errno or 0, error.strerror)
    if error.errno == errno.ENOENT and start.arguments and _is_there(start):
        why = "its interpreter (the #! line) is missing"
    return failed("not started", f"{program}: {why}")


def _is_there(start: Start) -> bool:
    path = start.environment.get(b"PATH", b"")
    return shutil.which(start.arguments[0], path=os.fsdecode(path)) is not None
