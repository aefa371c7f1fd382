//! Reads a layer: which paths of the workspace a call changed, from what to what.
//!
//! In an overlay's upper layer a removed path is a character device 0:0, and a folder that
//! replaced another carries the attribute `user.overlay.opaque`.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use homarus_contract::{
    ids::Hash,
    sandbox::{Change, Entry, LayerDiff},
};
use rustix::fs::{FileType, Stat};

use super::{
    allowed,
    beneath::{Place, Root, join},
    entry::{self, Hashes, Seen},
    linked::Linked,
    text,
};
use crate::protected::{self, Shape};

/// More changed paths than this are refused as a whole: declare such a folder a cache path.
pub const CHANGES_MAX: usize = 10_000;
/// The same of what has to be listed to find them, and of the paths and link targets together, as they are journalled.
const NAMES_MAX: usize = 200_000;
const TEXT_BYTES_MAX: usize = 8 << 20;
/// What lies deeper, or has a longer path, no merge could reach by its path.
const DEPTH_MAX: usize = 256;
const PATH_BYTES_MAX: usize = 3_500;
const SET_ID_BITS: u32 = 0o6000;
/// From this many files on, one sync of the file system costs less than one each.
const SYNC_EACH_MAX: usize = 64;

/// The diff of a layer over its workspace. `began`: a path the workspace's owner changed after it
/// gets an `old` nothing is equal to, so that its merge is a conflict. `bytes_max`: files that are larger together are
/// refused as a whole, unread. `own`: paths of Homarus itself, which no diff may hold.
pub fn read(
    workspace: &Path,
    own: &[PathBuf],
    upper: &Path,
    began: SystemTime,
    bytes_max: u64,
) -> io::Result<LayerDiff> {
    let began = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    open_up(upper)?;
    let (lower, upper) = (Root::open(workspace)?, Root::open(upper)?);
    // Most calls change nothing.
    let linked = if upper.names(".", 0)?.is_empty() { Linked::default() } else { Linked::of(&lower, workspace, own) };
    let mut walk = Walk {
        lower,
        upper,
        linked,
        began: (began.as_secs().cast_signed(), i64::from(began.subsec_nanos())),
        known: Hashes::new(),
        bytes_left: bytes_max,
        names_left: NAMES_MAX,
        text_left: TEXT_BYTES_MAX,
        over: None,
        changes: Vec::new(),
        refused: BTreeSet::new(),
        refusals: 0,
    };
    walk.folder("", false)?;
    if let Some(why) = walk.over {
        let why = format!("{why}; nothing of it can be merged");
        return Ok(LayerDiff { changes: Vec::new(), refused: vec![(".".to_owned(), why.clone())], text: why });
    }
    let mut diff =
        LayerDiff { changes: walk.changes, refused: walk.refused.into_iter().collect(), text: String::new() };
    diff.changes.sort_by(|a, b| a.path.cmp(&b.path));
    sync(&diff, &walk.upper)?;
    diff.text = text::render(&diff, &walk.lower, &walk.upper);
    Ok(diff)
}

/// The layer's own folder is the call's as all in it is: it may have closed it to its owner.
fn open_up(upper: &Path) -> io::Result<()> {
    const OWNER: u32 = 0o700;
    let mut permissions = fs::metadata(upper)?.permissions();
    if permissions.mode() & OWNER == OWNER {
        return Ok(());
    }
    permissions.set_mode(permissions.mode() | OWNER);
    fs::set_permissions(upper, permissions)
}

struct Walk {
    lower: Root,
    upper: Root,
    linked: Linked,
    began: (i64, i64),
    known: Hashes,
    /// Of files of the layer, before they are read.
    bytes_left: u64,
    names_left: usize,
    text_left: usize,
    /// Why all of it is refused.
    over: Option<String>,
    changes: Vec<Change>,
    refused: BTreeSet<(String, String)>,
    /// How often something was refused, also where it is not told any more.
    refusals: usize,
}

impl Walk {
    /// `replaced`: what the workspace has in this folder is not seen through.
    fn folder(&mut self, path: &str, replaced: bool) -> io::Result<()> {
        let at = if path.is_empty() { "." } else { path };
        let mut seen = BTreeSet::new();
        let names = self.upper.names(at, self.names_left)?;
        for name in self.counted(names) {
            let Ok(name) = String::from_utf8(name.clone()) else {
                self.refuse(&join(path, &String::from_utf8_lossy(&name)), "the name is not UTF-8");
                continue;
            };
            self.path(&join(path, &name), replaced)?;
            seen.insert(name);
            if self.over.is_some() {
                return Ok(());
            }
        }
        if replaced {
            let names = match self.lower.names(at, self.names_left) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.refuse(at, UNREADABLE);
                    return Ok(());
                }
                names => names?,
            };
            for name in self.counted(names) {
                match String::from_utf8(name) {
                    Ok(name) if seen.contains(&name) => {}
                    Ok(name) => self.removed(&join(path, &name))?,
                    Err(name) => {
                        self.refuse(&join(path, &String::from_utf8_lossy(name.as_bytes())), "the name is not UTF-8")
                    }
                }
                if self.over.is_some() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn path(&mut self, path: &str, replaced: bool) -> io::Result<()> {
        if is_too_deep(path) {
            self.refuse(path, TOO_DEEP);
            return Ok(());
        }
        let Some(place) = self.upper.place(path)? else { return Ok(()) };
        let Some(stat) = place.stat()? else { return Ok(()) };
        if is_whiteout(&stat) {
            return self.removed(path);
        }
        let kind = entry::file_type(&stat);
        let is_folder = kind == FileType::Directory;
        let shape = match kind {
            FileType::Directory => Shape::Folder,
            FileType::Symlink => Shape::Link,
            _ => Shape::Other,
        };
        if let Some(why) = self.why_refused(path, shape) {
            if self.is_change(&place, path, &stat)? {
                self.refuse(path, &why);
            }
            return Ok(());
        }
        if stat.st_mode & SET_ID_BITS != 0 && !is_folder {
            self.refuse(path, "set-user-id or set-group-id");
            return Ok(());
        }
        let Some(new) = self.left(&place, path, &stat)? else { return Ok(()) };
        let old = self.old(path)?;
        if is_folder {
            let is_opaque = replaced || self.is_opaque(path)?;
            let was_folder = matches!(old, Entry::Folder { .. });
            self.change(path, old, new);
            return self.folder(path, is_opaque && was_folder);
        }
        if matches!(old, Entry::Folder { .. }) && !self.removed_inside(path)? {
            return Ok(());
        }
        self.change(path, old, new);
        Ok(())
    }

    /// What the call left at a path; `None` if it cannot be merged, or there is too much of it.
    fn left(&mut self, place: &Place, path: &str, stat: &Stat) -> io::Result<Option<Entry>> {
        // A call may leave what even its owner cannot look into; the layer is ours alone now.
        let (mode, kind) = (entry::mode(stat), entry::file_type(stat));
        let needed = if kind == FileType::Directory { 0o700 } else { 0o400 };
        if mode & needed != needed && matches!(kind, FileType::Directory | FileType::RegularFile) {
            place.open_up(mode | needed)?;
        }
        if kind == FileType::RegularFile {
            // Each name of a file counts: a merge writes them one by one.
            let bytes = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
            match self.bytes_left.checked_sub(bytes) {
                Some(left) => self.bytes_left = left,
                None => {
                    self.give_up("the files the call changed are larger together than a call may write");
                    return Ok(None);
                }
            }
        }
        match entry::look_once(place, &mut self.known)? {
            Seen::Entry(entry) => Ok(Some(with_mode(entry, mode))),
            Seen::Odd(what) => {
                self.refuse(path, &what);
                Ok(None)
            }
        }
    }

    /// Of names that were listed one may be too many.
    fn counted(&mut self, names: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        match self.names_left.checked_sub(names.len()) {
            Some(left) => {
                self.names_left = left;
                names
            }
            None => {
                self.give_up(&format!("to find what the call changed, more than {NAMES_MAX} names have to be listed"));
                Vec::new()
            }
        }
    }

    fn give_up(&mut self, why: &str) {
        self.over.get_or_insert_with(|| why.to_owned());
    }

    fn why_refused(&self, path: &str, shape: Shape) -> Option<String> {
        protected::refusal(path, shape)
            .or_else(|| self.linked.refusal(path, shape))
            .or_else(|| allowed::why_temporary(path))
    }

    /// A path of the workspace that is gone in the layer, with all that is in it.
    fn removed(&mut self, path: &str) -> io::Result<()> {
        if is_too_deep(path) {
            self.refuse(path, TOO_DEEP);
            return Ok(());
        }
        let why = protected::refusal(path, Shape::Folder).or_else(|| self.linked.refusal(path, Shape::Folder));
        if let Some(why) = why {
            // What cannot be looked at may well be there.
            if !matches!(self.lower.stat(path), Ok(None)) {
                self.refuse(path, &why);
            }
            return Ok(());
        }
        let old = self.old(path)?;
        if old == Entry::Absent {
            return Ok(());
        }
        if matches!(old, Entry::Folder { .. }) && !self.removed_inside(path)? {
            return Ok(());
        }
        self.change(path, old, Entry::Absent);
        Ok(())
    }

    /// What is in a folder that is gone. A folder that holds something protected stays, whole:
    /// `false`, and nothing is recorded but the refusal.
    fn removed_inside(&mut self, path: &str) -> io::Result<bool> {
        let (changes, refusals) = (self.changes.len(), self.refusals);
        let names = match self.lower.names(path, self.names_left) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.refuse(path, UNREADABLE);
                return Ok(false);
            }
            names => names?,
        };
        for name in self.counted(names) {
            match String::from_utf8(name) {
                Ok(name) => self.removed(&join(path, &name))?,
                Err(_) => self.refuse(path, "holds a name that is not UTF-8"),
            }
            if self.over.is_some() {
                break;
            }
        }
        if self.refusals == refusals {
            return Ok(true);
        }
        self.changes.truncate(changes);
        self.refuse(path, "holds something that may not be removed");
        Ok(false)
    }

    fn change(&mut self, path: &str, old: Entry, new: Entry) {
        if old == new {
            return;
        }
        let target = |entry: &Entry| if let Entry::Symlink { target } = entry { written_bytes(target) } else { 0 };
        self.count(written_bytes(path) + target(&old) + target(&new));
        self.changes.push(Change { path: path.to_owned(), old, new });
        if self.changes.len() > CHANGES_MAX {
            self.give_up(&format!("the call changed more than {CHANGES_MAX} paths"));
        }
    }

    fn refuse(&mut self, path: &str, why: &str) {
        self.refusals += 1;
        if self.refused.len() < CHANGES_MAX {
            self.count(written_bytes(path));
            self.refused.insert((path.to_owned(), why.to_owned()));
        }
    }

    /// What goes into the journal.
    fn count(&mut self, bytes: usize) {
        match self.text_left.checked_sub(bytes) {
            Some(left) => self.text_left = left,
            None => {
                self.give_up(&format!("the paths and links the call changed are longer than {TEXT_BYTES_MAX} bytes"))
            }
        }
    }

    /// What the workspace has at a path.
    fn old(&mut self, path: &str) -> io::Result<Entry> {
        const UNKNOWN: Entry = Entry::File { hash: Hash::ZERO, bytes: 0, mode: 0 };
        let place = match self.lower.place(path) {
            // What we cannot read the call cannot have read: whatever it did is kept apart.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(UNKNOWN),
            place => place?,
        };
        let Some(place) = place else { return Ok(Entry::Absent) };
        let Some(stat) = place.stat()? else { return Ok(Entry::Absent) };
        // A folder's own times change with what is in it.
        let is_folder = entry::file_type(&stat) == FileType::Directory;
        if !is_folder && (stat.st_ctime, stat.st_ctime_nsec as i64) > self.began {
            return Ok(UNKNOWN);
        }
        match entry::look_once(&place, &mut self.known) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(UNKNOWN),
            Err(error) => Err(error),
            Ok(Seen::Entry(entry)) => Ok(entry),
            // Something no merge may replace: never equal to what will be found.
            Ok(Seen::Odd(_)) => Ok(UNKNOWN),
        }
    }

    /// Whether a protected path really differs (opening it for writing copies it up unchanged).
    fn is_change(&mut self, place: &Place, path: &str, stat: &Stat) -> io::Result<bool> {
        let before = self.lower.stat(path).ok().flatten();
        if entry::file_type(stat) == FileType::Directory {
            return Ok(before.is_none() || !self.upper.names(path, 0)?.is_empty());
        }
        let is_alike = |before: Stat| {
            let (now, before) = ((stat.st_mode, stat.st_size), (before.st_mode, before.st_size));
            now == before
        };
        if !before.is_some_and(is_alike) {
            return Ok(true);
        }
        let new = self.left(place, path, stat)?;
        Ok(new != Some(self.old(path)?))
    }

    fn is_opaque(&self, path: &str) -> io::Result<bool> {
        let mut value = [0u8; 8];
        let Some(folder) = self.upper.folder(path)? else { return Ok(false) };
        let read = rustix::fs::fgetxattr(&folder, "user.overlay.opaque", &mut value[..]);
        Ok(read.is_ok_and(|bytes| value[..bytes] == *b"y"))
    }
}

const UNREADABLE: &str = "what is in it cannot be read";
const TOO_DEEP: &str = "it lies too deep, or its path is too long";

fn is_too_deep(path: &str) -> bool {
    path.len() > PATH_BYTES_MAX || path.bytes().filter(|byte| *byte == b'/').count() >= DEPTH_MAX
}

/// What a text takes as JSON.
fn written_bytes(text: &str) -> usize {
    const ESCAPED_BYTES: usize = 6;
    text.bytes().map(|byte| if byte < b' ' || byte == b'"' || byte == b'\\' { ESCAPED_BYTES } else { 1 }).sum()
}

fn with_mode(entry: Entry, mode: u32) -> Entry {
    match entry {
        Entry::File { hash, bytes, .. } => Entry::File { hash, bytes, mode },
        Entry::Folder { .. } => Entry::Folder { mode },
        other => other,
    }
}

fn is_whiteout(stat: &Stat) -> bool {
    entry::file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// What a journal is about to promise must be on disk first.
pub fn sync(diff: &LayerDiff, upper: &Root) -> io::Result<()> {
    let files: Vec<&Change> = diff.changes.iter().filter(|change| matches!(change.new, Entry::File { .. })).collect();
    if diff.changes.is_empty() {
        return Ok(());
    }
    if files.len() > SYNC_EACH_MAX {
        return upper.sync_all();
    }
    for change in files {
        if let Some(place) = upper.place(&change.path)? {
            place.open()?.sync_all()?;
            place.sync()?;
        }
    }
    upper.sync()
}
