//! Merging where there is no room: nothing is changed before all of it fits, and later the rest is done.

use std::{fs, io, path::Path};

use homarus_contract::{
    ids::Hash,
    sandbox::{Change, Entry, LayerDiff},
};
use rustix::mount::{MountFlags, mount, mount_remount};

use super::{
    allowed,
    beneath::Root,
    entry,
    entry::Seen,
    merge::{self, Failed},
    tests::{in_memory, picture},
};

const SMALL_BYTES: usize = 200_000;
const LARGE_BYTES: usize = 900_000;

/// A workspace with room for one megabyte, beside a layer that has room enough.
fn small(root: &Path) -> std::path::PathBuf {
    let workspace = root.join("workspace");
    for folder in [&workspace, &root.join("upper")] {
        fs::create_dir(folder).unwrap();
    }
    mount("test", &workspace, "tmpfs", MountFlags::empty(), c"size=1m").unwrap();
    workspace
}

/// A layer with these files, over what the workspace is now.
fn layer(root: &Path, files: &[(&str, Vec<u8>)], removed: &[&str]) -> LayerDiff {
    let (workspace, upper) = (root.join("workspace"), root.join("upper"));
    let now = |path: &str| match Root::open(&workspace).unwrap().place(path).unwrap() {
        Some(place) => match entry::look_at(&place).unwrap() {
            Seen::Entry(entry) => entry,
            Seen::Odd(_) => panic!("{path}"),
        },
        None => Entry::Absent,
    };
    let mut changes = Vec::new();
    for (path, content) in files {
        for (at, _) in path.match_indices('/') {
            let folder = path[..at].to_owned();
            fs::create_dir_all(upper.join(&folder)).unwrap();
            if !changes.iter().any(|change: &Change| change.path == folder) {
                changes.push(Change { path: folder, old: Entry::Absent, new: Entry::Folder { mode: 0o755 } });
            }
        }
        fs::write(upper.join(path), content).unwrap();
        let new = Entry::File { hash: Hash::of(content), bytes: content.len() as u64, mode: 0o644 };
        changes.push(Change { path: (*path).to_owned(), old: now(path), new });
    }
    for path in removed {
        changes.push(Change { path: (*path).to_owned(), old: now(path), new: Entry::Absent });
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    LayerDiff { changes, ..LayerDiff::default() }
}

fn run(root: &Path, diff: &LayerDiff) -> Result<homarus_contract::sandbox::MergeReport, Failed> {
    merge::run(&root.join("workspace"), &[], &root.join("upper"), &root.join("kept"), diff)
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::StorageFull
}

#[test]
fn a_merge_that_does_not_fit_changes_nothing_and_is_done_when_there_is_room() {
    in_memory(|root| {
        let workspace = small(root);
        fs::write(workspace.join("changed"), "before").unwrap();
        fs::write(workspace.join("gone"), "before").unwrap();
        fs::write(workspace.join("ballast"), vec![0; SMALL_BYTES]).unwrap();
        let files = [
            ("a", vec![1; SMALL_BYTES]),
            ("changed", b"after".to_vec()),
            ("new/deep/b", vec![2; SMALL_BYTES]),
            ("z", vec![3; SMALL_BYTES * 3]),
        ];
        let diff = layer(root, &files, &["gone"]);
        let before = picture(&workspace);
        for _ in 0..3 {
            let failed = run(root, &diff).unwrap_err();
            assert!(matches!(&failed, Failed::Untouched(error) if is_full(error)), "{failed:?}");
            assert_eq!(picture(&workspace), before, "not even a file under a name of ours");
        }
        fs::remove_file(workspace.join("ballast")).unwrap();
        fs::remove_file(workspace.join("changed")).unwrap();
        fs::write(workspace.join("changed"), "before").unwrap();
        // There is room for the three new ones, but not for two of the largest.
        let smaller = layer(root, &files[..3], &["gone"]);
        let report = run(root, &smaller).unwrap();
        assert_eq!((report.conflicts.len(), report.merged.len()), (0, 6), "{report:?}");
        for (path, content) in &files[..3] {
            assert!(fs::read(workspace.join(path)).unwrap() == *content, "{path}");
        }
        assert!(!workspace.join("gone").exists());
        assert_eq!(fs::read_dir(&workspace).unwrap().count(), 3, "a, changed, new: nothing of ours is left");
    });
}

/// A version in conflict is kept before anything is merged.
#[test]
fn where_a_conflict_cannot_be_kept_nothing_is_merged() {
    in_memory(|root| {
        let workspace = small(root);
        fs::write(workspace.join("b"), "seen by the call").unwrap();
        let diff = layer(root, &[("a", b"new".to_vec()), ("b", vec![1; LARGE_BYTES])], &[]);
        fs::write(workspace.join("b"), "by somebody else").unwrap();
        fs::create_dir(root.join("kept")).unwrap();
        mount("test", root.join("kept"), "tmpfs", MountFlags::empty(), c"size=100k").unwrap();
        let before = picture(&workspace);
        let failed = run(root, &diff).unwrap_err();
        assert!(matches!(&failed, Failed::Untouched(error) if is_full(error)), "{failed:?}");
        assert_eq!(picture(&workspace), before);
        mount_remount(root.join("kept"), MountFlags::empty(), "size=2m").unwrap();
        let report = run(root, &diff).unwrap();
        assert_eq!(report.merged, ["a"]);
        assert_eq!(fs::read(&report.conflicts[0].kept_at).unwrap().len(), LARGE_BYTES);
        assert_eq!(fs::read_to_string(workspace.join("b")).unwrap(), "by somebody else");
    });
}

/// Killed when it had just made a folder: the next one finds what waited above it.
#[test]
fn what_a_killed_merge_left_waiting_is_taken_away() {
    in_memory(|root| {
        let workspace = small(root);
        let diff = layer(root, &[("new/deep/b", b"new".to_vec())], &[]);
        for folder in ["", "new", "new/deep"] {
            fs::create_dir_all(workspace.join(folder)).unwrap();
            fs::write(workspace.join(folder).join(allowed::temporary("new/deep/b")), "waits").unwrap();
        }
        run(root, &diff).unwrap();
        let names: Vec<String> = picture(&workspace).into_keys().collect();
        assert_eq!(names, ["new", "new/deep", "new/deep/b"]);
    });
}

/// A layer that is not what the journal says is found before anything is merged.
#[test]
fn a_torn_layer_is_not_merged_in_part() {
    in_memory(|root| {
        let workspace = small(root);
        let diff = layer(root, &[("a", b"whole".to_vec()), ("b", b"torn".to_vec())], &[]);
        fs::write(root.join("upper/b"), "t\0\0\0").unwrap();
        let failed = run(root, &diff).unwrap_err();
        assert!(matches!(&failed, Failed::Untouched(error) if error.to_string().contains("not what its diff says")));
        assert_eq!(fs::read_dir(workspace).unwrap().count(), 0);
    });
}
