//! A sandbox that stands ready shows the workspace before its call comes: whatever happens to the workspace meanwhile, the call
//! sees, may and changes what it would in a sandbox that was made for it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use homarus_contract::sandbox::{Exit, Limits, Program, WorkerLauncher, WorkerSpec};

use crate::fixture::{Fixture, eventually, helper};

/// Makes a call, and waits until the sandbox for the next one shows this workspace.
async fn ready(fixture: &Fixture) {
    fixture.sh("true").await;
    // Those of that call, which end.
    let before = showing(&fixture.workspace);
    let is_new = |pid: &String| !before.contains(pid);
    eventually("no sandbox shows the workspace", || showing(&fixture.workspace).iter().any(is_new));
}

/// Processes that see this workspace, and the host's tree no more.
fn showing(workspace: &Path) -> Vec<String> {
    let shows = |table: &str| {
        let at = |line: &str, path: &str| line.split(' ').nth(4) == Some(path);
        let overlay = |line: &str| line.contains(" - overlay ") && at(line, workspace.to_str().unwrap());
        table.lines().any(overlay) && !table.lines().any(|line| at(line, "/.old"))
    };
    let names = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|pid| fs::read_to_string(format!("/proc/{pid}/mountinfo")).is_ok_and(|table| shows(&table))).collect()
}

/// Layers that no run has, of calls that have not come or wrote nothing.
fn held(fixture: &Fixture) -> usize {
    fs::read_dir(fixture.state.join("layers/.unused")).map_or(0, Iterator::count)
}

#[tokio::test]
async fn what_is_changed_in_the_workspace_meanwhile_is_seen_and_protected() {
    let fixture = Fixture::new();
    fixture.write("changed", "old");
    fixture.write("removed", "old");
    fixture.write("folder/inner", "old");
    ready(&fixture).await;
    fixture.write("changed", "new");
    fixture.write("added", "new");
    fs::remove_file(fixture.workspace.join("removed")).unwrap();
    fs::remove_dir_all(fixture.workspace.join("folder")).unwrap();
    fixture.write("folder", "a file now");
    // Both are covered with the call, for they were not there before.
    fixture.write(".ssh/id_ed25519", "secret");
    fixture.write(".git/hooks/pre-commit", "old");
    fs::create_dir(fixture.workspace.join("keys")).unwrap();
    fixture.write("keys/hosts.yml", "secret");
    fs::create_dir(fixture.workspace.join(".config")).unwrap();
    symlink("../keys", fixture.workspace.join(".config/gh")).unwrap();
    let script = "cat changed added folder; echo; ls removed; cat .ssh/id_ed25519 keys/hosts.yml; echo new >.git/hooks/pre-commit; \
        echo own >added; rm changed";
    let called = fixture.sh(script).await;
    assert_eq!(called.stdout(), "newnewa file now\n", "{}", called.stderr());
    assert_eq!(called.stderr().matches("Permission denied").count(), 2, "{}", called.stderr());
    assert!(called.stderr().contains("Read-only file system"), "{}", called.stderr());
    assert_eq!(called.paths(), ["added", "changed"]);
    assert!(fixture.merge(&called).await.conflicts.is_empty());
    assert_eq!((fixture.read("added").as_deref(), fixture.read("changed")), (Some("own\n"), None));
    assert_eq!(fixture.read(".git/hooks/pre-commit").as_deref(), Some("old"));
}

#[tokio::test]
async fn another_folder_in_the_workspaces_place_is_what_is_seen() {
    let fixture = Fixture::new();
    fixture.write("which", "first");
    ready(&fixture).await;
    fs::rename(&fixture.workspace, fixture.dir.path().join("away")).unwrap();
    fixture.write("which", "second");
    let called = fixture.sh("cat which; echo third >which").await;
    assert_eq!(called.stdout(), "second");
    fixture.merge(&called).await;
    assert_eq!(fixture.read("which").as_deref(), Some("third\n"));
    assert_eq!(fs::read_to_string(fixture.dir.path().join("away/which")).unwrap(), "first");
}

#[tokio::test]
async fn the_workspaces_own_mode_is_that_of_now() {
    let fixture = Fixture::new();
    let mode = |mode| fs::set_permissions(&fixture.workspace, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o755);
    ready(&fixture).await;
    mode(0o711);
    assert_eq!(fixture.sh("stat -c %a .").await.stdout(), "711\n");
}

#[tokio::test]
async fn a_read_only_call_can_write_nothing_and_leaves_nothing() {
    let fixture = Fixture::new();
    fixture.write("a", "text");
    ready(&fixture).await;
    let at = format!("awk '$5 == \"{}\" {{ print $6 }}' /proc/self/mountinfo", fixture.workspace.display());
    let mut mounted = fixture.shell(&at);
    mounted.read_only = true;
    assert!(fixture.exec(mounted).await.stdout().starts_with("ro,"));
    ready(&fixture).await;
    let mut spec =
        fixture.shell("cat a; echo x >a; echo x >new; rm a; mkdir d; chmod 777 . a; ln a b; mv a c; touch a");
    spec.read_only = true;
    let called = fixture.exec(spec).await;
    assert_eq!(called.stdout(), "text");
    assert_eq!(called.done.receipt.workspace, "read-only");
    let refusals = called.stderr().lines().filter(|line| line.contains("Read-only file system")).count();
    assert_eq!(refusals, 9, "{}", called.stderr());
    assert!(called.done.diff.is_empty() && !fixture.layer_exists(&called.layer));
    assert_eq!(fixture.read("a").as_deref(), Some("text"));
}

/// What is mounted over scratch space has the path of something that stays writable.
#[tokio::test]
async fn a_read_only_call_can_write_nothing_where_scratch_space_would_be() {
    let fixture = Fixture::new();
    for _ in 0..2 {
        let mut spec = fixture.shell("touch new; chmod 1777 .; mkdir d; stat -c %a . >&2");
        spec.workspace = "/var/tmp".into();
        spec.read_only = true;
        let called = fixture.exec(spec).await;
        assert_eq!(called.stderr().matches("Read-only file system").count(), 3, "{}", called.stderr());
    }
}

#[tokio::test]
async fn a_worker_is_not_started_where_a_workspace_is_shown() {
    let fixture = Fixture::new();
    fixture.write("private", "x");
    ready(&fixture).await;
    let args = vec!["pipe-worker".into()];
    let spec = WorkerSpec { program: helper(), args, readable: Vec::new(), memory_bytes: 512 << 20 };
    let worker = fixture.sandbox.launch(spec).unwrap();
    let (mut stdin, stdout) = (fs::File::from(worker.stdin), fs::File::from(worker.stdout));
    let path = fixture.workspace.join("private");
    std::io::Write::write_all(&mut stdin, format!("{}\n", path.display()).as_bytes()).unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    assert!(line.starts_with("error"), "{line}");
}

#[tokio::test]
async fn calls_with_other_limits_have_their_own() {
    let fixture = Fixture::new();
    let size = "df --output=size -k /tmp | tail -n 1";
    let before: u64 = fixture.sh(size).await.stdout().trim().parse().unwrap();
    ready(&fixture).await;
    let mut spec = fixture.shell(size);
    spec.limits.memory_bytes /= 2;
    let after: u64 = fixture.exec(spec).await.stdout().trim().parse().unwrap();
    assert_eq!(after * 2, before);
}

/// Each attack needs more than the small limits and less than the large ones.
#[tokio::test]
async fn a_sandbox_that_stands_ready_has_no_limits_but_those_of_the_call_that_comes() {
    let fixture = Fixture::new();
    let base = fixture.shell("true").limits;
    let small =
        Limits { memory_bytes: 64 << 20, processes_max: 16, open_files_max: 32, file_bytes_max: 1 << 20, ..base };
    let large =
        Limits { memory_bytes: 1 << 30, processes_max: 200, open_files_max: 500, file_bytes_max: 8 << 20, ..base };
    let attacks = "perl -e '$x = \"a\" x (200 << 20)' && echo memory; \
        perl -e 'for (1..60) { $p = fork; defined $p or exit 1; if (!$p) { sleep 60; exit } push @p, $p } kill 9, @p' && echo processes; \
        (head -c 2m /dev/zero >/tmp/big) && echo file; ulimit -n";
    for limits in [small, large, small, large] {
        ready(&fixture).await;
        let mut spec = fixture.shell(attacks);
        spec.limits = limits;
        let called = fixture.exec(spec).await;
        let expected = if limits == small { "32\n" } else { "memory\nprocesses\nfile\n500\n" };
        assert_eq!(called.stdout(), expected, "{}", called.stderr());
        assert_eq!(called.done.receipt.bounds, Some(limits));
    }
}

#[tokio::test]
async fn no_layer_is_left_of_calls_that_wrote_nothing_or_never_came() {
    let fixture = Fixture::new();
    for _ in 0..3 {
        ready(&fixture).await;
    }
    let called = fixture.sh("echo x >file").await;
    assert!(fixture.layer_exists(&called.layer));
    eventually("no layer waits for the next call", || held(&fixture) > 0);
    fixture.sandbox.close();
    assert_eq!(held(&fixture), 0);
    assert!(fixture.layer_exists(&called.layer), "what a call wrote waits for its merge");
}

/// It was killed while it waited; the call gets another one.
#[tokio::test]
async fn a_sandbox_that_died_waiting_costs_no_call() {
    let fixture = Fixture::new();
    fixture.write("a", "text");
    ready(&fixture).await;
    for stage in showing(&fixture.workspace) {
        let stage = nix::unistd::Pid::from_raw(stage.parse().unwrap());
        // The one of the two that is the other's process 1 takes it along.
        let _ = nix::sys::signal::kill(stage, nix::sys::signal::Signal::SIGKILL);
    }
    let called = fixture.exec(fixture.spec(Program::Command { argv: vec!["cp".into(), "a".into(), "b".into()] })).await;
    assert_eq!(called.done.exit, Exit::Code { code: 0 }, "{}", called.stderr());
    fixture.merge(&called).await;
    assert_eq!(fixture.read("b").as_deref(), Some("text"));
}
