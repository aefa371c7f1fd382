-- A journal as the first format was written: runs `a` (finished), `b` (paused, then gone on with) and `c` (just accepted),
-- owned by a driver that is dead. Made with `sqlite3 journal.db .dump`; never edited, so that every later program is tried on it.
CREATE TABLE refinery_schema_history(
             version int4 PRIMARY KEY,
             name VARCHAR(255),
             applied_on VARCHAR(255),
             checksum VARCHAR(255));
INSERT INTO refinery_schema_history VALUES(1,'journal','2026-11-21T13:42:55.810543688Z','787798479637837085');
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES('public_key','f0ecc5f266608bc5f9aba20fe61f9ee3e9273a0c824227b5258d65d455243986');
CREATE TABLE streams (
    stream    TEXT PRIMARY KEY,
    head_seq  INTEGER NOT NULL,
    head_hash BLOB NOT NULL,
    head_sig  BLOB NOT NULL,
    epoch     INTEGER NOT NULL,
    -- The driver that may append now; NULL: none. The present, not history.
    owner     TEXT
) STRICT, WITHOUT ROWID;
INSERT INTO streams VALUES('a',4,X'984470bd1380924d46286bc90efd3a91741fb2d2f1fda9016f116215641200a9',X'0250f20cd16a2b3d937b00e95a121037f2f7646bbfb69687f7c863be6d8145fdcda0232a7f07aa72214088f5809778fd99acdd283eee62b8c320ca40dd30ab06',1,NULL);
INSERT INTO streams VALUES('b',5,X'f4ae0215a1577d389a1df6d808c54ee96d1f72b2683f11dd749457178222fc83',X'9302c364ff3f03c6fba023293250a9eaf4ced531a87766fe93d39971b2213e10af1f84cae172ac51a27d746cbc1d2e9199ec2ac0932d3cbe3aa9e0883d307c05',1,'driver-15b2f536cb27c621');
INSERT INTO streams VALUES('c',1,X'cbfdc712c6dd21fc9f5933a7aaad8a7b1588f20ac5abc14893231f883c2a1ce1',X'55effd2c9d705f23b95bd50b71ecb3440ecfa3f894f5a809ea9da5db6cef835a8fa3558946eb9a0a08f1b745f303003be25065c8cffc035882204019b31d860c',1,'driver-15b2f536cb27c621');
INSERT INTO streams VALUES('system',5,X'c6fa087d514477e425e6c3b8dc9f419f4500a5fc7692d1c4eb64c228cbf13086',X'8a2d33a77bfdbfa9f3ff555b0856b02ffa6151a5a1519f44e548afac16b209d25f263993a5a15e870ec904e1fa9803bc06f5b1626cb6e222dda5be1216e5a20b',0,NULL);
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
INSERT INTO events VALUES('a',1,1001,1,X'f8ba44e6238801cde08b6980dffb02507adfe7dbb07f3d103b641ff2af01d9ee','{"kind":"accepted","run":"a","inbound":{"source":"cli","ext_id":"ext-a","text":"do a"},"machine":"agent","workspace":"/home/user/project","agent":null,"models":["fake/one"],"models_why":"","profile":{"grants":["shell:run"],"rules":"","approvals":"ask","tier":"internal"},"budget":{"cost_max":1000,"tokens_max":500,"steps_max":3,"wall_ms_max":60000},"conversation":false,"system":"40f47b8e75d040d4585ac177ed7720556d5485064cfd602239b97970aab85adf","tools":"c7d4463340de3c92bf11c124b1dda7bc734cc9f5f79eb67d226914747a797368","orientation":"9549fee7097b7ed19d8336d0b29c03434163afe5bce6633142e6471e837c433d","homarus_version":"0.1.0"}',NULL);
INSERT INTO events VALUES('system',1,1001,0,X'cf023f6eb7325d039594813739f50038d38d0d030c49b4ffc43f413f95d6feee','{"kind":"checkpoint","stream":"a","seq":1,"hash":"f8ba44e6238801cde08b6980dffb02507adfe7dbb07f3d103b641ff2af01d9ee","status":"running"}',NULL);
INSERT INTO events VALUES('a',2,1002,1,X'efab9e38af79982493b63c5786af20c51c4d0159cd8dbf5b3310add9ec9eb706','{"kind":"nudged","reason":"test","text":"a2"}',NULL);
INSERT INTO events VALUES('a',3,1002,1,X'6a1e09c4da3f08302ceb5862e087ba600d16fca135ab959b8cb2aa8895dac8df','{"kind":"nudged","reason":"test","text":"a3"}',NULL);
INSERT INTO events VALUES('a',4,1002,1,X'984470bd1380924d46286bc90efd3a91741fb2d2f1fda9016f116215641200a9','{"kind":"finished","status":"completed","summary":"done"}',NULL);
INSERT INTO events VALUES('system',2,1002,0,X'e736ddc06978301566a92716990313a41bed2fe394c6a3fb4985a254c63158cc','{"kind":"checkpoint","stream":"a","seq":4,"hash":"984470bd1380924d46286bc90efd3a91741fb2d2f1fda9016f116215641200a9","status":"completed"}',NULL);
INSERT INTO events VALUES('b',1,1003,1,X'337afa47327c59526af2525a6633083f6cbb26231ea72df87f03a193e71d72c9','{"kind":"accepted","run":"b","inbound":{"source":"cli","ext_id":"ext-b","text":"do b"},"machine":"agent","workspace":"/home/user/project","agent":null,"models":["fake/one"],"models_why":"","profile":{"grants":["shell:run"],"rules":"","approvals":"ask","tier":"internal"},"budget":{"cost_max":1000,"tokens_max":500,"steps_max":3,"wall_ms_max":60000},"conversation":false,"system":"40f47b8e75d040d4585ac177ed7720556d5485064cfd602239b97970aab85adf","tools":"c7d4463340de3c92bf11c124b1dda7bc734cc9f5f79eb67d226914747a797368","orientation":"9549fee7097b7ed19d8336d0b29c03434163afe5bce6633142e6471e837c433d","homarus_version":"0.1.0"}',NULL);
INSERT INTO events VALUES('system',3,1003,0,X'243f55da633fe0e6dfb8e40a52e9e33639ac7987e47d404c9097381cf3a23cff','{"kind":"checkpoint","stream":"b","seq":1,"hash":"337afa47327c59526af2525a6633083f6cbb26231ea72df87f03a193e71d72c9","status":"running"}',NULL);
INSERT INTO events VALUES('b',2,1004,1,X'd7e56dbfae8dd4aaa1f73e69867c9296ad9e89853d069a235cbb63923b8e8881','{"kind":"nudged","reason":"test","text":"b2"}',NULL);
INSERT INTO events VALUES('b',3,1004,1,X'a3f50da316801e4fab86a6bd930810da6fb85f8825dda0e7a34aa8f6d8779e69','{"kind":"waiting","on":{"what":"resume"}}',NULL);
INSERT INTO events VALUES('system',4,1004,0,X'e30cd04e16c089b271cbf779a1440a8e4ae3a845190d099a63596482c7dbe6a7','{"kind":"checkpoint","stream":"b","seq":3,"hash":"a3f50da316801e4fab86a6bd930810da6fb85f8825dda0e7a34aa8f6d8779e69","status":"paused"}',NULL);
INSERT INTO events VALUES('b',4,1005,1,X'bb3e57351327e8398cd8e81110de0af4213a66fe3a47d1267eb880ebf0188d40','{"kind":"nudged","reason":"test","text":"b4"}',NULL);
INSERT INTO events VALUES('b',5,1005,1,X'f4ae0215a1577d389a1df6d808c54ee96d1f72b2683f11dd749457178222fc83','{"kind":"nudged","reason":"test","text":"b5"}',NULL);
INSERT INTO events VALUES('c',1,1006,1,X'cbfdc712c6dd21fc9f5933a7aaad8a7b1588f20ac5abc14893231f883c2a1ce1','{"kind":"accepted","run":"c","inbound":{"source":"cli","ext_id":"ext-c","text":"do c"},"machine":"agent","workspace":"/home/user/project","agent":null,"models":["fake/one"],"models_why":"","profile":{"grants":["shell:run"],"rules":"","approvals":"ask","tier":"internal"},"budget":{"cost_max":1000,"tokens_max":500,"steps_max":3,"wall_ms_max":60000},"conversation":false,"system":"40f47b8e75d040d4585ac177ed7720556d5485064cfd602239b97970aab85adf","tools":"c7d4463340de3c92bf11c124b1dda7bc734cc9f5f79eb67d226914747a797368","orientation":"9549fee7097b7ed19d8336d0b29c03434163afe5bce6633142e6471e837c433d","homarus_version":"0.1.0"}',NULL);
INSERT INTO events VALUES('system',5,1006,0,X'c6fa087d514477e425e6c3b8dc9f419f4500a5fc7692d1c4eb64c228cbf13086','{"kind":"checkpoint","stream":"c","seq":1,"hash":"cbfdc712c6dd21fc9f5933a7aaad8a7b1588f20ac5abc14893231f883c2a1ce1","status":"running"}',NULL);
CREATE TABLE blobs (
    hash  BLOB PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;
INSERT INTO blobs VALUES(X'40f47b8e75d040d4585ac177ed7720556d5485064cfd602239b97970aab85adf',X'73797374656d');
INSERT INTO blobs VALUES(X'c7d4463340de3c92bf11c124b1dda7bc734cc9f5f79eb67d226914747a797368',X'746f6f6c73');
INSERT INTO blobs VALUES(X'9549fee7097b7ed19d8336d0b29c03434163afe5bce6633142e6471e837c433d',X'6f7269656e746174696f6e');
INSERT INTO blobs VALUES(X'ff5eefbee2f7bba5f17f4f6de3d70d2a1c8c6e47af8c601ca50c15262595d711',X'74686520626c6f62206f662062');
CREATE TABLE runs (
    run        TEXT PRIMARY KEY REFERENCES streams (stream),
    status     TEXT NOT NULL,
    prompt     TEXT NOT NULL,
    workspace  TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    cost_known INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO runs VALUES('a','completed','do a','/home/user/project',1001,1002,1);
INSERT INTO runs VALUES('b','running','do b','/home/user/project',1003,1005,1);
INSERT INTO runs VALUES('c','running','do c','/home/user/project',1006,1006,1);
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
INSERT INTO budgets VALUES('a',1000,500,3,60000,0,0,0,0,0,0);
INSERT INTO budgets VALUES('b',1000,500,3,60000,0,0,0,0,0,0);
INSERT INTO budgets VALUES('c',1000,500,3,60000,0,0,0,0,0,0);
CREATE TABLE inbox (
    source TEXT NOT NULL,
    ext_id TEXT NOT NULL,
    run    TEXT NOT NULL REFERENCES runs (run),
    PRIMARY KEY (source, ext_id)
) STRICT, WITHOUT ROWID;
INSERT INTO inbox VALUES('cli','ext-a','a');
INSERT INTO inbox VALUES('cli','ext-b','b');
INSERT INTO inbox VALUES('cli','ext-c','c');
CREATE TABLE drivers (
    driver   TEXT PRIMARY KEY,
    since_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO drivers VALUES('driver-15b2f536cb27c621',1001);
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
CREATE INDEX streams_by_owner ON streams (owner) WHERE owner IS NOT NULL;
CREATE INDEX runs_newest ON runs (created_ms DESC, run DESC);
CREATE INDEX runs_running ON runs (run) WHERE status = 'running';
CREATE INDEX inbox_by_run ON inbox (run);
