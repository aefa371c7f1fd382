//! What a call wrote shows in its diff, and nowhere else before it is merged.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use homarus_contract::sandbox::Entry;

use crate::fixture::Fixture;

#[tokio::test]
async fn every_kind_of_change_shows_and_merges() {
    let fixture = Fixture::new();
    for (path, text) in [
        ("edit", "one\ntwo\n"),
        ("gone", "x"),
        ("old-name", "moved"),
        ("dir/a", "a"),
        ("dir/deep/b", "b"),
        ("swap", "file"),
        ("tool", "#!/bin/sh\n"),
        ("replaced/a", "1"),
        ("replaced/b", "1"),
        ("same", "same"),
    ] {
        fixture.write(path, text);
    }
    fs::set_permissions(fixture.workspace.join("tool"), fs::Permissions::from_mode(0o644)).unwrap();
    let script = "set -e; echo new > new; sed -i s/two/2/ edit; rm gone; mv old-name new-name; mkdir -p empty sub/x; echo c > sub/x/c; \
                  rm -r dir; ln -s edit link; chmod 755 tool; rm swap; mkdir swap; echo in > swap/in; \
                  rm -r replaced; mkdir replaced; echo 2 > replaced/a; touch same; umask 077; echo p > private";
    let called = fixture.sh(script).await;
    assert!(called.done.exit.is_success(), "{}", called.stderr());
    assert_eq!(
        called.paths(),
        [
            "dir",
            "dir/a",
            "dir/deep",
            "dir/deep/b",
            "edit",
            "empty",
            "gone",
            "link",
            "new",
            "new-name",
            "old-name",
            "private",
            "replaced/a",
            "replaced/b",
            "sub",
            "sub/x",
            "sub/x/c",
            "swap",
            "swap/in",
            "tool"
        ]
    );
    assert!(called.done.diff.refused.is_empty(), "{:?}", called.done.diff.refused);
    assert!(called.done.diff.text.contains("-two\n+2\n"), "{}", called.done.diff.text);
    assert!(matches!(called.change("tool").new, Entry::File { mode: 0o755, .. }));
    assert!(matches!(called.change("private").new, Entry::File { mode: 0o600, .. }));
    assert_eq!(called.change("link").new, Entry::Symlink { target: "edit".into() });
    // Before the merge the workspace is as it was.
    assert_eq!(fixture.read("edit").unwrap(), "one\ntwo\n");
    assert!(fixture.read("new").is_none() && fixture.read("gone").is_some());
    assert!(fixture.layer_exists(&called.layer));

    let report = fixture.merge(&called).await;
    assert!(report.conflicts.is_empty(), "{report:?}");
    assert_eq!(report.merged.len(), called.done.diff.changes.len());
    assert_eq!(fixture.read("edit").unwrap(), "one\n2\n");
    assert_eq!(fixture.read("new-name").unwrap(), "moved");
    assert_eq!(fixture.read("swap/in").unwrap(), "in\n");
    assert_eq!(fixture.read("replaced/a").unwrap(), "2\n");
    assert_eq!(fixture.read("sub/x/c").unwrap(), "c\n");
    for gone in ["gone", "old-name", "dir", "replaced/b"] {
        assert!(!fixture.workspace.join(gone).exists(), "{gone}");
    }
    assert!(fixture.workspace.join("empty").is_dir());
    assert_eq!(fs::read_link(fixture.workspace.join("link")).unwrap().to_str(), Some("edit"));
    assert_eq!(fs::metadata(fixture.workspace.join("tool")).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(!fixture.layer_exists(&called.layer));
    // Nothing of ours stays behind.
    let leftovers = fs::read_dir(&fixture.workspace)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains("homarus"));
    assert_eq!(leftovers.count(), 0);
}

#[tokio::test]
async fn what_can_never_be_merged_is_refused() {
    let fixture = Fixture::new();
    fixture.write("repo/.git/config", "[core]\n");
    fixture.write("repo/.git/HEAD", "x");
    let script = "mkfifo pipe; printf x > suid; chmod 4755 suid; mkdir -p .ssh; echo k > .ssh/authorized_keys; echo evil > .bashrc; \
                  echo evil >> repo/.git/config; mkdir -p repo/.git/hooks; echo evil > repo/.git/hooks/pre-commit; \
                  mkdir other; echo 'gitdir: ../evil' > other/.git; \
                  perl -e 'open F, \">\", \"bad\\xff\"; use Socket; socket(S,1,1,0); bind(S, pack_sockaddr_un(\"sock\"))'; echo ok > fine";
    let called = fixture.sh(script).await;
    for path in
        ["pipe", "suid", ".ssh", ".bashrc", "repo/.git/config", "repo/.git/hooks", "other/.git", "sock", "bad\u{fffd}"]
    {
        assert!(called.refused(path), "{path}: {:?}", called.done.diff.refused);
    }
    assert_eq!(called.paths(), ["fine", "other"]);
    fixture.merge(&called).await;
    assert_eq!(fixture.read("fine").unwrap(), "ok\n");
    assert_eq!(fixture.read("repo/.git/config").unwrap(), "[core]\n");
    for path in ["pipe", "suid", ".ssh", ".bashrc", "other/.git", "repo/.git/hooks"] {
        assert!(!fixture.workspace.join(path).exists(), "{path}");
    }
}

#[tokio::test]
async fn a_link_on_the_way_to_what_is_protected_is_refused() {
    let fixture = Fixture::new();
    fixture.write(".local/share/app/data", "old");
    let script = "mkdir t; printf '[build]\\nrustc-wrapper=\"./t/x\"\\n' > t/config.toml; ln -s t .cargo; \
                  rm -r .local; ln -s t .local; echo CONFIG_X=y > .config";
    let called = fixture.sh(script).await;
    assert!(called.refused(".cargo") && called.refused(".local"), "{:?}", called.done.diff.refused);
    // The configuration of a kernel is a file, and leads nowhere.
    assert_eq!(called.paths(), [".config", "t", "t/config.toml"]);
    fixture.merge(&called).await;
    assert!(fs::symlink_metadata(fixture.workspace.join(".cargo")).is_err());
    assert_eq!(fixture.read(".local/share/app/data").unwrap(), "old");
}

/// The user's own links, as where a home folder is kept in a repository of dotfiles.
#[tokio::test]
async fn what_is_protected_is_so_where_a_link_leads() {
    let fixture = Fixture::new();
    for (path, text) in [
        ("dotfiles/ssh/id", "SECRET"),
        ("dotfiles/aws/key", "SECRET"),
        ("githooks/pre-commit", "old"),
        (".git/HEAD", "x"),
    ] {
        fixture.write(path, text);
    }
    fs::create_dir(fixture.workspace.join("dotfiles/cargo")).unwrap();
    let absolute = fixture.workspace.join("dotfiles/aws");
    for (target, path) in [
        ("dotfiles/ssh", ".ssh"),
        ("dotfiles/cargo", ".cargo"),
        ("../githooks", ".git/hooks"),
        (absolute.to_str().unwrap(), ".aws"),
        ("/dev/null", ".bash_history"),
    ] {
        symlink(target, fixture.workspace.join(path)).unwrap();
    }
    let script = "cat dotfiles/ssh/id dotfiles/aws/key .ssh/id; echo evil > dotfiles/ssh/authorized_keys; echo x > /dev/null || echo NULL; \
                  echo evil > dotfiles/cargo/config.toml; echo evil > githooks/pre-commit; echo fine > dotfiles/other; cat githooks/pre-commit";
    let called = fixture.sh(script).await;
    assert_eq!(called.stdout(), "old", "{}", called.stderr());
    assert!(called.refused("dotfiles/cargo/config.toml"), "{:?}", called.done.diff);
    assert_eq!(called.paths(), ["dotfiles/other"]);
}

#[tokio::test]
async fn names_that_merges_use_are_refused() {
    let fixture = Fixture::new();
    fixture.write("d/.homarus-merge-left", "by a merge that was killed");
    let script = "echo x > .homarus-merge-x; echo y > d/.homarus-merge-y; rm d/.homarus-merge-left; echo ok > fine";
    let called = fixture.sh(script).await;
    assert!(called.refused(".homarus-merge-x") && called.refused("d/.homarus-merge-y"), "{:?}", called.done.diff);
    assert_eq!(called.paths(), ["d/.homarus-merge-left", "fine"]);
    assert_eq!(fixture.merge(&called).await.merged.len(), 2);
}

#[tokio::test]
async fn a_repository_that_is_moved_away_keeps_its_hooks_and_config() {
    let fixture = Fixture::new();
    for path in ["repo/.git/config", "repo/.git/hooks/h", "repo/.git/HEAD", "repo/file"] {
        fixture.write(path, "old");
    }
    // By way of another name, and by removal.
    let moved = fixture.sh("cp -r repo/.git g && rm -rf repo/.git && echo evil > g/config && mv g repo/.git").await;
    assert!(moved.refused("repo/.git/config"), "{:?}", moved.done.diff);
    fixture.merge(&moved).await;
    assert_eq!(fixture.read("repo/.git/config").unwrap(), "old");
    let removed = fixture.sh("rm -rf repo").await;
    assert!(removed.refused("repo") && removed.done.diff.changes.is_empty(), "{:?}", removed.done.diff);
    fixture.merge(&removed).await;
    assert_eq!(fixture.read("repo/.git/hooks/h").unwrap(), "old");
}

#[tokio::test]
async fn a_read_only_call_has_no_layer() {
    let fixture = Fixture::new();
    fixture.write("a", "text");
    let mut spec = fixture.shell("cat a; echo x > b || echo cannot; echo t > /tmp/t && cat /tmp/t");
    spec.read_only = true;
    let called = fixture.exec(spec).await;
    assert_eq!(called.stdout(), "textcannot\nt\n", "{}", called.stderr());
    assert!(called.done.diff.is_empty());
    assert_eq!(called.done.receipt.workspace, "read-only");
    assert!(!fixture.layer_exists(&called.layer));
}

#[tokio::test]
async fn an_attempt_begins_with_an_empty_layer() {
    let fixture = Fixture::new();
    let mut spec = fixture.shell("echo first > a");
    let first = fixture.exec(spec.clone()).await;
    assert_eq!(first.paths(), ["a"]);
    spec.program = homarus_contract::sandbox::Program::Command {
        argv: vec!["/bin/sh".into(), "-c".into(), "ls; echo second > b".into()],
    };
    let second = fixture.exec(spec).await;
    assert_eq!((second.stdout().as_str(), second.paths().as_slice()), ("", ["b"].as_slice()));
}

#[tokio::test]
async fn a_discarded_layer_is_gone_and_may_be_discarded_again() {
    use homarus_contract::sandbox::Sandbox;
    let fixture = Fixture::new();
    let called = fixture.sh("echo x > a; mkdir locked; chmod 000 locked").await;
    assert!(fixture.layer_exists(&called.layer));
    for _ in 0..2 {
        fixture.sandbox.discard(&called.layer).await.unwrap();
    }
    assert!(!fixture.layer_exists(&called.layer) && fixture.read("a").is_none());
}

#[tokio::test]
async fn cache_paths_are_written_directly() {
    let fixture = Fixture::with(|options| options.cache_paths = vec!["target".into()]);
    fs::create_dir(fixture.workspace.join("target")).unwrap();
    let called = fixture.sh("echo x > target/out; echo y > src").await;
    assert_eq!(called.paths(), ["src"], "{}", called.stderr());
    assert_eq!(fixture.read("target/out").unwrap(), "x\n");
}

#[tokio::test]
async fn the_working_folder_and_odd_names_work() {
    let fixture = Fixture::new();
    fixture.write("a, b: c\\d/file", "x");
    let mut spec = fixture.shell("pwd; cat file; echo y > 'new file'");
    spec.cwd = "a, b: c\\d".into();
    let called = fixture.exec(spec).await;
    assert_eq!(called.stdout(), format!("{}/a, b: c\\d\nx", fixture.workspace.display()));
    assert_eq!(called.paths(), ["a, b: c\\d/new file"]);
}

#[tokio::test]
async fn too_many_changes_are_refused_as_a_whole() {
    let fixture = Fixture::new();
    let called = fixture.sh("perl -e 'for (1..10050) { open F, \">\", \"f$_\" }'").await;
    assert!(called.done.diff.changes.is_empty() && called.refused("."), "{}", called.stderr());
}

#[tokio::test]
async fn files_that_are_too_large_together_are_refused_unread() {
    let fixture = Fixture::with(|options| options.layer_bytes_max = 64 << 20);
    // They take nothing on the disk, so no other bound ends this.
    let called = fixture.sh("truncate -s 20m f; for i in 1 2 3; do ln f l$i; done").await;
    assert!(called.done.diff.changes.is_empty() && called.refused("."), "{:?}", called.done.diff);
    assert!(called.done.diff.text.contains("larger together"), "{}", called.done.diff.text);
    let called = fixture.sh("truncate -s 20m f; ln f l1; ln f l2").await;
    assert_eq!(called.paths(), ["f", "l1", "l2"]);
    assert_eq!(called.change("f").new, called.change("l2").new);
}

#[tokio::test]
async fn paths_and_links_that_are_too_long_together_are_refused() {
    let fixture = Fixture::new();
    let called = fixture.sh("perl -e 'symlink(\"x\" x 4000, \"l$_\") for 1..3000'").await;
    assert!(called.done.diff.changes.is_empty() && called.refused("."), "{}", called.stderr());
    assert!(serde_json::to_vec(&called.done.diff).unwrap().len() < 1000);
    let called = fixture.sh("perl -e 'symlink(\"x\" x 4000, \"l$_\") for 1..100'").await;
    assert_eq!(called.paths().len(), 100);
}
