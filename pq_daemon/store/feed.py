"""What has happened, told after its commit: a ring of the last 10,000 events, and who listens.

An event is never stored and never told before its transaction is durable: what a crash can undo
was not told. A start of the daemon begins a new epoch, so a client's `(epoch, seq)` names one
moment for ever. Listeners are plain functions, called in the loop, in order, with whole batches;
they must return at once (wake a task, mark something dirty).
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pq_daemon.jobs.model import JobId, QueueName
    from pq_daemon.jobs.order import Moment

RING: Final = 10_000


class Fact(NamedTuple):
    """Something that is true now. `type` is dotted: job.started, queue.paused, config.refused."""

    type: str
    job: JobId | None = None
    queue: QueueName | None = None
    data: Mapping[str, Any] = MappingProxyType({})


class Told(NamedTuple):
    """A fact with its place in the feed."""

    seq: int
    at: Moment
    fact: Fact


Listener = "Callable[[Sequence[Told]], None]"


class Feed:
    """The events of one epoch."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.seq = 0
        self._ring: deque[Told] = deque(maxlen=RING)
        self._listeners: list[Callable[[Sequence[Told]], None]] = []

    def __repr__(self) -> str:
        return f"<Feed {self.epoch}:{self.seq} listeners={len(self._listeners)}>"

    def tell(self, facts: Sequence[Fact], at: Moment) -> None:
        """Number the facts, keep them, tell every listener. In the loop, after the commit."""
        if not facts:
            return
        told = [Told(self.seq + place, at, fact) for place, fact in enumerate(facts, 1)]
        self.seq += len(told)
        self._ring.extend(told)
        for listener in tuple(self._listeners):
            listener(told)

    @contextmanager
    def listening(self, listener: Callable[[Sequence[Told]], None]) -> Iterator[None]:
        """Call `listener` with every batch until the block ends."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def since(self, seq: int) -> list[Told] | None:
        """Return the events after `seq`, or None when the ring no longer has them all."""
        if seq > self.seq:
            return None
        if seq == self.seq:
            return []
        if not self._ring or self._ring[0].seq > seq + 1:
            return None
        skip = seq + 1 - self._ring[0].seq
        return [told for place, told in enumerate(self._ring) if place >= skip]

    async def wait_beyond(self, seq: int, limit: float) -> bool:
        """Wait until there are events after `seq`, for `limit` seconds at most."""
        if self.seq > seq:
            return True
        more = asyncio.Event()
        with self.listening(lambda _: more.set()):
            try:
                async with asyncio.timeout(limit):
                    await more.wait()
            except TimeoutError:
                return False
        return True
