//! What Homarus itself obeys lies in the workspace: calls from which it comes out as it was.

use std::{fs, os::unix::fs::symlink, sync::Arc};

use homarus_contract::{
    ids::Hash,
    sandbox::{Change, Entry, Sandbox, SandboxError},
};
use tempfile::TempDir;

use crate::{fixture::Fixture, gate};

const RULES: &str = "SECRET rules\n";

/// Named as it is; by a link from outside; by a link in the workspace; and not there yet.
fn fixture() -> Fixture {
    let dir = TempDir::new().unwrap();
    let at = |path: &str| dir.path().join(path);
    let (work, state, outside) = (at("work"), at("state"), at("config"));
    Fixture::in_folders(dir, state, |options| {
        for folder in [&outside, &work.join("dotfiles"), &work.join("real")] {
            fs::create_dir(folder).unwrap();
        }
        for path in ["h.toml", "dotfiles/homarus.toml", "real/rules.toml"] {
            fs::write(work.join(path), RULES).unwrap();
        }
        symlink(work.join("dotfiles/homarus.toml"), outside.join("homarus.toml")).unwrap();
        symlink("real", work.join("conf")).unwrap();
        let own = ["h.toml", "conf/rules.toml", "later/config"].map(|path| work.join(path));
        options.hidden = own.into_iter().chain([outside.join("homarus.toml")]).collect();
    })
}

fn check(fixture: &Fixture, script: &str) {
    for path in ["h.toml", "dotfiles/homarus.toml", "real/rules.toml", "conf/rules.toml"] {
        assert_eq!(fixture.read(path).as_deref(), Some(RULES), "{path} after {script}");
    }
    assert!(fixture.workspace.join("conf").is_symlink(), "{script}");
    assert!(!fixture.workspace.join("later/config").exists(), "{script}");
}

#[tokio::test]
async fn nothing_of_it_is_read_or_changed() {
    let fixture = fixture();
    for script in [
        "cat h.toml dotfiles/* real/* conf/*; cp -r . /tmp/all; cat /tmp/all/h.toml /tmp/all/real/*",
        "echo evil > h.toml; echo evil >> conf/rules.toml; chmod 666 h.toml dotfiles/homarus.toml",
        "rm -f h.toml real/rules.toml; echo evil > x; mv x h.toml; mv -f x real/rules.toml; ln -sf note h.toml",
        "mv dotfiles other; rm -rf dotfiles; mkdir -p dotfiles; echo evil > dotfiles/homarus.toml",
        "rm -rf dotfiles; ln -s real dotfiles; rm -rf real; ln -s dotfiles real",
        "rm conf; mkdir conf; echo evil > conf/rules.toml",
        "mkdir -p evil; echo evil > evil/rules.toml; ln -sfn evil conf",
        "mkdir -p evil/config; ln -s evil later",
        "mkdir -p later/config; echo evil > later/config/homarus.toml",
    ] {
        let called = fixture.sh(&format!("{script}; echo {} > note", script.len())).await;
        assert!(!called.stdout().contains("SECRET"), "{script}");
        fixture.merge(&called).await;
        check(&fixture, script);
        assert_eq!(fixture.read("note"), Some(format!("{}\n", script.len())), "the rest is merged: {script}");
    }
    let called = fixture.sh("mkdir -p later/config later/other; echo evil > later/config/x").await;
    assert!(called.refused("later/config"), "{:?}", called.done.diff);
    assert_eq!(called.paths(), ["later/other"]);
}

/// Whatever stands in the journal: a diff of another configuration, say.
#[tokio::test]
async fn no_diff_and_no_undoing_changes_it() {
    let fixture = fixture();
    let entry = |text: &str| Entry::File { hash: Hash::of(text.as_bytes()), bytes: text.len() as u64, mode: 0o644 };
    for path in ["h.toml", "real/rules.toml", "conf", "later/config/homarus.toml"] {
        let mut called = fixture.sh("echo evil > a").await;
        let mut change = called.change("a").clone();
        change.path = path.to_owned();
        called.done.diff.changes = vec![change];
        assert!(matches!(fixture.try_merge(&called).await, Err(SandboxError::Layer(_))), "{path}");

        let spec = fixture.shell("");
        let permit = gate::permit(&spec.layer.run, &spec.layer.call).await;
        let change = Change { path: path.to_owned(), old: entry(RULES), new: entry("evil") };
        let contents = Arc::new(|_: &Hash| Some(b"evil".to_vec()));
        let workspace = fixture.workspace.clone();
        let diff = fixture.sandbox.stage(permit, workspace, spec.layer, vec![change], contents).await.unwrap();
        assert!(diff.changes.is_empty() && diff.refused[0].0 == path, "{diff:?}");
    }
    check(&fixture, "forged");
}

#[tokio::test]
async fn no_cache_folder_holds_it() {
    for (cache, own) in [("cache", "cache/h.toml"), ("cache/deep", "cache")] {
        let dir = TempDir::new().unwrap();
        let (work, state) = (dir.path().join("work"), dir.path().join("state"));
        let fixture = Fixture::in_folders(dir, state, |options| {
            options.cache_paths = vec![cache.into()];
            options.hidden = vec![work.join(own)];
        });
        let called = fixture.exec_into(fixture.shell("true"), Arc::new(|_| {})).await;
        let Err(SandboxError::Refused(why)) = called.map(|_| ()) else { panic!("{cache}") };
        assert!(why.contains("of Homarus itself"), "{why}");
    }
}
