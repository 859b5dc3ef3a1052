"""One process group, from its spawn to its verified end, driven by the loop's own callbacks.

Popen in the loop, a pidfd that tells the leader's end, pipes read as they fill: no thread and no
task a process. The end is a ladder: TERM to the group, `grace` later KILL, again until a look finds
the group empty and nobody with our token among the children we have adopted. A leader that ends by
itself leaves the rest to the same ladder. Only then are the pipes read to their end and closed: a
grandchild that holds them open holds up nobody.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from pq_daemon.runtime import processes
from pq_daemon.runtime.poller import Poller
from pq_daemon.runtime.priorities import be_gentle
from pq_daemon.store.outputs import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

log = logging.getLogger(__name__)

READ_MOST: Final = 64 * 1024
"""Bytes a stream may give each time the loop comes round: the others get their turn."""

REST_MOST: Final = 1024 * 1024
"""Bytes; no pipe holds more (fs.pipe-max-size), so that much is read after the end at most."""

LOOK_FIRST: Final = 0.001
LOOK_MOST: Final = 0.05
"""Seconds between looks whether a group is empty: there is no descriptor that tells."""

LOST: Final = -1000
"""The status of a leader that somebody else has reaped, or that cannot be killed."""

GIVE_UP: Final = 5.0
"""Seconds after KILL: who is still there cannot be killed (a dead mount, another user)."""


@dataclass(frozen=True, slots=True)
class Start:
    """What to start, and how."""

    arguments: Sequence[bytes]
    environment: Mapping[bytes, bytes] = field(repr=False)
    cwd: bytes
    umask: int
    token: str
    grace: float
    passes: tuple[int, ...] = ()  # descriptors that it gets besides its streams
    nice: int = 0
    io_idle: bool = False


class Leaders:
    """The children of ours that somebody here waits for. All others are adopted, or strangers'."""

    def __init__(self) -> None:
        self.pids: set[int] = set()
        self.poller = Poller()
        self._children = processes.Children()
        self.nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)  # everybody's stdin

    def strangers(self) -> list[int]:
        """Return our children that nobody here has started: adopted, or of other code."""
        return [pid for pid in self._children.pids() if pid not in self.pids]

    def adopted_with(self, token: str) -> list[int]:
        return [pid for pid in self.strangers() if processes.token_of(pid) == token]

    def close(self) -> None:
        self.poller.close()
        self._children.close()
        os.close(self.nothing)


class Process:
    """A handler's process group."""

    def __init__(
        self, start: Start, leaders: Leaders, sink: Callable[[Stream, bytes], None]
    ) -> None:
        self._start = start
        self._leaders = leaders
        self._sink = sink
        self._poller = leaders.poller
        self._loop = asyncio.get_running_loop()
        self._group = 0
        self._pidfd = -1
        self._pipes: dict[int, Stream] = {}
        self._is_empty = False  # the group: from then on its number may come to mean others
        self._escaped: set[int] = set()
        self._kill_at: float | None = None  # the ladder has begun; KILL is due then
        self._timer: asyncio.TimerHandle | None = None
        self._pause = LOOK_FIRST
        self._waiter: asyncio.Future[None] | None = None
        self.status: int | None = None  # of the leader: its exit code, or minus a signal
        self.was_told = False  # TERM was sent while the leader lived
        self.is_over = False
        self.gave_up = False
        self.on_end: Callable[[], None] | None = None  # for who does not wait

    def __repr__(self) -> str:
        return f"<Process {self._group} status={self.status} over={self.is_over}>"

    def start(self) -> None:
        """Start it.

        Raises:
            OSError: the program cannot be started; nothing is left behind.
            ValueError: a NUL in an argument or a variable.

        """
        out, out_end = os.pipe2(os.O_CLOEXEC)
        err, err_end = os.pipe2(os.O_CLOEXEC)
        try:
            child = self._spawn(out_end, err_end)
        except BaseException:
            os.close(out)
            os.close(err)
            raise
        finally:
            os.close(out_end)
            os.close(err_end)
        child.returncode = 0  # we reap it, by its pidfd: Popen must not
        try:
            self._pidfd = os.pidfd_open(child.pid)
        except OSError:  # no descriptor left: then it cannot be watched
            processes.signal_group(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            os.close(out)
            os.close(err)
            raise
        self._group = child.pid
        if self._start.nice or self._start.io_idle:
            be_gentle(child.pid, nice=self._start.nice, io_idle=self._start.io_idle)
        self._leaders.pids.add(child.pid)
        self._pipes = {out: Stream.STDOUT, err: Stream.STDERR}
        for pipe in self._pipes:
            os.set_blocking(pipe, False)
        self._poller.watch(self._pidfd, self._leader_has_ended)
        for pipe in self._pipes:
            self._poller.watch(pipe, partial(self._read, pipe))

    def _spawn(self, out: int, err: int) -> subprocess.Popen[bytes]:
        start = self._start
        return subprocess.Popen(  # noqa: S603 - the command is the configuration's, never a shell
            start.arguments,
            env=start.environment,
            cwd=start.cwd,
            umask=start.umask,
            stdin=self._leaders.nothing,
            stdout=out,
            stderr=err,
            pass_fds=start.passes,
            start_new_session=True,
        )

    async def wait(self) -> None:
        """Wait until it is over. Cancelling this ends nothing: `stop` does."""
        if not self.is_over:
            self._waiter = self._loop.create_future()
            await self._waiter

    # --- its streams ------------------------------------------------------------------------------

    def hold(self, held: bool) -> None:
        """Stop reading for a while: the handler waits at its full pipe."""
        for pipe in self._pipes:
            if held:
                self._poller.forget(pipe)
            else:
                self._poller.watch(pipe, partial(self._read, pipe))

    def _read(self, pipe: int) -> int:
        """Read once; the number of bytes, 0 when there is nothing (now, or any more)."""
        try:
            data = os.read(pipe, READ_MOST)
        except BlockingIOError:
            return 0
        if data:
            self._sink(self._pipes[pipe], data)
        else:
            self._close_pipe(pipe)
        return len(data)

    def _close_pipe(self, pipe: int) -> None:
        del self._pipes[pipe]
        self._poller.forget(pipe)
        os.close(pipe)

    def catch_up(self) -> None:
        """Read what its streams hold now."""
        for pipe in tuple(self._pipes):
            left = REST_MOST
            while left > 0 and (count := self._read(pipe)):
                left -= count

    def _read_the_rest(self) -> None:
        self.catch_up()
        for pipe in tuple(self._pipes):
            self._close_pipe(pipe)

    # --- ending it --------------------------------------------------------------------------------

    def stop(self, *, now: bool = False) -> None:
        """TERM, `grace` later KILL; `now`: KILL at once. Safe to repeat."""
        if self.is_over:
            return
        if not self.has_ended:
            self.was_told = True
        self._begin_ladder(0.0 if now else self._start.grace)
        self._look()

    @property
    def leader(self) -> int:
        """The process that was started, and the number of its group and session."""
        return self._group

    @property
    def has_ended(self) -> bool:
        """Whether the leader has: the loop may only not have told us yet."""
        return self.status is not None or processes.has_ended(self._pidfd)

    def _begin_ladder(self, grace: float) -> None:
        kill_at = self._loop.time() + grace
        if self._kill_at is None:
            self._kill_at = kill_at
            if grace > 0:
                self._signal(signal.SIGTERM, signal.SIGCONT)
        self._kill_at = min(self._kill_at, kill_at)

    def _signal(self, *numbers: signal.Signals) -> None:
        for number in numbers:
            if not self._is_empty:
                processes.signal_group(self._group, number)
            for pid in self._escaped:
                processes.signal_one(pid, number)

    def _leader_has_ended(self) -> None:
        try:
            status = processes.exit_of(self._pidfd)
        except ChildProcessError:  # somebody else has reaped it: its status is lost
            status = LOST
        if status is None:
            return
        self.status = status
        self._leaders.pids.discard(self._group)
        self._poller.forget(self._pidfd)
        os.close(self._pidfd)
        self._look()

    def _look_at(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(moment, self._look)

    def _look(self) -> None:
        """Look what is left, and do what is due."""
        if self.status is not None and not self._is_anybody_left():
            self._finish()
            return
        now = self._loop.time()
        self._begin_ladder(self._start.grace)
        due = self._kill_at or now
        if now >= due:
            self._signal(signal.SIGKILL)
        if now >= due + GIVE_UP:
            self.gave_up = True
        self._pause = min(self._pause * 2, LOOK_MOST if not self.gave_up else 10 * LOOK_MOST)
        wait = due if self.status is None and now < due else now + self._pause
        self._look_at(wait)

    def _is_anybody_left(self) -> bool:
        """Ask the group, and look for those who left it."""
        self._is_empty = self._is_empty or processes.group_is_empty(self._group)
        self._escaped = {pid for pid in self._escaped if not processes.has_gone(pid)}
        new = set(self._leaders.adopted_with(self._start.token)) - self._escaped
        if new:
            self._escaped |= new
            if self._kill_at is not None:  # the ladder has begun without them
                for pid in new:
                    processes.signal_one(pid, signal.SIGTERM)
        return not self._is_empty or bool(self._escaped)

    def abandon(self) -> None:
        """Wait no longer for what cannot be killed. Whoever is left is named in the log."""
        if not self.is_over:
            log.error("a handler's processes cannot be killed", extra={"group": self._group})
            if self.status is None:
                self.status = LOST
                self._leaders.pids.discard(self._group)
                self._poller.forget(self._pidfd)
                os.close(self._pidfd)
            self._finish()

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._read_the_rest()
        self.is_over = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self.on_end is not None:
            self.on_end()
