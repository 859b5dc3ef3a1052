"""Frames of the WebSocket, serialised once however many clients they go to.

Two kinds: a state topic has one newest frame, which replaces the one before; events have a batch,
which nothing replaces.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

from pq_daemon.server import values
from pq_daemon.server.values import encoded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pq_daemon.store.feed import Told

Sight = Literal["counts", "full"]
"""How much a client may see: counts tell no names and no people's words."""

EVENTS: Final = "events"
JOB: Final = "jobs:"
PUBLIC: Final[dict[Sight, frozenset[str]]] = {
    "counts": frozenset({"stats", "consumers", "queues"}),
    "full": frozenset({"stats", "consumers", "queues", "watches", EVENTS}),
}
"""Topics without login, as far as ops_public allows."""

STATES: Final = frozenset({"stats", "consumers", "queues", "watches", "jobs"})


@dataclass(frozen=True, slots=True)
class Topic:
    """A state topic as one group of clients sees it."""

    name: str
    sight: Sight


class StateFrame:
    """The newest value of a state topic."""

    def __init__(self, topic: Topic, seq: int, data: Any) -> None:
        self.seq = seq
        self.body = encoded(data)
        self._topic = topic

    @cached_property
    def snapshot(self) -> bytes:
        return self._framed("snapshot")

    @cached_property
    def delta(self) -> bytes:
        return self._framed("delta")

    def _framed(self, kind: str) -> bytes:
        return _frame(kind, self._topic.name, self.seq, self.body)


@dataclass(frozen=True, slots=True)
class EventFrame:
    """A batch of events; `count` of them, the last one numbered `seq`."""

    frame: bytes
    count: int
    seq: int


def event_frame(told: Sequence[Told], epoch: str, *, seq: int, kind: str = "delta") -> EventFrame:
    body = encoded([values.event(one, epoch) for one in told])
    return EventFrame(_frame(kind, EVENTS, seq, body), len(told), seq)


def hello(epoch: str, seq: int) -> bytes:
    return encoded({"type": "hello", "epoch": epoch, "seq": seq})


def gap(epoch: str, seq: int) -> bytes:
    return encoded({"type": "gap", "topic": EVENTS, "epoch": epoch, "seq": seq})


def refusal(topic: str | None, code: str) -> bytes:
    return encoded({"type": "error", "topic": topic, "code": code})


def _frame(kind: str, topic: str, seq: int, body: bytes) -> bytes:
    head = b'{"type":"%s","topic":%s,"seq":%d,"data":' % (kind.encode(), encoded(topic), seq)
    return head + body + b"}"
