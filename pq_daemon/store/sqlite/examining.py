"""How the database is: its version's known faults, its integrity, its size. Only looks."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from pq_daemon.errors import StoreError
from pq_daemon.store.protocol import Condition

if TYPE_CHECKING:
    from pathlib import Path

PROBLEMS_MOST: Final = 10
Version = tuple[int, int, int]
RESET_BUG: Final[tuple[Version, Version]] = ((3, 7, 0), (3, 51, 3))
"""From the first version with the WAL-reset bug to the first without."""

REPAIRED: Final[tuple[Version, ...]] = ((3, 44, 6), (3, 50, 7))
"""Older lines in which it was repaired, from these on."""


def examine(connection: sqlite3.Connection) -> Condition:
    """Look at an open database. Reads all of it."""
    found = connection.execute(f"PRAGMA quick_check({PROBLEMS_MOST})").fetchall()
    problems = tuple(str(row[0]) for row in found if row[0] != "ok")
    [(pages,)] = connection.execute("PRAGMA page_count").fetchall()
    [(size,)] = connection.execute("PRAGMA page_size").fetchall()
    [(free,)] = connection.execute("PRAGMA freelist_count").fetchall()
    return Condition(
        engine=f"SQLite {sqlite3.sqlite_version}",
        remark=reset_bug(sqlite3.sqlite_version_info),
        problems=problems,
        size=pages * size,
        free=free * size,
    )


def examine_file(path: Path) -> Condition:
    """Look at the database of a daemon that does not run.

    Raises:
        StoreError: it cannot be read.

    """
    try:
        with closing(sqlite3.connect(f"file:{quote(bytes(path))}?mode=ro", uri=True)) as connection:
            return examine(connection)
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from None


def reset_bug(version: Version) -> str:
    """Say what this version's WAL-reset bug means here.

    Two connections that write and checkpoint at the same time can lose a commit. We have one.
    """
    first, fixed = RESET_BUG
    is_repaired = any(version[:2] == line[:2] and version >= line for line in REPAIRED)
    if not first <= version < fixed or is_repaired:
        return "without the WAL-reset bug"
    return "has the WAL-reset bug, harmless here: one connection writes and checkpoints"
