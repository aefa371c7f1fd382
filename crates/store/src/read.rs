//! Questions: read-only connections, each answer from one snapshot.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use homarus_contract::{
    budget::{Budget, BudgetState},
    event::{Event, Record},
    gate::Approval,
    ids::{CallId, DriverId, Hash, RunId, StreamId},
    journal::{JournalError, RunRow},
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    chain::Link,
    delete,
    error::{StoreError, unreadable},
    lock,
    rows::{self, PROJECTION_COLUMNS, signed, unsigned},
    schema,
};

const IDLE_MAX: usize = 4;

/// A few connections, kept open between questions.
pub(crate) struct Readers {
    dir: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), idle: Mutex::new(Vec::new()) }
    }

    pub(crate) fn with<T>(&self, ask: impl FnOnce(&Connection) -> Result<T, JournalError>) -> Result<T, JournalError> {
        let waiting = self.idle().pop();
        let connection = match waiting {
            Some(connection) => connection,
            None => schema::open_for_reading(&self.dir).map_err(|error| match error {
                StoreError::Sql(error) => unreadable(error),
                other => JournalError::Unreadable(other.to_string()),
            })?,
        };
        let answer = ask(&connection);
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
        answer
    }

    pub(crate) fn close(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Events after `after`, each checked against the one before it.
pub(crate) fn records(
    connection: &Connection,
    stream: &StreamId,
    after: u64,
    limit: u32,
) -> Result<Vec<Record>, JournalError> {
    let snapshot = connection.unchecked_transaction().map_err(unreadable)?;
    let Some(head) = rows::head(&snapshot, stream.as_str()).map_err(unreadable)? else {
        let none = stream.is_system();
        return if none { Ok(Vec::new()) } else { Err(delete::missing(&snapshot, stream.as_str())) };
    };
    let mut prev = match after {
        0 => Hash::ZERO,
        after if after >= head.seq => return Ok(Vec::new()),
        after => hash_at(&snapshot, stream, after)?,
    };
    let mut statement = snapshot
        .prepare_cached(
            "SELECT seq, at_ms, epoch, hash, body, changes FROM events
             WHERE stream = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
        )
        .map_err(unreadable)?;
    let mut found = statement.query(params![stream.as_str(), signed(after), limit]).map_err(unreadable)?;
    let mut records = Vec::new();
    while let Some(row) = found.next().map_err(unreadable)? {
        let record = check_record(row, stream, after + 1 + records.len() as u64, &prev)?;
        prev = record.hash;
        records.push(record);
    }
    let last = after + records.len() as u64;
    if last < head.seq && records.len() < limit as usize {
        return Err(damaged(stream, last + 1, "it and what follows it are missing"));
    }
    if last == head.seq && prev != head.hash {
        return Err(damaged(stream, last, "it is not the one the head names"));
    }
    Ok(records)
}

pub(crate) fn blob(connection: &Connection, hash: &Hash) -> Result<Vec<u8>, JournalError> {
    let bytes: Option<Vec<u8>> = connection
        .prepare_cached("SELECT bytes FROM blobs WHERE hash = ?1")
        .and_then(|mut find| find.query_row([hash.as_bytes()], |row| row.get(0)).optional())
        .map_err(unreadable)?;
    let bytes = bytes.ok_or(JournalError::NoSuchBlob(*hash))?;
    if Hash::of(&bytes) != *hash {
        return Err(JournalError::Damaged(format!("blob {hash} has other content than its name says")));
    }
    Ok(bytes)
}

const MORE: &str = "runs.run, streams.head_seq, streams.epoch, streams.owner,
    EXISTS (SELECT 1 FROM cancels WHERE cancels.run = runs.run)";

pub(crate) fn runs(connection: &Connection, dir: &Path, limit: u32) -> Result<Vec<RunRow>, JournalError> {
    static SQL: LazyLock<String> =
        LazyLock::new(|| rows::select_runs(MORE, "ORDER BY runs.created_ms DESC, runs.run DESC LIMIT ?1"));
    let mut owners = Owners::new(dir);
    let mut read = || -> rusqlite::Result<Vec<RunRow>> {
        connection.prepare_cached(&SQL)?.query_map([limit], |row| run_row(row, &mut owners))?.collect()
    };
    read().map_err(unreadable)
}

pub(crate) fn run(connection: &Connection, dir: &Path, run: &RunId) -> Result<RunRow, JournalError> {
    static SQL: LazyLock<String> = LazyLock::new(|| rows::select_runs(MORE, "WHERE runs.run = ?1"));
    let mut owners = Owners::new(dir);
    let found = connection
        .prepare_cached(&SQL)
        .and_then(|mut find| find.query_row([run.as_str()], |row| run_row(row, &mut owners)).optional())
        .map_err(unreadable)?;
    found.ok_or_else(|| delete::missing(connection, run.as_str()))
}

/// Runs that ended, and had their last event before this time; the oldest first.
pub(crate) fn ended_before(
    connection: &Connection,
    dir: &Path,
    at_ms: u64,
    limit: u32,
) -> Result<Vec<RunRow>, JournalError> {
    let ended = format!(
        "WHERE runs.updated_ms < ?1 AND runs.status NOT IN ({})
         ORDER BY runs.updated_ms, runs.run LIMIT ?2",
        *rows::OPEN
    );
    let mut owners = Owners::new(dir);
    let mut read = || -> rusqlite::Result<Vec<RunRow>> {
        let mut find = connection.prepare(&rows::select_runs(MORE, &ended))?;
        find.query_map(params![signed(at_ms), limit], |row| run_row(row, &mut owners))?.collect()
    };
    read().map_err(unreadable)
}

pub(crate) fn budget(connection: &Connection, run: &RunId) -> Result<(Budget, BudgetState), JournalError> {
    let found = rows::projection(connection, run).map_err(unreadable)?;
    let projection = found.ok_or_else(|| delete::missing(connection, run.as_str()))?;
    Ok((projection.budget, projection.state))
}

pub(crate) fn orphans(connection: &Connection, dir: &Path) -> Result<Vec<RunId>, JournalError> {
    let mut owners = Owners::new(dir);
    let read = || -> rusqlite::Result<Vec<(RunId, Option<DriverId>)>> {
        connection
            .prepare_cached(
                "SELECT runs.run, streams.owner FROM runs JOIN streams ON streams.stream = runs.run
                 WHERE runs.status = 'running' ORDER BY runs.run",
            )?
            .query_map([], |row| Ok((rows::run_id(row, 0)?, rows::driver(row, 1)?)))?
            .collect()
    };
    let running = read().map_err(unreadable)?;
    Ok(running.into_iter().filter(|(_, owner)| !owners.alive(owner.as_ref())).map(|(run, _)| run).collect())
}

pub(crate) fn cancel_requested(connection: &Connection, run: &RunId) -> Result<bool, JournalError> {
    connection
        .prepare_cached("SELECT 1 FROM cancels WHERE run = ?1")
        .and_then(|mut find| find.exists([run.as_str()]))
        .map_err(unreadable)
}

pub(crate) fn answer(connection: &Connection, run: &RunId, call: &CallId) -> Result<Option<Approval>, JournalError> {
    rows::answer(connection, run, call).map_err(unreadable)
}

/// Looks at each lock file once, however many runs its driver owns.
struct Owners<'a> {
    dir: &'a Path,
    alive: HashMap<DriverId, bool>,
}

impl<'a> Owners<'a> {
    fn new(dir: &'a Path) -> Self {
        Self { dir, alive: HashMap::new() }
    }

    fn alive(&mut self, owner: Option<&DriverId>) -> bool {
        let Some(owner) = owner else { return false };
        *self.alive.entry(owner.clone()).or_insert_with(|| lock::is_alive(self.dir, owner))
    }
}

fn run_row(row: &Row<'_>, owners: &mut Owners<'_>) -> rusqlite::Result<RunRow> {
    let projection = rows::read_projection(row)?;
    let owner = rows::driver(row, PROJECTION_COLUMNS + 3)?;
    Ok(RunRow {
        run: rows::run_id(row, PROJECTION_COLUMNS)?,
        status: projection.status,
        prompt: projection.prompt,
        workspace: projection.workspace,
        created_ms: projection.created_ms,
        updated_ms: projection.updated_ms,
        events: unsigned(row, PROJECTION_COLUMNS + 1)?,
        epoch: unsigned(row, PROJECTION_COLUMNS + 2)?,
        owner_alive: owners.alive(owner.as_ref()),
        owner,
        cancel_requested: row.get(PROJECTION_COLUMNS + 4)?,
        budget: projection.state,
        cost_known: projection.cost_known,
    })
}

fn hash_at(connection: &Connection, stream: &StreamId, seq: u64) -> Result<Hash, JournalError> {
    let found = connection
        .prepare_cached("SELECT hash FROM events WHERE stream = ?1 AND seq = ?2")
        .and_then(|mut find| find.query_row(params![stream.as_str(), signed(seq)], |row| rows::hash(row, 0)).optional())
        .map_err(unreadable)?;
    found.ok_or_else(|| damaged(stream, seq, "it is missing"))
}

fn check_record(row: &Row<'_>, stream: &StreamId, expected: u64, prev: &Hash) -> Result<Record, JournalError> {
    let read = || -> rusqlite::Result<(u64, u64, u64, Hash, String, Option<String>)> {
        Ok((unsigned(row, 0)?, unsigned(row, 1)?, unsigned(row, 2)?, rows::hash(row, 3)?, row.get(4)?, row.get(5)?))
    };
    let (seq, at_ms, epoch, hash, body, changes) =
        read().map_err(|error| damaged(stream, expected, &error.to_string()))?;
    if seq != expected {
        return Err(damaged(stream, expected, "it is missing"));
    }
    let link = Link {
        stream: stream.as_str().as_bytes(),
        seq,
        at_ms,
        epoch,
        prev,
        body: body.as_bytes(),
        changes: changes.as_deref().unwrap_or_default().as_bytes(),
    };
    if link.hash() != hash {
        return Err(damaged(stream, seq, "its hash does not fit"));
    }
    let event: Event = serde_json::from_str(&body).map_err(|error| damaged(stream, seq, &error.to_string()))?;
    Ok(Record { stream: stream.clone(), seq, at_ms, epoch, hash, event })
}

fn damaged(stream: &StreamId, seq: u64, what: &str) -> JournalError {
    JournalError::Damaged(format!("{stream}, event {seq}: {what}"))
}
