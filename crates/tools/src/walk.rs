//! The one walk over a workspace, on the host and in the sandbox. It goes by descriptors, follows no link, opens nothing
//! but folders and regular files, and ends at its bounds: what it meets was put there by someone else.

use std::{
    ffi::{CStr, CString, OsStr},
    fs::File,
    io,
    ops::ControlFlow,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use homarus_contract::text::one_line;
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, statat},
    path::Arg,
};

use crate::ignored::Ignored;

/// What is shown of a longer path.
const PATH_CHARS_MAX: usize = 300;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

pub struct Bounds {
    /// A folder this deep below the start is visited, and not looked into.
    pub depth_max: usize,
    /// Further entries are not looked at.
    pub entries_max: usize,
    /// What ignore rules may cost; then they no longer hold, and more is shown.
    pub comparisons_max: u64,
    /// Whether names that begin with a dot are looked at.
    pub dotted: bool,
}

/// A place in a workspace: the path as it was given, and the one without links.
pub struct Start {
    path: PathBuf,
    real: PathBuf,
}

impl Start {
    /// `workspace` is canonical, `path` relative to it.
    pub fn of(workspace: &Path, path: &Path) -> io::Result<Self> {
        let real = workspace.join(path).canonicalize()?;
        let real = real.strip_prefix(workspace).map_err(|_| io::Error::other("it leads out of the workspace"))?;
        Ok(Self { path: path.to_path_buf(), real: real.to_path_buf() })
    }

    /// The file that stands here.
    pub fn open(&self, workspace: &Path) -> io::Result<(File, u64)> {
        open_file(open_folder(workspace)?.as_fd(), self.real.as_path())
    }
}

/// What a walk has come upon.
pub struct Entry<'a> {
    /// Relative to the workspace, as the start was given.
    pub path: &'a Path,
    /// The same without links.
    pub real: &'a Path,
    /// From 1.
    pub depth: usize,
    pub kind: FileType,
    /// Why the walk does not look into it, or passes it over.
    pub left_out: Option<LeftOut>,
    folder: BorrowedFd<'a>,
    name: &'a CStr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// An ignore file names it.
    Ignored,
    TooDeep,
    Unreadable,
}

impl Entry<'_> {
    pub fn is_folder(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// The path for people and models: one line, bounded, a folder with a slash.
    pub fn shown(&self) -> String {
        let path = one_line(&self.path.to_string_lossy(), PATH_CHARS_MAX);
        if self.is_folder() { path + "/" } else { path }
    }

    pub fn bytes(&self) -> u64 {
        statat(self.folder, self.name, AtFlags::SYMLINK_NOFOLLOW).map_or(0, |stat| size(stat.st_size))
    }

    /// The file and its size in bytes.
    pub fn open(&self) -> io::Result<(File, u64)> {
        open_file(self.folder, self.name)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All was seen, or the visitor had enough.
    Whole,
    /// It stopped at a bound: there may be more.
    Cut,
}

/// Visits what is below `start`, a folder: each folder before what is in it, names in order, never `.git`. What is ignored
/// is visited as left out. Below a start that was named, only folders are ignored, and below an ignored one, nothing:
/// whoever names it wants to see it.
pub fn walk(
    workspace: &Path,
    start: &Start,
    bounds: &Bounds,
    visit: &mut dyn FnMut(&Entry<'_>) -> ControlFlow<()>,
) -> io::Result<End> {
    let mut ignored = Ignored::new(bounds.comparisons_max);
    let mut folder = open_folder(workspace)?;
    let mut above = PathBuf::new();
    for part in start.real.components() {
        ignored.enter(folder.as_fd(), &above, |name| holds(folder.as_fd(), name));
        above.push(part);
        if ignored.hides(&above, true) {
            ignored.switch_off();
        }
        folder = openat(&folder, part.as_os_str(), FOLDER, Mode::empty())?;
    }
    let mut walk = Walk {
        bounds,
        visit,
        ignored,
        is_named: !start.real.as_os_str().is_empty(),
        entries_left: bounds.entries_max,
        end: End::Whole,
        path: start.path.clone(),
        real: start.real.clone(),
    };
    // The visitor may have had enough; either way it is over.
    let _ = walk.folder(folder, 1);
    Ok(walk.end)
}

/// Links on the way to a workspace are its owner's.
pub fn open_folder(workspace: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, workspace, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// A regular file below an open folder and its size in bytes. Follows no link and waits for nobody, as the opening of
/// a pipe would.
pub fn open_file(folder: BorrowedFd<'_>, path: impl Arg) -> io::Result<(File, u64)> {
    let file = openat2(folder, path, FILE, Mode::empty(), INSIDE)?;
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok((File::from(file), size(stat.st_size)))
}

fn holds(folder: BorrowedFd<'_>, name: &str) -> bool {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

fn size(bytes: i64) -> u64 {
    u64::try_from(bytes).unwrap_or(0)
}

struct Walk<'a> {
    bounds: &'a Bounds,
    visit: &'a mut dyn FnMut(&Entry<'_>) -> ControlFlow<()>,
    ignored: Ignored,
    is_named: bool,
    entries_left: usize,
    end: End,
    path: PathBuf,
    real: PathBuf,
}

impl Walk<'_> {
    /// Visits what is in a folder that stands at `self.path`.
    fn folder(&mut self, folder: OwnedFd, depth: usize) -> ControlFlow<()> {
        let Ok(mut dir) = Dir::new(folder) else {
            self.end = End::Cut;
            return ControlFlow::Continue(());
        };
        let entries = self.entries(&mut dir);
        let Ok(folder) = dir.fd() else { return ControlFlow::Continue(()) };
        let is_cut = self.end == End::Cut;
        let has = |name: &str| match is_cut {
            false => entries.iter().any(|(known, _)| known.to_bytes() == name.as_bytes()),
            true => holds(folder, name),
        };
        self.ignored.enter(folder, &self.real, has);
        for (name, kind) in &entries {
            let part = OsStr::from_bytes(name.to_bytes());
            self.path.push(part);
            self.real.push(part);
            self.entry(folder, name, *kind, depth)?;
            self.path.pop();
            self.real.pop();
        }
        self.ignored.leave();
        ControlFlow::Continue(())
    }

    /// Names and kinds, as many as may still be looked at, in order.
    fn entries(&mut self, dir: &mut Dir) -> Vec<(CString, FileType)> {
        let mut entries = Vec::new();
        while let Some(entry) = dir.read() {
            let Ok(entry) = entry else {
                self.end = End::Cut;
                break;
            };
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            if self.entries_left == 0 {
                self.end = End::Cut;
                break;
            }
            self.entries_left -= 1;
            entries.push((entry.file_name().to_owned(), entry.file_type()));
        }
        entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        entries
    }

    fn entry(&mut self, folder: BorrowedFd<'_>, name: &CStr, kind: FileType, depth: usize) -> ControlFlow<()> {
        let is_dotted = name.to_bytes().starts_with(b".");
        if name.to_bytes() == b".git" || (is_dotted && !self.bounds.dotted) {
            return ControlFlow::Continue(());
        }
        let kind = match kind {
            FileType::Unknown => statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
            known => known,
        };
        let is_folder = kind == FileType::Directory;
        let (mut inside, mut left_out) = (None, None);
        if (is_folder || !self.is_named) && self.ignored.hides(&self.real, is_folder) {
            left_out = Some(LeftOut::Ignored);
        } else if is_folder && depth >= self.bounds.depth_max {
            left_out = Some(LeftOut::TooDeep);
        } else if is_folder {
            match openat(folder, name, FOLDER, Mode::empty()) {
                Ok(opened) => inside = Some(opened),
                Err(_) => left_out = Some(LeftOut::Unreadable),
            }
        }
        (self.visit)(&Entry { path: &self.path, real: &self.real, depth, kind, left_out, folder, name })?;
        match inside {
            Some(inside) => self.folder(inside, depth + 1),
            None => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use std::{fs, sync::mpsc::sync_channel, time::Duration};

    use super::*;

    /// Gives what `work` gives, on a thread of its own whose end is awaited: what waits for ever fails. So does what
    /// would fill the memory of the machine.
    pub fn ends<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let memory = rustix::process::Rlimit { current: Some(8 << 30), maximum: None };
        let _ = rustix::process::setrlimit(rustix::process::Resource::As, memory);
        let (send, receive) = sync_channel(1);
        std::thread::spawn(move || send.send(work()));
        receive.recv_timeout(Duration::from_secs(120)).expect("it does not end, or it panicked")
    }

    /// A pipe that nobody writes to.
    pub fn pipe(path: &Path) {
        rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }

    /// Takes all rights to a folder away.
    pub fn shut(folder: &Path) {
        fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    }

    /// Gives what `work` gives on a thread that may read only what file modes let it, also where root runs the tests.
    pub fn without_privileges<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
        let none = CapabilitySet::empty();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none }).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    const BOUNDS: Bounds = Bounds { depth_max: 3, entries_max: 100, comparisons_max: 1_000_000, dotted: true };

    fn walked(root: &Path, path: &str, bounds: &Bounds) -> (Vec<String>, End) {
        let workspace = root.canonicalize().unwrap();
        let start = Start::of(&workspace, Path::new(path)).unwrap();
        let mut seen = Vec::new();
        let end = walk(&workspace, &start, bounds, &mut |entry| {
            let left_out = entry.left_out.map(|why| format!(" {why:?}")).unwrap_or_default();
            seen.push(entry.shown() + &left_out);
            ControlFlow::Continue(())
        });
        (seen, end.unwrap())
    }

    #[test]
    fn each_folder_comes_before_what_is_in_it_and_git_never() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("b/c/d/e")).unwrap();
        fs::create_dir_all(root.join(".git/x")).unwrap();
        for name in ["b/z", "b/c/y", "a", ".dot"] {
            fs::write(root.join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("b", root.join("way")).unwrap();
        let all = [".dot", "a", "b/", "b/c/", "b/c/d/ TooDeep", "b/c/y", "b/z", "way"];
        assert_eq!(walked(root, "", &BOUNDS), (all.map(str::to_owned).to_vec(), End::Whole));
        let through = ["way/c/", "way/c/d/", "way/c/d/e/ TooDeep", "way/c/y", "way/z"];
        assert_eq!(walked(root, "way", &BOUNDS).0, through);
        assert_eq!(walked(root, "", &Bounds { dotted: false, depth_max: 1, ..BOUNDS }).0, ["a", "b/ TooDeep", "way"]);
        assert_eq!(walked(root, "b/c", &Bounds { entries_max: 1, ..BOUNDS }).1, End::Cut);
        assert_eq!(walked(root, "b/c", &Bounds { entries_max: 3, ..BOUNDS }).1, End::Whole);
        std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
        assert!(Start::of(&root.canonicalize().unwrap(), Path::new("out")).is_err());
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_visited_as_such() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("shut")).unwrap();
        shut(&folder.path().join("shut"));
        let seen = without_privileges(|| walked(folder.path(), "", &BOUNDS));
        assert_eq!(seen, (vec!["shut/ Unreadable".to_owned()], End::Whole));
    }

    #[test]
    fn only_regular_files_are_opened_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_path_buf();
        fs::create_dir(root.join("in")).unwrap();
        fs::write(root.join("in/file"), "12345").unwrap();
        pipe(&root.join("pipe"));
        for (to, name) in [("/dev/zero", "zero"), ("in", "way"), ("in/file", "link"), ("../..", "up")] {
            std::os::unix::fs::symlink(to, root.join(name)).unwrap();
        }
        ends(move || {
            let opened = open_folder(&root).unwrap();
            assert_eq!(open_file(opened.as_fd(), "in/file").unwrap().1, 5);
            for path in ["pipe", "zero", "way/file", "link", "up", "in", "../x", "/etc/passwd", "nothing"] {
                assert!(open_file(opened.as_fd(), path).is_err(), "{path}");
            }
        });
    }

    #[test]
    fn names_of_others_are_shown_on_one_line_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a  5 bytes\nb\u{1b}[2J"), "").unwrap();
        let deep = "d".repeat(200);
        fs::create_dir_all(folder.path().join(&deep).join(&deep)).unwrap();
        let (seen, _) = walked(folder.path(), "", &BOUNDS);
        assert_eq!(seen[0], "a  5 bytes b␛[2J");
        assert!(seen[2].chars().count() == PATH_CHARS_MAX + 1 && seen[2].ends_with("…/"), "{}", seen[2]);
    }
}
