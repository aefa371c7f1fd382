//! Who lives: each driver process holds an exclusive lock on a file of its own for as long as it, or
//! a sandbox that inherited the file, is there. The kernel lets go when all of them are dead.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use homarus_contract::ids::DriverId;

use crate::{error::StoreError, layout};

/// Lock files that no registered driver accounts for are swept when they are at least this old.
const STRAY_AGE: Duration = Duration::from_secs(60 * 60);
const SWEEP_MAX: usize = 100;

/// This process's own lock.
#[derive(Debug)]
pub(crate) struct DriverLock {
    pub driver: DriverId,
    pub file: File,
}

impl DriverLock {
    pub(crate) fn create(dir: &Path) -> Result<Self, StoreError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(StoreError::Random)?;
        let driver = DriverId::generate(random);
        let path = layout::driver_lock(dir, &driver);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(StoreError::io("create", &path))?;
        // The name is new and random and not registered yet: nobody else can want this lock.
        file.lock().map_err(StoreError::io("lock", &path))?;
        Ok(Self { driver, file })
    }
}

/// Whether anything that belongs to this driver still lives. When it cannot be known, it is taken
/// to live: to wait is safe, to take over is not.
pub(crate) fn is_alive(dir: &Path, driver: &DriverId) -> bool {
    match File::open(layout::driver_lock(dir, driver)) {
        // Shared, so that two who look at the same time do not take each other for the driver.
        Ok(file) => file.try_lock_shared().is_err(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Whether any driver that ever locked a file here still lives.
pub(crate) fn any_alive(dir: &Path) -> Result<bool, StoreError> {
    let folder = layout::drivers(dir);
    let entries = fs::read_dir(&folder).map_err(StoreError::io("read", &folder))?;
    for entry in entries {
        let path = entry.map_err(StoreError::io("read", &folder))?.path();
        let named = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| DriverId::parse(stem).ok());
        if named.is_some_and(|driver| is_alive(dir, &driver)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes lock files whose drivers died before they owned anything.
pub(crate) fn sweep_strays(dir: &Path, is_registered: impl Fn(&DriverId) -> bool) {
    let Ok(entries) = fs::read_dir(layout::drivers(dir)) else { return };
    for path in entries.flatten().map(|entry| entry.path()).take(SWEEP_MAX) {
        let named = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| DriverId::parse(stem).ok());
        let registered = named.is_none_or(|driver| is_registered(&driver));
        if !registered && is_stray(&path) {
            remove(path);
        }
    }
}

/// A file that is gone already is as good as removed; one that stays does no harm.
pub(crate) fn remove(path: PathBuf) {
    let _ = fs::remove_file(path);
}

fn is_stray(path: &Path) -> bool {
    let old = fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > STRAY_AGE));
    old && File::open(path).is_ok_and(|file| !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_lives_as_long_as_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        layout::prepare(dir.path()).unwrap();
        let lock = DriverLock::create(dir.path()).unwrap();
        let driver = lock.driver.clone();
        assert!(is_alive(dir.path(), &driver));
        let inherited = lock.file.try_clone().unwrap();
        drop(lock);
        assert!(is_alive(dir.path(), &driver), "a sandbox still holds it");
        drop(inherited);
        assert!(!is_alive(dir.path(), &driver));
        assert!(!is_alive(dir.path(), &DriverId::parse("never-there").unwrap()));
    }

    #[test]
    fn young_strays_stay() {
        let dir = tempfile::tempdir().unwrap();
        layout::prepare(dir.path()).unwrap();
        let path = layout::driver_lock(dir.path(), &DriverId::parse("driver-1").unwrap());
        let file = File::create(&path).unwrap();
        sweep_strays(dir.path(), |_| false);
        assert!(path.exists());
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        sweep_strays(dir.path(), |_| true);
        assert!(path.exists(), "registered");
        file.lock().unwrap();
        sweep_strays(dir.path(), |_| false);
        assert!(path.exists(), "locked");
        drop(file);
        sweep_strays(dir.path(), |_| false);
        assert!(!path.exists());
    }
}
