//! Merging: what others changed stays, links are no way out, and doing it twice is doing it once.

use std::{fs, os::unix::fs::symlink};

use homarus_contract::{
    ids::Hash,
    sandbox::{Entry, SandboxError},
};

use crate::fixture::{Fixture, signalling};

#[tokio::test]
async fn a_path_the_user_changed_is_a_conflict_and_kept_apart() {
    let fixture = Fixture::new();
    for path in ["both", "removed-by-call", "only-call"] {
        fixture.write(path, "old\n");
    }
    let called = fixture.sh("echo call > both; rm removed-by-call; echo call > only-call; echo call > created").await;
    fixture.write("both", "user\n");
    fixture.write("removed-by-call", "user\n");
    fixture.write("created", "user\n");
    let report = fixture.merge(&called).await;
    assert_eq!(report.merged, ["only-call"]);
    let conflicts: Vec<&str> = report.conflicts.iter().map(|conflict| conflict.path.as_str()).collect();
    assert_eq!(conflicts, ["both", "created", "removed-by-call"]);
    for path in ["both", "removed-by-call", "created"] {
        assert_eq!(fixture.read(path).unwrap(), "user\n");
    }
    assert_eq!(fs::read_to_string(&report.conflicts[0].kept_at).unwrap(), "call\n");
    assert!(report.conflicts[0].kept_at.starts_with(fixture.state.to_str().unwrap()));
    assert_eq!(report.conflicts[2].kept_at, "");
    // Again, with the layer gone: the same report.
    assert_eq!(fixture.merge(&called).await, report);
}

#[tokio::test]
async fn what_the_user_changed_during_the_call_is_a_conflict() {
    let fixture = signalling();
    let path = fixture.write("both", "old\n");
    let spec =
        fixture.shell("cat both > seen; echo begun; while ! test -e signal/go; do sleep 0.02; done; echo call > both");
    let go = fixture.workspace.join("signal/go");
    let sink = std::sync::Arc::new(move |_| {
        fs::write(&path, "user\n").unwrap();
        fs::write(&go, "").unwrap();
    });
    let called = fixture.exec_into(spec, sink).await.unwrap();
    let report = fixture.merge(&called).await;
    assert_eq!(report.conflicts.len(), 1, "{report:?}");
    assert_eq!(fixture.read("both").unwrap(), "user\n");
}

#[tokio::test]
async fn a_merge_that_was_killed_is_done_again() {
    let fixture = Fixture::new();
    fixture.write("dir/gone", "old");
    fixture.write("edit", "old");
    let called = fixture.sh("rm -r dir; echo new > edit; mkdir made; echo in > made/in; ln -s edit link").await;
    let all = called.done.diff.changes.len();
    // As a kill in the middle would leave it: some applied, one half written under its other name.
    fs::remove_file(fixture.workspace.join("dir/gone")).unwrap();
    fs::create_dir(fixture.workspace.join("made")).unwrap();
    let Entry::Folder { mode } = called.change("made").new else { panic!() };
    fs::set_permissions(fixture.workspace.join("made"), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    let waiting = fixture.write(&format!(".homarus-merge-{}", Hash::of(b"edit")), "ne");
    let report = fixture.merge(&called).await;
    assert_eq!((report.merged.len(), report.conflicts.len()), (all, 0), "{report:?}");
    assert_eq!(fixture.read("made/in").unwrap(), "in\n");
    assert_eq!(fixture.read("edit").unwrap(), "new\n");
    assert!(!waiting.exists(), "nothing of ours is left");
    // Once more after the layer is gone, as when the kill came before `Merged` was journalled.
    let again = fixture.merge(&called).await;
    assert_eq!(again, report);
}

#[tokio::test]
async fn a_link_that_is_swapped_in_does_not_redirect_a_merge() {
    let fixture = Fixture::new();
    let outside = fixture.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "old").unwrap();
    fs::write(outside.join("victim"), "old").unwrap();
    fixture.write("dir/file", "old");
    fixture.write("victim", "old");
    let called = fixture.sh("echo evil > dir/file; echo evil > dir/new; echo evil > victim").await;
    fs::remove_dir_all(fixture.workspace.join("dir")).unwrap();
    symlink(&outside, fixture.workspace.join("dir")).unwrap();
    fs::remove_file(fixture.workspace.join("victim")).unwrap();
    symlink(outside.join("victim"), fixture.workspace.join("victim")).unwrap();
    let report = fixture.merge(&called).await;
    assert_eq!((report.merged.len(), report.conflicts.len()), (0, 3), "{report:?}");
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "old");
    assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "old");
    assert!(!outside.join("new").exists());
}

#[tokio::test]
async fn links_a_call_made_are_merged_as_links_and_not_followed() {
    let fixture = Fixture::new();
    let outside = fixture.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let called = fixture.sh(&format!("ln -s {} way-out", outside.display())).await;
    fixture.merge(&called).await;
    assert!(fs::symlink_metadata(fixture.workspace.join("way-out")).unwrap().is_symlink());
    // The next call writes through it: inside, where it leads nowhere.
    let called = fixture.sh("echo x > way-out/file").await;
    assert!(!called.done.exit.is_success());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test]
async fn a_permit_for_another_diff_merges_nothing() {
    use homarus_contract::sandbox::Sandbox;
    let fixture = Fixture::new();
    let called = fixture.sh("echo x > a").await;
    let mut other = called.done.diff.clone();
    other.changes[0].path = "b".into();
    let permit = crate::gate::merge_permit(&called.layer.run, &called.layer.call, &called.done.diff);
    let result = fixture.sandbox.merge(permit, fixture.workspace.clone(), called.layer.clone(), other).await;
    assert!(matches!(result, Err(SandboxError::Refused(_))));
    assert!(fixture.read("a").is_none() && fixture.read("b").is_none());
}

#[tokio::test]
async fn a_diff_that_was_tampered_with_cannot_climb_out_or_lie() {
    let fixture = Fixture::new();
    let mut called = fixture.sh("echo x > a").await;
    for path in ["../outside", "a/../../outside", ".git/hooks/pre-commit", ".ssh/authorized_keys"] {
        called.done.diff.changes[0].path = path.into();
        assert!(fixture.try_merge(&called).await.is_err(), "{path}");
    }
    assert!(!fixture.dir.path().join("outside").exists());
    // The content of the layer is checked against the hash that was approved.
    let upper = fixture.state.join("layers/test").join(format!("{}-1", called.layer.call)).join("upper/a");
    called.done.diff.changes[0].path = "a".into();
    fs::write(upper, "other").unwrap();
    assert!(fixture.try_merge(&called).await.is_err());
    assert!(fixture.read("a").is_none());
}

#[tokio::test]
async fn a_folder_the_user_put_something_in_is_not_removed() {
    let fixture = Fixture::new();
    fixture.write("dir/old", "x");
    let called = fixture.sh("rm -r dir").await;
    fixture.write("dir/mine", "user");
    let report = fixture.merge(&called).await;
    assert_eq!(report.merged, ["dir/old"]);
    assert_eq!(report.conflicts[0].path, "dir");
    assert_eq!(fixture.read("dir/mine").unwrap(), "user");
}
