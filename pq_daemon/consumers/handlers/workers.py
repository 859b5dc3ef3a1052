"""The worker processes of Python handlers: started when needed, kept while healthy, never too many.

One for each job at work and at most as many as there are slots; an idle one waits a minute for the
next job of its queue under the same configuration. A worker ends by itself when its channel closes,
so it outlives a dead daemon by its running job at most, and the next start's hunt finds it before.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from pq_daemon.consumers import worker as room
from pq_daemon.consumers.handlers.process import GIVE_UP, Process
from pq_daemon.runtime import memory
from pq_daemon.runtime.processes import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pq_daemon.consumers.handlers.process import Leaders, Start
    from pq_daemon.consumers.setup import Plan, Setup
    from pq_daemon.store.outputs import Stream

log = logging.getLogger(__name__)

PROGRAM: Final = Path(room.__path__[0]).resolve() / "program.py"

KEPT: Final = 60.0
"""Seconds an idle worker is kept."""

JOBS_MOST: Final = 1000
"""Jobs after which a worker is replaced: what its libraries leak ends with it."""

GOODBYE: Final = 2.0
"""Seconds for a worker to end by itself when its channel is closed, by whichever side."""

MESSAGE_MOST: Final = 1024 * 1024
READ_MOST: Final = 64 * 1024
LENGTH: Final = struct.Struct(">I")

Message = dict[str, Any]


class Errand(Protocol):
    """The job a worker is at."""

    def hear(self, stream: Stream, data: bytes) -> None: ...

    def note(self, message: Message) -> None: ...

    def conclude(self) -> None: ...


class Worker:
    """One worker process, and our end of its channel."""

    def __init__(self, start: Start, setup: Setup, plan: Plan, leaders: Leaders) -> None:
        """Start it.

        Raises:
            OSError: it cannot be started; nothing is left behind.
            ValueError: a NUL in an argument or a variable.

        """
        self.token = start.token
        self.setup = setup
        self.plan = plan
        self.jobs = 0
        self.trouble = ""  # why it is ended though nobody asked for it
        self.on_gone: Callable[[Worker], None] = _nothing
        self._leaders = leaders
        self._loop = asyncio.get_running_loop()
        self._errand: Errand | None = None
        self._inbox = bytearray()
        self._outbox = b""
        self._held = False
        self._timer: asyncio.TimerHandle | None = None
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)
        self._is_open = True
        with theirs:
            words = arguments(setup, plan, theirs.fileno())
            start = replace(start, arguments=words, passes=(theirs.fileno(),))
            self.process = Process(start, leaders, self._hear_stream)
            self.process.on_end = self._has_gone
            try:
                self.process.start()
            except BaseException:
                self._channel.close()
                raise
        self._loop.add_reader(self._channel, self.hear)

    def __repr__(self) -> str:
        return f"<Worker {self.token} jobs={self.jobs} {self.process!r}>"

    # --- a job ------------------------------------------------------------------------------------

    def begin(self, errand: Errand, request: Message) -> None:
        """Have it begin a job."""
        self.wait_for(None)
        self.jobs += 1
        self._errand = errand
        raw = json.dumps(request).encode("ascii")
        self._outbox += LENGTH.pack(len(raw)) + raw
        self._send()

    def finish(self) -> None:
        """The job is over: what comes from now on belongs to nobody."""
        self._errand = None
        if self._held and not self.process.is_over:
            self.hold(False)

    def hold(self, held: bool) -> None:
        """Stop reading its streams for a while."""
        self._held = held
        self.process.hold(held)

    def is_clean(self, answer: Message) -> bool:
        """Whether it has left nothing behind, as far as it says and we see."""
        if answer.get("reusable") is not True or answer.get("children") is not False:
            return False
        return not self._leaders.adopted_with(self.token)

    def _hear_stream(self, stream: Stream, data: bytes) -> None:
        if self._errand is not None:
            self._errand.hear(stream, data)

    # --- its channel ------------------------------------------------------------------------------

    def _send(self) -> None:
        if not self._is_open:
            return
        try:
            sent = self._channel.send(self._outbox)
        except BlockingIOError:
            sent = 0
        except OSError:  # it is gone, which we are about to be told
            self._outbox = b""
            self._loop.remove_writer(self._channel)
            return
        self._outbox = self._outbox[sent:]
        if self._outbox:
            self._loop.add_writer(self._channel, self._send)
        else:
            self._loop.remove_writer(self._channel)

    def hear(self) -> None:
        """Take what it has said by now."""
        if not self._is_open:
            return
        try:
            raw = self._channel.recv(READ_MOST)
        except BlockingIOError:
            return
        except OSError:
            raw = b""
        if not raw:
            self._close()
            self.wait_for(GOODBYE, "the worker closed its channel")
            return
        self._inbox += raw
        for message in list(self._messages()):
            if self._errand is not None:
                self._errand.note(message)

    def _messages(self) -> Iterator[Message]:
        while len(self._inbox) >= LENGTH.size:
            length = LENGTH.unpack_from(self._inbox)[0]
            end = LENGTH.size + length
            if length <= MESSAGE_MOST and len(self._inbox) < end:
                return
            message = (
                _read(bytes(self._inbox[LENGTH.size : end])) if length <= MESSAGE_MOST else None
            )
            if message is None:
                self.trouble = "the worker sent what is no message"
                self._close()
                self.process.stop(now=True)
                return
            del self._inbox[:end]
            yield message

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._channel)
            self._loop.remove_writer(self._channel)
            self._channel.close()

    # --- its end ----------------------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        return self._is_open and not self.process.has_ended

    @property
    def is_fat(self) -> bool:
        """Whether past jobs have left the next one less than half of the memory it may hold."""
        limit = self.plan.queue.memory_limit
        return limit is not None and memory.resident(self.process.leader) * 2 > limit

    def dismiss(self) -> None:
        """End it when it is idle: it is told by its channel, and made to if it does not listen."""
        self._close()
        self.wait_for(GOODBYE)

    def wait_for(self, seconds: float | None, trouble: str = "") -> None:
        """Have it ended after a time; None: it is wanted again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None and not self.process.is_over:
            self._timer = self._loop.call_later(seconds, self._time_is_up, trouble)

    def _time_is_up(self, trouble: str) -> None:
        self._timer = None
        self.trouble = self.trouble or trouble
        if self._is_open:
            self.dismiss()  # idle for too long
        else:
            self.process.stop()

    def _has_gone(self) -> None:
        self.hear()  # an answer may lie there still
        self._close()
        self.wait_for(None)
        if self._errand is not None:
            self._errand.conclude()
        self.on_gone(self)


def _nothing(_: Worker) -> None:
    """Nobody asked to be told."""


def _read(raw: bytes) -> Message | None:
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def interpreter(plan: Plan) -> bytes:
    """Return the Python that a queue's workers run under."""
    return os.fsencode(plan.queue.interpreter or sys.executable)


def arguments(setup: Setup, plan: Plan, descriptor: int) -> Sequence[bytes]:
    """Return the command line of a worker; `ps` shows it."""
    places = [os.fsencode(place) for place in (setup.settings.directory, *plan.queue.python_path)]
    function = (plan.queue.python or "").encode()
    return [interpreter(plan), os.fsencode(PROGRAM), b"%d" % descriptor, function, *places]


class Workers:
    """The workers of a pool."""

    def __init__(self, epoch: str, leaders: Leaders) -> None:
        self._epoch = epoch
        self._leaders = leaders
        self._setup: Setup | None = None
        self._all: set[Worker] = set()
        self._idle: list[Worker] = []  # the one that has waited longest first
        self._started = 0
        self._closing = False
        self._change = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Workers {len(self._all)} idle={len(self._idle)}>"

    def use(self, setup: Setup) -> None:
        """Have every job from now on run in a worker that was started under this configuration."""
        self._setup = setup
        self._dismiss_idle()

    def owns(self, token: str) -> bool:
        return any(worker.token == token for worker in self._all)

    def take(self, setup: Setup, plan: Plan, start: Start) -> Worker:
        """Return a worker for one job of a queue: an idle one, or a new one.

        Raises:
            OSError: it cannot be started.
            ValueError: a NUL in an argument or a variable.

        """
        for worker in reversed(self._idle):
            if worker.plan is plan and worker.is_usable:
                self._idle.remove(worker)
                return worker
        if self._idle and len(self._all) >= setup.size:
            self._idle.pop(0).dismiss()
        return self._start(setup, plan, start)

    def _start(self, setup: Setup, plan: Plan, start: Start) -> Worker:
        self._started += 1
        token = f"{self._epoch}.worker.{self._started}"
        environment = {**start.environment, VARIABLE.encode(): token.encode()}
        start = replace(start, token=token, environment=environment, cwd=b"/")
        worker = Worker(start, setup, plan, self._leaders)
        worker.on_gone = self._has_gone
        self._all.add(worker)
        log.debug("worker started", extra={"queue": plan.queue.name, "worker": self._started})
        return worker

    def give_back(self, worker: Worker) -> None:
        """Keep it for the next job, or let it go."""
        if worker not in self._all:
            return  # it has ended with its job
        is_current = worker.setup is self._setup and not self._closing
        is_fresh = worker.jobs < JOBS_MOST and not worker.is_fat
        if is_current and worker.is_usable and is_fresh:
            self._idle.append(worker)
            worker.wait_for(KEPT)
        else:
            worker.dismiss()

    def _dismiss_idle(self) -> None:
        idle, self._idle = self._idle, []
        for worker in idle:
            worker.dismiss()

    def _has_gone(self, worker: Worker) -> None:
        self._all.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        self._change.set()

    async def close(self) -> None:
        """End them all."""
        self._closing = True
        self._dismiss_idle()
        if await self._are_gone(GOODBYE):
            return
        for worker in tuple(self._all):
            worker.process.stop(now=True)
        if not await self._are_gone(GIVE_UP):
            for worker in tuple(self._all):
                worker.process.abandon()

    async def _are_gone(self, limit: float) -> bool:
        try:
            async with asyncio.timeout(limit):
                while self._all:
                    self._change.clear()
                    await self._change.wait()
        except TimeoutError:
            return False
        return True
