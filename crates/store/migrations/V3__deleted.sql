-- Runs that were deleted: a projection of the system stream's `deleted` events.

CREATE TABLE deleted (
    run   TEXT PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    who   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
