//! How the database is, for a doctor: figures that tell nothing of what is in it.

use homarus_contract::{ids::RunId, journal::JournalError};
use rusqlite::Connection;

use crate::{error::unreadable, rows};

/// Complaints of SQLite beyond this are not listed.
const COMPLAINTS_MAX: usize = 20;
const RUNS_MAX: u32 = 10_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What SQLite finds wrong with its file; empty: nothing.
    pub complaints: Vec<String>,
    /// Number of the migration the tables are at.
    pub format: u32,
    pub sqlite_version: String,
    /// Time of the newest event, in milliseconds since 1970.
    pub newest_event_ms: Option<u64>,
    /// Runs that have not ended and are not given up: their layers may still be needed.
    pub unfinished: Vec<RunId>,
}

/// `quick`: leaves out the look at every page, which takes long for a large file.
pub(crate) fn look(connection: &Connection, format: u32, quick: bool) -> Result<Health, JournalError> {
    let complaints = if quick { Vec::new() } else { complaints(connection)? };
    let read = || -> rusqlite::Result<Health> {
        let newest: Option<i64> = connection.query_row("SELECT max(at_ms) FROM events", [], |row| row.get(0))?;
        let open = &*rows::OPEN;
        let mut unfinished = connection
            .prepare(&format!("SELECT run FROM runs WHERE status IN ({open}) ORDER BY created_ms DESC LIMIT ?1"))?;
        Ok(Health {
            complaints: Vec::new(),
            format,
            sqlite_version: rusqlite::version().to_owned(),
            newest_event_ms: newest.and_then(|ms| u64::try_from(ms).ok()),
            unfinished: unfinished.query_map([RUNS_MAX], |row| rows::run_id(row, 0))?.collect::<Result<_, _>>()?,
        })
    };
    // Where SQLite complains the tables may not be readable at all; then the complaints are the news.
    match read() {
        Ok(health) => Ok(Health { complaints, ..health }),
        Err(_) if !complaints.is_empty() => Ok(Health {
            complaints,
            format,
            sqlite_version: rusqlite::version().to_owned(),
            newest_event_ms: None,
            unfinished: Vec::new(),
        }),
        Err(error) => Err(unreadable(error)),
    }
}

fn complaints(connection: &Connection) -> Result<Vec<String>, JournalError> {
    let mut check = connection.prepare(&format!("PRAGMA quick_check({COMPLAINTS_MAX})")).map_err(unreadable)?;
    let lines = check.query_map([], |row| row.get::<_, String>(0)).map_err(unreadable)?;
    let mut found = Vec::new();
    for line in lines {
        match line {
            Ok(line) if line == "ok" => {}
            Ok(line) => found.push(line),
            // The check itself met a page that makes no sense.
            Err(error) => {
                found.push(error.to_string());
                break;
            }
        }
    }
    Ok(found)
}
