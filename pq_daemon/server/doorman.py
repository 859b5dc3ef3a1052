"""Slows down whoever guesses passwords; forgets them when they stop.

Counted by account and address: five failures are free, then each one doubles the wait from one
second to five minutes. An address alone has more room, so that one guesser behind a gateway does
not lock out its neighbours for long, but cannot try a few passwords on every name either. Kept in
memory, bounded: the ones not seen for longest are forgotten first.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRIES_MOST: Final = 10_000


@dataclass(frozen=True, slots=True)
class Patience:
    """How many failures are free, and the longest wait in seconds."""

    free: int
    longest: float


BY_ACCOUNT: Final = Patience(free=5, longest=300.0)
BY_ADDRESS: Final = Patience(free=30, longest=60.0)


@dataclass(slots=True)
class Record:
    failures: int = 0
    until: float = 0.0  # monotonic


class Doorman:
    """Remembers failures at the door."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: OrderedDict[tuple[str, ...], Record] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Doorman remembers={len(self._records)}>"

    def wait(self, account: str, address: str) -> float:
        """Seconds until this one may try again; 0 for now."""
        now = self._clock()
        records = (self._records.get(key) for key, _ in _keys(account, address))
        return max([0.0, *(record.until - now for record in records if record)])

    def failed(self, account: str, address: str) -> None:
        now = self._clock()
        for key, patience in _keys(account, address):
            record = self._records.setdefault(key, Record())
            if record.failures and now - record.until > patience.longest * 2:
                record.failures = 0
            record.failures += 1
            beyond = record.failures - patience.free
            wait = min(patience.longest, 2.0 ** min(beyond, 30)) if beyond >= 0 else 0.0
            record.until = now + wait
            self._records.move_to_end(key)
        while len(self._records) > ENTRIES_MOST:
            self._records.popitem(last=False)

    def welcomed(self, account: str, address: str) -> None:
        """Forget the failures of somebody who knows the password; the address keeps its own."""
        self._records.pop((account, address), None)


def _keys(account: str, address: str) -> tuple[tuple[tuple[str, ...], Patience], ...]:
    return ((account, address), BY_ACCOUNT), ((address,), BY_ADDRESS)
