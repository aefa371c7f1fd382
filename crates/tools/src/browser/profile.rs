//! Profiles: folders of the state folder where a browser keeps its cookies and storage from run to run. One run at a
//! time, held by an operating-system lock.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

const NAME_CHARS_MAX: usize = 40;
/// A profile larger than this is not opened.
pub const PROFILE_BYTES_MAX: u64 = 512 << 20;
/// A browser whose profile comes to hold more is ended.
pub const PROFILE_FILES_MAX: u64 = 100_000;
/// Files of a profile that are looked at.
const FILES_MAX: usize = 100_000;
/// What a browser that was killed leaves: it would take another process for the one that holds it.
const LEFTOVERS: [&str; 3] = ["SingletonLock", "SingletonCookie", "SingletonSocket"];

/// Small letters, digits, `-` and `_`; not empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProfileName(String);

impl ProfileName {
    pub fn parse(text: &str) -> Result<Self, String> {
        let fits = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || "-_".contains(char);
        if text.is_empty() || text.len() > NAME_CHARS_MAX || !text.chars().all(fits) || text.starts_with('-') {
            return Err(format!(
                "{text:?} is not the name of a browser profile: use 1 to {NAME_CHARS_MAX} small letters, digits, `-` and `_`"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where the profiles are.
#[derive(Debug, Clone)]
pub struct Shelf(PathBuf);

/// A profile that this process holds.
#[derive(Debug)]
pub struct Held {
    pub folder: PathBuf,
    _lock: File,
}

/// What is known of a profile without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub bytes: u64,
    pub is_in_use: bool,
}

impl Shelf {
    /// `folder` is made when the first profile is.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// Takes a profile for this run, and makes it if there is none. The error says what to do.
    pub fn take(&self, name: &ProfileName) -> Result<Held, String> {
        let failed = |error: io::Error| format!("the browser profile {} cannot be used: {error}", name.as_str());
        private_folder(&self.0).map_err(failed)?;
        let lock = self.lock(name).map_err(failed)?.ok_or_else(|| {
            format!(
                "the browser profile {} is used by another run: wait until that ends, or use another",
                name.as_str()
            )
        })?;
        let folder = self.0.join(name.as_str());
        private_folder(&folder).map_err(failed)?;
        if size(&folder) > PROFILE_BYTES_MAX {
            return Err(format!(
                "the browser profile {0} is larger than {1} MiB: empty it with `homarus browser clear {0}`",
                name.as_str(),
                PROFILE_BYTES_MAX >> 20
            ));
        }
        for leftover in LEFTOVERS {
            match fs::remove_file(folder.join(leftover)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        Ok(Held { folder, _lock: lock })
    }

    pub fn list(&self) -> io::Result<Vec<Listed>> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut listed = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().into_string().ok().and_then(|name| ProfileName::parse(&name).ok());
            let Some(name) = name.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir())) else { continue };
            let is_in_use = self.lock(&name)?.is_none();
            listed.push(Listed { bytes: size(&entry.path()), name: name.0, is_in_use });
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    /// Removes a profile and all that is in it; `false`: there is none.
    pub fn clear(&self, name: &ProfileName) -> Result<bool, String> {
        let folder = self.0.join(name.as_str());
        if !folder.is_dir() {
            return Ok(false);
        }
        let failed = |error: io::Error| format!("the browser profile {} cannot be removed: {error}", name.as_str());
        let Some(_lock) = self.lock(name).map_err(failed)? else {
            return Err(format!("the browser profile {} is used by a run", name.as_str()));
        };
        fs::remove_dir_all(&folder).map_err(failed)?;
        Ok(true)
    }

    /// `None`: somebody else holds it.
    fn lock(&self, name: &ProfileName) -> io::Result<Option<File>> {
        let path = self.0.join(format!("{}.lock", name.as_str()));
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Bytes of the files in a folder; links are not followed.
fn size(folder: &Path) -> u64 {
    let walk = ignore::WalkBuilder::new(folder).standard_filters(false).follow_links(false).build();
    walk.flatten()
        .take(FILES_MAX)
        .filter_map(|entry| entry.metadata().ok())
        .filter(|meta| meta.is_file())
        .map(|meta| meta.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_folder() {
        for bad in ["", ".", "..", "a/b", "A", "-a", "a b", "ä", &"a".repeat(41)] {
            assert!(ProfileName::parse(bad).is_err(), "{bad}");
        }
        assert!(ProfileName::parse("work_2-b").is_ok());
    }

    #[test]
    fn one_at_a_time_private_and_cleared() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(folder.path().join("profiles"));
        let name = ProfileName::parse("work").unwrap();
        assert_eq!(shelf.list().unwrap(), []);
        assert_eq!(shelf.clear(&name), Ok(false));
        let held = shelf.take(&name).unwrap();
        assert_eq!(fs::metadata(&held.folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(shelf.take(&name).unwrap_err().contains("used by another run"));
        assert!(shelf.clear(&name).unwrap_err().contains("used by a run"));
        fs::write(held.folder.join("Cookies"), "12345").unwrap();
        std::os::unix::fs::symlink("sandbox-3", held.folder.join("SingletonLock")).unwrap();
        assert_eq!(shelf.list().unwrap(), [Listed { name: "work".to_owned(), bytes: 5, is_in_use: true }]);
        drop(held);
        let held = shelf.take(&name).unwrap();
        assert!(held.folder.join("Cookies").exists() && !held.folder.join("SingletonLock").is_symlink());
        drop(held);
        assert_eq!(shelf.clear(&name), Ok(true));
        assert_eq!(shelf.list().unwrap(), []);
    }

    #[test]
    fn a_profile_that_has_grown_too_large_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(folder.path());
        let name = ProfileName::parse("big").unwrap();
        fs::create_dir(folder.path().join("big")).unwrap();
        File::create(folder.path().join("big/data")).unwrap().set_len(PROFILE_BYTES_MAX + 1).unwrap();
        assert!(shelf.take(&name).unwrap_err().contains("homarus browser clear big"));
    }
}
