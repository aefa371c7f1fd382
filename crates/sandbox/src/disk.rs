//! What a call's layer takes on the host's disk. No kernel bounds that for a folder, so the host looks while the call
//! runs: at the free space, which costs nothing, and at the layer when that has shrunk by enough, and now and then.

use std::{
    collections::BTreeSet,
    ffi::CStr,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, fchmod, statat},
    io::Errno,
};

use crate::layer::descent::{self, Visit};

/// How often the free space is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A call that wrote this much is also ended where the disk has less than this left, whatever its layer seems to hold:
/// files without a name are in no folder.
const RESERVE_BYTES: u64 = 256 << 20;
/// A walk may cost this share of the time at most.
const WALK_SHARE: u32 = 10;
/// The layer is walked so often whatever the free space says: others may make room meanwhile, and some file systems do not
/// count files.
const WALK_EVERY: Duration = Duration::from_secs(3);
const BLOCK_BYTES: u64 = 512;

/// The bound of one call.
#[derive(Debug)]
pub struct DiskBound {
    layer: PathBuf,
    bytes_max: u64,
    files_max: u64,
    before: Space,
    /// No walk before this, and one after that.
    next_walk: Instant,
    due: Instant,
    walk_every: Duration,
    /// Whether what others leave free counts.
    counts_reserve: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Space {
    bytes: u64,
    files: u64,
}

impl DiskBound {
    pub fn new(layer: &Path, bytes_max: u64, files_max: u64) -> io::Result<Self> {
        let bound = Self::walking(WALK_EVERY, layer, bytes_max, files_max)?;
        Ok(Self { counts_reserve: true, ..bound })
    }

    /// Of something that lives long: what was free when it began says nothing about it.
    pub fn walking(walk_every: Duration, folder: &Path, bytes_max: u64, files_max: u64) -> io::Result<Self> {
        let now = Instant::now();
        let (before, layer) = (free(folder)?, folder.to_owned());
        Ok(Self {
            layer,
            bytes_max,
            files_max,
            before,
            next_walk: now,
            due: now + walk_every,
            walk_every,
            counts_reserve: false,
        })
    }

    /// Whether the call has to be ended. What cannot be looked at ends it too.
    pub fn is_exceeded(&mut self) -> bool {
        let Ok(now) = free(&self.layer) else { return true };
        let taken = Space {
            bytes: self.before.bytes.saturating_sub(now.bytes),
            files: self.before.files.saturating_sub(now.files),
        };
        if self.counts_reserve && taken.bytes > RESERVE_BYTES && now.bytes < RESERVE_BYTES {
            return true;
        }
        let began = Instant::now();
        let is_wanted = taken.bytes > self.bytes_max || taken.files > self.files_max || began >= self.due;
        if !is_wanted || began < self.next_walk {
            return false;
        }
        let exceeded = holds_more(&self.layer, self.bytes_max, self.files_max);
        let ended = Instant::now();
        self.next_walk = ended + (ended - began) * WALK_SHARE;
        self.due = self.next_walk.max(ended + self.walk_every);
        exceeded
    }
}

/// What an ordinary user may still take.
fn free(path: &Path) -> io::Result<Space> {
    let found = rustix::fs::statvfs(path)?;
    // Some file systems have no fixed number of files, and say 0.
    let files = if found.f_files == 0 { u64::MAX } else { found.f_favail };
    Ok(Space { bytes: found.f_bavail.saturating_mul(found.f_frsize), files })
}

/// Whether a folder holds more than that, or it cannot be told.
fn holds_more(folder: &Path, bytes_max: u64, files_max: u64) -> bool {
    // The call may close a folder while we are in it; one that does so each time wants it so.
    const TRIES_MAX: u32 = 3;
    for _ in 0..TRIES_MAX {
        match walk(folder, bytes_max, files_max) {
            Ok(_) => return false,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(_) => return true,
        }
    }
    true
}

/// What is in a folder. An error if that is too much, or cannot be told; what vanishes meanwhile does not count.
fn walk(folder: &Path, bytes_max: u64, files_max: u64) -> io::Result<Space> {
    let mut used = Used {
        now: Space { bytes: 0, files: 0 },
        max: Space { bytes: bytes_max, files: files_max },
        linked: BTreeSet::new(),
    };
    let (root, before) = descent::open::<Used>(CWD, folder)?;
    descent::walk(&root, &mut used)?;
    if let Some(mode) = before {
        fchmod(&root, Mode::from_raw_mode(mode))?;
    }
    Ok(used.now)
}

struct Used {
    now: Space,
    max: Space,
    /// Files with several names count once.
    linked: BTreeSet<(u64, u64)>,
}

impl Visit for Used {
    const BITS: u32 = 0o500;
    /// The call goes on, and the folder is as it made it.
    const RESTORE: bool = true;

    fn found(&mut self, folder: &OwnedFd, name: &CStr, kind: FileType) -> io::Result<bool> {
        let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            stat => stat?,
        };
        self.now.files += 1;
        let is_folder = kind == FileType::Directory;
        if is_folder || stat.st_nlink == 1 || self.linked.insert((stat.st_dev, stat.st_ino)) {
            self.now.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK_BYTES;
        }
        if self.now.bytes > self.max.bytes || self.now.files > self.max.files {
            return Err(io::Error::other("more than the call may write"));
        }
        Ok(true)
    }

    fn left(&mut self, _: &OwnedFd, _: &CStr) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_a_folder_holds_is_counted_until_it_is_too_much() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        for name in ["in/a", "in/b", "c"] {
            fs::write(folder.path().join(name), vec![1u8; 64 << 10]).unwrap();
        }
        fs::hard_link(folder.path().join("c"), folder.path().join("in/c")).unwrap();
        let all = walk(folder.path(), u64::MAX, u64::MAX).unwrap();
        assert_eq!(all.files, 5);
        assert!((3 * (64 << 10)..4 * (64 << 10)).contains(&all.bytes), "{all:?}");
        assert!(walk(folder.path(), u64::MAX, 4).is_err() && walk(folder.path(), u64::MAX, 5).is_ok());
        assert!(walk(folder.path(), 128 << 10, u64::MAX).is_err());
        // Nothing was taken since, so nothing is walked.
        assert!(!DiskBound::new(folder.path(), 0, 0).unwrap().is_exceeded() || free(folder.path()).is_err());
    }

    /// As where the file system does not count files, or somebody else makes room.
    #[test]
    fn a_layer_is_walked_now_and_then_though_nothing_seems_to_be_taken() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let mut bound = DiskBound::new(folder.path(), u64::MAX, 0).unwrap();
        bound.before = Space { bytes: 0, files: 0 };
        assert!(!bound.is_exceeded());
        bound.due = bound.next_walk;
        assert!(bound.is_exceeded());
    }
}
