"""Whatever is done in whatever order: counts equal rows, histories have no holes."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from pq_daemon.errors import ConflictError, NotFoundError
from pq_daemon.jobs.model import JobId
from pq_daemon.jobs.order import Moment
from pq_daemon.jobs.retry import Backoff
from pq_daemon.jobs.states import Event, Outcome
from pq_daemon.store.sqlite.connection import on_connection
from tests.support.builders import (
    FILES,
    PERSON,
    ROOT,
    WATCH,
    a_claim,
    a_submission,
    an_identity,
    ending,
    found,
)

if TYPE_CHECKING:
    import sqlite3

    from pq_daemon.jobs.model import Job
    from pq_daemon.store.sqlite.engine import SqliteStore

PEOPLE = [Event.CANCEL, Event.HOLD, Event.RELEASE, Event.RUN_NOW, Event.RETRY]


def trouble(connection: sqlite3.Connection) -> list[str]:
    """Everything that must not be, as SQL."""
    questions = {
        "counts differ": """SELECT queue, state, n, 0 FROM counts WHERE n <> (SELECT count(*)
            FROM jobs WHERE jobs.queue = counts.queue AND jobs.state = counts.state)""",
        "uncounted": """SELECT queue, state FROM jobs EXCEPT SELECT queue, state FROM counts""",
        "file counts differ": """SELECT watch, state, n FROM file_counts WHERE n <> (SELECT
            count(*) FROM ledger AS l WHERE l.watch = file_counts.watch
            AND l.state = file_counts.state)""",
        "holes in attempts": """SELECT id, attempt FROM jobs WHERE attempt - (state = 'running')
            <> (SELECT count(*) FROM attempts WHERE job = jobs.id)""",
        "numbers": """SELECT id FROM jobs WHERE attempt - (state = 'running')
            <> coalesce((SELECT max(number) FROM attempts WHERE job = jobs.id), 0)""",
        "overspent": "SELECT id FROM jobs WHERE spent > max_attempts",
    }
    found = []
    for name, sql in questions.items():
        found += [f"{name}: {row}" for row in connection.execute(sql).fetchall()]
    check = connection.execute("PRAGMA integrity_check").fetchall()
    return found if check == [("ok",)] else [*found, f"integrity: {check}"]


async def one_step(store: SqliteStore, chance: random.Random, running: list[Job]) -> None:
    what = chance.random()
    if what < 0.25:
        hold = chance.random() < 0.2
        ahead = Moment(store.now() + chance.choice([-5, 1, 10_000]))
        run_at = chance.choice([None, ahead])
        await store.submit(a_submission(hold=hold, run_at=run_at, max_attempts=2), PERSON)
    elif what < 0.4:
        name = b"f%d" % chance.randrange(8)
        sha = bytes([chance.randrange(3)]) * 32
        await store.accept([found(name, identity=an_identity(), sha256=sha)])
    elif what < 0.45:
        await store.vanish([ROOT + b"/f%d" % chance.randrange(8)])
    elif what < 0.65:
        job = JobId(chance.randrange(1, 60))
        try:
            await store.act(job, chance.choice(PEOPLE), PERSON)
        except (ConflictError, NotFoundError):
            return
    else:
        over = [each for each in running if chance.random() < 0.5]
        for each in over:
            running.remove(each)
        backoff = Backoff(base=chance.choice([0.0, 100.0]))
        endings = [
            ending(store, each, chance.choice(list(Outcome)), backoff=backoff) for each in over
        ]
        exchange = await store.exchange(endings, a_claim(4, files=6))
        running += [job for _, job in exchange.claimed]


@pytest.mark.parametrize("seed", range(6))
async def test_random_lives_balance(store: SqliteStore, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - replayable, not secret
    await store.configure_watches([(WATCH, ROOT, FILES)])
    running: list[Job] = []
    for _ in range(250):
        await one_step(store, chance, running)
    assert await on_connection(store._writing, trouble) == []
