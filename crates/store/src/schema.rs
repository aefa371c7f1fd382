//! The database file: made, checked, brought to the current format, opened.

mod backup;
mod hold;
mod migrate;

use std::{
    ffi::OsString,
    fs::OpenOptions,
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::Path,
    thread,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

pub(crate) use self::hold::FormatLock;
use self::migrate::{MIGRATIONS, Migration, bring_up, format_of, newest};
use crate::{error::StoreError, layout, log};

/// How long one waits for another to let go of the database, if nothing is written meanwhile.
pub(crate) const BUSY: Duration = Duration::from_secs(10);
const SWITCH_ATTEMPTS_MAX: u32 = 100;
const SWITCH_PAUSE: Duration = Duration::from_millis(10);
const ALONE_ATTEMPTS_MAX: u32 = 100;
const ALONE_PAUSE: Duration = Duration::from_millis(20);
const PAGE_BYTES: u64 = 4096;
const STATEMENTS_MAX: usize = 64;

/// Whether there is one already, or at least the beginning of one.
pub(crate) fn has_database(dir: &Path) -> bool {
    std::fs::metadata(layout::database(dir)).is_ok_and(|file| file.len() > 0)
}

/// A connection that writes, to a database of the current format, and the lock that keeps it of that format.
pub(crate) fn open_for_writing(
    dir: &Path,
    journal_bytes_max: u64,
    now_ms: u64,
) -> Result<(Connection, FormatLock), StoreError> {
    open_with(dir, journal_bytes_max, now_ms, MIGRATIONS)
}

/// Keeps the format as it is for whoever only looks; `None` where there is no lock file to hold.
pub(crate) fn hold_for_reading(dir: &Path) -> Result<Option<FormatLock>, StoreError> {
    FormatLock::for_reading(dir)
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
    let known = newest(MIGRATIONS);
    match format_of(connection, dir)? {
        Some(found) if found == known => Ok(()),
        Some(found) if found > known => Err(StoreError::NewerFormat { dir: dir.to_path_buf(), found, known }),
        Some(found) => Err(StoreError::OlderFormat { dir: dir.to_path_buf(), found }),
        None => Err(StoreError::NoJournal(dir.to_path_buf())),
    }
}

/// The format of a journal that has one.
pub(crate) fn format(connection: &Connection, dir: &Path) -> Result<u32, StoreError> {
    format_of(connection, dir)?.ok_or_else(|| StoreError::NoJournal(dir.to_path_buf()))
}

fn open_with(
    dir: &Path,
    journal_bytes_max: u64,
    now_ms: u64,
    migrations: &[Migration],
) -> Result<(Connection, FormatLock), StoreError> {
    let path = layout::database(dir);
    if !path.exists() {
        // SQLite would make it readable by others; its companions take their mode from it.
        let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        made.map_err(StoreError::io("create", &path))?;
    }
    // SQLite would write over what it cannot read.
    let log = layout::log(dir);
    if let Some(what) = log::damage(&log).map_err(StoreError::io("read", &log))? {
        return Err(StoreError::DamagedLog { path: log, what });
    }
    let mut connection = connect(dir, journal_bytes_max)?;
    let lock = agree_on_format(&mut connection, dir, now_ms, migrations)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok((connection, lock))
}

/// A further connection that writes, for a process that holds the format lock already.
pub(crate) fn reopen(dir: &Path, journal_bytes_max: u64) -> rusqlite::Result<Connection> {
    let connection = connect(dir, journal_bytes_max)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(connection)
}

fn connect(dir: &Path, journal_bytes_max: u64) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(layout::database(dir), flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Until it is known to be ours to write: a program that is too old leaves even the log as it was.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_log(dir))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let pages_max = i64::try_from(journal_bytes_max / PAGE_BYTES).unwrap_or(i64::MAX).clamp(1, 4_294_967_294);
    connection.query_row(&format!("PRAGMA max_page_count = {pages_max}"), [], |_| Ok(()))?;
    Ok(connection)
}

/// Brings the database to the newest format if it is older, alone; answers with the lock held shared.
fn agree_on_format(
    connection: &mut Connection,
    dir: &Path,
    now_ms: u64,
    migrations: &[Migration],
) -> Result<FormatLock, StoreError> {
    let known = newest(migrations);
    let lock = FormatLock::open(dir)?;
    let mut older = None;
    for _ in 0..ALONE_ATTEMPTS_MAX {
        lock.share(dir)?;
        let found = format_of(connection, dir)?;
        match found {
            Some(found) if found == known => return Ok(lock),
            Some(found) if found > known => {
                return Err(StoreError::NewerFormat { dir: dir.to_path_buf(), found, known });
            }
            found => older = found,
        }
        // Between two locks another may have done it, which the next look shows.
        if lock.try_alone(dir)? {
            if format_of(connection, dir)? == older {
                if older.is_none() {
                    switch_to_wal(connection)?;
                }
                bring_up(connection, dir, older, now_ms, migrations)?;
                layout::sync_folder_of(&layout::database(dir))?;
            }
        } else {
            thread::sleep(ALONE_PAUSE);
        }
    }
    Err(StoreError::InUse { dir: dir.to_path_buf(), found: older.unwrap_or(0), known })
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::lock::DriverLock;

    const BYTES_MAX: u64 = 1 << 30;
    const NEXT: &str = "CREATE TABLE next (a TEXT) STRICT";

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        layout::prepare(dir.path()).unwrap();
        dir
    }

    fn known() -> u32 {
        newest(MIGRATIONS)
    }

    /// What a program of the future knows: one step more.
    fn with_next(sql: &'static str) -> Vec<Migration> {
        let mut all = MIGRATIONS.to_vec();
        all.push(Migration { version: known() + 1, name: "next", sql });
        all
    }

    fn make(dir: &Path) {
        open_for_writing(dir, BYTES_MAX, 5).unwrap();
    }

    fn open_next(dir: &Path, now_ms: u64, sql: &'static str) -> Result<(Connection, FormatLock), StoreError> {
        open_with(dir, BYTES_MAX, now_ms, &with_next(sql))
    }

    fn backups(dir: &Path) -> Vec<String> {
        let Ok(entries) = fs::read_dir(layout::backups(dir)) else { return Vec::new() };
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_database_needs_no_backup_and_an_older_one_gets_it() {
        let dir = folder();
        let (first, lock) = open_for_writing(dir.path(), BYTES_MAX, 5).unwrap();
        first.execute("INSERT INTO meta VALUES ('a', 'b')", []).unwrap();
        drop((first, lock));
        assert_eq!(backups(dir.path()), Vec::<String>::new());
        let (second, _lock) = open_next(dir.path(), 7, NEXT).unwrap();
        second.execute("INSERT INTO next VALUES ('x')", []).unwrap();
        let path = layout::backup(dir.path(), known(), 7);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(backups(dir.path()).len(), 1, "nothing beside it");
        let backup = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let kept: String = backup.query_row("SELECT value FROM meta", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, "b");
        assert_eq!(format_of(&backup, dir.path()).unwrap(), Some(known()));
    }

    #[test]
    fn all_steps_that_are_missing_are_one_change() {
        let dir = folder();
        make(dir.path());
        let mut all = with_next(NEXT);
        all.push(Migration { version: known() + 2, name: "after", sql: "ALTER TABLE next ADD COLUMN b TEXT" });
        let (connection, lock) = open_with(dir.path(), BYTES_MAX, 7, &all).unwrap();
        connection.execute("INSERT INTO next (a, b) VALUES ('x', 'y')", []).unwrap();
        assert_eq!(format_of(&connection, dir.path()).unwrap(), Some(known() + 2));
        assert_eq!(backups(dir.path()).len(), 1);
        drop((connection, lock));
        open_with(dir.path(), BYTES_MAX, 9, &all).unwrap();
        assert_eq!(backups(dir.path()).len(), 1, "opening again changes nothing");
    }

    #[test]
    fn a_failed_change_leaves_the_old_format() {
        let broken_reference = "INSERT INTO cancels VALUES ('no such stream', 1)";
        for sql in ["CREATE TABLE good (a TEXT) STRICT; CREATE TABLE nonsense (", broken_reference] {
            let dir = folder();
            make(dir.path());
            let failed = open_next(dir.path(), 7, sql).unwrap_err();
            assert!(matches!(failed, StoreError::Migration { .. }), "{failed}");
            assert!(failed.to_string().contains("left as it was"), "{failed}");
            let (again, _lock) = open_for_writing(dir.path(), BYTES_MAX, 9).unwrap();
            assert_eq!(format_of(&again, dir.path()).unwrap(), Some(known()));
            let left = "SELECT count(*) FROM sqlite_schema WHERE name = 'good'";
            assert_eq!(again.query_row(left, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
            assert_eq!(again.query_row("SELECT count(*) FROM cancels", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
        }
    }

    #[test]
    fn without_a_copy_nothing_is_changed() {
        let dir = folder();
        make(dir.path());
        fs::write(layout::backups(dir.path()), "in the way").unwrap();
        assert!(matches!(open_next(dir.path(), 7, NEXT), Err(StoreError::Io { .. })));
        let (again, _lock) = open_for_writing(dir.path(), BYTES_MAX, 9).unwrap();
        assert_eq!(format_of(&again, dir.path()).unwrap(), Some(known()));
    }

    #[test]
    fn copies_are_few_and_only_copies_are_removed() {
        let dir = folder();
        make(dir.path());
        let folder = layout::backups(dir.path());
        layout::create_folder(&folder).unwrap();
        for name in ["1-3.db", "1-20.db", "1-100.db", "1-2.db.new", "odd.db"] {
            fs::write(folder.join(format!("{}{name}", layout::BACKUP_PREFIX)), "x").unwrap();
        }
        fs::write(folder.join("mine.db"), "x").unwrap();
        open_next(dir.path(), 500, NEXT).unwrap();
        let newest = format!("journal-format-{}-500.db", known());
        let mut kept =
            ["journal-format-1-100.db", "journal-format-1-20.db", &newest, "journal-format-odd.db", "mine.db"];
        kept.sort_unstable();
        assert_eq!(backups(dir.path()), kept);
    }

    #[test]
    fn a_newer_format_is_refused_and_not_a_byte_is_written() {
        let dir = folder();
        let (newer, lock) = open_next(dir.path(), 5, NEXT).unwrap();
        newer.execute("INSERT INTO meta VALUES ('a', 'b')", []).unwrap();
        // What a killed process leaves: a log that was not brought into the database.
        let copy = folder();
        for name in ["journal.db", "journal.db-wal", "format.lock"] {
            fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
        }
        drop((newer, lock));
        let bytes = |name: &str| fs::read(copy.path().join(name)).unwrap();
        let before = ["journal.db", "journal.db-wal"].map(bytes);
        assert!(before[1].len() > 4096);
        let refused = open_for_writing(copy.path(), BYTES_MAX, 6).unwrap_err();
        assert!(
            matches!(refused, StoreError::NewerFormat { found, known: ours, .. } if found == ours + 1 && ours == known()),
            "{refused}"
        );
        assert!(refused.to_string().contains("written by a newer Homarus"));
        let reader = open_for_reading(copy.path()).unwrap();
        assert!(matches!(check_format(&reader, copy.path()), Err(StoreError::NewerFormat { .. })));
        drop(reader);
        assert_eq!(["journal.db", "journal.db-wal"].map(bytes), before);
    }

    #[test]
    fn nothing_is_changed_under_the_feet_of_another() {
        let dir = folder();
        make(dir.path());
        let in_use = |who: &str| {
            let refused = open_next(dir.path(), 7, NEXT).unwrap_err();
            assert!(matches!(refused, StoreError::InUse { .. }), "{who}: {refused}");
        };
        let writer = open_for_writing(dir.path(), BYTES_MAX, 6).unwrap();
        in_use("a writer");
        drop(writer);
        let reader = hold_for_reading(dir.path()).unwrap().unwrap();
        in_use("a reader");
        drop(reader);
        // The first programs held their own lock, and this one only while they opened.
        let driver = DriverLock::create(dir.path()).unwrap();
        in_use("a driver of the first format");
        assert_eq!(backups(dir.path()), Vec::<String>::new());
        drop(driver);
        open_next(dir.path(), 8, NEXT).unwrap();
    }

    #[test]
    fn of_many_who_want_to_change_it_one_does() {
        for _ in 0..5 {
            let dir = folder();
            make(dir.path());
            let begin = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                let open = || {
                    begin.wait();
                    let (connection, _lock) = open_next(dir.path(), 7, NEXT)?;
                    format_of(&connection, dir.path())
                };
                let opened: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
                for opened in opened {
                    assert_eq!(opened.join().unwrap().unwrap(), Some(known() + 1));
                }
            });
            assert_eq!(backups(dir.path()).len(), 1);
        }
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
        let dir = folder();
        let (connection, _lock) = open_for_writing(dir.path(), BYTES_MAX, 5).unwrap();
        connection.execute("INSERT INTO meta VALUES ('a', 'b')", []).unwrap();
        for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
            let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{name}");
        }
    }
}
