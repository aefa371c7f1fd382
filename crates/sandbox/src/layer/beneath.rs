//! A folder that is used by descriptor, never leaving it and never following a symbolic link: a
//! link that is swapped in while we work is an error, not a way out.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags, Stat, fchmod, fsync, openat, openat2, statat},
    io::Errno,
};

/// Called after each thing that a merge does to the disk. It is nothing but in tests, which end the process here.
#[cfg(not(test))]
pub fn step() {}

#[cfg(test)]
pub use super::merge::killed::step;

#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

/// The folder something stands in, open, and its name there.
#[derive(Debug)]
pub struct Place {
    pub folder: OwnedFd,
    pub name: String,
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);
const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

impl Root {
    /// Links on the way to the folder itself are the user's own and are followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: openat(CWD, path, flags, Mode::empty())? })
    }

    /// Where `path` (relative, `/` between parts) stands or would stand; `None`: its folder is not
    /// there, or is no folder.
    pub fn place(&self, path: &str) -> io::Result<Option<Place>> {
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        if name.is_empty() || name == "." || name == ".." {
            return Err(io::Error::other(format!("`{path}` is not a path of a layer")));
        }
        match openat2(&self.fd, parent, FOLDER, Mode::empty(), INSIDE) {
            Ok(folder) => Ok(Some(Place { folder, name: name.to_owned() })),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub fn stat(&self, path: &str) -> io::Result<Option<Stat>> {
        match self.place(path)? {
            Some(place) => place.stat(),
            None => Ok(None),
        }
    }

    /// Whether something of this name, not a path, stands in the folder itself.
    pub fn has(&self, name: &str) -> bool {
        statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// A folder of it; `None` if there is none.
    pub fn folder(&self, path: &str) -> io::Result<Option<OwnedFd>> {
        match openat2(&self.fd, path, FOLDER, Mode::empty(), INSIDE) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Names in a folder of it, at most one more than `max`; none if it is no folder.
    pub fn names(&self, path: &str, max: usize) -> io::Result<Vec<Vec<u8>>> {
        let Some(folder) = self.folder(path)? else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
            if names.len() > max {
                break;
            }
        }
        Ok(names)
    }

    pub fn sync(&self) -> io::Result<()> {
        Ok(fsync(&self.fd)?)
    }

    /// Everything on its file system.
    pub fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.fd)?)
    }
}

impl Place {
    pub fn stat(&self) -> io::Result<Option<Stat>> {
        match statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the file for reading; a link there is an error. Never blocks on a pipe.
    pub fn open(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(File::from(openat(&self.folder, &self.name, flags, Mode::empty())?))
    }

    pub fn link_target(&self) -> io::Result<Option<String>> {
        let target = rustix::fs::readlinkat(&self.folder, &self.name, Vec::new())?;
        Ok(target.into_string().ok())
    }

    /// Another name in the same folder.
    pub fn beside(&self, name: String) -> io::Result<Self> {
        Ok(Self { folder: self.folder.try_clone()?, name })
    }

    /// A new empty file under a name of ours; one left by a killed merge is replaced.
    pub fn create(&self) -> io::Result<File> {
        self.remove();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.folder, &self.name, flags, Mode::from_raw_mode(0o600)).inspect(|_| step())?))
    }

    /// Puts what stands at `from` in this place. `replace: false` fails if something is there.
    pub fn rename_here(&self, from: &Self, replace: bool) -> io::Result<()> {
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        let renamed = match rustix::fs::renameat_with(&from.folder, &from.name, &self.folder, &self.name, flags) {
            // A file system without NOREPLACE: it was looked at a moment ago.
            Err(Errno::INVAL) if !replace => rustix::fs::renameat(&from.folder, &from.name, &self.folder, &self.name),
            other => other,
        };
        Ok(renamed.inspect(|()| step())?)
    }

    pub fn unlink(&self, folder: bool) -> io::Result<()> {
        let flags = if folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        Ok(rustix::fs::unlinkat(&self.folder, &self.name, flags).inspect(|()| step())?)
    }

    /// Of something of ours, if it is there: a file, a link, or a folder that nothing is in yet.
    pub fn remove(&self) {
        if self.unlink(false).is_err_and(|error| error.kind() == io::ErrorKind::IsADirectory) {
            let _ = self.unlink(true);
        }
    }

    /// With its mode under another name first, then renamed: a merge that is killed between the two would else leave a
    /// folder that is neither what was there nor what shall be, and so looks as if somebody else had made it.
    pub fn make_folder(&self, mode: u32, temporary: String) -> io::Result<()> {
        let beside = self.beside(temporary)?;
        // One left by a killed merge.
        beside.remove();
        rustix::fs::mkdirat(&beside.folder, &beside.name, Mode::from_raw_mode(0o700)).inspect(|()| step())?;
        // No sync of its own: the rename that follows is synced, and with it what came before.
        let made = beside.change_mode(mode, OFlags::DIRECTORY).and_then(|()| self.rename_here(&beside, false));
        made.inspect_err(|_| beside.remove())
    }

    /// Of a folder, found without following a link. Its owner need not be able to read it. When this answers, the mode is on
    /// the disk: syncing the folder above would not put it there.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        const OWNER_READS: u32 = 0o400;
        let open = || openat(&self.folder, &self.name, FOLDER, Mode::empty());
        // Before the change: after it, its owner may not be able to open it.
        let folder = match open() {
            Err(Errno::ACCESS) => {
                self.change_mode(mode | OWNER_READS, OFlags::DIRECTORY)?;
                open()?
            }
            folder => folder?,
        };
        fchmod(&folder, Mode::from_raw_mode(mode)).inspect(|()| step())?;
        Ok(fsync(&folder).inspect(|()| step())?)
    }

    /// The same of a file or a folder: for what lies in a layer.
    pub fn open_up(&self, mode: u32) -> io::Result<()> {
        self.change_mode(mode, OFlags::empty())
    }

    fn change_mode(&self, mode: u32, kind: OFlags) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC | kind;
        let folder = openat(&self.folder, &self.name, flags, Mode::empty())?;
        // A descriptor of this kind has no `fchmod`; its name in /proc is that very folder.
        let itself = format!("/proc/self/fd/{}", folder.as_raw_fd());
        Ok(rustix::fs::chmodat(CWD, itself, Mode::from_raw_mode(mode), AtFlags::empty()).inspect(|()| step())?)
    }

    /// A new link under a name of ours.
    pub fn make_link(&self, target: &str) -> io::Result<()> {
        self.remove();
        Ok(rustix::fs::symlinkat(target, &self.folder, &self.name).inspect(|()| step())?)
    }

    pub fn sync(&self) -> io::Result<()> {
        Ok(fsync(&self.folder).inspect(|()| step())?)
    }
}

/// Joins parts of a relative path; the root is the empty text.
pub fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// The path of a part of a layer on the host. `path` comes from a diff: it must not climb.
pub fn inside(root: &Path, path: &str) -> Option<PathBuf> {
    let climbs = path.split('/').any(|part| part.is_empty() || part == "." || part == "..");
    (!climbs).then(|| root.join(path))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn names_are_listed_up_to_one_too_many() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", "d"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let root = Root::open(folder.path()).unwrap();
        for (max, listed) in [(0, 1), (2, 3), (3, 4), (4, 4), (9, 4)] {
            assert_eq!(root.names(".", max).unwrap().len(), listed, "{max}");
        }
        assert!(root.names("a", 9).unwrap().is_empty() && root.names("none", 9).unwrap().is_empty());
        assert!(root.has("a") && !root.has("none"));
    }

    #[test]
    fn a_folder_gets_its_mode_whatever_its_owner_may_do_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("folder");
        fs::create_dir(&path).unwrap();
        let place = Root::open(folder.path()).unwrap().place("folder").unwrap().unwrap();
        for mode in [0o755, 0o300, 0o000, 0o100, 0o700] {
            place.set_mode(mode).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
        }
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink(".", &path).unwrap();
        assert!(place.set_mode(0o777).is_err());
    }
}
