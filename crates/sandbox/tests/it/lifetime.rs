//! Nothing outlives its call, and no call its driver.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use homarus_contract::sandbox::Sandbox;

use crate::fixture::{Fixture, eventually, helper, processes_with};

#[tokio::test]
async fn survivors_are_gone_when_the_call_returns() {
    let fixture = Fixture::new();
    let mark = format!("survivor-{}", std::process::id());
    let script = format!(
        "perl -e '$SIG{{$_}} = \"IGNORE\" for qw(TERM HUP INT); if (!fork) {{ use POSIX; POSIX::setsid(); if (!fork) {{ sleep 600 }} exit }} wait' {mark} & \
         (setsid sh -c 'sleep 600; : {mark}' &) ; sleep 0.2; ps_seen=$(ls -d /proc/[0-9]* | wc -l); echo $ps_seen"
    );
    let called = fixture.sh(&script).await;
    assert!(called.stdout().trim().parse::<u32>().unwrap() >= 4, "{}", called.stderr());
    assert_eq!(processes_with(&mark), Vec::<u32>::new());
}

/// Children that are to end without a signal (which a plain wait leaves out), and some given to process 1 as its own. The call
/// is over when process 1 has none left, so none may be overlooked.
#[tokio::test]
async fn children_that_a_plain_wait_does_not_see_are_gone_too() {
    const CLONE: u32 = if cfg!(target_arch = "x86_64") { 56 } else { 220 };
    const CLONE_PARENT: u32 = 0x8000;
    let fixture = Fixture::new();
    for flags in [0, CLONE_PARENT, CLONE_PARENT | 17] {
        let mark = format!("unseen-{flags}-{}", std::process::id());
        let script = format!(
            "exec perl -e '$child = syscall({CLONE}, {flags}, 0, 0, 0, 0); if ($child == 0) {{ sleep 600 }} \
             print $child > 0 ? \"made\" : \"not made\"' {mark}"
        );
        let called = fixture.sh(&script).await;
        assert_eq!(called.stdout(), "made", "{}", called.stderr());
        assert_eq!(processes_with(&mark), Vec::<u32>::new(), "flags {flags:#x}");
    }
}

#[tokio::test]
async fn a_dropped_call_is_ended() {
    let fixture = Fixture::new();
    let mark = format!("dropped-{}", std::process::id());
    let (told, begun) = tokio::sync::mpsc::channel(8);
    let spec = fixture.shell(&format!("echo begun; sleep 600; : {mark}"));
    let call = fixture.exec_into(spec, Arc::new(move |_| told.try_send(()).unwrap_or(())));
    let mut begun = begun;
    tokio::select! {
        _ = call => panic!("ended by itself"),
        _ = begun.recv() => {}
    }
    eventually("the dropped call lives on", || processes_with(&mark).is_empty());
}

/// Whoever stops a call throws its layer away at once, mostly before all in it are dead.
#[tokio::test]
async fn a_dropped_call_leaves_no_layer() {
    let fixture = Fixture::new();
    let (told, mut begun) = tokio::sync::mpsc::channel(8);
    let spec = fixture.shell("echo x > file; echo begun; sleep 600");
    let layer = spec.layer.clone();
    let call = fixture.exec_into(spec, Arc::new(move |_| told.try_send(()).unwrap_or(())));
    tokio::select! {
        _ = call => panic!("ended by itself"),
        _ = begun.recv() => {}
    }
    fixture.sandbox.discard(&layer).await.unwrap();
    let layers = fixture.state.join("layers");
    let is_empty = |folder: &Path| fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    let is_gone = || is_empty(&layers.join(".unused")) && !layers.join(layer.run.as_str()).exists();
    eventually("what the dropped call wrote stays", is_gone);
}

fn drive(fixture: &Fixture, script: &str, lock: &Path) -> Child {
    Command::new(helper())
        .args([
            "drive".as_ref(),
            fixture.state.as_os_str(),
            fixture.workspace.as_os_str(),
            script.as_ref(),
            lock.as_os_str(),
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn killing_the_driver_takes_its_sandbox_down_and_only_then_frees_the_lock() {
    let fixture = Fixture::new();
    let mark = format!("orphan-{}", std::process::id());
    let lock = fixture.dir.path().join("lock");
    let mut driver = drive(&fixture, &format!("echo begun; sleep 600; : {mark}"), &lock);
    let mut line = String::new();
    BufReader::new(driver.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "begun\n");
    let inside: Vec<u32> = processes_with(&mark).into_iter().filter(|pid| *pid != driver.id()).collect();
    assert!(!inside.is_empty());

    // Who holds the lock: the driver, the stages, never the tool.
    let holders = holders(&lock);
    assert!(holders.contains(&driver.id()));
    if crate::fixture::is_root() {
        let init = parent(inside[0]);
        assert!(holders.contains(&init), "init {init} of {holders:?}");
    }
    for pid in &inside {
        assert!(!holders.contains(pid), "the tool holds the lock");
    }
    let file = File::options().append(true).open(&lock).unwrap();
    assert!(file.try_lock().is_err());

    driver.kill().unwrap();
    // The lock is free only once nothing inside is alive any more.
    let until = Instant::now() + Duration::from_secs(20);
    while file.try_lock().is_err() {
        assert!(Instant::now() < until, "the lock stays held");
        std::thread::sleep(Duration::from_micros(50));
    }
    assert_eq!(inside.iter().filter(|pid| alive(**pid)).count(), 0, "the lock was free while the sandbox lived");
    driver.wait().unwrap();
}

#[tokio::test]
async fn killing_the_outer_stage_alone_ends_the_sandbox_too() {
    let fixture = Fixture::new();
    let mark = format!("keeperless-{}", std::process::id());
    let lock = fixture.dir.path().join("lock");
    let mut driver = drive(&fixture, &format!("echo begun; sleep 600; : {mark}"), &lock);
    let mut line = String::new();
    BufReader::new(driver.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let tool = processes_with(&mark).into_iter().find(|pid| *pid != driver.id()).unwrap();
    let outer = parent(parent(tool));
    let zygote = parent(outer);
    assert_eq!(parent(zygote), driver.id());
    assert!(!holders(&lock).contains(&zygote), "the zygote holds the lock");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(outer.cast_signed()), nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("the sandbox lives on", || !alive(tool));
    assert!(driver.wait().unwrap().success());
}

#[tokio::test]
async fn calls_go_on_when_somebody_kills_the_zygote() {
    let fixture = Fixture::new();
    let zygotes = || -> Vec<u32> {
        let all = processes_with("--homarus-sandbox-stage zygote").into_iter();
        all.filter(|pid| parent_if_alive(*pid) == Some(std::process::id())).collect()
    };
    for round in 0..4 {
        assert_eq!(fixture.sh(&format!("echo {round}")).await.stdout(), format!("{round}\n"));
        // If the call met a sandbox that stood ready, the zygote is started for the next.
        eventually("there is not one zygote for all calls", || zygotes().len() == 1);
        let zygote = nix::unistd::Pid::from_raw(zygotes()[0].cast_signed());
        nix::sys::signal::kill(zygote, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}

/// A stage that was stopped does not end by itself: the driver must not wait for it for ever.
#[tokio::test]
async fn a_stopped_outer_stage_does_not_hold_the_driver() {
    let fixture = Fixture::new();
    let mark = format!("stopped-{}", std::process::id());
    let mut spec = fixture.shell(&format!("echo begun; sleep 600; : {mark}"));
    spec.limits.wall_ms = 1500;
    let wanted = mark.clone();
    let sink = Arc::new(move |_| {
        for tool in processes_with(&wanted) {
            let outer = nix::unistd::Pid::from_raw(parent(parent(tool)).cast_signed());
            nix::sys::signal::kill(outer, nix::sys::signal::Signal::SIGSTOP).unwrap();
        }
    });
    let called = fixture.exec_into(spec, sink).await.unwrap();
    assert_eq!(called.done.exit, homarus_contract::sandbox::Exit::TimedOut { wall_ms: 1500 });
    eventually("the sandbox lives on", || processes_with(&mark).is_empty());
}

#[tokio::test]
async fn closing_ends_the_sandbox_that_stands_ready() {
    // A lock of its own tells this fixture's sandboxes from those of tests in the same process.
    let locks = tempfile::TempDir::new().unwrap();
    let lock = locks.path().join("lock");
    let file = File::options().append(true).create(true).open(&lock).unwrap();
    let fixture = Fixture::with(|options| options.driver_lock = Some(Arc::new(file)));
    let outer_stages = || holders(&lock).into_iter().filter(|pid| *pid != std::process::id()).count();
    fixture.sh("true").await;
    // It is prepared after the call has returned.
    eventually("no sandbox stands ready", || outer_stages() > 0);
    fixture.sandbox.close();
    assert_eq!(outer_stages(), 0);
    assert!(fixture.sh("echo still works").await.stdout().contains("works"));
    assert_eq!(outer_stages(), 0);
}

fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn parent(pid: u32) -> u32 {
    parent_if_alive(pid).unwrap()
}

fn parent_if_alive(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// Processes that have the file open, as far as we may look.
fn holders(path: &Path) -> Vec<u32> {
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == path))
    })
    .collect()
}
