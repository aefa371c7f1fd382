//! The projections made anew from the events alone.

use homarus_contract::{event::Event, ids::RunId, journal::JournalError};
use rusqlite::{Connection, params};

use crate::{
    delete,
    error::OpError,
    project::{Change, Projection},
    rows::{self, unsigned},
};

/// Throws all projections away and folds every run again; answers how many there are.
pub(crate) fn rebuild(connection: &Connection) -> Result<u64, OpError> {
    connection.execute_batch("DELETE FROM inbox; DELETE FROM budgets; DELETE FROM runs; DELETE FROM deleted;")?;
    let runs: Vec<RunId> = connection
        .prepare("SELECT stream FROM streams WHERE stream <> 'system' ORDER BY stream")?
        .query_map([], |row| rows::run_id(row, 0))?
        .collect::<Result<_, _>>()?;
    for run in &runs {
        let projection = fold(connection, run)?;
        rows::put_projection(connection, run, &projection)?;
        rows::put_budget(connection, run, &projection)?;
        for (source, ext_id) in &projection.inbox {
            rows::put_inbox(connection, run, source, ext_id)?;
        }
    }
    rebuild_deleted(connection)?;
    Ok(runs.len() as u64)
}

fn rebuild_deleted(connection: &Connection) -> Result<(), OpError> {
    let mut statement = connection.prepare("SELECT at_ms, body FROM events WHERE stream = 'system' ORDER BY seq")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let body: String = row.get(1)?;
        let event = serde_json::from_str(&body).map_err(|error| JournalError::Damaged(format!("system: {error}")))?;
        if let Event::Deleted { stream, who, .. } = event
            && let Some(run) = stream.run()
        {
            delete::put_deleted(connection, &run, unsigned(row, 0)?, &who)?;
        }
    }
    Ok(())
}

fn fold(connection: &Connection, run: &RunId) -> Result<Projection, OpError> {
    let damaged = |what: String| JournalError::Damaged(format!("{run}: {what}"));
    let mut statement =
        connection.prepare_cached("SELECT at_ms, body, changes FROM events WHERE stream = ?1 ORDER BY seq")?;
    let mut found = statement.query(params![run.as_str()])?;
    let mut folding = Folding::default();
    while let Some(row) = found.next()? {
        let (body, changes): (String, Option<String>) = (row.get(1)?, row.get(2)?);
        let event = serde_json::from_str(&body).map_err(|error| damaged(error.to_string()))?;
        folding.take(&event, changes.as_deref().unwrap_or_default(), unsigned(row, 0)?).map_err(damaged)?;
    }
    folding.projection.ok_or_else(|| damaged("it has no events".to_owned()).into())
}

/// A fold under way; verifying uses it too.
#[derive(Debug, Default)]
pub(crate) struct Folding {
    pub projection: Option<Projection>,
}

impl Folding {
    pub(crate) fn take(&mut self, event: &Event, changes: &str, at_ms: u64) -> Result<(), String> {
        match (&mut self.projection, event) {
            (None, Event::Accepted(accepted)) => {
                self.projection = Some(Projection::begin(accepted, at_ms).map_err(|error| error.to_string())?);
            }
            (None, event) => return Err(format!("it begins with `{}`", event.kind())),
            (Some(_), Event::Accepted(_)) => return Err("it begins twice".to_owned()),
            (Some(projection), event) => projection.apply(event, at_ms),
        }
        let Some(projection) = &mut self.projection else { return Ok(()) };
        if !changes.is_empty() {
            let changes: Vec<Change> = serde_json::from_str(changes).map_err(|error| error.to_string())?;
            for change in &changes {
                projection.change(change).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }
}
