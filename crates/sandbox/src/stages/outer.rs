//! The first stage: enters new namespaces, starts `init`, and outlives it.
//!
//! It never looks at anything the tool can reach. It ends only after `init`, and with it every
//! process of the PID namespace, is gone; so the descriptors it holds (the driver's lock) are
//! free only then. When the host's end of its socket closes, it kills `init`.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
};

use nix::sched::CloneFlags;
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use serde::de::DeserializeOwned;

use super::{MARKER, failed};
use crate::{
    handoff,
    spec::{BaseSpec, FromStage, StageFailure, Step, ToStage},
};

pub fn run() -> i32 {
    let host = io::stdin();
    match begin(&host) {
        Ok(child) => keep(&host, child),
        Err(failure) => {
            // The host may be gone; the code says it as well.
            let _ = handoff::send(&host, &FromStage::Failed(failure.clone()), &[]);
            eprintln!("sandbox: {}", failed(&failure));
            125
        }
    }
}

/// Reads the whole spec from its memory file, wherever that file's offset stands.
pub fn read_spec<T: DeserializeOwned>(memory: &OwnedFd) -> Result<T, StageFailure> {
    let bytes = rustix::fs::fstat(memory).step("spec", "size")?.st_size;
    let mut text = vec![0u8; usize::try_from(bytes).unwrap_or(0)];
    let mut at = 0;
    while at < text.len() {
        let got = rustix::io::pread(memory, &mut text[at..], at as u64).step("spec", "read")?;
        if got == 0 {
            return Err(StageFailure::new("spec", "is cut short"));
        }
        at += got;
    }
    serde_json::from_slice(&text).step("spec", "parse")
}

fn begin(host: &impl AsFd) -> Result<Child, StageFailure> {
    close_inherited().step("descriptors", "close what was inherited")?;
    // Away from the terminal: no signals from its keys, and it can never be ours again.
    nix::unistd::setsid().step("session", "setsid")?;
    let (begin, fds) =
        handoff::recv::<ToStage>(host).step("spec", "receive")?.ok_or_else(|| StageFailure::new("spec", "no host"))?;
    let ToStage::Begin { .. } = begin else {
        return Err(StageFailure::new("spec", "out of order"));
    };
    let [memory, ..] = fds.as_slice() else {
        return Err(StageFailure::new("spec", "no memory file"));
    };
    let spec: BaseSpec = read_spec(memory)?;
    for tasks in &spec.cgroup_join {
        // "0" is the writer itself; a single-threaded process so enters without the global lock.
        fs::write(tasks, "0").step("limits", &format!("enter control group {}", tasks.display()))?;
    }
    unshare()?;
    map_ids(&spec, host)?;
    let (ours, theirs) = handoff::pair().step("spec", "socket pair")?;
    let child = Command::new("/proc/self/exe")
        .args([MARKER, "init"])
        .env_clear()
        .stdin(Stdio::from(theirs))
        .spawn()
        .step("pid", "start init")?;
    let mut passed = vec![host.as_fd()];
    passed.extend(fds.iter().map(AsFd::as_fd));
    handoff::send(&ours, &begin, &passed).step("spec", "pass on")?;
    // `ours` must stay open as long as we live: init takes its closing for our death.
    OURS.set(ours).ok();
    // The lock (second descriptor) is ours to hold.
    LOCK.set(fds.into_iter().nth(1)).ok();
    Ok(child)
}

static OURS: std::sync::OnceLock<OwnedFd> = std::sync::OnceLock::new();
static LOCK: std::sync::OnceLock<Option<OwnedFd>> = std::sync::OnceLock::new();

fn unshare() -> Result<(), StageFailure> {
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER).step("userns", "unshare")?;
    let others = [
        ("mount", CloneFlags::CLONE_NEWNS),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("net", CloneFlags::CLONE_NEWNET),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
    ];
    let all = others.iter().fold(CloneFlags::empty(), |all, (_, flag)| all | *flag);
    if nix::sched::unshare(all).is_ok() {
        return Ok(());
    }
    // Once more one by one, to name the one that fails.
    for (name, flag) in others {
        nix::sched::unshare(flag).step(name, "unshare")?;
    }
    Ok(())
}

fn map_ids(spec: &BaseSpec, host: &impl AsFd) -> Result<(), StageFailure> {
    if spec.map_by_host {
        handoff::send(host, &FromStage::Unshared, &[]).step("userns", "tell the host")?;
        return match handoff::recv::<ToStage>(host).step("userns", "hear from the host")? {
            Some((ToStage::Mapped, _)) => Ok(()),
            _ => Err(StageFailure::new("userns", "the host did not map the ids")),
        };
    }
    fs::write("/proc/self/setgroups", "deny").step("userns", "setgroups")?;
    fs::write("/proc/self/uid_map", format!("0 {} 1", spec.uid)).step("userns", "uid map")?;
    fs::write("/proc/self/gid_map", format!("0 {} 1", spec.gid)).step("userns", "gid map")
}

/// Waits for `init` to end or the host to go, and ends after `init`.
fn keep(host: &impl AsFd, mut child: Child) -> i32 {
    let pidfd = Pid::from_raw(child.id().cast_signed()).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    let Some(Ok(pidfd)) = pidfd else {
        let _ = child.kill();
        let _ = child.wait();
        return 125;
    };
    loop {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN), PollFd::new(host, PollFlags::empty())];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => break,
            Ok(_) if !fds[0].revents().is_empty() => break,
            Ok(_) if !fds[1].revents().is_empty() => break,
            Ok(_) => continue,
        }
    }
    let _ = child.kill();
    match child.wait() {
        Ok(status) => status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        Err(_) => 125,
    }
}

/// Closes every descriptor but the standard three.
fn close_inherited() -> io::Result<()> {
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in open {
        // The descriptor of the listing itself is closed already.
        let _ = nix::unistd::close(fd);
    }
    Ok(())
}
