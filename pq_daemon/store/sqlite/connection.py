"""Two aiosqlite connections, and the one door to their threads.

A change is a plain function of the connection and runs on the connection's own thread, whole.
aiosqlite has no public call for that; its `_execute` is used here and nowhere else, the minor
version is pinned and a test holds it.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import aiosqlite

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

T = TypeVar("T")

CACHED_STATEMENTS = 256
BUSY_MS = 5_000


async def on_connection(
    connection: aiosqlite.Connection, work: Callable[..., T], *arguments: object
) -> T:
    """Run `work(sqlite3 connection, *arguments)` on the connection's thread, in one hop."""
    execute: Any = connection._execute  # noqa: SLF001 - the one place
    answer: T = await execute(work, connection._conn, *arguments)  # noqa: SLF001 - its sqlite3 connection
    return answer


@asynccontextmanager
async def writing(path: Path, synchronous: str) -> AsyncIterator[aiosqlite.Connection]:
    """Open the one connection that writes and checkpoints."""
    connection = aiosqlite.connect(path, isolation_level=None, cached_statements=CACHED_STATEMENTS)
    async with connection:
        await on_connection(connection, _prepare_for_writing, synchronous)
        yield connection


def _prepare_for_writing(connection: sqlite3.Connection, synchronous: str) -> None:
    if connection.execute("PRAGMA page_count").fetchall() == [(0,)]:
        # Only an empty file can take it, and only before it becomes a WAL one.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL").fetchall()
    for pragma in (
        f"busy_timeout = {BUSY_MS}",
        "journal_mode = WAL",
        f"synchronous = {synchronous.upper()}",
        "foreign_keys = ON",
        "temp_store = MEMORY",
        "cache_size = -16000",
        "wal_autocheckpoint = 4000",
        "journal_size_limit = 16000000",
        "trusted_schema = OFF",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


@asynccontextmanager
async def reading(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    """Open the connection that can only look. It cannot write, checkpoint or create the file."""
    uri = f"file:{quote(os.fsencode(path))}?mode=ro"
    connection = aiosqlite.connect(
        uri, uri=True, isolation_level=None, cached_statements=CACHED_STATEMENTS
    )
    async with connection:
        await on_connection(connection, _prepare_for_reading)
        yield connection


def _prepare_for_reading(connection: sqlite3.Connection) -> None:
    for pragma in (f"busy_timeout = {BUSY_MS}", "query_only = ON", "cache_size = -8000"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
