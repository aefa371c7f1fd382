//! Reads a layer: which paths of the workspace a call changed, from what to what.
//!
//! In an overlay's upper layer a removed path is a character device 0:0, and a folder that
//! replaced another carries the attribute `user.overlay.opaque`.

use std::{collections::BTreeSet, io, path::Path, time::SystemTime};

use homarus_contract::{
    ids::Hash,
    sandbox::{Change, Entry, LayerDiff},
};
use rustix::fs::{FileType, Stat};

use super::{
    beneath::{Root, inside, join},
    entry::{self, Seen},
    text,
};
use crate::protected;

/// More changed paths than this are refused as a whole: declare such a folder a cache path.
pub const CHANGES_MAX: usize = 10_000;
const SET_ID_BITS: u32 = 0o6000;
/// From this many files on, one sync of the file system costs less than one each.
const SYNC_EACH_MAX: usize = 64;

/// The diff of a layer over its workspace. `began`: a path the workspace's owner changed after it
/// gets an `old` nothing is equal to, so that its merge is a conflict.
pub fn read(workspace: &Path, upper: &Path, began: SystemTime) -> io::Result<LayerDiff> {
    let began = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut walk = Walk {
        lower: Root::open(workspace)?,
        upper: Root::open(upper)?,
        upper_path: upper,
        began: (began.as_secs().cast_signed(), i64::from(began.subsec_nanos())),
        changes: Vec::new(),
        refused: BTreeSet::new(),
    };
    walk.folder("", false)?;
    let mut diff =
        LayerDiff { changes: walk.changes, refused: walk.refused.into_iter().collect(), text: String::new() };
    if diff.changes.len() > CHANGES_MAX {
        let why = format!("the call changed more than {CHANGES_MAX} paths; nothing of it can be merged");
        return Ok(LayerDiff { changes: Vec::new(), refused: vec![(".".to_owned(), why.clone())], text: why });
    }
    diff.changes.sort_by(|a, b| a.path.cmp(&b.path));
    sync(&diff, &walk.upper)?;
    diff.text = text::render(&diff, &walk.lower, &walk.upper);
    Ok(diff)
}

struct Walk<'a> {
    lower: Root,
    upper: Root,
    upper_path: &'a Path,
    began: (i64, i64),
    changes: Vec<Change>,
    refused: BTreeSet<(String, String)>,
}

impl Walk<'_> {
    /// `replaced`: what the workspace has in this folder is not seen through.
    fn folder(&mut self, path: &str, replaced: bool) -> io::Result<()> {
        let at = if path.is_empty() { "." } else { path };
        let mut seen = BTreeSet::new();
        for name in self.upper.names(at)? {
            let Ok(name) = String::from_utf8(name.clone()) else {
                self.refuse(&join(path, &String::from_utf8_lossy(&name)), "the name is not UTF-8");
                continue;
            };
            self.path(&join(path, &name), replaced)?;
            seen.insert(name);
            if self.changes.len() > CHANGES_MAX {
                return Ok(());
            }
        }
        if replaced {
            for name in self.lower.names(at)? {
                match String::from_utf8(name) {
                    Ok(name) if seen.contains(&name) => {}
                    Ok(name) => self.removed(&join(path, &name))?,
                    Err(name) => {
                        self.refuse(&join(path, &String::from_utf8_lossy(name.as_bytes())), "the name is not UTF-8")
                    }
                }
            }
        }
        Ok(())
    }

    fn path(&mut self, path: &str, replaced: bool) -> io::Result<()> {
        let Some(place) = self.upper.place(path)? else { return Ok(()) };
        let Some(stat) = place.stat()? else { return Ok(()) };
        if is_whiteout(&stat) {
            return self.removed(path);
        }
        let is_folder = entry::file_type(&stat) == FileType::Directory;
        if let Some(why) = protected::refusal(path, is_folder) {
            if self.is_change(path, &stat)? {
                self.refuse(path, &why);
            }
            return Ok(());
        }
        if stat.st_mode & SET_ID_BITS != 0 && !is_folder {
            self.refuse(path, "set-user-id or set-group-id");
            return Ok(());
        }
        // A call may leave what even its owner cannot look into; the layer is ours alone now.
        let mode = entry::mode(&stat);
        let needed = if is_folder { 0o700 } else { 0o400 };
        if mode & needed != needed && matches!(entry::file_type(&stat), FileType::Directory | FileType::RegularFile) {
            place.open_up(mode | needed)?;
        }
        let new = match entry::look_at(&place)? {
            Seen::Entry(entry) => with_mode(entry, mode),
            Seen::Odd(what) => {
                self.refuse(path, &what);
                return Ok(());
            }
        };
        let old = self.old(path)?;
        if is_folder {
            let is_opaque = replaced || self.is_opaque(path);
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

    /// A path of the workspace that is gone in the layer, with all that is in it.
    fn removed(&mut self, path: &str) -> io::Result<()> {
        if let Some(why) = protected::refusal(path, true) {
            if self.lower.stat(path)?.is_some() {
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
        let (changes, refused) = (self.changes.len(), self.refused.len());
        let names = match self.lower.names(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.refuse(path, "what is in it cannot be read");
                return Ok(false);
            }
            names => names?,
        };
        for name in names {
            match String::from_utf8(name) {
                Ok(name) => self.removed(&join(path, &name))?,
                Err(_) => self.refuse(path, "holds a name that is not UTF-8"),
            }
            if self.changes.len() > CHANGES_MAX {
                break;
            }
        }
        if self.refused.len() == refused {
            return Ok(true);
        }
        self.changes.truncate(changes);
        self.refuse(path, "holds something that may not be removed");
        Ok(false)
    }

    fn change(&mut self, path: &str, old: Entry, new: Entry) {
        if old != new {
            self.changes.push(Change { path: path.to_owned(), old, new });
        }
    }

    fn refuse(&mut self, path: &str, why: &str) {
        if self.refused.len() < CHANGES_MAX {
            self.refused.insert((path.to_owned(), why.to_owned()));
        }
    }

    /// What the workspace has at a path.
    fn old(&self, path: &str) -> io::Result<Entry> {
        const UNKNOWN: Entry = Entry::File { hash: Hash::ZERO, bytes: 0, mode: 0 };
        let stat = self.lower.stat(path)?;
        let seen = match entry::look(&self.lower, path) {
            // What we cannot read the call cannot have read: whatever it did is kept apart.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(UNKNOWN),
            seen => seen?,
        };
        Ok(match seen {
            // A folder's own times change with what is in it.
            Seen::Entry(folder @ Entry::Folder { .. }) => folder,
            Seen::Entry(Entry::Absent) => Entry::Absent,
            Seen::Entry(_) if stat.is_some_and(|stat| (stat.st_ctime, stat.st_ctime_nsec as i64) > self.began) => {
                UNKNOWN
            }
            Seen::Entry(entry) => entry,
            // Something no merge may replace: never equal to what will be found.
            Seen::Odd(_) => UNKNOWN,
        })
    }

    /// Whether a protected path really differs (opening it for writing copies it up unchanged).
    fn is_change(&self, path: &str, stat: &Stat) -> io::Result<bool> {
        if entry::file_type(stat) == FileType::Directory {
            return Ok(!self.upper.names(path)?.is_empty() || self.lower.stat(path)?.is_none());
        }
        Ok(entry::look(&self.upper, path)? != entry::look(&self.lower, path)?)
    }

    fn is_opaque(&self, path: &str) -> bool {
        let mut value = [0u8; 8];
        // The upper layer is ours alone now: nobody can swap parts of this path.
        inside(self.upper_path, path)
            .and_then(|path| rustix::fs::lgetxattr(path, "user.overlay.opaque", &mut value[..]).ok())
            .is_some_and(|bytes| value[..bytes] == *b"y")
    }
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
