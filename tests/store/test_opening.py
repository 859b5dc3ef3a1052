"""Opening and closing: one daemon a directory, a schema and a clock that move forward."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import aiosqlite
import pytest

from pq_daemon.errors import StoreError, StoreHeldError
from pq_daemon.store import holding
from pq_daemon.store.engines import open_store
from pq_daemon.store.protocol import JobFilter
from pq_daemon.store.sqlite import migrating
from pq_daemon.store.sqlite.connection import on_connection
from pq_daemon.store.sqlite.migrating import Migration
from tests.support.builders import a_job

if TYPE_CHECKING:
    from pathlib import Path

    from pq_daemon.store.sqlite.engine import SqliteStore


async def pragma(store: SqliteStore, name: str, *, reading: bool = False) -> object:
    def ask(connection: sqlite3.Connection) -> object:
        return connection.execute(f"PRAGMA {name}").fetchall()[0][0]

    return await on_connection(store._reading if reading else store._writing, ask)


async def test_the_pragmas_of_the_promise(store: SqliteStore) -> None:
    assert await pragma(store, "journal_mode") == "wal"
    assert await pragma(store, "synchronous") == 2  # FULL
    assert await pragma(store, "auto_vacuum") == 2  # INCREMENTAL
    assert await pragma(store, "foreign_keys") == 1
    assert await pragma(store, "query_only", reading=True) == 1


async def test_the_private_door_of_aiosqlite_is_where_we_think() -> None:
    """Pinned to 0.22: if this fails, store/sqlite/connection.py is the one place to change."""
    async with aiosqlite.connect(":memory:") as connection:

        def ask(inner: sqlite3.Connection) -> object:
            return inner.execute("SELECT 1").fetchall()

        assert await on_connection(connection, ask) == [(1,)]


async def test_the_state_is_for_its_owner_alone(store: SqliteStore, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    for name in ("queue.db", "lock"):
        assert stat.S_IMODE((state / name).stat().st_mode) == 0o600
    assert store.outputs.directory == state / "output"


async def test_a_second_daemon_is_refused_and_the_first_is_named(
    store: SqliteStore, tmp_path: Path
) -> None:
    with pytest.raises(StoreHeldError, match=f"pid {os.getpid()}") as refused:
        async with open_store(tmp_path / "state"):
            pass
    assert refused.value.pid == os.getpid()
    await store.healthy()


async def test_a_network_filesystem_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "filesystem", lambda _: "nfs")
    with pytest.raises(StoreError, match="lies on nfs"):
        async with open_store(tmp_path / "state"):
            pass


async def test_what_was_stored_is_there_again(tmp_path: Path) -> None:
    async with open_store(tmp_path / "own") as store:
        await store.configure_queues([])
        first = store.epoch
    async with open_store(tmp_path / "own") as store:
        assert store.epoch.id == first.id + 1
        assert store.epoch.token != first.token
        assert await store.dead_epochs() == []  # the stop was clean


async def test_the_clock_never_goes_back_not_even_over_a_restart(tmp_path: Path) -> None:
    now = [2_000_000_000.0]
    async with open_store(tmp_path / "own", wall=lambda: now[0]) as store:
        await store.healthy()
        first = store.now()
        now[0] -= 86_400
        assert store.now() == first
    async with open_store(tmp_path / "own", wall=lambda: now[0]) as store:
        assert store.now() >= first


async def test_an_error_of_the_block_comes_out_as_itself(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_store(tmp_path / "own"):
            raise KeyError("mine")


# --- migrations --------------------------------------------------------------------------------


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def test_a_migration_is_applied_once_with_a_backup_before(tmp_path: Path) -> None:
    first = Migration(1, "0001_a", "CREATE TABLE a (x);\nINSERT INTO a VALUES (1);\n")
    second = Migration(2, "0002_b", "ALTER TABLE a ADD COLUMN y;\n-- a remark; with a semicolon\n")
    with closing(connect(tmp_path / "q.db")) as connection:
        assert migrating.migrate(connection, [first], tmp_path / "copy") == [first]
        assert migrating.migrate(connection, [first, second], tmp_path / "copy") == [second]
        assert migrating.migrate(connection, [first, second], tmp_path / "copy") == []
        assert connection.execute("SELECT x, y FROM a").fetchall() == [(1, None)]
    with closing(connect(tmp_path / "copy-schema1.db")) as copy:
        assert copy.execute("SELECT * FROM a").fetchall() == [(1,)]
    assert stat.S_IMODE((tmp_path / "copy-schema1.db").stat().st_mode) == 0o600


def test_a_migration_that_fails_leaves_the_schema_as_it_was(tmp_path: Path) -> None:
    bad = Migration(1, "0001_bad", "CREATE TABLE a (x);\nCREATE TABLE a (x);\n")
    with closing(connect(tmp_path / "q.db")) as connection:
        with pytest.raises(sqlite3.OperationalError):
            migrating.migrate(connection, [bad], tmp_path / "copy")
        assert connection.execute("SELECT * FROM sqlite_schema").fetchall() == []
        assert connection.execute("PRAGMA user_version").fetchall() == [(0,)]


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "q.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
        with pytest.raises(StoreError, match="schema 99"):
            migrating.migrate(connection, migrating.migrations(), tmp_path / "copy")


def test_the_schema_is_strict_throughout(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "q.db")) as connection:
        migrating.migrate(connection, migrating.migrations(), tmp_path / "copy")
        tables = connection.execute(
            "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
            " AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
    assert tables
    assert [name for name, strict in tables if not strict] == []


async def test_the_checks_hold_a_job_to_its_states(store: SqliteStore) -> None:
    job = await a_job(store)

    def force(sql: str) -> None:
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            raise_from(sql)

    def raise_from(sql: str) -> None:
        connection = store._writing._conn
        connection.execute(sql, (job.id,))

    def all_of_them(_: sqlite3.Connection) -> None:
        force("UPDATE jobs SET state = 'succeeded' WHERE id = ?")
        force("UPDATE jobs SET finished_at = 1 WHERE id = ?")
        force("UPDATE jobs SET state = 'failed', finished_at = 1 WHERE id = ?")
        force("UPDATE jobs SET state = 'held' WHERE id = ?")
        force("UPDATE jobs SET state = 'retrying' WHERE id = ?")
        force("UPDATE jobs SET state = 'running' WHERE id = ?")
        force("UPDATE jobs SET state = 'sleeping' WHERE id = ?")

    await on_connection(store._writing, all_of_them)
    assert (await store.jobs(JobFilter(), None, 10)).items == [job]
