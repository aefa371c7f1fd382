//! A folder as it is: every path with its kind, mode and content, to be compared and to be doctored.

use std::{collections::BTreeMap, fs, io, os::unix::fs::PermissionsExt, path::Path};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Folder { mode: u32 },
    File { mode: u32, bytes: Vec<u8> },
    Other,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<String, Entry>);

/// Looks in a row that may each meet a change.
const LOOKS_MAX: usize = 100;

impl Tree {
    /// Right after a kill another process may bring the run to rest, and merge: then what is listed may be gone before it
    /// is looked at, and all is looked at again.
    pub fn read(root: &Path) -> io::Result<Self> {
        for _ in 1..LOOKS_MAX {
            match Self::look(root) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && root.exists() => {}
                looked => return looked,
            }
        }
        Self::look(root)
    }

    fn look(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        tree.add(root, "")?;
        Ok(tree)
    }

    fn add(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let metadata = entry.path().symlink_metadata()?;
            let mode = metadata.permissions().mode();
            if metadata.is_dir() {
                self.add(&entry.path(), &format!("{path}/"))?;
                self.0.insert(path, Entry::Folder { mode });
            } else if metadata.is_file() {
                self.0.insert(path, Entry::File { mode, bytes: fs::read(entry.path())? });
            } else {
                self.0.insert(path, Entry::Other);
            }
        }
        Ok(())
    }

    pub fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// How many lines of a file are exactly this.
    pub fn lines_with(&self, path: &str, line: &str) -> usize {
        match self.0.get(path) {
            Some(Entry::File { bytes, .. }) => {
                String::from_utf8_lossy(bytes).lines().filter(|found| *found == line).count()
            }
            _ => 0,
        }
    }

    /// Paths that are not the same in both.
    pub fn differs(&self, other: &Self) -> Vec<String> {
        let paths = self.0.keys().chain(other.0.keys().filter(|path| !self.has(path)));
        paths.filter(|path| self.0.get(*path) != other.0.get(*path)).cloned().collect()
    }
}
