"""Numbered migrations: each in one transaction, a backup before the first of them.

`PRAGMA user_version` is the number of the last one applied. A database from a newer version is
refused: it is not ours to guess at.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pq_daemon.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    script: str

    def statements(self) -> Iterator[str]:
        """Split the script; `executescript` would commit behind our back."""
        statement = ""
        for line in self.script.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                yield statement
                statement = ""


def migrations(directory: Path = MIGRATIONS) -> list[Migration]:
    return [
        Migration(int(file.name[:4]), file.stem, file.read_text("utf-8"))
        for file in sorted(directory.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    ]


def migrate(
    connection: sqlite3.Connection, known: list[Migration], backup: Path
) -> list[Migration]:
    """Bring the schema up to date; return what was applied.

    Raises:
        StoreError: the database is newer than this program.

    """
    [(version,)] = connection.execute("PRAGMA user_version").fetchall()
    newest = known[-1].number
    if version > newest:
        raise StoreError(
            f"the database has schema {version}, this version of pq-daemon knows {newest}: "
            "use the newer version, or restore the backup made before its migration"
        )
    due = [migration for migration in known if migration.number > version]
    if due and version:
        back_up(connection, backup.with_name(f"{backup.name}-schema{version}.db"))
    for migration in due:
        apply(connection, migration)
    return due


def apply(connection: sqlite3.Connection, migration: Migration) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in migration.statements():
            connection.execute(statement).fetchall()
        connection.execute(f"PRAGMA user_version = {migration.number}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def back_up(connection: sqlite3.Connection, target: Path) -> None:
    """Copy the live database through SQLite's own backup: never by opening the file."""
    with closing(sqlite3.connect(target)) as copy:
        connection.backup(copy)
    target.chmod(0o600)
