//! A walk through a tree of folders that a call made or is still making: with a few descriptors, without recursion and
//! without paths, so that neither depth nor the length of names ends it. No link is followed.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, chmodat, fchmod, fstat, openat, statat},
    io::Errno,
    path::Arg,
};

/// What is done on the way. Any error ends the walk.
pub trait Visit {
    /// What a folder's owner needs to be let do with it; it is given to them where it is missing.
    const BITS: u32;
    /// Whether that is taken away again behind the walk.
    const RESTORE: bool;

    /// Something in the open `folder`. `true`: it is gone into, if it is a folder.
    fn found(&mut self, folder: &OwnedFd, name: &CStr, kind: FileType) -> io::Result<bool>;

    /// All in the folder `name` was visited. It stands in `folder`.
    fn left(&mut self, folder: &OwnedFd, name: &CStr) -> io::Result<()>;
}

/// Where folders are moved while they are walked through, the way down is found again at most so many times, in steps.
const STEPS_AGAIN_MAX: usize = 1_000_000;
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);
const MODE_BITS: u32 = 0o7777;

/// Opens a folder, also one that its owner may not look into. The second is the mode to give it back.
pub fn open<V: Visit>(at: impl AsFd, name: impl Arg + Copy) -> io::Result<(OwnedFd, Option<u32>)> {
    let at = at.as_fd();
    let mut before = None;
    let folder = match openat(at, name, FOLDER, Mode::empty()) {
        Err(Errno::ACCESS) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let closed = openat(at, name, flags, Mode::empty())?;
            let mode = fstat(&closed)?.st_mode & MODE_BITS;
            // A descriptor of this kind has no `fchmod`; its name in /proc is that very folder.
            let itself = format!("/proc/self/fd/{}", closed.as_raw_fd());
            chmodat(CWD, itself, Mode::from_raw_mode(mode | V::BITS), AtFlags::empty())?;
            before = Some(mode);
            openat(at, name, FOLDER, Mode::empty())?
        }
        folder => folder?,
    };
    if before.is_none() && !rustix::process::geteuid().is_root() {
        let mode = fstat(&folder)?.st_mode & MODE_BITS;
        if mode & V::BITS != V::BITS {
            fchmod(&folder, Mode::from_raw_mode(mode | V::BITS))?;
            before = Some(mode);
        }
    }
    Ok((folder, before.filter(|_| V::RESTORE)))
}

/// Visits all that is in a folder, what is deepest first.
pub fn walk<V: Visit>(root: &OwnedFd, visit: &mut V) -> io::Result<()> {
    let mut at = root.try_clone()?;
    let mut levels = vec![Level::list(&at, CString::default(), None, visit)?];
    let mut steps_again = 0;
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.folders.pop() {
            if let Some((folder, before)) = open_there::<V>(&at, &name)? {
                levels.push(Level::list(&folder, name, before, visit)?);
                at = folder;
            }
            continue;
        }
        let Some(done) = levels.pop() else { break };
        let depth = levels.len();
        if depth == 0 {
            break;
        }
        let above = climb::<V>(root, &at, &mut levels, &mut steps_again)?;
        if let Some(mode) = done.before {
            fchmod(&at, Mode::from_raw_mode(mode))?;
        }
        at = above;
        if levels.len() == depth {
            visit.left(&at, &done.name)?;
        }
    }
    Ok(())
}

/// A folder that is being gone through.
struct Level {
    name: CString,
    id: (u64, u64),
    /// Its mode, to be given back.
    before: Option<u32>,
    /// What is in it and not gone into yet.
    folders: Vec<CString>,
}

impl Level {
    fn list<V: Visit>(folder: &OwnedFd, name: CString, before: Option<u32>, visit: &mut V) -> io::Result<Self> {
        let mut level = Self { name, id: id(folder)?, before, folders: Vec::new() };
        // A copy of the descriptor reads on where this one is: it was not read yet.
        for entry in Dir::new(folder.try_clone()?)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Err(error.into()),
                },
                kind => kind,
            };
            if visit.found(folder, name, kind)? && kind == FileType::Directory {
                level.folders.push(name.to_owned());
            }
        }
        Ok(level)
    }
}

fn id(folder: &OwnedFd) -> io::Result<(u64, u64)> {
    let Stat { st_dev, st_ino, .. } = fstat(folder)?;
    Ok((st_dev, st_ino))
}

/// `None`: it is gone, or something else by now.
fn open_there<V: Visit>(at: &OwnedFd, name: &CStr) -> io::Result<Option<(OwnedFd, Option<u32>)>> {
    match open::<V>(at, name) {
        Ok(opened) => Ok(Some(opened)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            _ => Err(error),
        },
    }
}

/// The folder above, which is that of the last level. Where something was moved meanwhile: the deepest that is still where
/// it was, and the levels below are given up.
fn climb<V: Visit>(
    root: &OwnedFd,
    at: &OwnedFd,
    levels: &mut Vec<Level>,
    steps_again: &mut usize,
) -> io::Result<OwnedFd> {
    if let Ok(above) = openat(at, c"..", FOLDER, Mode::empty())
        && levels.last().is_some_and(|level| id(&above).is_ok_and(|id| id == level.id))
    {
        return Ok(above);
    }
    let mut at = root.try_clone()?;
    for depth in 1..levels.len() {
        *steps_again += 1;
        if *steps_again > STEPS_AGAIN_MAX {
            return Err(io::Error::other("folders are moved faster than they can be walked through"));
        }
        match open_there::<V>(&at, &levels[depth].name)? {
            Some((next, _)) if id(&next)? == levels[depth].id => at = next,
            _ => {
                levels.truncate(depth);
                break;
            }
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Counts, and moves a folder away when it comes to a certain one.
    struct Count<F> {
        files: usize,
        left: usize,
        at: F,
    }

    impl<F: FnMut(&CStr)> Visit for Count<F> {
        const BITS: u32 = 0o500;
        const RESTORE: bool = true;

        fn found(&mut self, _: &OwnedFd, name: &CStr, kind: FileType) -> io::Result<bool> {
            self.files += usize::from(kind == FileType::RegularFile);
            (self.at)(name);
            Ok(true)
        }

        fn left(&mut self, _: &OwnedFd, _: &CStr) -> io::Result<()> {
            self.left += 1;
            Ok(())
        }
    }

    fn root(path: &std::path::Path) -> OwnedFd {
        openat(CWD, path, FOLDER, Mode::empty()).unwrap()
    }

    #[test]
    fn every_folder_is_entered_and_left_once() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a/b/c", "a/d", "e"] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
            fs::write(folder.path().join(path).join("file"), "").unwrap();
        }
        std::os::unix::fs::symlink("a", folder.path().join("link")).unwrap();
        let mut count = Count { files: 0, left: 0, at: |_: &CStr| {} };
        walk(&root(folder.path()), &mut count).unwrap();
        assert_eq!((count.files, count.left), (3, 5));
    }

    #[test]
    fn a_folder_that_is_moved_meanwhile_does_not_lead_the_walk_away() {
        let folder = tempfile::tempdir().unwrap();
        let (top, outside) = (folder.path().join("top"), folder.path().join("outside"));
        fs::create_dir_all(top.join("a/b/c")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        for path in ["seen", "a/seen", "a/b/seen", "a/b/c/seen"] {
            fs::write(top.join(path), "").unwrap();
        }
        fs::write(outside.join("not"), "").unwrap();
        let (from, to) = (top.join("a/b/c"), outside.join("c"));
        let mut moved = false;
        let at = |name: &CStr| {
            if !moved && name == c"last" {
                fs::rename(&from, &to).unwrap();
                moved = true;
            }
        };
        fs::write(top.join("a/b/c/last"), "").unwrap();
        let mut count = Count { files: 0, left: 0, at };
        walk(&root(&top), &mut count).unwrap();
        // The folder outside that is above now is never listed, and `b` and `a` are left as ever.
        assert_eq!((count.files, count.left), (5, 3));
    }
}
