"""No query may scan a table that grows: EXPLAIN QUERY PLAN of every one of them."""

from __future__ import annotations

import itertools
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pq_daemon.jobs.model import QueueName, WatchName
from pq_daemon.jobs.order import Moment
from pq_daemon.jobs.states import State
from pq_daemon.store.protocol import FileState, JobFilter
from pq_daemon.store.sqlite import listing, migrating, queries, transaction
from pq_daemon.store.sqlite.rows import Names

if TYPE_CHECKING:
    from collections.abc import Iterator

GROWING = {"jobs", "attempts", "outputs", "ledger", "publications", "audit", "sessions", "epochs",
           "configs", "dispositions", "j", "d"}  # fmt: skip
ALLOWED = {
    "DEAD_EPOCHS": "SCAN epochs USING INDEX epochs_open",
    "RESCUED": "SCAN epochs USING INDEX epochs_open",
    # stops at its limit
    "OLD_OUTPUTS": "SCAN outputs USING INDEX outputs_of_success",
    # by one chore, once an hour; a daemon has few sessions
    "FORGET_SESSIONS": "SCAN sessions",
}
NAMED = {
    name: value
    for module in (queries, transaction)
    for name, value in vars(module).items()
    if name.isupper() and isinstance(value, str) and not name.endswith("COLUMNS")
}


@pytest.fixture
def schema() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrating.migrate(connection, migrating.migrations(), Path("unused"))
        yield connection


def plan(connection: sqlite3.Connection, sql: str, values: Any = None) -> list[str]:
    if values is None:
        names = re.findall(r":(\w+)", sql)
        values = dict.fromkeys(names, 1) if names else (1,) * sql.count("?")
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()]


def scans(steps: list[str]) -> list[str]:
    return [
        step for step in steps
        if (found := re.match(r"SCAN (\w+)", step)) and found[1] in GROWING
    ]  # fmt: skip


@pytest.mark.parametrize("name", sorted(NAMED))
def test_a_named_query_scans_nothing_that_grows(schema: sqlite3.Connection, name: str) -> None:
    found = scans(plan(schema, NAMED[name]))
    assert found == ([ALLOWED[name]] if name in ALLOWED else [])


@pytest.mark.parametrize("name", ["HEADS", "DUE", "NEXT_DUE", "OLDEST_QUEUED"])
def test_the_hot_path_sorts_nothing(schema: sqlite3.Connection, name: str) -> None:
    steps = plan(schema, NAMED[name])
    assert not [step for step in steps if "TEMP B-TREE" in step]
    assert "jobs_queued" in steps[0] or "jobs_due" in steps[0]


STATES = [frozenset[State](), frozenset({State.FAILED}), frozenset({State.FAILED, State.QUEUED})]
QUEUES = [frozenset[QueueName](), frozenset({QueueName("a")}), frozenset(map(QueueName, "ab"))]
WATCHES = [frozenset[WatchName](), frozenset({WatchName("w")})]
TIMES = [None, Moment(5)]


@pytest.mark.parametrize(
    ("states", "queues", "watches", "after"),
    list(itertools.product(STATES, QUEUES, WATCHES, TIMES)),
)
def test_a_list_of_jobs_walks_an_index(
    schema: sqlite3.Connection,
    states: frozenset[State],
    queues: frozenset[QueueName],
    watches: frozenset[WatchName],
    after: Moment | None,
) -> None:
    names = Names()
    names.learn([(1, "a"), (2, "b")], [(1, "w", b"/w")])
    wanted = JobFilter(states, queues, watches, after=after)
    sql, values = listing.jobs_query(names, wanted, 1000, 51)
    steps = plan(schema, sql, values)
    assert not scans(steps)
    walks = [step for step in steps if step.startswith("SEARCH jobs")]
    assert walks
    assert all("rowid<" in step or "id<?" in step for step in walks)


FILE_STATES = [frozenset[FileState](), frozenset({FileState.WAITING})]


@pytest.mark.parametrize("states", FILE_STATES)
def test_a_list_of_files_walks_its_index(
    schema: sqlite3.Connection, states: frozenset[FileState]
) -> None:
    sql, values = listing.files_query(1, states, 10, b"x", 51)
    steps = plan(schema, sql, values)
    assert not scans(steps)
    assert all("ledger_listed" in step for step in steps if step.startswith("SEARCH"))
