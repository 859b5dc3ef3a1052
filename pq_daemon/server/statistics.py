"""Figures about now: counts, totals since ever, rates of the last seconds, and whether all is well.

Counts and totals are the store's own counters, so they cost the same at a million jobs. Rates come
from looking at the totals every two seconds, whoever watches; nothing is counted by event.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from pq_daemon.jobs.states import State
from pq_daemon.jobs.status import SlotState, WatchState
from pq_daemon.server import values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pq_daemon.jobs.status import WatchStatus
    from pq_daemon.server.controls import Controls
    from pq_daemon.store.protocol import QueueRecord, Store, Totals

SAMPLE_EVERY_S: Final = 2.0
SAMPLES: Final = 6
FINISHED: Final = ("succeeded", "failed", "cancelled")
RATES: Final = ("accepted", *FINISHED)

Level = Literal["ok", "warning", "critical"]
SEVERITY: Final[dict[Level, int]] = {"ok": 0, "warning": 1, "critical": 2}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is not as it should be. `brief` tells no names and no people's words."""

    level: Level
    brief: str
    detail: str


@dataclass(frozen=True, slots=True)
class Sample:
    at: float  # monotonic
    totals: Counter[str]


class Statistics:
    """Looks at the totals now and then, and sums up when asked."""

    def __init__(
        self, store: Store, controls: Controls, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._controls = controls
        self._clock = clock
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)

    async def sample(self) -> None:
        totals = await self._store.totals()
        self._samples.append(Sample(self._clock(), summed(totals)))

    async def summary(self, *, named: bool = True) -> dict[str, Any]:
        """Return what GET /stats says; without names for those who may only see counts."""
        queues = await self._store.queues()
        totals = await self._store.totals()
        slots = self._controls.slots()
        every = await self._store.queues(every=True)
        counts = {state.value: sum(q.counts.get(state, 0) for q in every) for state in State}
        oldest = min((q.oldest_queued_at for q in queues if q.oldest_queued_at), default=None)
        busy = sum(slot.state is not SlotState.IDLE for slot in slots)
        return {
            "at": values.time(self._store.now()),
            "epoch": self._store.feed.epoch,
            "started_at": values.time(self._store.epoch.started_at),
            "phase": self._controls.phase,
            "counts": counts,
            "totals": dict(summed(totals)),
            "by_queue": {name: dict(of) for name, of in totals.by_queue.items()},
            "rates": self._rates(Sample(self._clock(), summed(totals))),
            "slots": {"total": len(slots), "busy": busy},
            "oldest_queued_at": values.time(oldest),
            "health": self._health(queues, busy, len(slots), counts, named=named),
        }

    def _rates(self, now: Sample) -> dict[str, float] | None:
        """Per second, over the samples kept; None while there is nothing to compare with."""
        if not self._samples or now.at - self._samples[0].at < SAMPLE_EVERY_S / 2:
            return None
        first = self._samples[0]
        span = now.at - first.at
        rates = {what: (now.totals[what] - first.totals[what]) / span for what in RATES}
        rates["finished"] = sum(rates[what] for what in FINISHED)
        return {what: round(rate, 2) for what, rate in rates.items()}

    def _health(
        self,
        queues: Sequence[QueueRecord],
        busy: int,
        slots: int,
        counts: dict[str, int],
        *,
        named: bool,
    ) -> dict[str, Any]:
        checks = list(self._checks(queues))
        level: Level = max((c.level for c in checks), key=SEVERITY.__getitem__, default="ok")
        waiting = counts[State.QUEUED]
        return {
            "level": level,
            "sentence": sentence(level, checks, f"{busy} of {slots} slots busy", waiting),
            "checks": [
                {"level": c.level, "detail": c.detail if named else c.brief} for c in checks
            ],
        }

    def _checks(self, queues: Sequence[QueueRecord]) -> Iterator[Check]:
        if self._controls.phase != "running":
            yield Check("warning", f"the daemon is {self._controls.phase}", self._phase_words())
        yield from _watch_checks(self._controls.watches())
        for slot in self._controls.slots():
            if slot.state is SlotState.STUCK:
                words = f"slot {slot.slot} is stuck: its handler was told to end and did not"
                yield Check("warning", words, words)
        yield from _queue_checks(queues)
        reload = self._controls.last_reload
        if reload is not None and reload.problems:
            words = "the last reload was refused; the configuration before it is in force"
            yield Check("warning", words, words)

    def _phase_words(self) -> str:
        if self._controls.phase == "stopping":
            return "the daemon is stopping: running jobs may finish, nothing new is started"
        return "the daemon is starting"


def _watch_checks(watches: Sequence[WatchStatus]) -> Iterator[Check]:
    for watch in watches:
        level: Level = "critical" if watch.state is WatchState.MISSING else "warning"
        if watch.state is not WatchState.OK:
            words = _joined(f"watch {watch.name} is {watch.state}", watch.reason)
            yield Check(level, f"a watch is {watch.state}", words)


def _queue_checks(queues: Sequence[QueueRecord]) -> Iterator[Check]:
    for queue in queues:
        if queue.paused is not None and queue.counts.get(State.QUEUED, 0):
            words = f"queue {queue.name} is paused with jobs waiting"
            yield Check("warning", words, _joined(words, queue.paused.reason))


def summed(totals: Totals) -> Counter[str]:
    total: Counter[str] = Counter()
    for of_queue in totals.by_queue.values():
        total.update(of_queue)
    return total


def sentence(level: Level, checks: list[Check], slots: str, waiting: int) -> str:
    """One line for the wall."""
    line = "nothing waiting" if waiting == 0 else f"{waiting:,} waiting"
    if level == "ok":
        return f"Healthy — {slots}, {line}"
    more = f" and {len(checks) - 1} more" if len(checks) > 1 else ""
    worst = max(checks, key=lambda check: SEVERITY[check.level])
    word = "Needs attention" if level == "warning" else "Not well"
    return f"{word} — {worst.brief}{more}; {slots}, {line}"


def _joined(words: str, reason: str) -> str:
    return f"{words}: {reason}" if reason else words
