"""A look at the database: while it is open, and when nobody uses it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pq_daemon.errors import StoreError, StoreHeldError
from pq_daemon.store.engines import examine_closed, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from pq_daemon.store.sqlite.engine import SqliteStore


async def test_an_open_store(store: SqliteStore, tmp_path: Path) -> None:
    condition = await store.examine()
    assert condition.engine.startswith("SQLite 3.")
    assert condition.problems == ()
    assert 0 <= condition.free < condition.size
    with pytest.raises(StoreHeldError):
        await asyncio.to_thread(examine_closed, tmp_path / "state")


async def test_a_closed_store(tmp_path: Path) -> None:
    async with open_store(tmp_path) as opened:
        size = (await opened.examine()).size
    condition = await asyncio.to_thread(examine_closed, tmp_path)
    assert (condition.problems, condition.size) == ((), size)
    (tmp_path / "queue.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(StoreError, match="not a database"):
        await asyncio.to_thread(examine_closed, tmp_path)
    with pytest.raises(StoreError, match="No such file"):
        await asyncio.to_thread(examine_closed, tmp_path / "absent")
