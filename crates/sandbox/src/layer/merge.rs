//! Brings a layer's changes into the workspace, path by path, by what was and what shall be.
//!
//! A path that already is as the layer has it counts as merged, so a merge that was killed is done
//! again. A path that is neither as the call saw it nor as it left it was changed by someone else:
//! it stays, and the call's version is kept beside. Every path is used through descriptors that
//! follow no link.
//!
//! What needs room comes first: all new contents are written and synced beside their places, so that a full
//! disk is met before anything was changed. When `run` answers, what it merged is on the disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use homarus_contract::{
    ids::Hash,
    sandbox::{Change, Conflict, Entry, LayerDiff, MergeReport},
};
use rustix::fs::Stat;

use super::{
    allowed::{Allowed, temporary},
    apart,
    beneath::{Place, Root, inside, join, step},
    entry::{self, Seen},
};

/// Why a merge did not come to its end.
#[derive(Debug)]
pub enum Failed {
    /// Before anything in the workspace was changed.
    Untouched(io::Error),
    /// Part of it may be merged; doing it again does the rest.
    Halfway(io::Error),
}

/// `own`: paths of Homarus itself, which no merge changes. `kept`: the folder for versions in conflict.
pub fn run(
    workspace: &Path,
    own: &[PathBuf],
    upper: &Path,
    kept: &Path,
    diff: &LayerDiff,
) -> Result<MergeReport, Failed> {
    let root = Root::open(workspace).map_err(Failed::Untouched)?;
    let mut merge = Merge {
        workspace: root,
        upper,
        kept,
        ready: BTreeMap::new(),
        locked: Vec::new(),
        report: MergeReport::default(),
    };
    merge.check(diff, workspace, own).map_err(Failed::Untouched)?;
    merge.unlock(diff);
    let prepared = diff.changes.iter().try_for_each(|change| merge.prepare(change));
    let done = match prepared {
        Ok(()) => merge.all(diff).map_err(Failed::Halfway),
        Err(error) => Err(Failed::Untouched(error)),
    };
    merge.clear();
    merge.lock().map_err(Failed::Halfway).and(done)?;
    merge.report.merged.sort();
    merge.report.conflicts.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(merge.report)
}

struct Merge<'a> {
    workspace: Root,
    upper: &'a Path,
    kept: &'a Path,
    /// New contents that wait beside their place: by path, the folder they are in.
    ready: BTreeMap<String, String>,
    /// Folders that get a mode with which their owner could not have filled them, when all is in place.
    locked: Vec<(String, u32)>,
    report: MergeReport,
}

/// What the owner of a folder needs to work in it; root needs nothing.
fn needed_bits() -> u32 {
    if rustix::process::geteuid().is_root() { 0 } else { 0o700 }
}

enum Applied {
    Yes,
    /// Someone else changed the path; nothing was done.
    Conflict,
}

impl Merge<'_> {
    fn all(&mut self, diff: &LayerDiff) -> io::Result<()> {
        // Removals first, the deepest first; then what is new, folders before what is in them.
        let (gone, here): (Vec<&Change>, Vec<&Change>) =
            diff.changes.iter().partition(|change| change.new == Entry::Absent);
        gone.into_iter().rev().chain(here).try_for_each(|change| self.one(change))
    }

    /// The diff is ours, but it went through the journal; what it may touch is checked again.
    fn check(&self, diff: &LayerDiff, workspace: &Path, own: &[PathBuf]) -> io::Result<()> {
        let allowed = Allowed::in_diff(&diff.changes, (&self.workspace, workspace), own);
        // Contents wait under a name of their path: two under one would be taken for each other.
        let mut names = BTreeSet::new();
        for change in &diff.changes {
            let path = &change.path;
            let is_twice = !names.insert(temporary(path));
            if inside(self.upper, path).is_none() || is_twice || allowed.why_never(change).is_some() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("`{path}` can never be merged")));
            }
        }
        Ok(())
    }

    /// Does of a change what needs room, and changes nothing yet.
    fn prepare(&mut self, change: &Change) -> io::Result<()> {
        let path = &change.path;
        self.sweep(change);
        let Entry::File { hash, mode, .. } = change.new else { return Ok(()) };
        // Whatever cannot be looked at now is found to be a conflict when its turn comes.
        if let Ok(Some(place)) = self.workspace.place(path)
            && let Ok(Seen::Entry(now)) = entry::look_at(&place)
        {
            if is_same(&now, &change.new) {
                return Ok(());
            }
            if !is_same(&now, &change.old) && !is_half_way(&now, change) {
                return self.keep(change).map(|_| ());
            }
        }
        let (folder, beside) = self.beside(path)?;
        match self.write_beside(&beside, change, hash, mode) {
            Ok(()) => {
                self.ready.insert(path.clone(), folder);
                Ok(())
            }
            Err(error) => {
                beside.remove();
                // As above: in a folder we may not write in, say.
                conflict_or(error).map(|_| ())
            }
        }
    }

    /// Where the new content of a path waits: in its folder, or in the nearest there is while that is not made yet.
    fn beside(&self, path: &str) -> io::Result<(String, Place)> {
        let name = temporary(path);
        let mut folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        loop {
            if let Some(place) = self.workspace.place(&join(folder, &name))? {
                return Ok((folder.to_owned(), place));
            }
            folder = folder.rsplit_once('/').map_or("", |(folder, _)| folder);
        }
    }

    /// Removes what a merge that was killed left for this path: it may have waited in any folder above, while those
    /// below were not made yet.
    fn sweep(&self, change: &Change) {
        let path = &change.path;
        if change.new == Entry::Absent {
            return;
        }
        let name = temporary(path);
        for (at, _) in path.match_indices('/').chain([(0, "")]) {
            if let Ok(Some(left)) = self.workspace.place(&join(&path[..at], &name)) {
                left.remove();
            }
        }
    }

    /// Takes away what was made ready and not used. What stays does no harm but being seen.
    fn clear(&mut self) {
        for (path, folder) in std::mem::take(&mut self.ready) {
            if let Ok(Some(beside)) = self.workspace.place(&join(&folder, &temporary(&path))) {
                beside.remove();
            }
        }
    }

    fn one(&mut self, change: &Change) -> io::Result<()> {
        let path = &change.path;
        let place = match self.workspace.place(path) {
            Ok(Some(place)) => place,
            // Its folder is gone or is a link now.
            Ok(None) if change.new == Entry::Absent => return self.merged(path),
            Ok(None) => return self.conflict(change),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return self.conflict(change),
            Err(error) => return Err(error),
        };
        let now = match entry::look_at(&place) {
            Ok(Seen::Entry(now)) => now,
            Ok(Seen::Odd(_)) => return self.conflict(change),
            // Unreadable for us, so not what the call saw.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return self.conflict(change),
            Err(error) => return Err(error),
        };
        if is_same(&now, &change.new) {
            self.lock_later(path, &change.new);
            return self.merged(path);
        }
        let old = if is_half_way(&now, change) { &Entry::Absent } else { &change.old };
        if !is_same(&now, old) {
            return self.conflict(change);
        }
        match self.apply(&place, change, old)? {
            Applied::Yes => {
                self.lock_later(path, &change.new);
                self.merged(path)
            }
            Applied::Conflict => self.conflict(change),
        }
    }

    /// `old`: what is there now.
    fn apply(&mut self, place: &Place, change: &Change, old: &Entry) -> io::Result<Applied> {
        let was_folder = matches!(old, Entry::Folder { .. });
        let done = match &change.new {
            Entry::Absent => place.unlink(was_folder),
            Entry::Folder { mode } if was_folder => place.set_mode(mode | needed_bits()),
            Entry::Folder { mode } => {
                if *old != Entry::Absent {
                    place.unlink(false)?;
                }
                place.make_folder(mode | needed_bits(), temporary(&change.path))
            }
            Entry::File { hash, mode, .. } => {
                if was_folder && let Err(error) = place.unlink(true) {
                    return conflict_or(error);
                }
                self.put_file(place, change, old, *hash, *mode)
            }
            Entry::Symlink { target } => {
                if was_folder && let Err(error) = place.unlink(true) {
                    return conflict_or(error);
                }
                let beside = place.beside(temporary(&change.path))?;
                beside.make_link(target)?;
                place.rename_here(&beside, replaces(old)).inspect_err(|_| beside.remove())
            }
        };
        if let Err(error) = done {
            return conflict_or(error);
        }
        place.sync()?;
        Ok(Applied::Yes)
    }

    /// Whole and on disk under another name first, then renamed: nobody sees half a file.
    fn put_file(&mut self, place: &Place, change: &Change, old: &Entry, wanted: Hash, mode: u32) -> io::Result<()> {
        let waiting = match self.ready.get(&change.path) {
            Some(folder) => self.workspace.place(&join(folder, &temporary(&change.path)))?,
            None => None,
        };
        let beside = match waiting {
            Some(beside) => beside,
            // It became what the call saw only now.
            None => {
                let (folder, beside) = self.beside(&change.path)?;
                self.ready.insert(change.path.clone(), folder);
                self.write_beside(&beside, change, wanted, mode)?;
                beside
            }
        };
        place.rename_here(&beside, replaces(old))?;
        self.ready.remove(&change.path);
        Ok(())
    }

    fn write_beside(&self, beside: &Place, change: &Change, wanted: Hash, mode: u32) -> io::Result<()> {
        let mut from = self.open_upper(&change.path)?;
        let mut to = beside.create()?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0u8; 64 << 10];
        loop {
            let got = from.read(&mut buffer)?;
            if got == 0 {
                break;
            }
            hasher.update(&buffer[..got]);
            io::Write::write_all(&mut to, &buffer[..got]).inspect(|()| step())?;
        }
        if hasher.finalize().as_bytes() != wanted.as_bytes() {
            return Err(io::Error::other(format!("the layer's `{}` is not what its diff says", change.path)));
        }
        let place = self.workspace.place(&change.path)?;
        let before = place.as_ref().map(Place::stat).transpose()?.flatten();
        keep_owner(before, place.as_ref().unwrap_or(beside), &to)?;
        to.set_permissions(fs::Permissions::from_mode(mode)).inspect(|()| step())?;
        to.sync_all().inspect(|()| step())
    }

    /// Lets us work in the folders whose content goes, where their mode forbids it; and look into those that a merge that
    /// was killed has locked already.
    fn unlock(&mut self, diff: &LayerDiff) {
        for (change, entry) in diff.changes.iter().flat_map(|change| [(change, &change.old), (change, &change.new)]) {
            let Entry::Folder { mode } = *entry else { continue };
            if mode & needed_bits() == needed_bits() || inside(self.upper, &change.path).is_none() {
                continue;
            }
            // Where this cannot be done, what is inside becomes a conflict.
            if let Ok(Some(place)) = self.workspace.place(&change.path)
                && matches!(entry::look_at(&place), Ok(Seen::Entry(now)) if now == *entry)
                && place.set_mode(mode | needed_bits()).is_ok()
            {
                self.locked.push((change.path.clone(), mode));
            }
        }
    }

    fn lock_later(&mut self, path: &str, new: &Entry) {
        self.locked.retain(|(locked, _)| locked != path);
        if let Entry::Folder { mode } = new
            && mode & needed_bits() != needed_bits()
        {
            self.locked.push((path.to_owned(), *mode));
        }
    }

    /// The deepest first: what is in a folder cannot be reached any more when it is locked.
    fn lock(&mut self) -> io::Result<()> {
        self.locked.sort();
        for (path, mode) in self.locked.iter().rev() {
            if let Some(place) = self.workspace.place(path)?
                && matches!(entry::look_at(&place), Ok(Seen::Entry(Entry::Folder { .. })))
            {
                place.set_mode(*mode)?;
                place.sync()?;
            }
        }
        Ok(())
    }

    fn open_upper(&self, path: &str) -> io::Result<fs::File> {
        let place = Root::open(self.upper)?.place(path)?;
        place.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?.open()
    }

    fn merged(&mut self, path: &str) -> io::Result<()> {
        self.report.merged.push(path.to_owned());
        Ok(())
    }

    fn conflict(&mut self, change: &Change) -> io::Result<()> {
        let kept_at = self.keep(change)?;
        self.report.conflicts.push(Conflict { path: change.path.clone(), kept_at });
        Ok(())
    }

    /// Keeps the call's version, and answers where.
    fn keep(&self, change: &Change) -> io::Result<String> {
        apart::keep(self.kept, &change.path, &change.new, || self.open_upper(&change.path))
    }
}

/// For an ordinary user, a folder that is open to its owner may be one that a merge has not locked yet, or has unlocked.
pub fn is_same(now: &Entry, wanted: &Entry) -> bool {
    match (now, wanted) {
        (Entry::Folder { mode: now }, Entry::Folder { mode }) => now == mode || *now == mode | needed_bits(),
        (now, wanted) => now == wanted,
    }
}

/// What takes the place of a folder, and a folder that takes the place of something else, cannot be put there in one
/// go. A merge that was killed between the two has left nothing there, and putting it there takes nothing from anybody.
pub fn is_half_way(now: &Entry, change: &Change) -> bool {
    let is_folder = |entry: &Entry| matches!(entry, Entry::Folder { .. });
    let both = change.old != Entry::Absent && change.new != Entry::Absent;
    *now == Entry::Absent && both && is_folder(&change.old) != is_folder(&change.new)
}

/// Errors that mean the workspace changed under us (or the layer is gone, or we may not) are conflicts.
fn conflict_or(error: io::Error) -> io::Result<Applied> {
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::DirectoryNotEmpty
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::PermissionDenied => Ok(Applied::Conflict),
        _ => Err(error),
    }
}

fn replaces(old: &Entry) -> bool {
    matches!(old, Entry::File { .. } | Entry::Symlink { .. })
}

/// As root, a changed file stays its owner's, and a new one is its folder's owner's.
fn keep_owner(before: Option<Stat>, place: &Place, file: &fs::File) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = before.map_or_else(|| rustix::fs::fstat(&place.folder), Ok)?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(owner.st_uid), rustix::fs::Gid::from_raw(owner.st_gid));
    Ok(rustix::fs::fchown(file, Some(uid), Some(gid)).inspect(|()| step())?)
}

#[cfg(test)]
pub(super) mod killed;
#[cfg(test)]
mod tests;
