"""One WebSocket: what it asked for, what waits for it, and the two halves that read and write.

What waits is bounded, whatever the client does. Of a state topic only the fact that it changed is
kept; the newest frame is looked up when it is the client's turn. Events wait in a short line; when
that overflows it is thrown away, and the client is told so by a gap and a fresh snapshot. A client
that does not take a frame within ten seconds is let go.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from aiohttp import ClientConnectionResetError, WSMsgType

from pq_daemon.server.live_frames import refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from pq_daemon.server.identity import Asker
    from pq_daemon.server.live_frames import EventFrame, Sight, StateFrame, Topic

SESSION_ENDED: Final = 4401
TOO_SLOW: Final = 4408
STOPPING: Final = 1012
BAD_BEHAVIOUR: Final = 1008

PATIENCE_S: Final = 10.0
CLOSE_S: Final = 5.0
WAITING_EVENTS_MOST: Final = 5_000
WAITING_BYTES_MOST: Final = 1 << 20
SEND_BUFFER: Final = 128 * 1024
MESSAGES_A_SECOND: Final = 20
MESSAGES_AT_ONCE: Final = 40
TOPICS_MOST: Final = 300


class Client:
    """A connection and what waits for it."""

    def __init__(
        self,
        ws: web.WebSocketResponse,
        transport: asyncio.Transport,
        sight: Sight,
        asker: Asker,
        cookie: str | None,
    ) -> None:
        self.sight: Sight = sight
        self.asker = asker
        self.cookie = cookie
        self.topics: set[Topic] = set()
        self.unseen: set[Topic] = set()
        self.missed_events = False
        self._ws = ws
        self._transport = transport
        self._first: deque[bytes] = deque()
        self._events: deque[EventFrame] = deque()
        self._waiting_events = 0
        self._waiting_bytes = 0
        self._due: dict[Topic, None] = {}  # a set that keeps its order
        self._wake = asyncio.Event()
        self._closing: int | None = None

    def __repr__(self) -> str:
        return f"<Client topics={len(self.topics)} due={len(self._due)} events={len(self._events)}>"

    # what waits

    def say(self, frame: bytes) -> None:
        """Send something small before everything else."""
        self._first.append(frame)
        self._wake.set()

    def owe(self, topic: Topic) -> None:
        """Note that a state topic has something new; what it is, is looked up when it is sent."""
        self._due[topic] = None
        self._wake.set()

    def add_events(self, frame: EventFrame) -> None:
        """Append a batch, or throw the line away when the client does not keep up."""
        if self.missed_events:
            return
        self._events.append(frame)
        self._waiting_events += frame.count
        self._waiting_bytes += len(frame.frame)
        if (
            self._waiting_events > WAITING_EVENTS_MOST or self._waiting_bytes > WAITING_BYTES_MOST
        ) and len(self._events) > 1:
            self.forget_events()
            self.missed_events = True
        self._wake.set()

    def forget_events(self) -> None:
        self._events.clear()
        self._waiting_events = self._waiting_bytes = 0

    def close(self, code: int) -> None:
        """End the connection with this code, soon."""
        if self._closing is None:
            self._closing = code
            self._wake.set()

    # the two halves

    async def converse(
        self,
        listen: Callable[[Client, dict[str, Any]], None],
        newest: Callable[[Topic], StateFrame | None],
        catch_up: Callable[[Client], None],
    ) -> None:
        """Read and write until either side has had enough."""
        _bound_send_buffer(self._transport)
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self._write(newest, catch_up), name="live writer")
            try:
                await self._read(listen)
            finally:
                writing.cancel()

    async def _read(self, listen: Callable[[Client, dict[str, Any]], None]) -> None:
        allowance = Allowance()
        async for message in self._ws:
            if not allowance.take():
                self.close(BAD_BEHAVIOUR)
            elif message.type is not WSMsgType.TEXT:
                self.say(refusal(None, "not_text"))
            else:
                self._hear(message.data, listen)

    def _hear(self, text: str, listen: Callable[[Client, dict[str, Any]], None]) -> None:
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        if isinstance(said, dict):
            listen(self, said)
        else:
            self.say(refusal(None, "not_json"))

    async def _write(
        self,
        newest: Callable[[Topic], StateFrame | None],
        catch_up: Callable[[Client], None],
    ) -> None:
        try:
            while self._closing is None:
                self._wake.clear()
                frame = self._next(newest, catch_up)
                if frame is None:
                    await self._wake.wait()
                else:
                    await self._send(frame)
        except TimeoutError:
            self._closing = TOO_SLOW
        except ClientConnectionResetError:
            return  # the other side is gone; reading ends by itself
        await self._say_goodbye(self._closing or STOPPING)

    def _next(
        self,
        newest: Callable[[Topic], StateFrame | None],
        catch_up: Callable[[Client], None],
    ) -> bytes | None:
        if self._first:
            return self._first.popleft()
        if self.missed_events:
            catch_up(self)  # says gap and snapshot, from where the feed is now
            return self._first.popleft() if self._first else None
        if self._events:
            batch = self._events.popleft()
            self._waiting_events -= batch.count
            self._waiting_bytes -= len(batch.frame)
            return batch.frame
        while self._due:
            topic = next(iter(self._due))
            del self._due[topic]
            found = newest(topic)
            if found is not None:
                return self._first_or_next(topic, found)
        return None

    def _first_or_next(self, topic: Topic, found: StateFrame) -> bytes:
        if topic in self.unseen:
            self.unseen.discard(topic)
            return found.snapshot
        return found.delta

    async def _send(self, frame: bytes) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self._ws.send_frame(frame, WSMsgType.TEXT)

    async def _say_goodbye(self, code: int) -> None:
        """Close with the code; a client that does not even take that is cut off."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._ws.close(code=code, drain=False)
        if self._transport.get_write_buffer_size() > 0:
            self._transport.abort()


def _bound_send_buffer(transport: asyncio.Transport) -> None:
    """Keep what the kernel holds for a client that does not read small as well."""
    door = transport.get_extra_info("socket")
    if door is not None:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)


class Allowance:
    """So many messages a second, and a few more at once."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = float(MESSAGES_AT_ONCE)
        self._at = self._loop.time()

    def take(self) -> bool:
        now = self._loop.time()
        gained = (now - self._at) * MESSAGES_A_SECOND
        self._left = min(float(MESSAGES_AT_ONCE), self._left + gained) - 1
        self._at = now
        return self._left >= 0
