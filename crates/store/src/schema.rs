//! The database file: made, checked, brought to the current format, opened.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::Path,
    thread,
    time::Duration,
};

use refinery::{Migration, Runner};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use crate::{error::StoreError, layout};

const BUSY: Duration = Duration::from_secs(10);
const SWITCH_ATTEMPTS_MAX: u32 = 100;
const SWITCH_PAUSE: Duration = Duration::from_millis(10);
const PAGE_BYTES: u64 = 4096;
const STATEMENTS_MAX: usize = 64;

/// All formats there ever were, oldest first. A released file is never edited, only followed.
fn runner() -> Result<Runner, StoreError> {
    Ok(runner_of(&[Migration::unapplied("V1__journal", include_str!("../migrations/V1__journal.sql"))?]))
}

/// Grouped: the tables and the note of their version are one transaction, so that a kill between
/// them cannot leave a database nobody knows the format of.
fn runner_of(migrations: &[Migration]) -> Runner {
    Runner::new(migrations).set_grouped(true)
}

/// Whether there is one already, or at least the beginning of one.
pub(crate) fn has_database(dir: &Path) -> bool {
    std::fs::metadata(layout::database(dir)).is_ok_and(|file| file.len() > 0)
}

/// A connection that writes, to a database of the current format.
pub(crate) fn open_for_writing(dir: &Path, journal_bytes_max: u64, now_ms: u64) -> Result<Connection, StoreError> {
    open_with(dir, journal_bytes_max, now_ms, &runner()?)
}

/// A connection that cannot write.
pub(crate) fn open_for_reading(dir: &Path) -> Result<Connection, StoreError> {
    let path = layout::database(dir);
    if !path.exists() {
        return Err(StoreError::NoJournal(dir.to_path_buf()));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match open_and_look(&path, flags) {
        Err(error) if is_read_only_medium(&error) && !has_log(dir) => {
            // A copy on a medium that cannot be written, with nothing in its log: nobody can change it.
            open_and_look(Path::new(&immutable_uri(&path)), flags | OpenFlags::SQLITE_OPEN_URI)?
        }
        opened => opened?,
    };
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(connection)
}

/// SQLite opens lazily: only a question shows whether it can.
fn open_and_look(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

fn is_read_only_medium(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

fn has_log(dir: &Path) -> bool {
    std::fs::metadata(layout::log(dir)).is_ok_and(|log| log.len() > 0)
}

fn immutable_uri(path: &Path) -> OsString {
    let mut uri = OsString::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte).to_string());
            }
            byte => uri.push(format!("%{byte:02x}")),
        }
    }
    uri.push("?immutable=1");
    uri
}

/// Refuses what this program cannot read.
pub(crate) fn check_format(connection: &Connection, dir: &Path) -> Result<(), StoreError> {
    let known = newest(&runner()?);
    match format_of(connection, dir)? {
        Some(found) if found == known => Ok(()),
        Some(found) if found > known => Err(StoreError::NewerFormat { dir: dir.to_path_buf(), found, known }),
        Some(found) => Err(StoreError::OlderFormat { dir: dir.to_path_buf(), found }),
        None => Err(StoreError::NoJournal(dir.to_path_buf())),
    }
}

fn open_with(dir: &Path, journal_bytes_max: u64, now_ms: u64, runner: &Runner) -> Result<Connection, StoreError> {
    let path = layout::database(dir);
    if !path.exists() {
        // SQLite would make it readable by others; its companions take their mode from it.
        let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        made.map_err(StoreError::io("create", &path))?;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(&path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let pages_max = i64::try_from(journal_bytes_max / PAGE_BYTES).unwrap_or(i64::MAX).clamp(1, 4_294_967_294);
    connection.query_row(&format!("PRAGMA max_page_count = {pages_max}"), [], |_| Ok(()))?;
    let path = layout::format_lock(dir);
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let lock = lock.map_err(StoreError::io("create", &path))?;
    // Shared for the look: nobody else's change is seen half done, and nobody waits for a look.
    lock.lock_shared().map_err(StoreError::io("lock", &path))?;
    if format_of(&connection, dir)? != Some(newest(runner)) {
        lock.unlock().and_then(|()| lock.lock()).map_err(StoreError::io("lock", &path))?;
        bring_up(&mut connection, dir, now_ms, runner)?;
    }
    Ok(connection)
}

/// Under the format lock: looks again, since another process may have done it meanwhile.
fn bring_up(connection: &mut Connection, dir: &Path, now_ms: u64, runner: &Runner) -> Result<(), StoreError> {
    let known = newest(runner);
    match format_of(connection, dir)? {
        Some(found) if found == known => return Ok(()),
        Some(found) if found > known => {
            return Err(StoreError::NewerFormat { dir: dir.to_path_buf(), found, known });
        }
        Some(found) => back_up(connection, dir, found, now_ms)?,
        None => switch_to_wal(connection)?,
    }
    runner.run(connection)?;
    Ok(())
}

/// For this switch SQLite does not wait for readers by itself.
fn switch_to_wal(connection: &Connection) -> rusqlite::Result<()> {
    for _ in 0..SWITCH_ATTEMPTS_MAX {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => thread::sleep(SWITCH_PAUSE),
            switched => return switched,
        }
    }
    connection.pragma_update(None, "journal_mode", "WAL")
}

fn back_up(connection: &Connection, dir: &Path, format: u32, now_ms: u64) -> Result<(), StoreError> {
    let path = layout::backup(dir, format, now_ms);
    if let Some(folder) = path.parent() {
        layout::create_folder(folder)?;
    }
    let text = path.to_str().ok_or_else(|| {
        StoreError::io("name in UTF-8", &path)(std::io::Error::from(std::io::ErrorKind::InvalidFilename))
    })?;
    connection.execute("VACUUM INTO ?1", [text])?;
    Ok(())
}

/// The format a database has; `None` for an empty one.
fn format_of(connection: &Connection, dir: &Path) -> Result<Option<u32>, StoreError> {
    // One snapshot: another process may be making the tables right now.
    let snapshot = connection.unchecked_transaction()?;
    let connection: &Connection = &snapshot;
    let has = |table: &str| {
        let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        connection.query_row(sql, [table], |_| Ok(())).optional().map(|row| row.is_some())
    };
    if has("refinery_schema_history")? {
        let sql = "SELECT max(version) FROM refinery_schema_history";
        let found: Option<i64> = connection.query_row(sql, [], |row| row.get(0))?;
        if let Some(found) = found {
            return Ok(Some(u32::try_from(found).unwrap_or(u32::MAX)));
        }
    }
    let tables: i64 = connection.query_row(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name <> 'refinery_schema_history'",
        [],
        |row| row.get(0),
    )?;
    if tables > 0 { Err(StoreError::NotAJournal(layout::database(dir))) } else { Ok(None) }
}

/// The format of a journal that has one.
pub(crate) fn format(connection: &Connection, dir: &Path) -> Result<u32, StoreError> {
    format_of(connection, dir)?.ok_or_else(|| StoreError::NoJournal(dir.to_path_buf()))
}

fn newest(runner: &Runner) -> u32 {
    let newest = runner.get_migrations().iter().map(Migration::version).max().unwrap_or(0);
    u32::try_from(newest).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: u64 = 1 << 30;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        layout::prepare(dir.path()).unwrap();
        dir
    }

    fn next_format(sql: &str) -> Runner {
        let mut all = runner().unwrap().get_migrations().clone();
        all.push(Migration::unapplied("V2__next", sql).unwrap());
        runner_of(&all)
    }

    #[test]
    fn a_new_database_needs_no_backup_and_an_older_one_gets_it() {
        let dir = folder();
        let first = open_for_writing(dir.path(), BYTES_MAX, 5).unwrap();
        first.execute("INSERT INTO meta VALUES ('a', 'b')", []).unwrap();
        assert!(!dir.path().join("backups").exists());
        let next = next_format("CREATE TABLE next (a TEXT) STRICT");
        let second = open_with(dir.path(), BYTES_MAX, 7, &next).unwrap();
        second.execute("INSERT INTO next VALUES ('x')", []).unwrap();
        let backup = Connection::open(layout::backup(dir.path(), 1, 7)).unwrap();
        let kept: String = backup.query_row("SELECT value FROM meta", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, "b");
        assert_eq!(format_of(&backup, dir.path()).unwrap(), Some(1));
    }

    #[test]
    fn a_failed_migration_leaves_the_old_format() {
        let dir = folder();
        drop(open_for_writing(dir.path(), BYTES_MAX, 5).unwrap());
        let broken = next_format("CREATE TABLE good (a TEXT) STRICT; CREATE TABLE nonsense (");
        assert!(matches!(open_with(dir.path(), BYTES_MAX, 7, &broken), Err(StoreError::Migration(_))));
        let again = open_for_writing(dir.path(), BYTES_MAX, 9).unwrap();
        assert_eq!(format_of(&again, dir.path()).unwrap(), Some(1));
    }

    #[test]
    fn a_newer_format_is_refused_and_left_alone() {
        let dir = folder();
        drop(open_with(dir.path(), BYTES_MAX, 5, &next_format("CREATE TABLE next (a TEXT) STRICT")).unwrap());
        let refused = open_for_writing(dir.path(), BYTES_MAX, 6).unwrap_err();
        assert!(matches!(refused, StoreError::NewerFormat { found: 2, known: 1, .. }), "{refused}");
        assert!(refused.to_string().contains("update Homarus"));
        let reader = open_for_reading(dir.path()).unwrap();
        assert!(matches!(check_format(&reader, dir.path()), Err(StoreError::NewerFormat { .. })));
    }

    #[test]
    fn some_other_database_is_refused() {
        let dir = folder();
        let other = Connection::open(layout::database(dir.path())).unwrap();
        other.execute_batch("CREATE TABLE songs (name TEXT)").unwrap();
        assert!(matches!(open_for_writing(dir.path(), BYTES_MAX, 5), Err(StoreError::NotAJournal(_))));
    }

    #[test]
    fn only_the_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = folder();
        let connection = open_for_writing(dir.path(), BYTES_MAX, 5).unwrap();
        connection.execute("INSERT INTO meta VALUES ('a', 'b')", []).unwrap();
        for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
            let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{name}");
        }
    }
}
