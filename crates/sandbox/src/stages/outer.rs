//! The first stage: enters new namespaces, starts `init`, and outlives it.
//!
//! It never looks at anything the tool can reach. It ends only after `init`, and with it every
//! process of the PID namespace, is gone; so the descriptors it holds (the driver's lock) are
//! free only then. When the host's end of its socket closes, it kills `init`.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
};

use homarus_fork::{Forked, fork_alone};
use nix::{
    sched::CloneFlags,
    sys::wait::{WaitStatus, waitpid},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};

use serde::de::DeserializeOwned;

use super::{failed, init};
use crate::{
    handoff,
    spec::{BaseSpec, FromStage, StageFailure, Step, ToStage},
};

/// What this process is after the fork.
enum Role {
    Keeper(Kept),
    Init(Box<init::Begun>),
}

struct Kept {
    init: Pid,
    /// Must stay open as long as we live: `init` takes its closing for our death.
    _life: OwnedFd,
    _lock: Option<OwnedFd>,
    /// To stand where the call's output was.
    null: OwnedFd,
}

pub fn run() -> i32 {
    let host = io::stdin();
    match begin(&host) {
        Ok(Role::Keeper(kept)) => keep(&host, &kept),
        Ok(Role::Init(begun)) => init::run(&begun),
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

fn begin(host: &impl AsFd) -> Result<Role, StageFailure> {
    close_inherited().step("descriptors", "close what was inherited")?;
    // Apart from the zygote and from those it forked before.
    nix::unistd::setsid().step("session", "setsid")?;
    let (begin, fds) =
        handoff::recv::<ToStage>(host).step("spec", "receive")?.ok_or_else(|| StageFailure::new("spec", "no host"))?;
    let ToStage::Begin { lock: with_lock } = begin else {
        return Err(StageFailure::new("spec", "out of order"));
    };
    let mut fds = fds.into_iter();
    let memory = fds.next().ok_or_else(|| StageFailure::new("spec", "no memory file"))?;
    let lock = fds.next();
    if with_lock != lock.is_some() {
        return Err(StageFailure::new("spec", "the lock is missing"));
    }
    let spec: BaseSpec = read_spec(&memory)?;
    drop(memory);
    for tasks in &spec.cgroup_join {
        // "0" is the writer itself; a single-threaded process so enters without the global lock.
        fs::write(tasks, "0").step("limits", &format!("enter control group {}", tasks.display()))?;
    }
    unshare()?;
    map_ids(&spec, host)?;
    let (ours, theirs) = handoff::pair().step("spec", "socket pair")?;
    // Before the fork: after it, this process sees the root that `init` builds.
    let null = fs::File::options().write(true).open("/dev/null").step("descriptors", "/dev/null")?;
    let passed = host.as_fd().try_clone_to_owned().step("spec", "pass on")?;
    match fork_alone().step("pid", "start init")? {
        Forked::Child => {
            drop((ours, null));
            dup2_stdin(&theirs).step("pid", "standard input")?;
            Ok(Role::Init(Box::new(init::Begun { host: passed, base: spec, _lock: lock })))
        }
        Forked::Parent(id) => {
            let init = Pid::from_raw(id.cast_signed()).ok_or_else(|| StageFailure::new("pid", "no process id"))?;
            Ok(Role::Keeper(Kept { init, _life: ours, _lock: lock, null: null.into() }))
        }
    }
}

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
fn keep(host: &impl AsFd, kept: &Kept) -> i32 {
    // Our own end kills it.
    let Ok(init) = pidfd_open(kept.init, PidfdFlags::empty()) else { return 125 };
    // Who reads the output must see its end when all inside are gone, not when we are.
    if dup2_stdout(&kept.null).and_then(|()| dup2_stderr(&kept.null)).is_err() {
        return 125;
    }
    loop {
        let mut fds = [PollFd::new(&init, PollFlags::IN), PollFd::new(host, PollFlags::empty())];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => break,
            Ok(_) if !fds[0].revents().is_empty() => break,
            Ok(_) if !fds[1].revents().is_empty() => break,
            Ok(_) => continue,
        }
    }
    // An error means it is gone already.
    let _ = pidfd_send_signal(&init, Signal::KILL);
    let code = loop {
        match waitpid(nix::unistd::Pid::from_raw(kept.init.as_raw_nonzero().get()), None) {
            Ok(WaitStatus::Exited(_, code)) => break code,
            Ok(WaitStatus::Signaled(_, signal, _)) => break 128 + signal as i32,
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return 125,
        }
    };
    // The kernel reaped all others of the namespace before it let us reap its first process. What follows, the undoing
    // of mounts and network, nobody needs to wait for.
    let _ = handoff::send(host, &FromStage::Gone, &[]);
    code
}

/// Closes every descriptor but the standard three.
pub fn close_inherited() -> io::Result<()> {
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
