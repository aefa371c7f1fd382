//! Copies of the database from before its format was changed: whole, durable, for their owner alone, and few.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, backup::Backup};

use crate::{error::StoreError, layout};

/// Older ones are removed after a change that worked.
const BACKUPS_MAX: usize = 3;
const PAGES_AT_ONCE: i32 = 1024;
const SUFFIX: &str = ".db";
const DRAFT_SUFFIX: &str = ".db.new";

/// Copies the database as it is now. What stands under the final name is complete and on the disk.
pub(super) fn make(connection: &Connection, dir: &Path, format: u32, now_ms: u64) -> Result<PathBuf, StoreError> {
    let path = layout::backup(dir, format, now_ms);
    if let Some(folder) = path.parent() {
        layout::create_folder(folder)?;
    }
    let draft = path.with_extension(DRAFT_SUFFIX.trim_start_matches('.'));
    let copied = copy(connection, &draft)
        .map_err(|source| StoreError::Backup { path: path.clone(), source })
        .and_then(|()| keep(&draft, &path));
    if copied.is_err() {
        // A part of a copy is of use to nobody, and it may be what filled the disk.
        let _ = fs::remove_file(&draft);
    }
    copied.map(|()| path)
}

/// Removes all but the newest, and what a kill left half copied. What cannot be removed does no harm.
pub(super) fn prune(dir: &Path) {
    let Ok(entries) = fs::read_dir(layout::backups(dir)) else { return };
    let mut made: Vec<(u64, PathBuf)> = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(rest) = name.strip_prefix(layout::BACKUP_PREFIX) else { continue };
        if rest.ends_with(DRAFT_SUFFIX) {
            let _ = fs::remove_file(path);
        } else if let Some(at_ms) = rest.strip_suffix(SUFFIX).and_then(|rest| rest.split_once('-')?.1.parse().ok()) {
            made.push((at_ms, path));
        }
    }
    made.sort_unstable();
    let surplus = made.len().saturating_sub(BACKUPS_MAX);
    for (_, path) in made.drain(..surplus) {
        let _ = fs::remove_file(path);
    }
}

fn copy(connection: &Connection, draft: &Path) -> rusqlite::Result<()> {
    let cannot_make = |error: std::io::Error| {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        rusqlite::Error::SqliteFailure(code, Some(error.to_string()))
    };
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(draft).map_err(cannot_make)?;
    let mut target = Connection::open(draft)?;
    Backup::new(connection, &mut target)?.run_to_completion(PAGES_AT_ONCE, Duration::ZERO, None)?;
    // The copy took over that the database is in WAL mode; alone in its file it is easier to keep.
    target.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    let complaint: String = target.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if complaint != "ok" {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        return Err(rusqlite::Error::SqliteFailure(code, Some(complaint)));
    }
    target.close().map_err(|(_, error)| error)
}

fn keep(draft: &Path, path: &Path) -> Result<(), StoreError> {
    File::open(draft).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", draft))?;
    fs::rename(draft, path).map_err(StoreError::io("rename", draft))?;
    layout::sync_folder_of(path)
}
