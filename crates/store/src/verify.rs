//! Verifying, offline and from distrust: every figure is computed anew, and a row that makes no sense
//! is a finding, not an error.

mod report;
mod scan;

use ed25519_dalek::VerifyingKey;
use homarus_contract::{ids::RunId, journal::JournalError};
use rusqlite::Connection;

pub use report::{Finding, VerifyReport};

use crate::error::unreadable;

/// Checks one run (and the system stream that vouches for it), or everything.
pub(crate) fn verify(
    connection: &Connection,
    key: &VerifyingKey,
    run: Option<&RunId>,
) -> Result<VerifyReport, JournalError> {
    let snapshot = connection.unchecked_transaction().map_err(unreadable)?;
    let mut scan = scan::Scan::new(&snapshot, key);
    match run {
        Some(run) => scan.one(run.as_str())?,
        None => scan.all(),
    }
    Ok(scan.finish())
}
