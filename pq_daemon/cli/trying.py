"""The try command: a queue's handler on one file, once, in the foreground; nothing is recorded."""

from __future__ import annotations

import asyncio
import os
import shlex
from typing import TYPE_CHECKING

from pq_daemon.cli import place, printing
from pq_daemon.cli.exits import Exit
from pq_daemon.errors import InvalidRequestError
from pq_daemon.jobs.placeholders import PlaceholderError
from pq_daemon.jobs.retry import Backoff, delay
from pq_daemon.jobs.states import Outcome, State
from pq_daemon.runtime.names import shown
from pq_daemon.store.outputs import Stream

if TYPE_CHECKING:
    import argparse

    from pq_daemon.cli.command import Register
    from pq_daemon.cli.trial import Tried
    from pq_daemon.config.settings import QueueSettings, Settings
    from pq_daemon.store.outputs import Frame

MIDDLE = 0.5
"""Of the jitter."""


def add_commands(commands: Register) -> None:
    words = commands.add("try", attempt, "run a queue's handler on a file once, recording nothing")
    words.add_argument("queue", metavar="QUEUE")
    words.add_argument("file", metavar="FILE")


def attempt(arguments: argparse.Namespace) -> Exit:
    from pq_daemon.cli import trial  # noqa: PLC0415 - half the house: other commands start without

    settings = place.configuration(arguments)
    queue = settings.queues.get(arguments.queue)
    if queue is None:
        names = ", ".join(settings.queues) or "none"
        raise InvalidRequestError(f'no queue "{arguments.queue}"; there are: {names}')
    file = trial.version(arguments.file, settings)
    _say_as_whom(settings)
    try:
        done = asyncio.run(trial.tried(file, queue, settings, _hear))
    except PlaceholderError as error:
        raise InvalidRequestError(str(error)) from None
    printing.say()
    printing.facts(known(done, queue, settings))
    return Exit.DONE if done.attempt.outcome is Outcome.SUCCEEDED else Exit.REFUSED


def _hear(frame: Frame) -> None:
    if frame.stream is Stream.CUT:
        printing.complain(f"{frame.data.decode()} bytes are left out here: output_limit")
    else:
        printing.raw(frame.data, to_stderr=frame.stream is Stream.STDERR)


def _say_as_whom(settings: Settings) -> None:
    """Tell when the daemon is somebody else: then it may be allowed more, or less."""
    from pq_daemon.inspection import rights  # noqa: PLC0415

    try:
        owner = os.stat(settings.daemon.state_dir).st_uid  # noqa: PTH116
    except OSError:
        return
    if owner != os.geteuid():
        name = rights.user(owner)
        printing.complain(
            f"this runs as {rights.ourselves()}, jobs run as {name}: sudo -u {name} pq try … "
            "shows what they may do"
        )


def known(done: Tried, queue: QueueSettings, settings: Settings) -> dict[str, object]:
    """Say how it ended, and what a real job would become."""
    attempt, job = done.attempt, done.job
    signal = f"signal {attempt.signal}" if attempt.signal else attempt.exit_code
    target = f" (a real job: {shown(done.target)})" if done.target else ""
    return {
        "outcome": attempt.outcome,
        "why": job.error or attempt.reason,
        "exit": signal,
        "took": printing.duration(((attempt.finished_at or 0) - attempt.started_at) / 1000),
        "printed": f"{attempt.output.stdout} bytes on stdout, {attempt.output.stderr} on stderr",
        "result": job.result,
        "output": f"{shlex.quote(str(done.output))}{target}" if done.output else "",
        "a real job": sentence(done, queue, settings),
    }


def sentence(done: Tried, queue: QueueSettings, settings: Settings) -> str:
    if done.job.state is State.SUCCEEDED:
        return f"would have succeeded{_then(done, settings, 'on_success')}"
    if done.job.state is State.RETRYING:
        wait = done.asked_delay
        if wait is None:
            wait = delay(_backoff(queue), 1, MIDDLE)
        spent = "no attempt spent"
        if done.attempt.outcome is not Outcome.POSTPONED:
            spent = f"1 of {queue.max_attempts} attempts spent"
        return f"would be tried again in about {printing.duration(wait)}, {spent}"
    reason = f" ({done.job.reason})" if done.job.reason else ""
    return f"would be {done.job.state}{reason}{_then(done, settings, 'on_failure')}"


def _backoff(queue: QueueSettings) -> Backoff:
    backoff = queue.backoff
    return Backoff(backoff.base, backoff.factor, backoff.max, backoff.jitter)


def _then(done: Tried, settings: Settings, when: str) -> str:
    """What would become of the file."""
    file = done.job.file
    for watch in settings.watches:
        action = str(getattr(watch, when))
        if file is not None and watch.name == file.watch and action != "keep":
            return f", and its file would be put away: {action}"
    return ""
