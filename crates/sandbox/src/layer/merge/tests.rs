//! Merges that were killed, and diffs that no call can have made.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn change(path: &str, old: Entry, new: Entry) -> Change {
    Change { path: path.to_owned(), old, new }
}

/// Merges into `workspace` beside a layer in which the file `new` is.
fn merged(folder: &Path, changes: Vec<Change>) -> MergeReport {
    let (upper, kept) = (folder.join("upper"), folder.join("kept"));
    fs::create_dir_all(&upper).unwrap();
    fs::write(upper.join("new"), "new").unwrap();
    run(&folder.join("workspace"), &[], &upper, &kept, &LayerDiff { changes, ..LayerDiff::default() }).unwrap()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("workspace")).unwrap();
    folder
}

#[test]
fn a_merge_that_was_killed_while_it_made_a_folder_is_done_again() {
    let folder = folder();
    let workspace = folder.path().join("workspace");
    fs::create_dir(workspace.join(temporary("made"))).unwrap();
    let report = merged(folder.path(), vec![change("made", Entry::Absent, Entry::Folder { mode: 0o755 })]);
    assert_eq!((report.merged.len(), report.conflicts.len()), (1, 0), "{report:?}");
    assert_eq!(fs::metadata(workspace.join("made")).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::read_dir(&workspace).unwrap().count(), 1, "nothing of ours is left");
}

#[test]
fn a_folder_is_never_there_with_another_mode_than_it_shall_have() {
    let folder = folder();
    let workspace = folder.path().join("workspace");
    let paths: Vec<String> = (0..300).map(|number| format!("f{number:03}")).collect();
    let changes = paths.iter().map(|path| change(path, Entry::Absent, Entry::Folder { mode: 0o755 })).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // As a takeover after a kill at any instant would see it.
            let mut next = 0;
            while next < paths.len() && !done.load(Ordering::Relaxed) {
                if let Ok(made) = fs::metadata(workspace.join(&paths[next])) {
                    assert_eq!(made.permissions().mode() & 0o777, 0o755, "{}", paths[next]);
                    next += 1;
                }
            }
        });
        assert_eq!(merged(folder.path(), changes).merged.len(), paths.len());
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_merge_that_was_killed_between_a_folder_and_what_takes_its_place_is_done_again() {
    let file = Entry::File { hash: Hash::of(b"new"), bytes: 3, mode: 0o644 };
    let old_file = Entry::File { hash: Hash::of(b"old"), bytes: 3, mode: 0o644 };
    let link = Entry::Symlink { target: "elsewhere".to_owned() };
    let made = Entry::Folder { mode: 0o755 };
    for (path, old, new) in [
        ("new", made.clone(), file.clone()),
        ("new", made.clone(), link.clone()),
        ("new", old_file.clone(), made.clone()),
        ("new", link, made),
    ] {
        // What was there is gone, what shall be is not there yet.
        let folder = folder();
        let report = merged(folder.path(), vec![change(path, old, new.clone())]);
        assert_eq!((report.merged.len(), report.conflicts.len()), (1, 0), "{new:?}");
        let root = Root::open(&folder.path().join("workspace")).unwrap();
        let Seen::Entry(now) = entry::look_at(&root.place(path).unwrap().unwrap()).unwrap() else { panic!() };
        assert!(is_same(&now, &new), "{now:?} is not {new:?}");
    }
    // A file that somebody took away is one that somebody took away.
    let folder = folder();
    let report = merged(folder.path(), vec![change("new", old_file, file)]);
    assert_eq!((report.merged.len(), report.conflicts.len()), (0, 1));
}

#[test]
fn what_no_call_can_have_made_is_not_merged() {
    let folder = folder();
    let at = |path: &str| folder.path().join(path);
    for path in ["outside", "upper/a", "upper/c"] {
        fs::create_dir_all(at(path)).unwrap();
    }
    fs::write(at("workspace/a"), "G").unwrap();
    for path in ["upper/a/x", "upper/b", "upper/c/.homarus-merge-x"] {
        fs::write(at(path), "P").unwrap();
    }
    let file = |text: &str| Entry::File { hash: Hash::of(text.as_bytes()), bytes: text.len() as u64, mode: 0o644 };
    let link = Entry::Symlink { target: at("outside").to_str().unwrap().to_owned() };
    for changes in [
        // Both in conflict: kept one after the other, the second through the first.
        vec![change("a", file("F"), link.clone()), change("a/x", file("Q"), file("P"))],
        // Both wait under one name.
        vec![change("b", Entry::Absent, file("P")), change("b", Entry::Absent, file("F"))],
        vec![change(".cargo", Entry::Absent, link)],
        vec![change("c/.homarus-merge-x", Entry::Absent, file("P"))],
    ] {
        let diff = LayerDiff { changes, ..LayerDiff::default() };
        let failed = run(&at("workspace"), &[], &at("upper"), &at("kept"), &diff).unwrap_err();
        assert!(matches!(failed, Failed::Untouched(_)), "{failed:?}");
        assert_eq!(fs::read_dir(at("outside")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(at("workspace")).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(at("workspace/a")).unwrap(), "G");
    }
}
