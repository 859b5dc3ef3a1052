"""Descriptors that come and go by the thousand, watched through one of the loop's.

The loop's own add_reader costs ten times what the kernel asks for it, and a command needs three.
Here an epoll of our own stands in the loop as a single descriptor. Callbacks must be quick and must
not raise.
"""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

AT_ONCE: Final = 64
"""Descriptors that are served each time the loop comes round: everybody else gets a turn."""


class Poller:
    """Calls back while a descriptor is readable, as the loop's readers do."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._callbacks: dict[int, Callable[[], object]] = {}
        self._epoll = select.epoll()
        self._loop.add_reader(self._epoll.fileno(), self._serve)

    def __repr__(self) -> str:
        return f"<Poller watches={len(self._callbacks)}>"

    def watch(self, descriptor: int, callback: Callable[[], object]) -> None:
        self._epoll.register(descriptor, select.EPOLLIN)
        self._callbacks[descriptor] = callback

    def forget(self, descriptor: int) -> None:
        """Watch it no longer. To be called before it is closed; harmless when it is not watched."""
        if self._callbacks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _serve(self) -> None:
        for descriptor, _ in self._epoll.poll(0, AT_ONCE):
            callback = self._callbacks.get(descriptor)
            if callback is not None:  # else an earlier one of this round has closed it
                callback()
