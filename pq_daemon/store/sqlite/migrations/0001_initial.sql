-- The first schema. Times are milliseconds since 1970 UTC, from the store clock; paths are BLOBs,
-- names are ids of small tables, states are the words users see. The CHECKs restate jobs/states.py.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO meta (name, value) VALUES ('clock', 0), ('output_bytes', 0);

-- One start of the daemon. `ended_at` is set by a clean stop alone, `rescued_at` by the start that
-- found it had died and cleaned up behind it.
CREATE TABLE epochs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    token TEXT NOT NULL UNIQUE,
    boot TEXT NOT NULL,
    node TEXT NOT NULL DEFAULT '',
    pid INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    rescued_at INTEGER
) STRICT;
CREATE INDEX epochs_open ON epochs (id) WHERE ended_at IS NULL AND rescued_at IS NULL;

-- `*_file` is what the configuration said last, `*_set` what a person said since; a person's word
-- wins until the file's changes.
CREATE TABLE queues (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    handler TEXT NOT NULL,
    place INTEGER,                              -- in the file; NULL when removed from it
    concurrency_file INTEGER NOT NULL,
    concurrency_set INTEGER,
    paused_file INTEGER NOT NULL CHECK (paused_file IN (0, 1)),
    paused_set INTEGER CHECK (paused_set IN (0, 1)),
    paused_reason TEXT NOT NULL DEFAULT '',
    paused_by TEXT NOT NULL DEFAULT '',
    paused_at INTEGER
) STRICT;

CREATE TABLE watches (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    root BLOB NOT NULL,
    queue TEXT NOT NULL,
    place INTEGER,
    missed_by_events INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Belongs to the real directory, not to a watch's name: renaming a watch surveys nothing again.
CREATE TABLE surveys (
    root BLOB PRIMARY KEY,
    finished_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE configs (
    id INTEGER PRIMARY KEY,
    sha256 BLOB NOT NULL UNIQUE,
    text TEXT NOT NULL,
    seen_at INTEGER NOT NULL
) STRICT;

CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,       -- never reused: PQ_JOB_ID is a key of the outside world
    queue INTEGER NOT NULL REFERENCES queues (id),
    state TEXT NOT NULL CHECK (state IN
        ('held', 'scheduled', 'queued', 'running', 'retrying', 'succeeded', 'failed', 'cancelled')),
    reason TEXT CHECK (reason IN
        ('attempts', 'discarded', 'quarantined', 'input_gone', 'superseded', 'memory', 'cancelled')),
    priority TEXT NOT NULL CHECK (priority IN ('urgent', 'high', 'normal', 'low', 'idle')),
    rank INTEGER NOT NULL,
    queued_at INTEGER,                          -- the moment it became queued, whence the rank
    run INTEGER NOT NULL DEFAULT 1,             -- grows with each person's retry
    attempt INTEGER NOT NULL DEFAULT 0,         -- counts over the whole life
    spent INTEGER NOT NULL DEFAULT 0,
    postponed INTEGER NOT NULL DEFAULT 0,       -- in a row
    lost INTEGER NOT NULL DEFAULT 0,            -- in a row, under the kernel boot `lost_boot`
    lost_boot TEXT,
    max_attempts INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    run_at INTEGER,
    started_at INTEGER,
    finished_at INTEGER,
    cancel_requested_at INTEGER,
    held_from TEXT CHECK (held_from IN ('scheduled', 'queued', 'retrying')),
    epoch INTEGER,                              -- the attempt that runs, or ran last: by whom,
    slot INTEGER,                               -- where,
    config INTEGER,                             -- under which configuration
    watch INTEGER REFERENCES watches (id),
    root BLOB,
    relpath BLOB,
    shown TEXT,                                 -- the relpath as displayed and searched
    inode INTEGER,
    size INTEGER,
    mtime_ns INTEGER,
    ctime_ns INTEGER,
    inodes_count INTEGER,
    sha256 BLOB,
    place BLOB,                                 -- where a file claimed by moving lies
    payload TEXT,
    key TEXT,
    error TEXT,
    result TEXT,
    progress_percent REAL,
    progress_text TEXT,
    CHECK ((finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'cancelled'))),
    CHECK ((reason IS NOT NULL) = (state IN ('failed', 'cancelled'))),
    CHECK ((held_from IS NOT NULL) = (state = 'held')),
    CHECK (state NOT IN ('scheduled', 'retrying') OR run_at IS NOT NULL),
    CHECK (state <> 'running' OR (attempt > 0 AND epoch IS NOT NULL AND slot IS NOT NULL
        AND started_at IS NOT NULL)),
    CHECK (state <> 'queued' OR queued_at IS NOT NULL),
    CHECK ((root IS NULL) = (relpath IS NULL)),
    CHECK (relpath IS NOT NULL OR payload IS NOT NULL)
) STRICT;

-- The claim looks at live rows alone, so a million finished jobs cost it nothing.
CREATE INDEX jobs_queued ON jobs (queue, rank, id) WHERE state = 'queued';
CREATE INDEX jobs_due ON jobs (run_at) WHERE state IN ('retrying', 'scheduled');
CREATE INDEX jobs_listed ON jobs (queue, state, id);
CREATE INDEX jobs_watched ON jobs (watch, id) WHERE watch IS NOT NULL;
CREATE INDEX jobs_finished ON jobs (state, finished_at) WHERE finished_at IS NOT NULL;
CREATE UNIQUE INDEX jobs_keyed ON jobs (queue, key) WHERE key IS NOT NULL;

-- Attempts that have ended: a row is written once and never changed. The open one is in jobs.
CREATE TABLE attempts (
    job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL CHECK (number > 0),
    outcome TEXT NOT NULL CHECK (outcome IN
        ('succeeded', 'failed', 'timed_out', 'cancelled', 'postponed', 'interrupted', 'lost')),
    reason TEXT,
    exit_code INTEGER,
    signal INTEGER,
    slot INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    config INTEGER,
    stdout_bytes INTEGER NOT NULL DEFAULT 0,
    stderr_bytes INTEGER NOT NULL DEFAULT 0,
    cut_bytes INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;

-- What is kept of an attempt's output: small ones are here, framed; larger ones in a file named by
-- job and attempt. `bytes` is what counts against output_total.
CREATE TABLE outputs (
    job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    succeeded INTEGER NOT NULL CHECK (succeeded IN (0, 1)),
    framed BLOB,
    UNIQUE (job, attempt)
) STRICT;
CREATE INDEX outputs_of_success ON outputs (job) WHERE succeeded = 1;

-- Outputs renamed into place, or about to be: after a crash they tell that the handler had done its
-- work, and for ever that this file is an output and never an input.
CREATE TABLE publications (
    target BLOB NOT NULL,
    inode INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    temp BLOB NOT NULL,
    exit_code INTEGER NOT NULL,
    job INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    PRIMARY KEY (target, inode)
) STRICT, WITHOUT ROWID;
CREATE INDEX publications_by_job ON publications (job, attempt);

-- One row per path a watch has seen, by absolute real path. The plain columns are the last look,
-- `accepted_*` and sha256 the version that was taken last.
CREATE TABLE ledger (
    path BLOB PRIMARY KEY,
    watch INTEGER NOT NULL REFERENCES watches (id),
    state TEXT NOT NULL CHECK (state IN ('waiting', 'ignored', 'accepted', 'vanished')),
    reason TEXT,
    inode INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    accepted_inode INTEGER,
    accepted_size INTEGER,
    accepted_mtime_ns INTEGER,
    accepted_ctime_ns INTEGER,
    sha256 BLOB,
    job INTEGER,
    gone INTEGER NOT NULL DEFAULT 0 CHECK (gone IN (0, 1)),
    changed_at INTEGER NOT NULL,
    CHECK (state NOT IN ('waiting', 'ignored') OR reason IS NOT NULL),
    CHECK (state <> 'accepted' OR accepted_inode IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX ledger_listed ON ledger (watch, state, changed_at, path);
CREATE INDEX ledger_content ON ledger (watch, sha256) WHERE sha256 IS NOT NULL AND job IS NOT NULL;

-- Files about to be moved into their watch's work directory: each is finished or undone by a start.
CREATE TABLE claims (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    watch INTEGER NOT NULL REFERENCES watches (id),
    root BLOB NOT NULL,
    relpath BLOB NOT NULL,
    inode INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT;

-- After-actions: committed to with the job's end, done (or left alone) afterwards.
CREATE TABLE dispositions (
    job INTEGER NOT NULL,
    run INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('move', 'delete')),
    directory BLOB NOT NULL,
    committed_at INTEGER NOT NULL,
    done_at INTEGER,
    result TEXT,
    target BLOB,
    PRIMARY KEY (job, run),
    CHECK ((done_at IS NULL) = (result IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX dispositions_open ON dispositions (job) WHERE done_at IS NULL;

-- Counts of stored rows, kept as deltas in the transaction that moves the rows.
CREATE TABLE counts (
    queue INTEGER NOT NULL,
    state TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (queue, state)
) STRICT, WITHOUT ROWID;

CREATE TABLE file_counts (
    watch INTEGER NOT NULL,
    state TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (watch, state)
) STRICT, WITHOUT ROWID;

-- Since ever, whatever retention removes.
CREATE TABLE totals (
    queue INTEGER NOT NULL,
    what TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (queue, what)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    role TEXT NOT NULL,
    via TEXT NOT NULL,
    address TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    job INTEGER,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX audit_of_job ON audit (job, id) WHERE job IS NOT NULL;
CREATE INDEX audit_by_time ON audit (at);

CREATE TABLE sessions (
    token_hash BLOB PRIMARY KEY,
    user TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_of_user ON sessions (user);
