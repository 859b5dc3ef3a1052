"""Signals as an async iterator. The handlers only record; the daemon decides in its own time."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator, Iterator


class Signals:
    """The signals that came in, in order."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[signal.Signals] = asyncio.Queue()

    def record(self, number: signal.Signals) -> None:
        self._arrived.put_nowait(number)

    async def next(self) -> signal.Signals:
        return await self._arrived.get()

    async def __aiter__(self) -> AsyncIterator[signal.Signals]:
        while True:
            yield await self.next()


@contextmanager
def received(*numbers: signal.Signals) -> Iterator[Signals]:
    """Record these signals while the block runs; then the system's default is back."""
    loop = asyncio.get_running_loop()
    signals = Signals()
    for number in numbers:
        loop.add_signal_handler(number, signals.record, number)
    try:
        yield signals
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
