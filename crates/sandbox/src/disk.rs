//! What a call takes on the host's disk: its layer, and what it adds to each cache folder. No kernel bounds that for a
//! folder, so the host looks while the call runs: at the free space, which costs nothing, and at the folder when that has
//! shrunk by enough; at the layer also now and then.

use std::{
    collections::BTreeSet,
    ffi::CStr,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, fchmod, statat},
    io::Errno,
};

use crate::{
    layer::descent::{self, Visit},
    options::Options,
    spec::CallSpec,
};

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
/// File systems tell the time of a change by a clock that is a little behind.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

/// The bound of one folder.
#[derive(Debug)]
pub struct DiskBound {
    folder: PathBuf,
    /// Only what was written since then counts. `None`: all that is in it.
    since: Option<SystemTime>,
    bytes_max: u64,
    files_max: u64,
    before: Space,
    /// No walk before this, and one after that.
    next_walk: Instant,
    /// Walked whatever the free space says. `None`: never.
    due: Option<Instant>,
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
    /// Those of a call: of its layer, and of each folder of the host that it writes to directly.
    pub fn of_call(call: &CallSpec, options: &Options) -> io::Result<Vec<Self>> {
        let Some(workspace) = &call.workspace else { return Ok(Vec::new()) };
        let Some(layer) = &workspace.layer else { return Ok(Vec::new()) };
        let (bytes_max, files_max) = (options.layer_bytes_max, options.layer_files_max);
        let mut bounds = vec![Self::new(&layer.upper, bytes_max, files_max)?];
        for cache in workspace.caches.iter().map(|path| workspace.source.join(path)).filter(|path| is_plain(path)) {
            bounds.push(Self::added(&cache, bytes_max, files_max)?);
        }
        Ok(bounds)
    }

    fn new(layer: &Path, bytes_max: u64, files_max: u64) -> io::Result<Self> {
        let bound = Self::walking(WALK_EVERY, layer, bytes_max, files_max)?;
        Ok(Self { counts_reserve: true, ..bound })
    }

    /// Of a folder that may hold much already, which nobody walks without need. Files that existed count whole when they
    /// are written to.
    fn added(folder: &Path, bytes_max: u64, files_max: u64) -> io::Result<Self> {
        let since = SystemTime::now().checked_sub(CLOCK_SLACK);
        Ok(Self { since, due: None, ..Self::new(folder, bytes_max, files_max)? })
    }

    /// Of something that lives long: what was free when it began says nothing about it.
    pub fn walking(walk_every: Duration, folder: &Path, bytes_max: u64, files_max: u64) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            folder: folder.to_owned(),
            since: None,
            bytes_max,
            files_max,
            before: free(folder)?,
            next_walk: now,
            due: Some(now + walk_every),
            walk_every,
            counts_reserve: false,
        })
    }

    /// Whether the call has to be ended. What cannot be looked at ends it too.
    pub fn is_exceeded(&mut self) -> bool {
        let Ok(now) = free(&self.folder) else { return true };
        let taken = Space {
            bytes: self.before.bytes.saturating_sub(now.bytes),
            files: self.before.files.saturating_sub(now.files),
        };
        if self.counts_reserve && taken.bytes > RESERVE_BYTES && now.bytes < RESERVE_BYTES {
            return true;
        }
        let began = Instant::now();
        let is_wanted =
            taken.bytes > self.bytes_max || taken.files > self.files_max || self.due.is_some_and(|due| began >= due);
        if !is_wanted || began < self.next_walk {
            return false;
        }
        let exceeded = holds_more(&self.folder, self.since, self.bytes_max, self.files_max);
        let ended = Instant::now();
        self.next_walk = ended + (ended - began) * WALK_SHARE;
        self.due = self.due.map(|_| self.next_walk.max(ended + self.walk_every));
        exceeded
    }
}

/// Whether it is a folder, with no link on the way: others are not mounted. The workspace's own path has none.
fn is_plain(path: &Path) -> bool {
    path.is_dir() && path.canonicalize().is_ok_and(|real| real == path)
}

/// What an ordinary user may still take.
fn free(path: &Path) -> io::Result<Space> {
    let found = rustix::fs::statvfs(path)?;
    // Some file systems have no fixed number of files, and say 0.
    let files = if found.f_files == 0 { u64::MAX } else { found.f_favail };
    Ok(Space { bytes: found.f_bavail.saturating_mul(found.f_frsize), files })
}

/// Whether a folder holds more than that, or it cannot be told.
fn holds_more(folder: &Path, since: Option<SystemTime>, bytes_max: u64, files_max: u64) -> bool {
    // The call may close a folder while we are in it; one that does so each time wants it so.
    const TRIES_MAX: u32 = 3;
    for _ in 0..TRIES_MAX {
        match walk(folder, since, bytes_max, files_max) {
            Ok(_) => return false,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(_) => return true,
        }
    }
    true
}

/// What is in a folder. An error if that is too much, or cannot be told; what vanishes meanwhile does not count.
fn walk(folder: &Path, since: Option<SystemTime>, bytes_max: u64, files_max: u64) -> io::Result<Space> {
    let since = since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
    let mut used = Used {
        since,
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
    /// After 1970.
    since: Option<Duration>,
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
        // No program can set this time.
        let changed = u64::try_from(stat.st_ctime)
            .map_or(Duration::ZERO, |seconds| Duration::new(seconds, u32::try_from(stat.st_ctime_nsec).unwrap_or(0)));
        if self.since.is_some_and(|since| changed < since) {
            return Ok(true);
        }
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
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    #[test]
    fn what_a_folder_holds_is_counted_until_it_is_too_much() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        for name in ["in/a", "in/b", "c"] {
            fs::write(folder.path().join(name), vec![1u8; 64 << 10]).unwrap();
        }
        fs::hard_link(folder.path().join("c"), folder.path().join("in/c")).unwrap();
        let walk = |bytes_max, files_max| super::walk(folder.path(), None, bytes_max, files_max);
        let all = walk(u64::MAX, u64::MAX).unwrap();
        assert_eq!(all.files, 5);
        assert!((3 * (64 << 10)..4 * (64 << 10)).contains(&all.bytes), "{all:?}");
        assert!(walk(u64::MAX, 4).is_err() && walk(u64::MAX, 5).is_ok());
        assert!(walk(128 << 10, u64::MAX).is_err());
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
        bound.due = Some(bound.next_walk);
        assert!(bound.is_exceeded());
    }

    #[test]
    fn a_cache_folder_behind_a_link_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("real/target")).unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        std::os::unix::fs::symlink("real/target", root.join("target")).unwrap();
        let plain = ["real/target", "link/target", "target", "none"].map(|path| is_plain(&root.join(path)));
        assert_eq!(plain, [true, false, false, false]);
    }

    #[test]
    fn of_a_cache_folder_only_what_is_new_counts() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        fs::write(folder.path().join("in/old"), vec![1u8; 64 << 10]).unwrap();
        let changed = fs::metadata(folder.path().join("in/old")).unwrap().ctime();
        let second = |seconds: i64| Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(changed + seconds).unwrap()));
        let walk = |since| walk(folder.path(), since, u64::MAX, u64::MAX).unwrap().files;
        assert_eq!((walk(None), walk(second(-1)), walk(second(1))), (2, 2, 0));
        // Nothing says that much was taken, so nothing is walked, however long it takes.
        let mut bound = DiskBound::added(folder.path(), u64::MAX, 0).unwrap();
        assert!(bound.due.is_none() && bound.since.is_some());
        bound.before = Space { bytes: 0, files: 0 };
        assert!(!bound.is_exceeded());
        // Somebody took more than the call may add.
        bound.before = Space { bytes: 0, files: u64::MAX };
        assert!(bound.is_exceeded() || free(folder.path()).unwrap().files == u64::MAX);
        bound.since = second(1);
        bound.next_walk = Instant::now();
        assert!(!bound.is_exceeded(), "nothing of that is the call's");
    }
}
