//! Verifying, offline and from distrust: every figure is computed anew, and a row that makes no sense
//! is a finding, not an error.

mod deleted;
mod report;
mod scan;

use ed25519_dalek::VerifyingKey;
use homarus_contract::{ids::RunId, journal::JournalError};
use rusqlite::Connection;

pub use report::{Finding, VerifyReport};

use crate::error::unreadable;

/// Checks one run (and the system stream that vouches for it), or everything. `log_damage`: what is known to be
/// wrong with SQLite's log.
pub(crate) fn verify(
    connection: &Connection,
    key: &VerifyingKey,
    run: Option<&RunId>,
    log_damage: Option<&str>,
) -> Result<VerifyReport, JournalError> {
    let snapshot = connection.unchecked_transaction().map_err(unreadable)?;
    let mut scan = scan::Scan::new(&snapshot, key);
    if let Some(what) = log_damage {
        scan.log_is_damaged(what);
    }
    match run {
        Some(run) => scan.one(run.as_str())?,
        None => scan.all(),
    }
    Ok(scan.finish())
}
