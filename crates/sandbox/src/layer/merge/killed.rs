//! The real merge, killed after each thing it does to the disk, and done again.
//!
//! A kill runs no destructors: each of these merges is a process of its own, which kills itself at its n-th step. It is
//! this test's own program, started for [`merges_and_is_killed`]; the next one finds on the disk whatever that one left.

use std::{
    os::unix::{
        fs::{lchown, symlink},
        process::ExitStatusExt,
    },
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::process::{Signal, getpid, kill_process};

use super::*;
use crate::layer::tests::{Picture, in_memory, picture};

/// Where the process works, the step at which it is killed (0: never), and the user it is.
const SCENE: &str = "MERGE_TEST_SCENE";
const LAST_STEP: &str = "MERGE_TEST_LAST_STEP";
const USER: &str = "MERGE_TEST_USER";

const NOBODY: u32 = 65_534;
/// Fewer would mean that not all of a merge is counted.
const STEPS_MIN: u64 = 100;

static STEPS: AtomicU64 = AtomicU64::new(0);
/// 0: none is the last.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Counts what was done to the disk; with the last, the process is no more.
pub fn step() {
    if STEPS.fetch_add(1, Ordering::SeqCst) + 1 == LAST.load(Ordering::SeqCst) {
        kill_process(getpid(), Signal::KILL).unwrap();
    }
}

#[test]
#[ignore = "started by the tests below, as a process of its own"]
#[expect(clippy::disallowed_methods, reason = "the only way to tell a test harness's child what to do")]
fn merges_and_is_killed() {
    let Some(root) = std::env::var_os(SCENE).map(PathBuf::from) else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let user = number(USER) as u32;
    if user != rustix::process::geteuid().as_raw() {
        let (uid, gid) = (nix::unistd::Uid::from_raw(user), nix::unistd::Gid::from_raw(user));
        nix::unistd::setresgid(gid, gid, gid).unwrap();
        nix::unistd::setresuid(uid, uid, uid).unwrap();
        // Else it may not look at its own descriptors in /proc, as one that was this user from the start may.
        nix::sys::prctl::set_dumpable(true).unwrap();
    }
    let diff = serde_json::from_slice(&fs::read(root.join("diff")).unwrap()).unwrap();
    LAST.store(number(LAST_STEP), Ordering::SeqCst);
    STEPS.store(0, Ordering::SeqCst);
    let report = run(&root.join("workspace"), &[], &root.join("upper"), &root.join("c/r/kept"), &diff).unwrap();
    let told = (STEPS.load(Ordering::SeqCst), report);
    fs::write(root.join("report"), serde_json::to_vec(&told).unwrap()).unwrap();
}

/// A workspace as the call saw it, its layer, and what was changed since.
struct Scene {
    root: PathBuf,
    user: u32,
}

/// What a merge leaves.
#[derive(Debug, PartialEq)]
struct Left {
    workspace: Picture,
    kept: Picture,
    report: MergeReport,
}

impl Scene {
    fn new(root: &Path, user: u32) -> Self {
        let _ = super::super::remove_tree(root);
        let scene = Self { root: root.to_owned(), user };
        for folder in ["workspace", "upper", "c/r"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        scene.before();
        scene.after();
        let diff = LayerDiff { changes: scene.changes(), ..LayerDiff::default() };
        fs::write(root.join("diff"), serde_json::to_vec(&diff).unwrap()).unwrap();
        // As reading a layer leaves it.
        ["shut", "shut/deep", "changed-mode"].iter().for_each(|path| scene.set_mode(&format!("upper/{path}"), 0o700));
        // Meanwhile, in the workspace.
        scene.write("workspace/in/both", "by somebody else");
        fs::remove_file(root.join("workspace/both-link")).unwrap();
        scene.write("workspace/both-link", "by somebody else");
        if user != rustix::process::geteuid().as_raw() {
            give(root, user);
        }
        scene
    }

    fn before(&self) {
        for path in ["untouched", "changed", "gone", "mode", "was-file", "was-folder/in/deep", "for-link/in", "in/both"]
        {
            self.write(&format!("workspace/{path}"), "before");
        }
        for path in ["old/in", "old/deep/in", "locked/in", "locked/deep/in", "changed-mode/in"] {
            self.write(&format!("workspace/{path}"), "before");
        }
        for link in ["turned", "was-link", "both-link"] {
            symlink("untouched", self.root.join("workspace").join(link)).unwrap();
        }
        for folder in ["locked/deep", "locked", "changed-mode"] {
            self.set_mode(&format!("workspace/{folder}"), 0o555);
        }
    }

    fn after(&self) {
        self.write("upper/untouched", "before");
        for path in ["new", "changed", "was-folder", "was-file/in", "was-file/deep/in", "was-link/in", "in/both"] {
            self.write(&format!("upper/{path}"), "after");
        }
        for path in ["made/in", "made/deep/in", "shut/in", "shut/deep/in"] {
            self.write(&format!("upper/{path}"), "after");
        }
        // More than is written at once.
        self.write("upper/long", &"long".repeat(50_000));
        for path in ["mode", "changed-mode/in"] {
            self.write(&format!("upper/{path}"), "before");
        }
        for (link, to) in [("link", "new"), ("turned", "new"), ("for-link", "made"), ("both-link", "changed")] {
            symlink(to, self.root.join("upper").join(link)).unwrap();
        }
        self.set_mode("upper/mode", 0o755);
        // Nobody but root can see what is in it, or even that there is something.
        let shut = if rustix::process::geteuid().is_root() { 0o100 } else { 0o500 };
        for (folder, mode) in [("shut/deep", 0o500), ("shut", shut), ("changed-mode", 0o500)] {
            self.set_mode(&format!("upper/{folder}"), mode);
        }
    }

    fn changes(&self) -> Vec<Change> {
        let (before, after) = (self.picture("workspace"), self.picture("upper"));
        let of = |picture: &Picture, path: &String| picture.get(path).cloned().unwrap_or(Entry::Absent);
        let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let changes =
            paths.into_iter().map(|path| Change { path: path.clone(), old: of(&before, path), new: of(&after, path) });
        changes.filter(|change| change.old != change.new).collect()
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn set_mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn picture(&self, folder: &str) -> Picture {
        picture(&self.root.join(folder))
    }

    /// Merges up to this step, or to the end; whether it came there.
    fn merge(&self, last_step: u64) -> bool {
        let own = std::env::current_exe().unwrap();
        let ended = Command::new(own)
            .args(["--exact", "layer::merge::killed::merges_and_is_killed", "--ignored", "--nocapture"])
            .env(SCENE, &self.root)
            .env(LAST_STEP, last_step.to_string())
            .env(USER, self.user.to_string())
            .stdout(Stdio::null())
            .output()
            .unwrap();
        let is_killed = ended.status.signal() == Some(Signal::KILL.as_raw());
        let told = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() || is_killed, "{}, last step {last_step}: {told}", ended.status);
        !is_killed
    }

    fn told(&self) -> (u64, MergeReport) {
        serde_json::from_slice(&fs::read(self.root.join("report")).unwrap()).unwrap()
    }

    /// Merges to the end; what that leaves.
    fn merged(&self) -> Left {
        assert!(self.merge(0));
        Left { workspace: self.picture("workspace"), kept: self.picture("c/r/kept"), report: self.told().1 }
    }
}

fn give(path: &Path, user: u32) {
    lchown(path, Some(user), Some(user)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), user));
    }
}

/// What a merge that nobody disturbs leaves, and its steps.
fn undisturbed(root: &Path, user: u32) -> (Left, u64) {
    let scene = Scene::new(root, user);
    let diff: LayerDiff = serde_json::from_slice(&fs::read(root.join("diff")).unwrap()).unwrap();
    let left = scene.merged();
    let mut wanted = scene.picture("upper");
    for change in &diff.changes {
        if change.new != Entry::Absent {
            wanted.insert(change.path.clone(), change.new.clone());
        }
    }
    for path in ["both-link", "in/both"] {
        let content = "by somebody else";
        let bytes = content.len() as u64;
        wanted.insert(path.to_owned(), Entry::File { hash: Hash::of(content.as_bytes()), bytes, mode: 0o644 });
    }
    assert_eq!(left.workspace, wanted);
    let conflicts: Vec<&str> = left.report.conflicts.iter().map(|conflict| conflict.path.as_str()).collect();
    assert_eq!(conflicts, ["both-link", "in/both"]);
    assert_eq!(left.kept.keys().collect::<Vec<_>>(), ["both-link", "in", "in/both"]);
    assert_eq!(left.report.merged.len(), diff.changes.len() - conflicts.len());
    let steps = scene.told().0;
    assert!(steps >= STEPS_MIN, "{steps}");
    (left, steps)
}

/// Each step is the last of a merge; the next one goes to its end, or is killed too, and the one after it.
fn killed_at_each_step(root: &Path, user: u32) {
    let (wanted, steps) = undisturbed(root, user);
    for last in 1..=steps {
        let scene = Scene::new(root, user);
        assert!(!scene.merge(last), "it was killed at step {last}");
        if last % 2 == 0 {
            scene.merge(1 + last * 7 % steps);
        }
        let left = scene.merged();
        assert_eq!(left.report, wanted.report, "killed at step {last} of {steps}");
        assert_eq!(left.workspace, wanted.workspace, "killed at step {last} of {steps}");
        assert_eq!(left.kept, wanted.kept, "killed at step {last} of {steps}");
    }
}

/// In memory where that can be had.
fn somewhere(check: impl Fn(&Path) + Send + 'static) {
    if rustix::process::geteuid().is_root() {
        return in_memory(move |folder| check(&folder.join("scene")));
    }
    let folder = tempfile::tempdir().unwrap();
    check(&folder.path().join("scene"));
}

#[test]
fn a_merge_that_was_killed_at_any_step_is_done_again() {
    somewhere(|root| killed_at_each_step(root, rustix::process::geteuid().as_raw()));
}

/// To whom folders are closed that are open to root.
#[test]
fn so_is_that_of_an_ordinary_user() {
    if rustix::process::geteuid().is_root() {
        somewhere(|root| killed_at_each_step(root, NOBODY));
    }
}

/// Paths it was about to merge are somebody else's by the time it is done again.
#[test]
fn nothing_of_a_killed_merge_is_left_where_somebody_else_went_on() {
    somewhere(|root| {
        let user = rustix::process::geteuid().as_raw();
        let (_, steps) = undisturbed(root, user);
        for last in 1..=steps {
            let scene = Scene::new(root, user);
            assert!(!scene.merge(last), "it was killed at step {last}");
            let is_free = |path: &&str| root.join("workspace").join(path).symlink_metadata().is_err();
            let taken: Vec<&str> = ["link", "made", "new"].into_iter().filter(is_free).collect();
            taken.iter().for_each(|path| scene.write(&format!("workspace/{path}"), "theirs"));
            let left = scene.merged();
            for path in taken {
                assert!(left.report.conflicts.iter().any(|conflict| conflict.path == path), "{path}, step {last}");
                let entry = &left.workspace[path];
                assert!(
                    matches!(entry, Entry::File { hash, .. } if *hash == Hash::of(b"theirs")),
                    "{path}, step {last}"
                );
            }
            let is_ours = |path: &&String| path.contains(".homarus-merge-");
            assert_eq!(left.workspace.keys().find(is_ours), None, "killed at step {last} of {steps}");
        }
    });
}
