"""What a change is given: the connection inside a transaction, the moment, counts and facts.

Counts are collected as deltas and written once before the commit; facts are told after it. Both
can go back to a mark, so a change that is rolled back leaves neither.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from pq_daemon.jobs.order import Moment
    from pq_daemon.store.feed import Fact

COUNT = (
    "INSERT INTO counts (queue, state, n) VALUES (?, ?, ?) "
    "ON CONFLICT (queue, state) DO UPDATE SET n = n + excluded.n"
)
COUNT_FILE = (
    "INSERT INTO file_counts (watch, state, n) VALUES (?, ?, ?) "
    "ON CONFLICT (watch, state) DO UPDATE SET n = n + excluded.n"
)
COUNT_TOTAL = (
    "INSERT INTO totals (queue, what, n) VALUES (?, ?, ?) "
    "ON CONFLICT (queue, what) DO UPDATE SET n = n + excluded.n"
)
COUNT_OUTPUT = "UPDATE meta SET value = value + ? WHERE name = 'output_bytes'"
SET_CLOCK = "UPDATE meta SET value = ? WHERE name = 'clock'"


class Mark(NamedTuple):
    facts: int
    deltas: int


class Transaction:
    """One batch's transaction. Lives on the connection's thread."""

    def __init__(self, connection: sqlite3.Connection, moment: Moment) -> None:
        self.connection = connection
        self.moment = moment
        self.facts: list[Fact] = []
        self._deltas: list[tuple[str, int, str, int]] = []

    def rows(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[Any]:
        """Execute and read to the end: an unread cursor would block the commit."""
        return self.connection.execute(sql, values).fetchall()

    def change(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> int:
        """Execute a statement that returns no rows; how many rows it changed."""
        return self.connection.execute(sql, values).rowcount

    def change_each(self, sql: str, values: Iterable[Sequence[Any]]) -> int:
        return self.connection.executemany(sql, values).rowcount

    def insert(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> int:
        """Execute an INSERT; the new row's id."""
        return self.connection.execute(sql, values).lastrowid or 0

    def count(self, queue: int, state: str, delta: int) -> None:
        self._deltas.append((COUNT, queue, state, delta))

    def count_file(self, watch: int, state: str, delta: int) -> None:
        self._deltas.append((COUNT_FILE, watch, state, delta))

    def total(self, queue: int, what: str, delta: int = 1) -> None:
        self._deltas.append((COUNT_TOTAL, queue, what, delta))

    def count_output(self, delta: int) -> None:
        """Count bytes of kept outputs, for retention's output_total."""
        self.connection.execute(COUNT_OUTPUT, (delta,))

    def tell(self, fact: Fact) -> None:
        self.facts.append(fact)

    def mark(self) -> Mark:
        return Mark(len(self.facts), len(self._deltas))

    def go_back(self, mark: Mark) -> None:
        del self.facts[mark.facts :]
        del self._deltas[mark.deltas :]

    def settle(self) -> None:
        """Write what was collected: the last work before the commit."""
        sums: Counter[tuple[str, int, str]] = Counter()
        for sql, owner, name, delta in self._deltas:
            sums[sql, owner, name] += delta
        for (sql, owner, name), delta in sums.items():
            if delta:
                self.connection.execute(sql, (owner, name, delta))
        self.connection.execute(SET_CLOCK, (self.moment,))
