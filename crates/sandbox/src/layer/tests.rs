//! Layers against a plain directory: the same random operations in both, then read, merged, undone and done again.
//!
//! The layer is a real overlay, mounted on a file system in memory that only this thread sees; for that the tests
//! need root. What an ordinary user's layer looks like is tested through the whole sandbox.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use homarus_contract::{
    ids::Hash,
    sandbox::{Change, ContentSource, Entry, LayerDiff, MergeReport},
};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};

use super::{diff, keep, merge, outlook::outlook, stage};
use crate::options::{KeepLimits, Options};

/// Of each half; the halves run beside each other.
const ROUND_TRIPS: u64 = 5_000;
const MEDDLINGS: u64 = 2_500;

#[derive(Debug, Clone)]
enum Op {
    Write(String, Vec<u8>),
    Append(String),
    Truncate(String, u64),
    Remove(String),
    RemoveTree(String),
    Folder(String),
    RemoveFolder(String),
    Rename(String, String),
    Mode(String, u32),
    Symlink(String, String),
    Link(String, String),
    Sparse(String),
    /// A file becomes a folder of this name, or a folder a file.
    Swap(String),
}

/// A small generator of its own, so that a case is its number.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % limit
    }

    fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len() as u64) as usize]
    }

    fn path(&mut self) -> String {
        let depth = 1 + self.below(3);
        (0..depth).map(|_| self.one_of(&["a", "A", "b", "d", "é ü"])).collect::<Vec<_>>().join("/")
    }

    fn content(&mut self) -> Vec<u8> {
        let byte = b'0' + self.below(10) as u8;
        let bytes = match self.below(20) {
            0 => 0,
            1 => 300_000,
            _ => self.below(40) as usize,
        };
        vec![byte; bytes]
    }

    fn op(&mut self) -> Op {
        let path = self.path();
        match self.below(26) {
            0..=6 => Op::Write(path, self.content()),
            7..=8 => Op::Append(path),
            9 => Op::Truncate(path, self.below(30)),
            10..=11 => Op::Remove(path),
            12 => Op::RemoveTree(path),
            13..=14 => Op::Folder(path),
            15 => Op::RemoveFolder(path),
            16..=17 => Op::Rename(path, self.path()),
            // The same name in other letters.
            18 => Op::Rename("a".to_owned(), "A".to_owned()),
            19..=20 => Op::Mode(path, [0o644, 0o755, 0o600, 0o700, 0o400, 0o555][self.below(6) as usize]),
            21 => Op::Symlink(self.one_of(&["a", "b", "d/a", "nowhere"]).to_owned(), path),
            22 => Op::Link(path, self.path()),
            23 if self.below(5) == 0 => Op::Sparse(path),
            _ => Op::Swap(path),
        }
    }

    fn ops(&mut self, max: u64) -> Vec<Op> {
        (0..1 + self.below(max)).map(|_| self.op()).collect()
    }
}

/// Does it as a program would; whether it could be done. `mv` copies where a rename is not possible.
fn apply(root: &Path, op: &Op) -> bool {
    let at = |path: &str| root.join(path);
    let make_parent = |path: &Path| path.parent().is_some_and(|parent| fs::create_dir_all(parent).is_ok());
    match op {
        Op::Write(path, content) => make_parent(&at(path)) && fs::write(at(path), content).is_ok(),
        Op::Append(path) => {
            fs::OpenOptions::new().append(true).open(at(path)).is_ok_and(|mut file| file.write_all(b"more").is_ok())
        }
        Op::Truncate(path, bytes) => {
            fs::OpenOptions::new().write(true).open(at(path)).is_ok_and(|file| file.set_len(*bytes).is_ok())
        }
        Op::Remove(path) => fs::remove_file(at(path)).is_ok(),
        Op::RemoveTree(path) => fs::remove_dir_all(at(path)).is_ok(),
        Op::Folder(path) => fs::create_dir_all(at(path)).is_ok(),
        Op::RemoveFolder(path) => fs::remove_dir(at(path)).is_ok(),
        Op::Rename(from, to) => rename(&at(from), &at(to)),
        Op::Mode(path, mode) => fs::set_permissions(at(path), fs::Permissions::from_mode(*mode)).is_ok(),
        Op::Symlink(target, path) => symlink(target, at(path)).is_ok(),
        Op::Link(from, to) => fs::hard_link(at(from), at(to)).is_ok(),
        Op::Sparse(path) => fs::File::create(at(path)).is_ok_and(|file| {
            file.set_len(700_000).is_ok() && std::os::unix::fs::FileExt::write_all_at(&file, b"x", 500_000).is_ok()
        }),
        Op::Swap(path) => match at(path).symlink_metadata() {
            Ok(meta) if meta.is_dir() => {
                fs::remove_dir_all(at(path)).is_ok() && fs::write(at(path), "was a folder").is_ok()
            }
            Ok(_) => {
                fs::remove_file(at(path)).is_ok()
                    && fs::create_dir(at(path)).is_ok()
                    && fs::write(at(path).join("in"), "was a file").is_ok()
            }
            Err(_) => false,
        },
    }
}

fn rename(from: &Path, to: &Path) -> bool {
    let Ok(meta) = from.symlink_metadata() else { return false };
    // What a rename does to something that stands in its way differs by kind; here it is only files over files.
    let in_the_way = to.symlink_metadata().ok();
    if to.starts_with(from) || in_the_way.is_some_and(|there| there.is_dir() || meta.is_dir()) {
        return false;
    }
    match fs::rename(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            copy_tree(from, to);
            fs::remove_dir_all(from).is_ok()
        }
        done => done.is_ok(),
    }
}

fn copy_tree(from: &Path, to: &Path) {
    let meta = from.symlink_metadata().unwrap();
    if meta.is_symlink() {
        symlink(fs::read_link(from).unwrap(), to).unwrap();
        return;
    }
    if meta.is_dir() {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap().flatten() {
            copy_tree(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).unwrap();
    }
    fs::set_permissions(to, meta.permissions()).unwrap();
}

pub(super) type Picture = BTreeMap<String, Entry>;

pub(super) fn picture(root: &Path) -> Picture {
    let mut all = Picture::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let meta = path.symlink_metadata().unwrap();
            let mode = meta.mode() & 0o777;
            let seen = if meta.is_symlink() {
                Entry::Symlink { target: fs::read_link(&path).unwrap().to_str().unwrap().to_owned() }
            } else if meta.is_dir() {
                Entry::Folder { mode }
            } else {
                let content = fs::read(&path).unwrap();
                Entry::File { hash: Hash::of(&content), bytes: content.len() as u64, mode }
            };
            all.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), seen);
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    all
}

struct Case {
    folder: PathBuf,
    workspace: PathBuf,
    ops: Vec<Op>,
    before: Picture,
    after: Picture,
    diff: LayerDiff,
    chance: Chance,
}

impl Case {
    /// A workspace, and a layer over it in which the operations were done.
    fn new(root: &Path, number: u64) -> Self {
        let mut chance = Chance(number.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let folder = root.join(number.to_string());
        let at = |name: &str| folder.join(name);
        for name in ["workspace", "upper", "work", "view", "model"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        let workspace = at("workspace");
        // Two names of one file fall apart in an overlay, so the workspace begins without.
        chance.ops(12).iter().filter(|op| !matches!(op, Op::Link(..))).for_each(|op| {
            apply(&workspace, op);
        });
        fs::remove_dir(at("model")).unwrap();
        copy_tree(&workspace, &at("model"));
        let before = picture(&workspace);
        let options = format!(
            "lowerdir={},upperdir={},workdir={},userxattr",
            workspace.display(),
            at("upper").display(),
            at("work").display()
        );
        let began = SystemTime::now();
        let options = std::ffi::CString::new(options).unwrap();
        mount("test", at("view"), "overlay", MountFlags::empty(), options.as_c_str()).unwrap();
        let ops = chance.ops(12);
        for op in &ops {
            let (one, other) = (apply(&at("view"), op), apply(&at("model"), op));
            assert_eq!(one, other, "case {number}: {op:?} of {ops:?}");
        }
        let (after, seen) = (picture(&at("model")), picture(&at("view")));
        unmount(at("view"), UnmountFlags::empty()).unwrap();
        assert_eq!(seen, after, "case {number}: the overlay itself: {ops:?}");
        assert_eq!(picture(&workspace), before, "case {number}: the workspace before any merge");
        let diff = diff::read(&workspace, &[], &at("upper"), began, u64::MAX).unwrap();
        assert!(diff.refused.is_empty(), "case {number}: {:?}", diff.refused);
        Self { folder, workspace, ops, before, after, diff, chance }
    }

    fn merge(&self, upper: &str, diff: &LayerDiff) -> MergeReport {
        let merged = merge::run(&self.workspace, &[], &self.folder.join(upper), &self.folder.join("kept"), diff);
        merged.unwrap_or_else(|error| {
            panic!("{error:?}: {:?}\n{:?}\n{:?}", self.ops, diff.changes, picture(&self.workspace))
        })
    }

    fn contents(&self, upper: &str, diff: &LayerDiff) -> ContentSource {
        let kept = keep::contents(&self.workspace, &self.folder.join(upper), diff, &KeepLimits::default()).unwrap();
        let kept: BTreeMap<Hash, Vec<u8>> = kept.into_iter().map(|content| (Hash::of(&content), content)).collect();
        Arc::new(move |hash| kept.get(hash).cloned())
    }

    /// Merges what leads back from `diff`; the diff of that.
    fn back(&self, upper: &str, diff: &LayerDiff, contents: &ContentSource) -> (LayerDiff, ContentSource) {
        let back =
            |change: &Change| Change { path: change.path.clone(), old: change.new.clone(), new: change.old.clone() };
        let changes = diff.changes.iter().map(back).collect();
        fs::create_dir(self.folder.join(upper)).unwrap();
        let staged = stage::write(&self.workspace, &[], &self.folder.join(upper), changes, contents).unwrap();
        assert!(staged.refused.is_empty(), "{:?}", staged.refused);
        let kept = self.contents(upper, &staged);
        let report = self.merge(upper, &staged);
        assert!(report.conflicts.is_empty(), "{report:?}");
        (staged, kept)
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Merged (killed somewhere in between, and done again), undone, and that undone too.
fn round_trip(root: &Path, number: u64) {
    let mut case = Case::new(root, number);
    let contents = case.contents("upper", &case.diff);
    let some = case.chance.below(1 + case.diff.changes.len() as u64) as usize;
    // In the order in which a merge goes: removals first, the deepest first.
    let (gone, here): (Vec<_>, Vec<_>) =
        case.diff.changes.iter().cloned().partition(|change| change.new == Entry::Absent);
    let mut done_before: Vec<Change> = gone.into_iter().rev().chain(here).take(some).collect();
    done_before.sort_by(|a, b| a.path.cmp(&b.path));
    case.merge("upper", &LayerDiff { changes: done_before, ..LayerDiff::default() });
    let report = case.merge("upper", &case.diff);
    let context = || format!("case {number}: {:?}\n{:?}", case.ops, case.diff.changes);
    assert!(report.conflicts.is_empty(), "{report:?} {}", context());
    assert_eq!(report.merged.len(), case.diff.changes.len(), "{}", context());
    assert_eq!(picture(&case.workspace), case.after, "merged, {}", context());
    let (undo, kept) = case.back("undo", &case.diff, &contents);
    assert_eq!(picture(&case.workspace), case.before, "undone, {}", context());
    case.back("redo", &undo, &kept);
    assert_eq!(picture(&case.workspace), case.after, "done again, {}", context());
}

/// Somebody works in the folder between the call and its merge: what they touched stays as they left it.
fn meddled(root: &Path, number: u64) {
    let mut case = Case::new(root, number);
    for op in case.chance.ops(6) {
        apply(&case.workspace, &op);
    }
    let before = picture(&case.workspace);
    let (options, contents): (_, ContentSource) = (Options::new("/nowhere"), Arc::new(|_| Some(Vec::new())));
    let foreseen = outlook(&options, &case.workspace, case.diff.changes.clone(), &contents).unwrap();
    let report = case.merge("upper", &case.diff);
    let after = picture(&case.workspace);
    let context = format!("case {number}: {:?}\n{:?}\n{report:?}", case.ops, case.diff.changes);
    let conflicts: Vec<&str> = report.conflicts.iter().map(|conflict| conflict.path.as_str()).collect();
    assert_eq!(foreseen.conflicts, conflicts, "as foreseen, {context}");
    let of = |picture: &Picture, path: &str| picture.get(path).cloned().unwrap_or(Entry::Absent);
    for change in &case.diff.changes {
        let path = change.path.as_str();
        let is_merged = report.merged.iter().any(|merged| merged == path);
        assert_ne!(is_merged, conflicts.contains(&path), "{path} is one of both, {context}");
        if is_merged {
            assert_eq!(of(&after, path), change.new, "{path}, {context}");
            let was = of(&before, path);
            let may_be = was == change.old || was == change.new || merge::is_half_way(&was, change);
            assert!(may_be, "{path} was {was:?}, {context}");
        } else {
            assert_eq!(of(&after, path), of(&before, path), "{path} stays, {context}");
        }
    }
    for conflict in report.conflicts.iter().filter(|conflict| !conflict.kept_at.is_empty()) {
        let change = case.diff.changes.iter().find(|change| change.path == conflict.path).unwrap();
        if let Entry::File { hash, .. } = &change.new {
            assert_eq!(Hash::of(&fs::read(&conflict.kept_at).unwrap()), *hash, "{context}");
        }
    }
    let touched = |path: &str| case.diff.changes.iter().any(|change| change.path == path);
    for path in before.keys().chain(after.keys()).filter(|path| !touched(path)) {
        assert_eq!(of(&after, path), of(&before, path), "{path} is nobody's, {context}");
    }
    assert_eq!(case.merge("upper", &case.diff), report, "a second merge says the same, {context}");
    assert_eq!(picture(&case.workspace), after, "and does nothing, {context}");
}

/// On a thread of its own, with a file system in memory that no other thread sees.
pub(super) fn in_memory(check: impl Fn(&Path) + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let done = std::thread::spawn(move || {
        let folder = tempfile::tempdir().unwrap();
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        mount("test", folder.path(), "tmpfs", MountFlags::empty(), c"size=512m").unwrap();
        check(folder.path());
        unmount(folder.path(), UnmountFlags::DETACH).unwrap();
    });
    if let Err(panic) = done.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn layers_are_what_a_plain_folder_is_even_numbers() {
    in_memory(|root| (0..ROUND_TRIPS).for_each(|number| round_trip(root, 2 * number)));
}

#[test]
fn layers_are_what_a_plain_folder_is_odd_numbers() {
    in_memory(|root| (0..ROUND_TRIPS).for_each(|number| round_trip(root, 2 * number + 1)));
}

#[test]
fn what_others_changed_stays_even_numbers() {
    in_memory(|root| (0..MEDDLINGS).for_each(|number| meddled(root, 1_000_000 + 2 * number)));
}

#[test]
fn what_others_changed_stays_odd_numbers() {
    in_memory(|root| (0..MEDDLINGS).for_each(|number| meddled(root, 1_000_001 + 2 * number)));
}
