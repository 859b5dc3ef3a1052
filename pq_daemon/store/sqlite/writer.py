"""The write queue: SQLite has one writer at a time, so the daemon has one too.

Changes that wait together make one trip to the connection's thread and one commit. The batch runs
plain, because a savepoint each would cost a third of it; if a change raises, the batch is rolled
back and repeated with a savepoint each, so only the culprit is refused. A change may therefore run
twice and must touch nothing but its transaction. Callers are answered only after the commit: what
they were told is on the disk. A caller that leaves while it waits changes nothing: its change
still happens, whole. The inbox is bounded, so a flood slows its source.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from pq_daemon.errors import PqError, StoreError
from pq_daemon.jobs.order import Moment
from pq_daemon.store.sqlite.connection import on_connection
from pq_daemon.store.sqlite.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiosqlite

    from pq_daemon.store.feed import Feed

T = TypeVar("T")

log = logging.getLogger(__name__)

INBOX: Final = 10_000
BATCH: Final = 1_000


class Clock:
    """The store clock: wall time in milliseconds that never goes back, also over restarts."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._last = 0

    def now(self) -> Moment:
        self._last = max(self._last, int(self._wall() * 1000))
        return Moment(self._last)

    def not_before(self, moment: int) -> None:
        self._last = max(self._last, moment)


class Ticket(Generic[T]):
    """A change on its way, and the caller's answer."""

    __slots__ = ("_future", "change", "error", "value")

    def __init__(self, change: Callable[[Transaction], T]) -> None:
        self.change = change
        self.value: T | None = None
        self.error: Exception | None = None
        self._future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def run(self, transaction: Transaction) -> None:
        self.error = None
        self.value = self.change(transaction)

    def deliver(self) -> None:
        if self._future.done():  # the caller has left
            return
        if self.error is not None:
            self._future.set_exception(self.error)
        else:
            self._future.set_result(self.value)  # type: ignore[arg-type] # run() has set it

    def refuse(self, error: Exception) -> None:
        self.error = error
        self.deliver()

    def __await__(self) -> Any:
        return self._future.__await__()


class Writer:
    """One task, one connection, one commit a batch."""

    def __init__(self, connection: aiosqlite.Connection, clock: Clock, feed: Feed) -> None:
        self._connection = connection
        self._clock = clock
        self._feed = feed
        self._inbox: asyncio.Queue[Ticket[Any] | None] = asyncio.Queue(INBOX)
        self._closed = False
        self.commits = 0

    def __repr__(self) -> str:
        return f"<Writer waiting={self._inbox.qsize()} commits={self.commits}>"

    async def write(self, change: Callable[[Transaction], T]) -> T:
        """Have `change` happen; return its value once it is on the disk.

        Raises:
            StoreError: the store is closed, or could not say whether it happened.
            PqError: what the change itself raised; then nothing of it happened.

        """
        if self._closed:
            raise StoreError("the store is closed")
        ticket = Ticket(change)
        await self._inbox.put(ticket)
        answer: T = await ticket
        return answer

    async def close(self) -> None:
        """Take nothing more; what is in the inbox still happens."""
        if not self._closed:
            self._closed = True
            await self._inbox.put(None)

    async def run(self) -> None:
        """Write until closed."""
        more = True
        try:
            while more:
                batch, more = await self._next_batch()
                if batch:
                    await self._commit(batch)
        finally:
            self._refuse_the_rest()

    def _refuse_the_rest(self) -> None:
        """After a close nobody is left; after a crash nobody may wait for ever."""
        self._closed = True
        while not self._inbox.empty():
            if (ticket := self._inbox.get_nowait()) is not None:
                ticket.refuse(StoreError("the store is closed"))

    async def _next_batch(self) -> tuple[list[Ticket[Any]], bool]:
        batch: list[Ticket[Any]] = []
        ticket = await self._inbox.get()
        while ticket is not None:
            batch.append(ticket)
            if len(batch) == BATCH or self._inbox.empty():
                return batch, True
            ticket = self._inbox.get_nowait()
        return batch, False

    async def _commit(self, batch: list[Ticket[Any]]) -> None:
        try:
            transaction = await on_connection(
                self._connection, commit_together, batch, self._clock.now
            )
        except Exception as failure:  # the writer's door: a failed commit must not end the queue
            log.exception("commit failed", extra={"changes": len(batch)})
            error = StoreError(f"the store could not commit ({failure}); it may or may not be kept")
            for ticket in batch:
                ticket.refuse(error)
            return
        self.commits += 1
        self._feed.tell(transaction.facts, transaction.moment)
        for ticket in batch:
            ticket.deliver()


def commit_together(
    connection: sqlite3.Connection, batch: list[Ticket[Any]], now: Callable[[], Moment]
) -> Transaction:
    """Run a batch as one transaction. On the connection's thread."""
    transaction = _begin(connection, now())
    try:
        for ticket in batch:
            ticket.run(transaction)
    except Exception as error:  # noqa: BLE001 - the writer's door: someone's change raised, find out whose
        _roll_back(connection)
        transaction = _begin(connection, now())
        if len(batch) == 1:
            batch[0].error = _spoken(error)
        else:
            _run_apart(transaction, batch)
    try:
        transaction.settle()
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise
    return transaction


def _begin(connection: sqlite3.Connection, moment: Moment) -> Transaction:
    connection.execute("BEGIN IMMEDIATE")
    return Transaction(connection, moment)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # a full disk or a failed write has rolled back already
        connection.execute("ROLLBACK")


def _run_apart(transaction: Transaction, batch: list[Ticket[Any]]) -> None:
    connection = transaction.connection
    for ticket in batch:
        mark = transaction.mark()
        connection.execute("SAVEPOINT change")
        try:
            ticket.run(transaction)
        except Exception as error:  # noqa: BLE001 - the writer's door: only the culprit is refused
            connection.execute("ROLLBACK TO change")
            transaction.go_back(mark)
            ticket.error = _spoken(error)
        connection.execute("RELEASE change")


def _spoken(error: Exception) -> Exception:
    """Give the store's own trouble its name; what a change says itself stays as it is."""
    if isinstance(error, PqError):
        return error
    if isinstance(error, sqlite3.Error):
        spoken = StoreError(f"the store refused the change: {error}")
        spoken.__cause__ = error
        return spoken
    return error
