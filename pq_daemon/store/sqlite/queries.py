"""Every named query. A test asks EXPLAIN QUERY PLAN about each: none may scan a table that grows.

Moves take their WHERE from the table of moves, so SQL and jobs/states.py cannot part.
"""

from __future__ import annotations

from typing import Final

from pq_daemon.jobs.states import MOVES, Event


def sources(event: Event) -> str:
    """The states a move may start from, as SQL."""
    return ", ".join(f"'{state}'" for state in sorted(MOVES[event].sources))


JOB_COLUMNS: Final = """id, queue, state, reason, priority, rank, run, attempt, spent, max_attempts,
    created_at, run_at, started_at, finished_at, cancel_requested_at, watch, root, relpath, inode,
    size, mtime_ns, ctime_ns, inodes_count, sha256, place, payload, key, error, result,
    progress_percent, progress_text, held_from"""

# --- jobs: accepting and moving ---------------------------------------------------------------

INSERT_JOB: Final = """
INSERT INTO jobs (queue, state, priority, rank, queued_at, max_attempts, created_at, run_at,
    held_from, watch, root, relpath, shown, inode, size, mtime_ns, ctime_ns, inodes_count, sha256,
    place, payload, key)
VALUES (:queue, :state, :priority, :rank, :queued_at, :max_attempts, :created_at, :run_at,
    :held_from, :watch, :root, :relpath, :shown, :inode, :size, :mtime_ns, :ctime_ns, :inodes_count,
    :sha256, :place, :payload, :key)
"""

JOB: Final = f"SELECT {JOB_COLUMNS} FROM jobs WHERE id = ?"
JOB_BY_KEY: Final = f"SELECT {JOB_COLUMNS} FROM jobs WHERE queue = ? AND key = ?"
JOBS_RUNNING: Final = f"""
SELECT {JOB_COLUMNS}, epoch FROM jobs
WHERE queue IN (SELECT id FROM queues) AND state = 'running' AND epoch <> ?
"""

CANCEL: Final = f"""
UPDATE jobs SET state = 'cancelled', reason = 'cancelled', finished_at = :now, held_from = NULL,
    run_at = NULL, cancel_requested_at = :now
WHERE id = :id AND state IN ({sources(Event.CANCEL)})
"""
REQUEST_CANCEL: Final = f"""
UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, :now)
WHERE id = :id AND state IN ({sources(Event.REQUEST_CANCEL)})
"""
HOLD: Final = f"""
UPDATE jobs SET held_from = state, state = 'held'
WHERE id = :id AND state IN ({sources(Event.HOLD)})
"""
RELEASE: Final = f"""
UPDATE jobs SET state = :to, held_from = NULL, rank = :rank, queued_at = :queued_at,
    run_at = :run_at
WHERE id = :id AND state IN ({sources(Event.RELEASE)})
"""
RUN_NOW: Final = f"""
UPDATE jobs SET state = 'queued', rank = :rank, queued_at = :now, run_at = NULL
WHERE id = :id AND state IN ({sources(Event.RUN_NOW)})
"""
RETRY: Final = f"""
UPDATE jobs SET state = 'queued', reason = NULL, finished_at = NULL, run = run + 1, spent = 0,
    postponed = 0, lost = 0, lost_boot = NULL, rank = :rank, queued_at = :now, run_at = NULL,
    priority = :priority, max_attempts = :max_attempts, cancel_requested_at = NULL, error = NULL,
    result = NULL, progress_percent = NULL, progress_text = NULL
WHERE id = :id AND state IN ({sources(Event.RETRY)})
"""

AMEND: Final = """
UPDATE jobs SET priority = :priority, rank = :rank, run_at = :run_at
WHERE id = :id AND state IN ('held', 'queued', 'retrying', 'scheduled')
"""

# --- jobs: the exchange -----------------------------------------------------------------------

DUE: Final = f"""
SELECT id, queue, state, priority, run_at FROM jobs
WHERE state IN ({sources(Event.COME_DUE)}) AND run_at <= ? ORDER BY run_at LIMIT 1000
"""
NEXT_DUE: Final = f"SELECT min(run_at) FROM jobs WHERE state IN ({sources(Event.COME_DUE)})"
COME_DUE: Final = f"""
UPDATE jobs SET state = 'queued', rank = ?, queued_at = run_at, run_at = NULL
WHERE id = ? AND state IN ({sources(Event.COME_DUE)})
"""
RUNNING_COUNT: Final = "SELECT count(*) FROM jobs WHERE queue = ? AND state = 'running'"
HEADS: Final = f"""
SELECT {JOB_COLUMNS} FROM jobs WHERE queue = ? AND state = 'queued' ORDER BY rank, id LIMIT ?
"""
CLAIM: Final = f"""
UPDATE jobs SET state = 'running', attempt = attempt + 1, started_at = ?, epoch = ?, slot = ?,
    config = ?
WHERE id = ? AND state IN ({sources(Event.CLAIM)})
"""
BUDGETS: Final = """
SELECT j.id, j.attempt, j.epoch, j.queue, j.spent, j.max_attempts, j.postponed, j.lost,
    j.lost_boot, j.cancel_requested_at, j.shown, j.run, j.slot, j.started_at, j.config
FROM json_each(?) AS wanted CROSS JOIN jobs AS j ON j.id = wanted.value
WHERE j.state = 'running'
"""
END_FINALLY: Final = f"""
UPDATE jobs SET state = ?, reason = ?, finished_at = ?, spent = ?, postponed = ?, lost = ?,
    lost_boot = ?, error = ?, result = ?, progress_percent = ?, progress_text = ?, run_at = NULL
WHERE id = ? AND state IN ({sources(Event.SUCCEED)})
"""
END_WELL: Final = f"""
UPDATE jobs SET state = 'succeeded', finished_at = ?, result = ?
WHERE id = ? AND state IN ({sources(Event.SUCCEED)})
"""
END_FOR_NOW: Final = f"""
UPDATE jobs SET state = ?, spent = ?, postponed = ?, lost = ?, lost_boot = ?, run_at = ?,
    error = ?, progress_percent = NULL, progress_text = NULL
WHERE id = ? AND state IN ({sources(Event.RETRY_LATER)})
"""
KEEP_ATTEMPT: Final = """
INSERT INTO attempts (job, number, outcome, reason, exit_code, signal, slot, started_at,
    finished_at, epoch, config, stdout_bytes, stderr_bytes, cut_bytes)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
KEEP_OUTPUT: Final = """
INSERT INTO outputs (job, attempt, bytes, succeeded, framed) VALUES (?, ?, ?, ?, ?)
"""

PUBLISH: Final = """
INSERT OR REPLACE INTO publications
    (target, inode, size, mtime_ns, ctime_ns, temp, exit_code, job, attempt)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
OURS_TO_PUBLISH: Final = """
SELECT 1 FROM jobs WHERE id = ? AND state = 'running' AND attempt = ? AND epoch = ?
"""
PUBLICATION: Final = """
SELECT temp, target, inode, size, mtime_ns, ctime_ns, exit_code FROM publications
WHERE job = ? AND attempt = ?
"""
PUBLISHED: Final = "SELECT size FROM publications WHERE target = ? AND inode = ?"

# --- after-actions ----------------------------------------------------------------------------

DISPOSE: Final = """
INSERT OR REPLACE INTO dispositions (job, run, kind, directory, committed_at) VALUES (?, ?, ?, ?, ?)
"""
DISPOSITIONS: Final = """
SELECT d.job, d.kind, d.directory, j.watch, j.root, j.relpath, j.inode, j.size, j.mtime_ns,
    j.ctime_ns, j.inodes_count, j.sha256, j.place
FROM dispositions AS d JOIN jobs AS j ON j.id = d.job
WHERE d.done_at IS NULL AND d.job > ? ORDER BY d.job LIMIT ?
"""
OPEN_DISPOSITION: Final = """
SELECT kind FROM dispositions WHERE job = ? AND done_at IS NULL
"""
DISPOSED: Final = """
UPDATE dispositions SET done_at = ?, result = ?, target = ? WHERE job = ? AND done_at IS NULL
"""

# --- queues, watches, configurations ----------------------------------------------------------

QUEUES: Final = """
SELECT id, name, handler, place, concurrency_file, concurrency_set, paused_file, paused_set,
    paused_reason, paused_by, paused_at FROM queues ORDER BY place IS NULL, place, name
"""
QUEUE: Final = """
SELECT id, name, handler, place, concurrency_file, concurrency_set, paused_file, paused_set,
    paused_reason, paused_by, paused_at FROM queues WHERE name = ?
"""
INSERT_QUEUE: Final = """
INSERT INTO queues (name, handler, place, concurrency_file, paused_file) VALUES (?, ?, ?, ?, ?)
"""
UPDATE_QUEUE: Final = """
UPDATE queues SET handler = :handler, place = :place,
    concurrency_set = CASE concurrency_file WHEN :concurrency THEN concurrency_set END,
    concurrency_file = :concurrency,
    paused_set = CASE paused_file WHEN :paused THEN paused_set END,
    paused_file = :paused
WHERE name = :name
"""
FORGET_PLACES: Final = "UPDATE queues SET place = NULL"
PAUSE: Final = """
UPDATE queues SET paused_set = ?, paused_reason = ?, paused_by = ?, paused_at = ? WHERE id = ?
"""
LIMIT: Final = "UPDATE queues SET concurrency_set = ? WHERE id = ?"
COUNTS: Final = "SELECT queue, state, n FROM counts"
TOTALS: Final = "SELECT queue, what, n FROM totals"
OLDEST_QUEUED: Final = """
SELECT queued_at FROM jobs WHERE queue = ? AND state = 'queued' ORDER BY rank, id LIMIT 1
"""

WATCHES: Final = """
SELECT w.id, w.name, w.root, w.queue, w.place, w.missed_by_events,
    EXISTS (SELECT 1 FROM surveys AS s WHERE s.root = w.root)
FROM watches AS w ORDER BY w.place IS NULL, w.place, w.name
"""
PUT_WATCH: Final = """
INSERT INTO watches (name, root, queue, place) VALUES (?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET root = excluded.root, queue = excluded.queue,
    place = excluded.place
"""
FORGET_WATCH_PLACES: Final = "UPDATE watches SET place = NULL"
SURVEYED: Final = """
INSERT INTO surveys (root, finished_at) SELECT root, ? FROM watches WHERE name = ?
ON CONFLICT (root) DO NOTHING
"""
MISSED: Final = "UPDATE watches SET missed_by_events = missed_by_events + ? WHERE name = ?"
FILE_COUNTS: Final = "SELECT watch, state, n FROM file_counts"

PUT_CONFIG: Final = """
INSERT INTO configs (sha256, text, seen_at) VALUES (?, ?, ?)
ON CONFLICT (sha256) DO UPDATE SET seen_at = excluded.seen_at RETURNING id
"""
CONFIG_TEXT: Final = "SELECT text FROM configs WHERE id = ?"

# --- the ledger -------------------------------------------------------------------------------

LEDGER_COLUMNS: Final = """path, watch, state, reason, inode, size, mtime_ns, ctime_ns,
    accepted_inode, accepted_size, accepted_mtime_ns, accepted_ctime_ns, sha256, job, gone,
    changed_at"""
ENTRY: Final = f"SELECT {LEDGER_COLUMNS} FROM ledger WHERE path = ?"
LEDGER_RANGE: Final = f"""
SELECT {LEDGER_COLUMNS} FROM ledger WHERE path > ? AND path <= ? ORDER BY path LIMIT ?
"""
PUT_ENTRY: Final = """
INSERT INTO ledger (path, watch, state, reason, inode, size, mtime_ns, ctime_ns, accepted_inode,
    accepted_size, accepted_mtime_ns, accepted_ctime_ns, sha256, job, gone, changed_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (path) DO UPDATE SET watch = excluded.watch, state = excluded.state,
    reason = excluded.reason, inode = excluded.inode, size = excluded.size,
    mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns,
    accepted_inode = excluded.accepted_inode, accepted_size = excluded.accepted_size,
    accepted_mtime_ns = excluded.accepted_mtime_ns, accepted_ctime_ns = excluded.accepted_ctime_ns,
    sha256 = excluded.sha256, job = excluded.job, gone = excluded.gone,
    changed_at = excluded.changed_at
"""
SAME_CONTENT: Final = """
SELECT path FROM ledger
WHERE watch = ? AND sha256 = ? AND job IS NOT NULL AND path <> ? LIMIT 1
"""
TAKE_AGAIN: Final = "UPDATE ledger SET job = ?, state = 'accepted', reason = NULL WHERE path = ?"
INSERT_CLAIM: Final = """
INSERT INTO claims (watch, root, relpath, inode, size, mtime_ns, ctime_ns, at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
CLAIMS: Final = """
SELECT id, watch, root, relpath, inode, size, mtime_ns, ctime_ns FROM claims ORDER BY id
"""
DELETE_CLAIM: Final = "DELETE FROM claims WHERE id = ?"
VANISH: Final = """
UPDATE ledger SET state = 'vanished', gone = 1, changed_at = ? WHERE path = ?
"""

# --- attempts, outputs, people ----------------------------------------------------------------

ATTEMPTS: Final = """
SELECT job, number, outcome, reason, exit_code, signal, slot, started_at, finished_at,
    stdout_bytes, stderr_bytes, cut_bytes, config, epoch
FROM attempts WHERE job = ? ORDER BY number
"""
OPEN_ATTEMPT: Final = """
SELECT id, attempt, NULL, NULL, NULL, NULL, slot, started_at, NULL, 0, 0, 0, config, epoch
FROM jobs WHERE id = ? AND state = 'running'
"""
OUTPUT: Final = "SELECT framed FROM outputs WHERE job = ? AND attempt = ?"

INSERT_AUDIT: Final = """
INSERT INTO audit (at, actor, role, via, address, action, target, job, reason, detail)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
AUDIT: Final = """
SELECT id, at, actor, role, via, address, action, target, reason, detail FROM audit
WHERE id < ? ORDER BY id DESC LIMIT ?
"""
AUDIT_OF_JOB: Final = """
SELECT id, at, actor, role, via, address, action, target, reason, detail FROM audit
WHERE job = ? AND id < ? ORDER BY id DESC LIMIT ?
"""

INSERT_SESSION: Final = """
INSERT INTO sessions (token_hash, user, created_at, seen_at) VALUES (?, ?, ?, ?)
"""
SESSION: Final = "SELECT token_hash, user, created_at, seen_at FROM sessions WHERE token_hash = ?"
TOUCH_SESSION: Final = "UPDATE sessions SET seen_at = ? WHERE token_hash = ?"
CLOSE_SESSION: Final = "DELETE FROM sessions WHERE token_hash = ?"
CLOSE_SESSIONS_OF: Final = "DELETE FROM sessions WHERE user = ?"

# --- epochs and the clock ---------------------------------------------------------------------

CLOCK: Final = "SELECT value FROM meta WHERE name = 'clock'"
BEGIN_EPOCH: Final = """
INSERT INTO epochs (name, token, boot, pid, started_at) VALUES (?, ?, ?, ?, ?)
"""
END_EPOCH: Final = "UPDATE epochs SET ended_at = ? WHERE id = ?"
DEAD_EPOCHS: Final = """
SELECT id, name, token, boot, started_at FROM epochs
WHERE ended_at IS NULL AND rescued_at IS NULL AND id <> ? ORDER BY id
"""
RESCUED: Final = """
UPDATE epochs SET rescued_at = ? WHERE ended_at IS NULL AND rescued_at IS NULL AND id <> ?
"""
FORGET_SESSIONS: Final = "DELETE FROM sessions WHERE created_at < ?"
EPOCH_TOKEN: Final = "SELECT token FROM epochs WHERE id = ?"

JOB_REASON: Final = "SELECT reason FROM jobs WHERE id = ?"
FOLLOW_FILE: Final = """
UPDATE jobs SET inode = ?, size = ?, mtime_ns = ?, ctime_ns = ?
WHERE id = ? AND finished_at IS NULL
"""
EPOCH_BOOT: Final = "SELECT boot FROM epochs WHERE id = ?"

# --- retention --------------------------------------------------------------------------------

OLD_JOBS: Final = """
SELECT id, queue, attempt FROM jobs AS j WHERE state = ? AND finished_at < ?
    AND NOT EXISTS (SELECT 1 FROM dispositions AS d WHERE d.job = j.id AND d.done_at IS NULL)
ORDER BY finished_at LIMIT ?
"""
OUTPUTS_OF: Final = "SELECT coalesce(sum(bytes), 0) FROM outputs WHERE job = ?"
DELETE_JOB: Final = "DELETE FROM jobs WHERE id = ? AND finished_at IS NOT NULL"
DELETE_PUBLICATIONS: Final = "DELETE FROM publications WHERE job = ?"
DELETE_DISPOSITIONS: Final = "DELETE FROM dispositions WHERE job = ?"
OLD_AUDIT: Final = """
DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ? ORDER BY at LIMIT ?)
"""
OLD_FILES: Final = """
DELETE FROM ledger WHERE path IN (SELECT path FROM ledger
    WHERE watch = ? AND state = 'vanished' AND changed_at < ? ORDER BY changed_at LIMIT ?)
"""
OLD_OUTPUTS: Final = """
SELECT job, attempt, bytes FROM outputs WHERE succeeded = 1 ORDER BY job LIMIT ?
"""
DELETE_OUTPUT: Final = "DELETE FROM outputs WHERE job = ? AND attempt = ?"
OUTPUT_BYTES: Final = "SELECT value FROM meta WHERE name = 'output_bytes'"
