"""Waiting for a condition, never for a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def wait_until(
    condition: Callable[[], Any | Awaitable[Any]],
    *,
    timeout: float = 10.0,  # noqa: ASYNC109 - a test's patience, told when it runs out
    what: str = "",
) -> Any:
    """Wait until `condition()` (or what it awaits) is true; return its value.

    Fails with what was seen last, so a report tells more than "timed out".
    """
    deadline = time.monotonic() + timeout
    pause = 0.001
    while True:
        seen = condition()
        if inspect.isawaitable(seen):
            seen = await seen
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s for {what or condition}; last seen: {seen!r}")
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.05)


def wait_for(condition: Callable[[], Any], *, timeout: float = 10.0, what: str = "") -> Any:
    """The same outside a loop, for tests of real processes."""
    deadline = time.monotonic() + timeout
    while True:
        seen = condition()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s for {what or condition}; last seen: {seen!r}")
        time.sleep(0.02)  # noqa: TID251 - a poll between looks, not a guess at a duration
