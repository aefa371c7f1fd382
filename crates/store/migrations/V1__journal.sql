-- What the journal is: blobs, events, and the head of each stream. See docs/journal.md.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE streams (
    stream    TEXT PRIMARY KEY,
    head_seq  INTEGER NOT NULL,
    head_hash BLOB NOT NULL,
    head_sig  BLOB NOT NULL,
    epoch     INTEGER NOT NULL,
    -- The driver that may append now; NULL: none. The present, not history.
    owner     TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX streams_by_owner ON streams (owner) WHERE owner IS NOT NULL;

CREATE TABLE events (
    stream  TEXT NOT NULL REFERENCES streams (stream),
    seq     INTEGER NOT NULL,
    at_ms   INTEGER NOT NULL,
    epoch   INTEGER NOT NULL,
    hash    BLOB NOT NULL,
    body    TEXT NOT NULL,
    -- Budget changes committed with this event, as JSON; NULL: none.
    changes TEXT,
    PRIMARY KEY (stream, seq)
) STRICT;

CREATE TABLE blobs (
    hash  BLOB PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;

-- Projections: each is a fold of the events and can be rebuilt from them.

CREATE TABLE runs (
    run        TEXT PRIMARY KEY REFERENCES streams (stream),
    status     TEXT NOT NULL,
    prompt     TEXT NOT NULL,
    workspace  TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    cost_known INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_newest ON runs (created_ms DESC, run DESC);
CREATE INDEX runs_running ON runs (run) WHERE status = 'running';

CREATE TABLE budgets (
    run             TEXT PRIMARY KEY REFERENCES runs (run),
    cost_max        INTEGER,
    tokens_max      INTEGER NOT NULL,
    steps_max       INTEGER NOT NULL,
    wall_ms_max     INTEGER NOT NULL,
    used_cost       INTEGER NOT NULL,
    used_tokens     INTEGER NOT NULL,
    used_steps      INTEGER NOT NULL,
    reserved_cost   INTEGER NOT NULL,
    reserved_tokens INTEGER NOT NULL,
    reserved_steps  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE inbox (
    source TEXT NOT NULL,
    ext_id TEXT NOT NULL,
    run    TEXT NOT NULL REFERENCES runs (run),
    PRIMARY KEY (source, ext_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX inbox_by_run ON inbox (run);

-- Notes of the present: who works, and what other processes left for an owner to journal. They are
-- not history, so a rebuild leaves them as they are.

CREATE TABLE drivers (
    driver   TEXT PRIMARY KEY,
    since_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE cancels (
    run   TEXT PRIMARY KEY REFERENCES streams (stream),
    at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE answers (
    run      TEXT NOT NULL REFERENCES streams (stream),
    call     TEXT NOT NULL,
    at_ms    INTEGER NOT NULL,
    approval TEXT NOT NULL,
    PRIMARY KEY (run, call)
) STRICT, WITHOUT ROWID;
