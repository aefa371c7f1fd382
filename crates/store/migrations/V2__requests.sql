-- What other processes leave for the driver of a run, to be done between two steps. A note of the present, as `cancels` is.

CREATE TABLE requests (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    run     TEXT NOT NULL REFERENCES streams (stream),
    at_ms   INTEGER NOT NULL,
    request TEXT NOT NULL
) STRICT;

CREATE INDEX requests_by_run ON requests (run, id);
