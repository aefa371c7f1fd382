//! What other processes leave for the driver of a run: mail, not history. A request is gone in the transaction of the
//! event that does it, so that it is done once, whoever is killed when.

use homarus_contract::{
    event::{Event, Reconfigured, WaitingOn},
    ids::RunId,
    journal::{JournalError, Request},
};
use rusqlite::{Connection, params};

use crate::{
    error::OpError,
    rows::{malformed, signed},
};

const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Requests that wait for one run.
const REQUESTS_MAX: i64 = 100;

pub(crate) fn leave(connection: &Connection, run: &RunId, request: &Request, now_ms: u64) -> Result<(), OpError> {
    let refuse = |what: String| Err(JournalError::Refused(what).into());
    let text = to_json(request)?;
    if text.len() > REQUEST_BYTES_MAX {
        return refuse(format!("a request of more than {REQUEST_BYTES_MAX} bytes"));
    }
    let waiting: i64 = connection
        .prepare_cached("SELECT count(*) FROM requests WHERE run = ?1")?
        .query_row([run.as_str()], |row| row.get(0))?;
    if waiting >= REQUESTS_MAX {
        return refuse(format!("{REQUESTS_MAX} requests wait for run {run} already"));
    }
    connection.prepare_cached("INSERT INTO requests (run, at_ms, request) VALUES (?1, ?2, ?3)")?.execute(params![
        run.as_str(),
        signed(now_ms),
        text
    ])?;
    Ok(())
}

/// Oldest first.
pub(crate) fn left(connection: &Connection, run: &RunId) -> rusqlite::Result<Vec<Request>> {
    let mut find = connection.prepare_cached("SELECT request FROM requests WHERE run = ?1 ORDER BY id")?;
    find.query_map([run.as_str()], |row| {
        let text: String = row.get(0)?;
        serde_json::from_str(&text).map_err(|error| malformed(0, error.to_string()))
    })?
    .collect()
}

/// Takes away what an event has done.
pub(crate) fn settle(connection: &Connection, run: &RunId, event: &Event) -> Result<(), OpError> {
    match event {
        Event::Reconfigured(change) => {
            if let Some(id) = oldest_like(connection, run, change)? {
                connection.prepare_cached("DELETE FROM requests WHERE id = ?1")?.execute([id])?;
            }
            Ok(())
        }
        Event::Waiting { on: WaitingOn::Resume(_) } => forget_pauses(connection, run),
        Event::Finished { .. } => {
            connection.prepare_cached("DELETE FROM requests WHERE run = ?1")?.execute([run.as_str()])?;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The oldest request for this change. By what it says and not by its text: another version may have written it.
fn oldest_like(connection: &Connection, run: &RunId, change: &Reconfigured) -> rusqlite::Result<Option<i64>> {
    let mut find = connection.prepare_cached("SELECT id, request FROM requests WHERE run = ?1 ORDER BY id")?;
    let mut found = find.query([run.as_str()])?;
    while let Some(row) = found.next()? {
        let text: String = row.get(1)?;
        if let Ok(Request::Reconfigure { change: left }) = serde_json::from_str(&text)
            && *left == *change
        {
            return row.get(0).map(Some);
        }
    }
    Ok(None)
}

/// A run that nobody drives needs no pause.
pub(crate) fn forget_pauses(connection: &Connection, run: &RunId) -> Result<(), OpError> {
    connection
        .prepare_cached("DELETE FROM requests WHERE run = ?1 AND request ->> 'want' = 'pause'")?
        .execute([run.as_str()])?;
    Ok(())
}

fn to_json(request: &Request) -> Result<String, JournalError> {
    serde_json::to_string(request)
        .map_err(|error| JournalError::Refused(format!("it cannot be written as JSON: {error}")))
}
