"""Lists, on the query-only connection: keyset pages that cost the same at any depth.

A filter over several queues and states is a union of one index walk each, every one stopped at the
page's size; so no filter sorts more than a few pages' worth of rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pq_daemon.jobs.states import FINAL, State
from pq_daemon.store import cursors
from pq_daemon.store.protocol import (
    AuditEntry,
    FileState,
    JobFilter,
    LedgerEntry,
    Page,
    Pause,
    QueueRecord,
    Totals,
    WatchRecord,
)
from pq_daemon.store.sqlite import queries, rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from pq_daemon.jobs.model import JobId, QueueName, WatchName
    from pq_daemon.store.sqlite.rows import Names

BEYOND: Final = (1 << 63) - 1
LIKE_SPECIAL: Final = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})


# --- jobs --------------------------------------------------------------------------------------


def jobs(
    connection: sqlite3.Connection, names: Names, wanted: JobFilter, cursor: str | None, limit: int
) -> Page[Any]:
    bound = canonical(wanted)
    before = cursors.place(cursor, bound)[0] if cursor else BEYOND
    statement, values = jobs_query(names, wanted, before, limit + 1)
    found = connection.execute(statement, values).fetchall() if statement else []
    items = [rows.job_from(row, names) for row in found[:limit]]
    more = len(found) > limit
    return Page(items, cursors.cursor([items[-1].id], bound) if more else None)


def canonical(wanted: JobFilter) -> tuple[Any, ...]:
    """A filter as a value that reads the same in every process: what cursors are bound to."""
    return (
        "jobs",
        sorted(wanted.states),
        sorted(wanted.queues),
        sorted(wanted.watches),
        wanted.after,
        wanted.before,
        wanted.search,
    )


def jobs_query(names: Names, wanted: JobFilter, before: int, limit: int) -> tuple[str, list[Any]]:
    """Compose the SELECT of a filter; an empty statement when nothing can match."""
    conditions, values = _conditions(wanted)
    if wanted.watches:
        walks = [
            ("watch = ?", [names.watch_id[watch]])
            for watch in sorted(wanted.watches)
            if watch in names.watch_id
        ]
        extra, extra_values = _state_and_queue(names, wanted)
        conditions, values = [*conditions, *extra], [*values, *extra_values]
    elif wanted.states or wanted.queues:
        walks = [
            ("queue = ? AND state = ?", list[Any]((queue, state)))
            for queue in _queue_ids(names, wanted)
            for state in sorted(wanted.states or State)
        ]
    else:
        walks = [("TRUE", [])]
    parts, given = [], []
    for walk, own in walks:
        where = " AND ".join([walk, "id < ?", *conditions])
        parts.append(
            f"SELECT * FROM (SELECT {queries.JOB_COLUMNS} FROM jobs"
            f" WHERE {where} ORDER BY id DESC LIMIT ?)"
        )
        given += [*own, before, *values, limit]
    if len(parts) < 2:  # noqa: PLR2004 - a union begins with two
        return "".join(parts), given
    union = " UNION ALL ".join(parts)
    return f"SELECT * FROM ({union}) ORDER BY id DESC LIMIT ?", [*given, limit]


def _queue_ids(names: Names, wanted: JobFilter) -> list[int]:
    chosen: Iterable[QueueName] = wanted.queues or names.queue_id
    return sorted(names.queue_id[queue] for queue in chosen if queue in names.queue_id)


def _state_and_queue(names: Names, wanted: JobFilter) -> tuple[list[str], list[Any]]:
    conditions, values = [], list[Any]()
    if wanted.states:
        conditions.append(f"state IN ({_marks(len(wanted.states))})")
        values += sorted(wanted.states)
    if wanted.queues:
        ids = _queue_ids(names, wanted)
        conditions.append(f"queue IN ({_marks(len(ids))})")
        values += ids
    return conditions, values


def _conditions(wanted: JobFilter) -> tuple[list[str], list[Any]]:
    conditions, values = [], list[Any]()
    if wanted.after is not None:
        conditions.append("created_at >= ?")
        values.append(wanted.after)
    if wanted.before is not None:
        conditions.append("created_at < ?")
        values.append(wanted.before)
    if wanted.search:
        text = wanted.search
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1  # noqa: PLR2004
        conditions.append("(shown LIKE ? ESCAPE '\\' OR id = ? OR key = ?)")
        values += [f"%{text.translate(LIKE_SPECIAL)}%", number, text]
    return conditions, values


def _marks(count: int) -> str:
    return ", ".join("?" * count)


# --- queues and watches ------------------------------------------------------------------------


def queue_records(connection: sqlite3.Connection, every: bool) -> list[QueueRecord]:
    counts: dict[int, dict[State, int]] = {}
    for queue, state, n in connection.execute(queries.COUNTS).fetchall():
        counts.setdefault(queue, {})[rows.STATES[state]] = n
    records = []
    for row in connection.execute(queries.QUEUES).fetchall():
        of_queue = counts.get(row[0], {})
        removed = row[3] is None
        if removed and not any(n for s, n in of_queue.items() if every or s not in FINAL):
            continue
        records.append(_queue_record(connection, row, of_queue))
    return records


def _queue_record(
    connection: sqlite3.Connection, row: tuple[Any, ...], counts: dict[State, int]
) -> QueueRecord:
    number, name, handler, place, by_file, by_person, paused_file, paused_set, reason, by, at = row
    paused = paused_file if paused_set is None else paused_set
    pause = None
    if paused:
        pause = Pause(reason, by, at) if paused_set is not None else Pause("", "config.toml", None)
    oldest = connection.execute(queries.OLDEST_QUEUED, (number,)).fetchall()
    return QueueRecord(
        name=name,
        handler=handler,
        concurrency=by_file if by_person is None else by_person,
        concurrency_by_file=by_file,
        paused=pause,
        removed=place is None,
        counts={state: counts.get(state, 0) for state in State},
        oldest_queued_at=oldest[0][0] if oldest else None,
    )


def watch_records(connection: sqlite3.Connection) -> list[WatchRecord]:
    counts: dict[int, dict[FileState, int]] = {}
    for watch, state, n in connection.execute(queries.FILE_COUNTS).fetchall():
        counts.setdefault(watch, {})[rows.FILE_STATES[state]] = n
    return [
        WatchRecord(
            name=name,
            root=root,
            queue=queue,
            surveyed=bool(surveyed),
            counts={state: counts.get(number, {}).get(state, 0) for state in FileState},
            missed_by_events=missed,
            removed=place is None,
        )
        for number, name, root, queue, place, missed, surveyed in connection.execute(
            queries.WATCHES
        ).fetchall()
    ]


def totals(connection: sqlite3.Connection, names: Names) -> Totals:
    by_queue: dict[QueueName, dict[str, int]] = {}
    for queue, what, n in connection.execute(queries.TOTALS).fetchall():
        by_queue.setdefault(names.queue[queue], {})[what] = n
    return Totals(by_queue)


# --- files -------------------------------------------------------------------------------------


def ledger(
    connection: sqlite3.Connection,
    names: Names,
    after: bytes,
    upto: bytes | None,
    limit: int,
    within: bytes,
) -> list[LedgerEntry]:
    first = max(after, within + b"/")
    last = min(upto or within + b"0", within + b"0")  # "0" is the byte after "/"
    found = connection.execute(queries.LEDGER_RANGE, (first, last, limit)).fetchall()
    return [rows.entry_from(row, names) for row in found]


def entries(
    connection: sqlite3.Connection, names: Names, paths: Iterable[bytes]
) -> dict[bytes, LedgerEntry]:
    found = {}
    for path in paths:
        for row in connection.execute(queries.ENTRY, (path,)).fetchall():
            found[path] = rows.entry_from(row, names)
    return found


def files(
    connection: sqlite3.Connection,
    names: Names,
    watch: WatchName,
    states: frozenset[FileState],
    cursor: str | None,
    limit: int,
) -> Page[LedgerEntry]:
    bound = ("files", watch, sorted(states))
    changed_at, path = (BEYOND, b"")
    if cursor:
        changed_at, hexed = cursors.place(cursor, bound)
        path = bytes.fromhex(hexed)
    statement, values = files_query(
        names.watch_id.get(watch, -1), states, changed_at, path, limit + 1
    )
    found = connection.execute(statement, values).fetchall()
    items = [rows.entry_from(row, names) for row in found[:limit]]
    if len(found) <= limit:
        return Page(items, None)
    last = items[-1]
    return Page(items, cursors.cursor([last.changed_at, last.path.hex()], bound))


def files_query(
    watch: int, states: frozenset[FileState], changed_at: int, path: bytes, limit: int
) -> tuple[str, list[Any]]:
    parts, values = [], list[Any]()
    for state in sorted(states or FileState):
        parts.append(
            f"SELECT * FROM (SELECT {queries.LEDGER_COLUMNS} FROM ledger"
            " WHERE watch = ? AND state = ? AND (changed_at, path) < (?, ?)"
            " ORDER BY changed_at DESC, path DESC LIMIT ?)"
        )
        values += [watch, state, changed_at, path, limit]
    union = " UNION ALL ".join(parts)
    return f"SELECT * FROM ({union}) ORDER BY changed_at DESC, path DESC LIMIT ?", [*values, limit]


# --- audit -------------------------------------------------------------------------------------


def audit_entries(
    connection: sqlite3.Connection, cursor: str | None, limit: int, job: JobId | None
) -> Page[AuditEntry]:
    bound = ("audit", job)
    before = cursors.place(cursor, bound)[0] if cursor else BEYOND
    if job is None:
        found = connection.execute(queries.AUDIT, (before, limit + 1)).fetchall()
    else:
        found = connection.execute(queries.AUDIT_OF_JOB, (job, before, limit + 1)).fetchall()
    items = [rows.audit_from(row) for row in found[:limit]]
    more = len(found) > limit
    return Page(items, cursors.cursor([items[-1].id], bound) if more else None)
