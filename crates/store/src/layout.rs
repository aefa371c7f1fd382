//! Where things lie in the state folder.

use std::{
    fs::{DirBuilder, File},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use homarus_contract::ids::DriverId;

use crate::error::StoreError;

pub(crate) fn database(dir: &Path) -> PathBuf {
    dir.join("journal.db")
}

/// SQLite's write-ahead log.
pub(crate) fn log(dir: &Path) -> PathBuf {
    dir.join("journal.db-wal")
}

pub(crate) fn key(dir: &Path) -> PathBuf {
    dir.join("keys/journal.key")
}

pub(crate) fn public_key(dir: &Path) -> PathBuf {
    dir.join("keys/journal.pub")
}

pub(crate) fn drivers(dir: &Path) -> PathBuf {
    dir.join("drivers")
}

pub(crate) fn driver_lock(dir: &Path, driver: &DriverId) -> PathBuf {
    drivers(dir).join(format!("{driver}.lock"))
}

/// Held shared by all who have the journal open, and alone by the one who changes its format.
pub(crate) fn format_lock(dir: &Path) -> PathBuf {
    dir.join("format.lock")
}

/// Held by the one who is next to write.
pub(crate) fn next_lock(dir: &Path) -> PathBuf {
    dir.join("next.lock")
}

/// Held by the one who writes.
pub(crate) fn writing_lock(dir: &Path) -> PathBuf {
    dir.join("writing.lock")
}

pub(crate) fn backups(dir: &Path) -> PathBuf {
    dir.join("backups")
}

/// What the names of backups begin with; format and time follow.
pub(crate) const BACKUP_PREFIX: &str = "journal-format-";

pub(crate) fn backup(dir: &Path, format: u32, at_ms: u64) -> PathBuf {
    backups(dir).join(format!("{BACKUP_PREFIX}{format}-{at_ms}.db"))
}

/// Creates the folders that are missing; only their owner may enter.
pub(crate) fn prepare(dir: &Path) -> Result<(), StoreError> {
    for folder in [dir.to_path_buf(), dir.join("keys"), drivers(dir)] {
        create_folder(&folder)?;
    }
    Ok(())
}

/// The names of new folders are on the disk when it returns: what is synced in them must be found again.
pub(crate) fn create_folder(folder: &Path) -> Result<(), StoreError> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(StoreError::io("create", folder))?;
    missing.into_iter().rev().try_for_each(sync_folder_of)
}

/// Syncs the folder something stands in.
pub(crate) fn sync_folder_of(path: &Path) -> Result<(), StoreError> {
    // Of a relative name with one part it is the current one.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", folder))
}
