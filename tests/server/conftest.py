"""The server under test: real sockets, a real store, real clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.serving import Site, a_site, some_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pq_daemon.store.sqlite.engine import SqliteStore


@pytest.fixture
async def site(store: SqliteStore, tmp_path: Path) -> AsyncIterator[Site]:
    async with a_site(some_settings(tmp_path), store) as site:
        yield site
