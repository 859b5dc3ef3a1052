"""The live hub: what has changed, told to everyone who asked, over the WebSocket of the contract.

Events arrive from the feed in batches, are gathered for some milliseconds and serialised once.
State topics are only marked when something happens; a loop rebuilds the marked ones four times a
second at most, and only those that somebody watches. When nobody watches, a batch costs one look
at an empty dictionary. Read only: every write goes through the API, where rights, origin and audit
have one path.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from pq_daemon.errors import PqError
from pq_daemon.jobs.model import JobId
from pq_daemon.jobs.states import State
from pq_daemon.runtime.periodic import periodically
from pq_daemon.server import live_frames as frames
from pq_daemon.server.live_client import SESSION_ENDED, STOPPING, TOPICS_MOST
from pq_daemon.server.live_frames import EVENTS, JOB, STATES, StateFrame, Topic
from pq_daemon.server.queries import ID_MOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from pq_daemon.server.live_client import Client
    from pq_daemon.server.live_topics import Topics
    from pq_daemon.store.feed import Feed, Told

    Recheck = Callable[[Client], Awaitable[bool]]

log = logging.getLogger(__name__)

GATHER_S: Final = 0.015
FLUSH_S: Final = 0.25
TICK_S: Final = 1.0
RECHECK_S: Final = 30.0
GOODBYE_S: Final = 5.0
IDLE_S: Final = 3600.0
FRAME_EVENTS: Final = 500
SNAPSHOT_EVENTS: Final = 200
LIST: Final = Topic("jobs", "full")
JOB_ID: Final = re.compile(r"[1-9][0-9]{0,18}")
TICKING: Final = frozenset({"stats", "consumers", "watches"})
"""These also change without an event: progress, rates, the last scan."""


class Hub:
    """Clients, what they watch, and what has to be told to them."""

    def __init__(self, feed: Feed, topics: Topics, recheck: Recheck) -> None:
        self._feed = feed
        self._build = topics
        self._recheck = recheck
        self._clients: set[Client] = set()
        self._watchers: dict[Topic, set[Client]] = {}
        self._general: set[Topic] = set()  # those of them that are not about one job
        self._jobs: dict[JobId, Topic] = {}
        self._event_hearers: set[Client] = set()
        self._frames: dict[Topic, StateFrame] = {}
        self._marked: set[Topic] = set()
        self._running_jobs: set[Topic] = set()
        self._fresh: list[Told] = []
        self._entered: Counter[tuple[str, str]] = Counter()
        self._has_fresh = asyncio.Event()
        self._has_marked = asyncio.Event()
        self._hurry = asyncio.Event()
        self._doubt = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def __repr__(self) -> str:
        return f"<Hub clients={len(self._clients)} topics={len(self._watchers)}>"

    def __len__(self) -> int:
        return len(self._clients)

    # lifetime

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen to the feed and keep everyone informed until the block ends."""
        chores = (
            ("live events", self._tell_events, IDLE_S, self._has_fresh),
            ("live states", self._tell_states, IDLE_S, self._has_marked),
            ("live tick", self._tick, TICK_S, asyncio.Event()),
            ("live rights", self._recheck_all, RECHECK_S, self._doubt),
        )
        async with asyncio.TaskGroup() as tasks:
            loops = [
                tasks.create_task(periodically(chore, every=every, name=name, nudge=nudge))
                for name, chore, every, nudge in chores
            ]
            try:
                with self._feed.listening(self.heard):
                    yield
            finally:
                for task in loops:
                    task.cancel()

    async def say_goodbye(self) -> None:
        """Close every connection with 1012 and wait until they are gone, for a limit."""
        for client in self._clients:
            client.close(STOPPING)
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._is_empty.wait()

    def doubt(self) -> None:
        """Look at everyone's rights again, now: somebody signed out, or the rules changed."""
        self._doubt.set()

    @contextmanager
    def joined(self, client: Client) -> Iterator[None]:
        """Count a client in while the block runs."""
        self._clients.add(client)
        self._is_empty.clear()
        client.say(frames.hello(self._feed.epoch, self._feed.seq))
        try:
            yield
        finally:
            self._clients.discard(client)
            self._event_hearers.discard(client)
            for topic in client.topics:
                self._unwatch(topic, client)
            if not self._clients:
                self._is_empty.set()

    async def converse(self, client: Client) -> None:
        await client.converse(self._listen, self._frames.get, self._catch_up)

    # what clients say

    def _listen(self, client: Client, said: dict[str, Any]) -> None:
        topics = said.get("topics")
        if said.get("type") != "subscribe" or not isinstance(topics, list):
            client.say(frames.refusal(None, "unknown_message"))
            return
        for name in topics[: TOPICS_MOST + 1]:
            self._subscribe(client, name, said)

    def _subscribe(self, client: Client, name: Any, said: dict[str, Any]) -> None:
        code = self._refused(client, name)
        if code is not None:
            client.say(frames.refusal(name if isinstance(name, str) else None, code))
        elif name == EVENTS:
            self._subscribe_events(client, said)
        else:
            self._watch(Topic(name, client.sight), client)

    def _refused(self, client: Client, name: Any) -> str | None:
        if not isinstance(name, str) or not _is_known(name):
            return "unknown_topic"
        if client.asker.role is None and name not in frames.PUBLIC[client.sight]:
            return "forbidden"
        return "too_many_topics" if len(client.topics) >= TOPICS_MOST else None

    def _subscribe_events(self, client: Client, said: dict[str, Any]) -> None:
        """Start the events exactly where the client's last ones ended, or say that we cannot.

        No await in here: the feed, the frames that wait and the new hearer are one moment.
        """
        self._frame_fresh()
        client.forget_events()
        self._event_hearers.add(client)
        epoch, seq = said.get("epoch"), said.get("seq")
        missed = self._since(epoch, seq)
        if missed is not None:
            self._tell_missed(client, missed)
        elif epoch is None and seq is None:
            self._snapshot_events(client)
        else:
            self._catch_up(client)

    def _since(self, epoch: Any, seq: Any) -> list[Told] | None:
        if epoch != self._feed.epoch or not isinstance(seq, int) or seq < 0:
            return None
        return self._feed.since(seq)

    def _tell_missed(self, client: Client, missed: list[Told]) -> None:
        for at in range(0, len(missed), FRAME_EVENTS):
            batch = missed[at : at + FRAME_EVENTS]
            client.say(frames.event_frame(batch, self._feed.epoch, seq=batch[-1].seq).frame)

    def _snapshot_events(self, client: Client) -> None:
        feed = self._feed
        told = feed.since(max(0, feed.seq - SNAPSHOT_EVENTS)) or []
        client.say(frames.event_frame(told, feed.epoch, seq=feed.seq, kind="snapshot").frame)

    def _catch_up(self, client: Client) -> None:
        """Say that events were missed, and where the feed is now."""
        self._frame_fresh()
        client.forget_events()
        client.missed_events = False
        client.say(frames.gap(self._feed.epoch, self._feed.seq))
        self._snapshot_events(client)

    def _watch(self, topic: Topic, client: Client) -> None:
        """Have a topic built anew after this moment; the client's first frame is a snapshot."""
        client.topics.add(topic)
        client.unseen.add(topic)
        self._watchers.setdefault(topic, set()).add(client)
        if topic.name.startswith(JOB):
            self._jobs[_job_of(topic)] = topic
        else:
            self._general.add(topic)
        self._mark({topic})
        self._hurry.set()

    def _unwatch(self, topic: Topic, client: Client) -> None:
        watchers = self._watchers.get(topic, set())
        watchers.discard(client)
        if watchers:
            return
        self._watchers.pop(topic, None)
        self._frames.pop(topic, None)
        self._marked.discard(topic)
        self._running_jobs.discard(topic)
        self._general.discard(topic)
        if topic.name.startswith(JOB):
            self._jobs.pop(_job_of(topic), None)

    # what the feed says

    def heard(self, batch: Sequence[Told]) -> None:
        """Take a batch from the feed. Called in the loop, up to 30,000 events a second."""
        if not self._clients:
            return
        if self._event_hearers:
            self._fresh.extend(batch)
            self._has_fresh.set()
        if self._general:
            self._count(batch)
            self._mark(self._general)
        if self._jobs:
            heard = {told.fact.job for told in batch}
            self._mark({self._jobs[job] for job in self._jobs.keys() & heard})

    def _count(self, batch: Sequence[Told]) -> None:
        """Count which states jobs came to: how many rows an open list does not show yet."""
        if LIST not in self._general:
            return
        for told in batch:
            queue, state = told.fact.queue or "", entered(told)
            if state is not None:
                self._entered[queue, state] += 1
            if told.fact.type == "job.accepted":
                self._entered[queue, "accepted"] += 1

    def _mark(self, topics: set[Topic]) -> None:
        if topics:
            self._marked |= topics
            self._has_marked.set()

    async def _tick(self) -> None:
        self._mark({topic for topic in self._general if topic.name in TICKING})
        self._mark(self._running_jobs)

    # telling

    async def _tell_events(self) -> None:
        if self._fresh:
            await asyncio.sleep(GATHER_S)
            self._frame_fresh()

    def _frame_fresh(self) -> None:
        """Serialise what was gathered, once, and put it into everyone's line."""
        fresh, self._fresh = self._fresh, []
        for at in range(0, len(fresh), FRAME_EVENTS):
            batch = fresh[at : at + FRAME_EVENTS]
            frame = frames.event_frame(batch, self._feed.epoch, seq=batch[-1].seq)
            for client in self._event_hearers:
                client.add_events(frame)

    async def _tell_states(self) -> None:
        """Rebuild what is marked; then rest, unless somebody waits for a first snapshot."""
        self._hurry.clear()
        marked, self._marked = self._marked, set()
        for topic in marked:
            await self._tell_state(topic)
        if marked:
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    await self._hurry.wait()

    async def _tell_state(self, topic: Topic) -> None:
        """Rebuild one topic and owe it to whoever has not seen it so."""
        seq = self._feed.seq
        try:
            data = await self._build.data(topic, self._entered)
        except PqError as error:
            self._refuse(topic, error)
            return
        if topic not in self._watchers:
            return  # the last watcher left meanwhile
        frame = StateFrame(topic, seq, data)
        before = self._frames.get(topic)
        changed = before is None or before.body != frame.body
        if changed:
            self._frames[topic] = frame
        for client in self._watchers[topic]:
            if changed or topic in client.unseen:
                client.owe(topic)
        if topic.name.startswith(JOB):
            self._note_running(topic, data)

    def _note_running(self, topic: Topic, data: Any) -> None:
        """A running job's progress is no event: look at it again with the next tick."""
        if data["state"] == State.RUNNING:
            self._running_jobs.add(topic)
        else:
            self._running_jobs.discard(topic)

    def _refuse(self, topic: Topic, error: PqError) -> None:
        """A topic that cannot be built is refused; the store may be back with the next mark."""
        log.warning("live topic failed", extra={"topic": topic.name, "code": error.code})
        for client in tuple(self._watchers.get(topic, ())):
            client.say(frames.refusal(topic.name, error.code))
            if topic.name.startswith(JOB):
                client.topics.discard(topic)
                self._unwatch(topic, client)

    async def _recheck_all(self) -> None:
        for client in tuple(self._clients):
            if not await self._recheck(client):
                client.close(SESSION_ENDED)


def entered(told: Told) -> str | None:
    """Return the state a job came to by an event; None for events of other things."""
    kind, _, what = told.fact.type.partition(".")
    if kind != "job":
        return None
    if what in {"interrupted", "lost"}:
        return State.QUEUED.value
    if what == "started":
        return State.RUNNING.value
    if what in {"accepted", "released"}:
        return str(told.fact.data.get("state", State.QUEUED.value))
    return what if what in set(State) else None


def _is_known(name: str) -> bool:
    if name == EVENTS or name in STATES:
        return True
    text = name.removeprefix(JOB)
    return name.startswith(JOB) and bool(JOB_ID.fullmatch(text)) and int(text) <= ID_MOST


def _job_of(topic: Topic) -> JobId:
    return JobId(int(topic.name.removeprefix(JOB)))
