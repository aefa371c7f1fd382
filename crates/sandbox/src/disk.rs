//! What a call's layer takes on the host's disk. No kernel bounds that for a folder, so the host looks while the call
//! runs: at the free space, which costs nothing, and at the layer only when that has shrunk by enough.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How often the free space is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A call that wrote this much is also ended where the disk has less than this left, whatever its layer seems to hold:
/// files without a name are in no folder.
const RESERVE_BYTES: u64 = 256 << 20;
/// A walk may cost this share of the time at most.
const WALK_SHARE: u32 = 10;
const BLOCK_BYTES: u64 = 512;

/// The bound of one call.
#[derive(Debug)]
pub struct DiskBound {
    layer: PathBuf,
    bytes_max: u64,
    files_max: u64,
    before: Space,
    next_walk: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Space {
    bytes: u64,
    files: u64,
}

impl DiskBound {
    pub fn new(layer: &Path, bytes_max: u64, files_max: u64) -> io::Result<Self> {
        Ok(Self { layer: layer.to_owned(), bytes_max, files_max, before: free(layer)?, next_walk: Instant::now() })
    }

    /// Whether the call has to be ended. What cannot be looked at ends it too.
    pub fn is_exceeded(&mut self) -> bool {
        let Ok(now) = free(&self.layer) else { return true };
        let taken = Space {
            bytes: self.before.bytes.saturating_sub(now.bytes),
            files: self.before.files.saturating_sub(now.files),
        };
        if taken.bytes > RESERVE_BYTES && now.bytes < RESERVE_BYTES {
            return true;
        }
        let began = Instant::now();
        if (taken.bytes <= self.bytes_max && taken.files <= self.files_max) || began < self.next_walk {
            return false;
        }
        let used = used(&self.layer, self.bytes_max, self.files_max);
        self.next_walk = Instant::now() + began.elapsed() * WALK_SHARE;
        used.bytes > self.bytes_max || used.files > self.files_max
    }
}

/// What an ordinary user may still take.
fn free(path: &Path) -> io::Result<Space> {
    let found = rustix::fs::statvfs(path)?;
    // Some file systems have no fixed number of files, and say 0.
    let files = if found.f_files == 0 { u64::MAX } else { found.f_favail };
    Ok(Space { bytes: found.f_bavail.saturating_mul(found.f_frsize), files })
}

/// What is in a folder, as far as it takes to know that it is too much. What vanishes meanwhile does not count.
fn used(folder: &Path, bytes_max: u64, files_max: u64) -> Space {
    let mut used = Space { bytes: 0, files: 0 };
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            used.bytes += meta.blocks() * BLOCK_BYTES;
            used.files += 1;
            if used.bytes > bytes_max || used.files > files_max {
                return used;
            }
            if meta.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_folder_holds_is_counted_until_it_is_too_much() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        for name in ["in/a", "in/b", "c"] {
            fs::write(folder.path().join(name), vec![1u8; 64 << 10]).unwrap();
        }
        let all = used(folder.path(), u64::MAX, u64::MAX);
        assert_eq!(all.files, 4);
        assert!(all.bytes >= 3 * (64 << 10), "{all:?}");
        assert_eq!(used(folder.path(), u64::MAX, 1).files, 2);
        // Nothing was taken since, so nothing is walked.
        assert!(!DiskBound::new(folder.path(), 0, 0).unwrap().is_exceeded() || free(folder.path()).is_err());
    }
}
