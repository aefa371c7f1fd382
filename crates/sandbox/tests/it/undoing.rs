//! Random work in the real sandbox, merged, undone and done again; also with the workspace on another file system.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use homarus_contract::{
    ids::{CallId, Hash, RunId},
    sandbox::{Change, ContentSource, Entry, LayerDiff, LayerId, MergeReport, Sandbox},
};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use tempfile::TempDir;

use crate::{fixture::Fixture, gate};

/// Of each half; the halves run beside each other.
const LISTS: u64 = 100;

/// The same shell script makes the same tree, in the sandbox and in a plain folder.
fn script(mut number: u64) -> String {
    let mut below = |limit: u64| {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (number >> 33) % limit
    };
    let mut lines = vec!["umask 022".to_owned()];
    for _ in 0..8 {
        let path = |below: &mut dyn FnMut(u64) -> u64| {
            let name = |n: u64| ["a", "A", "b", "d", "'e f'"][n as usize];
            if below(2) == 0 { name(below(5)).to_owned() } else { format!("{}/{}", name(below(5)), name(below(5))) }
        };
        let (p, q) = (path(&mut below), path(&mut below));
        lines.push(match below(12) {
            0..=2 => format!("mkdir -p $(dirname {p}); echo {} > {p}", below(100)),
            3 => format!("echo more >> {p}"),
            4 => format!("rm -f {p}"),
            5 => format!("rm -rf {p}"),
            6 => format!("mkdir -p {p}"),
            7 => format!("test -e {q} || mv {p} {q}"),
            8 => format!("test -L {p} || chmod {} {p}", ["755", "700", "750"][below(3) as usize]),
            9 => format!("ln -s {} {p}", ["a", "b"][below(2) as usize]),
            10 => format!("test -d {p} || {{ rm -f {p}; mkdir {p} && echo in > {p}/in; }}"),
            _ => format!("truncate -s 200000 {p}; mv a A2; mv A2 A"),
        });
    }
    // Each for itself; what fails here fails there.
    lines.join("\n") + "\ntrue"
}

fn picture(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let (path, meta) = (entry.path(), entry.path().symlink_metadata().unwrap());
            let mode = meta.permissions().mode() & 0o777;
            let what = if meta.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if meta.is_dir() {
                folders.push(path.clone());
                format!("folder {mode:o}")
            } else {
                format!("{mode:o} {}", Hash::of(&fs::read(&path).unwrap()))
            };
            all.insert(path.strip_prefix(root).unwrap().to_owned(), what);
        }
    }
    all
}

/// On a thread, with the threads it starts, whose mounts nobody else sees.
fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        work()
    });
    done.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

struct Undoer<'a> {
    fixture: &'a Fixture,
    calls: u32,
}

impl Undoer<'_> {
    async fn contents(&self, layer: &LayerId, diff: &LayerDiff) -> ContentSource {
        let sandbox = &self.fixture.sandbox;
        let kept = sandbox.contents(self.fixture.workspace.clone(), layer.clone(), diff.clone()).await.unwrap();
        let kept: BTreeMap<Hash, Vec<u8>> = kept.into_iter().map(|content| (Hash::of(&content), content)).collect();
        Arc::new(move |hash| kept.get(hash).cloned())
    }

    /// Undoes a diff; what that changed, and what it replaced.
    async fn undo(&mut self, diff: &LayerDiff, contents: ContentSource) -> (LayerDiff, ContentSource, MergeReport) {
        self.calls += 1;
        let (run, call) = (RunId::parse("undo").unwrap(), CallId::new(1, self.calls));
        let layer = LayerId { run: run.clone(), call: call.clone(), attempt: 1 };
        let back =
            |change: &Change| Change { path: change.path.clone(), old: change.new.clone(), new: change.old.clone() };
        let changes = diff.changes.iter().map(back).collect();
        let workspace = self.fixture.workspace.clone();
        let permit = gate::permit(&run, &call).await;
        let staged =
            self.fixture.sandbox.stage(permit, workspace.clone(), layer.clone(), changes, contents).await.unwrap();
        let kept = self.contents(&layer, &staged).await;
        let permit = gate::merge_permit(&run, &call, &staged);
        let report = self.fixture.sandbox.merge(permit, workspace, layer, staged.clone()).await.unwrap();
        (staged, kept, report)
    }
}

async fn random_work(fixture: &Fixture, lists: std::ops::Range<u64>) {
    let model = TempDir::new().unwrap();
    let mut undoer = Undoer { fixture, calls: 0 };
    for number in lists {
        let script = script(number + 1);
        let before = picture(&fixture.workspace);
        let called = fixture.sh(&script).await;
        assert!(called.done.exit.is_success(), "{script}: {}", called.stderr());
        let plain = std::process::Command::new("/bin/sh")
            .args(["-c", &script])
            .current_dir(model.path())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(plain.success());
        let contents = undoer.contents(&called.layer, &called.done.diff).await;
        let report = fixture.merge(&called).await;
        assert!(report.conflicts.is_empty() && called.done.diff.refused.is_empty(), "{script}: {report:?}");
        let after = picture(model.path());
        assert_eq!(picture(&fixture.workspace), after, "merged {number}: {script}");
        if number % 3 == 0 {
            let (undo, kept, report) = undoer.undo(&called.done.diff, contents).await;
            assert!(report.conflicts.is_empty(), "{script}: {report:?}");
            assert_eq!(picture(&fixture.workspace), before, "undone {number}: {script}");
            undoer.undo(&undo, kept).await;
            assert_eq!(picture(&fixture.workspace), after, "done again {number}: {script}");
        }
    }
}

#[tokio::test]
async fn random_work_is_what_it_is_in_a_plain_folder() {
    random_work(&Fixture::new(), 0..LISTS).await;
}

#[tokio::test]
async fn more_random_work_is_what_it_is_in_a_plain_folder() {
    random_work(&Fixture::new(), 1_000..1_000 + LISTS).await;
}

/// A workspace in memory, its layers on disk.
#[test]
fn the_workspace_may_be_on_another_file_system() {
    if !crate::fixture::is_root() {
        return;
    }
    apart(|| {
        let (memory, disk) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        mount("test", memory.path(), "tmpfs", MountFlags::empty(), c"size=256m").unwrap();
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        assert_ne!(device(memory.path()), device(disk.path()));
        let mounted = memory.path().to_owned();
        let fixture = Fixture::in_folders(memory, disk.path().join("state"), |_| {});
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            random_work(&fixture, 5_000..5_060).await;
            // And a conflict, whose version is kept on the other one.
            fixture.write("both", "old\n");
            let called = fixture.sh("echo call > both").await;
            fixture.write("both", "user\n");
            let report = fixture.merge(&called).await;
            assert_eq!(fs::read_to_string(&report.conflicts[0].kept_at).unwrap(), "call\n");
            assert_eq!(fixture.read("both").unwrap(), "user\n");
        });
        fixture.sandbox.close();
        unmount(&mounted, UnmountFlags::DETACH).unwrap();
    });
}

#[tokio::test]
async fn an_undo_never_overwrites_and_never_leaves_the_workspace() {
    let fixture = Fixture::new();
    fixture.write("a", "old\n");
    fixture.write("b", "old\n");
    let called = fixture.sh("echo new > a; echo new > b; echo new > c").await;
    let mut undoer = Undoer { fixture: &fixture, calls: 0 };
    let contents = undoer.contents(&called.layer, &called.done.diff).await;
    fixture.merge(&called).await;
    fixture.write("a", "mine\n");
    let (staged, _, report) = undoer.undo(&called.done.diff, contents.clone()).await;
    assert!(staged.text.contains("a: was changed since, and stays"), "{}", staged.text);
    assert_eq!(report.conflicts[0].path, "a");
    assert_eq!(
        (fixture.read("a").as_deref(), fixture.read("b").as_deref(), fixture.read("c")),
        (Some("mine\n"), Some("old\n"), None)
    );
    // What a journal that was tampered with could ask for.
    let old = called.done.diff.changes[0].old.clone();
    for (path, refused) in [
        ("../out", true),
        (".git/hooks/pre-commit", true),
        (".ssh/authorized_keys", true),
        ("x/.git", true),
        ("fine", false),
    ] {
        let change = Change { path: path.into(), old: old.clone(), new: Entry::Absent };
        let evil = LayerDiff { changes: vec![change], ..LayerDiff::default() };
        let (staged, ..) = undoer.undo(&evil, contents.clone()).await;
        assert_eq!(staged.changes.is_empty(), refused, "{path}: {staged:?}");
    }
    assert!(!fixture.dir.path().join("out").exists());
    assert!(!fixture.workspace.join(".git").exists() && !fixture.workspace.join(".ssh").exists());
    assert_eq!(fixture.read("fine").as_deref(), Some("old\n"));
}

/// Where no overlay can be made nothing runs; there is no weaker way.
#[test]
fn without_an_overlay_every_call_is_refused() {
    if !crate::fixture::is_root() {
        return;
    }
    let text = apart(|| {
        let dir = TempDir::new().unwrap();
        for name in ["lower", "upper", "work", "state", "folder"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let at = |name: &str| dir.path().join(name).display().to_string();
        let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
        // An overlay cannot carry the upper layer of another one.
        let options = std::ffi::CString::new(options).unwrap();
        mount("test", at("state"), "overlay", MountFlags::empty(), options.as_c_str()).unwrap();
        let output = std::process::Command::new(crate::fixture::helper())
            .args(["drive", &at("state"), &at("folder"), "echo x > file"])
            .output()
            .unwrap();
        unmount(at("state"), UnmountFlags::DETACH).unwrap();
        assert!(!dir.path().join("folder/file").exists());
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    let told: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(told["error"].as_str().unwrap().contains("overlay"), "{told:#}");
    assert_eq!(told["probe"]["ok"], false, "{told:#}");
}
