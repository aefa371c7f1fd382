//! From one format of the tables to the next, in numbered steps.
//!
//! A crate for this (`refinery` made the first databases) brings readers of folders and configuration files and
//! eight more crates, and not what is needed here: the copy, the lock, the check of references.
//!
//! To change the tables: add a file `migrations/V3__name.sql`, and a line to [`MIGRATIONS`]. What is there
//! already was released, and is followed, never edited.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::backup;
use crate::{error::StoreError, layout, rows::signed};

/// One step; its SQL brings the format before it to `version`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Migration {
    pub version: u32,
    pub name: &'static str,
    pub sql: &'static str,
}

/// All steps there ever were: 1, 2, 3, ...
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "journal", sql: include_str!("../../migrations/V1__journal.sql") },
    Migration { version: 2, name: "requests", sql: include_str!("../../migrations/V2__requests.sql") },
    Migration { version: 3, name: "deleted", sql: include_str!("../../migrations/V3__deleted.sql") },
];

/// Where the format stands, and since when. The name is older than this code: programs that only know
/// the first format look for it, and so can tell that they are too old.
const HISTORY: &str = "CREATE TABLE IF NOT EXISTS refinery_schema_history (
    version    int4 PRIMARY KEY,
    name       VARCHAR(255),
    applied_on VARCHAR(255),
    checksum   VARCHAR(255)
)";

pub(crate) fn newest(migrations: &[Migration]) -> u32 {
    migrations.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// The format a database has; `None` for an empty one.
pub(crate) fn format_of(connection: &Connection, dir: &Path) -> Result<Option<u32>, StoreError> {
    // One snapshot: another process may be making the tables right now.
    let snapshot = connection.unchecked_transaction()?;
    let has = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'refinery_schema_history'";
    if snapshot.prepare(has)?.exists([])? {
        let sql = "SELECT max(version) FROM refinery_schema_history";
        let found: Option<i64> = snapshot.query_row(sql, [], |row| row.get(0))?;
        if let Some(found) = found {
            return Ok(Some(u32::try_from(found).unwrap_or(u32::MAX)));
        }
    }
    let other = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name <> 'refinery_schema_history' LIMIT 1";
    match snapshot.query_row(other, [], |_| Ok(())).optional()? {
        Some(()) => Err(StoreError::NotAJournal(layout::database(dir))),
        None => Ok(None),
    }
}

/// Brings the database to the newest format; the caller is alone with it. An older one is copied first, and
/// stays as it is when a step fails.
pub(crate) fn bring_up(
    connection: &mut Connection,
    dir: &Path,
    found: Option<u32>,
    now_ms: u64,
    migrations: &[Migration],
) -> Result<(), StoreError> {
    if let Some(found) = found {
        backup::make(connection, dir, found, now_ms)?;
    }
    let failed = |source| StoreError::Migration { dir: dir.to_path_buf(), to: newest(migrations), source };
    // A step may replace a table that others refer to; all references are checked before the commit.
    connection.pragma_update(None, "foreign_keys", false).map_err(failed)?;
    let done = apply(connection, found.unwrap_or(0), now_ms, migrations).map_err(failed);
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    done?;
    backup::prune(dir);
    Ok(())
}

/// All steps and the notes of them in one transaction: a kill leaves the old format or the new one.
fn apply(connection: &mut Connection, found: u32, now_ms: u64, migrations: &[Migration]) -> rusqlite::Result<()> {
    let all = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    all.execute_batch(HISTORY)?;
    for migration in migrations.iter().filter(|migration| migration.version > found) {
        all.execute_batch(migration.sql)?;
        all.execute(
            "INSERT INTO refinery_schema_history (version, name, applied_on)
             VALUES (?1, ?2, strftime('%Y-%m-%dT%H:%M:%SZ', ?3 / 1000, 'unixepoch'))",
            params![migration.version, migration.name, signed(now_ms)],
        )?;
    }
    let broken: Option<String> =
        all.query_row("SELECT \"table\" FROM pragma_foreign_key_check LIMIT 1", [], |row| row.get(0)).optional()?;
    if let Some(table) = broken {
        let what = format!("rows of `{table}` refer to rows that are not there");
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY),
            Some(what),
        ));
    }
    all.commit()
}

#[cfg(test)]
mod tests {
    use homarus_contract::ids::Hash;

    use super::*;

    #[test]
    fn the_steps_are_numbered_without_gaps() {
        let versions: Vec<u32> = MIGRATIONS.iter().map(|migration| migration.version).collect();
        assert_eq!(versions, (1..=newest(MIGRATIONS)).collect::<Vec<_>>());
    }

    /// Databases out there were made by exactly this text; a change belongs into a further step.
    #[test]
    fn what_was_released_is_not_edited() {
        let released = [(1, "0fa0efc3b1d1b863452d61a8edd19adc071295ccd82078de1ffb8493b05b7184")];
        for (version, hash) in released {
            let migration = MIGRATIONS.iter().find(|migration| migration.version == version).unwrap();
            assert_eq!(Hash::of(migration.sql.as_bytes()).to_hex(), hash, "V{version}");
        }
    }
}
