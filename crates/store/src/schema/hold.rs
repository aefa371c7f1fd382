//! The format lock: whoever has the journal open holds it shared for as long, so that nobody changes the
//! tables under the feet of another process.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::{error::StoreError, layout, lock};

/// While it is there, the format stays as it is.
#[derive(Debug)]
pub(crate) struct FormatLock {
    file: File,
}

impl FormatLock {
    /// Makes the lock file if there is none; held by nobody yet.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = layout::format_lock(dir);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        Ok(Self { file: file.map_err(StoreError::io("create", &path))? })
    }

    /// For whoever only looks: `None` where the file is not, as in a copy of the database alone.
    pub(super) fn for_reading(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = layout::format_lock(dir);
        match File::open(&path) {
            Ok(file) => {
                let lock = Self { file };
                lock.share(dir)?;
                Ok(Some(lock))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("open", path)(error)),
        }
    }

    /// Waits for a change that is under way.
    pub(super) fn share(&self, dir: &Path) -> Result<(), StoreError> {
        self.file.lock_shared().map_err(StoreError::io("lock", layout::format_lock(dir)))
    }

    /// Whether this process is now alone with the journal. If not it holds nothing any more, so that of
    /// two who both want to be alone one succeeds.
    pub(super) fn try_alone(&self, dir: &Path) -> Result<bool, StoreError> {
        let path = || layout::format_lock(dir);
        let alone = match self.file.try_lock() {
            // Drivers of the first programs held this lock only while they opened, but always their own.
            Ok(()) => !lock::any_alive(dir)?,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path())(error)),
        };
        if !alone {
            self.file.unlock().map_err(StoreError::io("unlock", path()))?;
        }
        Ok(alone)
    }
}
