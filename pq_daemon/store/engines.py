"""Opening a store: hold the state directory, bring the schema up to date, begin an epoch.

Closing runs backwards: the write queue empties, the epoch is ended as clean, the log is moved into
the database, the connections close, the hold is given back.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pq_daemon.errors import StoreError
from pq_daemon.jobs.model import EpochId
from pq_daemon.runtime.tasks import beside
from pq_daemon.store import holding
from pq_daemon.store.feed import Feed
from pq_daemon.store.outputs import OutputFiles
from pq_daemon.store.protocol import Epoch
from pq_daemon.store.sqlite import examining, migrating, queries, rows
from pq_daemon.store.sqlite.connection import on_connection, reading, writing
from pq_daemon.store.sqlite.engine import SqliteStore
from pq_daemon.store.sqlite.writer import Clock, Writer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Callable

    from pq_daemon.store.protocol import Condition
    from pq_daemon.store.sqlite.transaction import Transaction

DATABASE = "queue.db"
OUTPUT = "output"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@asynccontextmanager
async def open_store(
    state_dir: Path, *, synchronous: str = "full", wall: Callable[[], float] = time.time
) -> AsyncIterator[SqliteStore]:
    """Open the embedded store.

    Args:
        state_dir: made if need be, 0700.
        synchronous: "full" (a commit survives a power cut) or "normal" (it may not).
        wall: seconds since 1970; tests bend time with it.

    Raises:
        StoreHeldError: another daemon holds the directory.
        StoreError: the directory or the database cannot be used.

    """
    holding.prepare(state_dir)
    (state_dir / OUTPUT).mkdir(mode=0o700, exist_ok=True)
    path = state_dir / DATABASE
    with holding.held(state_dir):
        path.touch(mode=0o600)
        async with writing(path, synchronous) as connection:
            clock = Clock(wall)
            epoch = await on_connection(connection, _begin, path, clock)
            async with reading(path) as reader:
                names = rows.Names()
                await on_connection(reader, rows.read_names, names)
                feed = Feed(epoch.name)
                writer = Writer(connection, clock, feed)
                outputs = OutputFiles(state_dir / OUTPUT)
                store = SqliteStore(
                    writer, (connection, reader), epoch, feed, outputs, names, clock
                )
                async with _written(writer, epoch):
                    yield store


def examine_closed(state_dir: Path) -> Condition:
    """Look at the database while no daemon uses it. Blocking.

    Raises:
        StoreHeldError: a daemon holds it.
        StoreError: it cannot be read.

    """
    try:
        with holding.held(state_dir):
            return examining.examine_file(state_dir / DATABASE)
    except OSError as error:
        raise StoreError(f"{state_dir}: {error.strerror}") from None


@asynccontextmanager
async def _written(writer: Writer, epoch: Epoch) -> AsyncIterator[None]:
    """Run the write queue; at the end, end the epoch and empty the queue."""

    async def close() -> None:
        with suppress(StoreError):  # the queue has crashed, which is told already
            await writer.write(lambda transaction: _end(transaction, epoch))
        await writer.close()

    async with beside(writer.run(), name="write queue", stop=close):
        yield


def _begin(connection: sqlite3.Connection, path: Path, clock: Clock) -> Epoch:
    """Migrate, set the clock not before its last word, and begin an epoch. On the thread."""
    migrating.migrate(connection, migrating.migrations(), path.with_suffix(".backup"))
    [(last,)] = connection.execute(queries.CLOCK).fetchall()
    clock.not_before(last)
    now = clock.now()
    name, token = secrets.token_hex(8), secrets.token_hex(16)
    boot = BOOT_ID.read_text("ascii").strip()
    number = connection.execute(
        queries.BEGIN_EPOCH, (name, token, boot, os.getpid(), now)
    ).lastrowid
    return Epoch(EpochId(number or 0), name, token, boot, now)


def _end(transaction: Transaction, epoch: Epoch) -> None:
    transaction.change(queries.END_EPOCH, (transaction.moment, epoch.id))
