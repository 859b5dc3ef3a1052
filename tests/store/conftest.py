"""The conformance suite runs once per engine; an engine is a way to open a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.builders import FILES, ROOT, WATCH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pq_daemon.store.protocol import Store

ENGINES = ["sqlite"]


@pytest.fixture(params=ENGINES)
async def engine(
    request: pytest.FixtureRequest, open_a_store: Callable[..., Awaitable[Store]]
) -> Store:
    """A store of each engine, with the queue and the watch `files`."""
    assert request.param == "sqlite"
    store = await open_a_store()
    await store.configure_watches([(WATCH, ROOT, FILES)])
    return store
