//! The second stage, process 1 of the sandbox: builds the root, reaps.
//!
//! It keeps its capabilities over the sandbox's namespaces (never over the host) and is not
//! dumpable, so nothing inside can look into it. Its child, the [launcher](super::launcher), becomes the program.

use std::{
    collections::BTreeMap,
    fs, io,
    net::TcpListener,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use rustix::stdio::{dup2_stderr, dup2_stdout};

use super::{
    confine, failed,
    launcher::{self, Launcher, Role},
    mounts, outer, watch, wayout, workspace,
};
use crate::{
    handoff,
    spec::{BaseSpec, CallSpec, FromStage, Ready, StageFailure, Step, ToLauncher, ToStage},
};

/// Where our own binary stands inside, for internal functions.
pub const EXE_INSIDE: &str = "/run/stage";

/// What the fork left it with. On standard input is the line to `outer`, which breaks when that dies.
pub struct Begun {
    pub host: OwnedFd,
    pub base: BaseSpec,
    /// Held open until this process is gone.
    pub _lock: Option<OwnedFd>,
}

pub fn run(begun: &Begun) -> i32 {
    if let Err(failure) = begin(&io::stdin()) {
        eprintln!("sandbox: {}", failed(&failure));
        return 125;
    }
    // Everything that does not need the call; then it may take any time until the call comes.
    let launcher = match mounts::base(&begun.base).and_then(|()| launcher::fork()) {
        Ok(Role::Init(launcher)) => launcher,
        Ok(Role::Launcher(line)) => return launcher::run(begun, &line),
        Err(failure) => return tell(&begun.host, &FromStage::Failed(failure), 125),
    };
    let ahead = match show_ahead(&begun.base, &launcher) {
        Ok(ahead) => ahead,
        Err(failure) => return tell(&begun.host, &FromStage::Failed(failure), 125),
    };
    let call = match receive_call(&begun.host) {
        Ok(Some(call)) => call,
        Ok(None) => return 0,
        Err(failure) => return tell(&begun.host, &FromStage::Failed(failure), 125),
    };
    if let Err(failure) = start(&begun.base, &call, &launcher, ahead).and_then(|()| let_go_of_output()) {
        return tell(&begun.host, &FromStage::Failed(failure), 125);
    }
    let Call { spec, memory, stdin } = call;
    drop((memory, stdin));
    if spec.limits_by_host.get("memory").is_none_or(|how| how == "rlimit") {
        watch::memory(spec.limits.memory_bytes, &begun.host);
    }
    reap(launcher.process, &begun.host)
}

/// Tells the host and returns the code. If the host is gone, our end is near anyway.
fn tell(host: &OwnedFd, message: &FromStage, code: i32) -> i32 {
    let _ = handoff::send(host, message, &[]);
    code
}

fn begin(outer: &impl AsFd) -> Result<(), StageFailure> {
    prctl::set_dumpable(false).step("pid", "not dumpable")?;
    prctl::set_pdeathsig(Signal::SIGKILL).step("pid", "death signal")?;
    // A group of its own: `kill(0, …)` inside must not reach the outer stage, which stands in no namespace of theirs.
    nix::unistd::setsid().step("session", "setsid")?;
    // If the outer stage died before the death signal was asked for, none comes.
    if hung_up(outer) { Err(StageFailure::new("pid", "the outer stage is gone")) } else { Ok(()) }
}

struct Call {
    spec: CallSpec,
    /// Where it was read from, and its standard input: both go on to the launcher.
    memory: OwnedFd,
    stdin: OwnedFd,
}

/// `None`: the host is gone, or has no use for this sandbox.
fn receive_call(host: &OwnedFd) -> Result<Option<Call>, StageFailure> {
    let Some((message, fds)) = handoff::recv::<ToStage>(host).step("spec", "receive")? else { return Ok(None) };
    let mut fds = fds.into_iter();
    match (message, fds.next(), fds.next()) {
        (ToStage::Call, Some(memory), Some(stdin)) => {
            Ok(Some(Call { spec: outer::read_spec(&memory)?, memory, stdin }))
        }
        _ => Err(StageFailure::new("spec", "out of order")),
    }
}

fn hung_up(socket: &impl AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    let now = handoff::timespec(Duration::ZERO);
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Does for the call what needs capabilities, and lets the launcher do the rest. It tells the host itself.
fn start(
    base: &BaseSpec,
    call: &Call,
    launcher: &Launcher,
    ahead: Option<workspace::Ahead>,
) -> Result<(), StageFailure> {
    let Call { spec, memory, stdin } = call;
    let mut limits = spec.limits_by_host.clone();
    // Before /proc becomes read-only.
    confine::bound_processes(base, spec, &mut limits)?;
    let way_out: Option<TcpListener> = spec.egress_port.map(wayout::listen).transpose()?;
    confine::bound_segments(spec, &mut limits);
    let namespaces = own_namespaces(&base.host_namespaces)?;
    let mounts::Mounted { workspace, direct, .. } = match ahead {
        Some(ahead) => {
            // The host gives it no other call. What is shown is not to be seen by one.
            let suits = base.ahead.as_ref().is_some_and(|ahead| ahead.suits(spec));
            let workspace = spec.workspace.as_ref().filter(|_| suits);
            let workspace =
                workspace.ok_or_else(|| StageFailure::new("ahead", "what is shown is not what the call sees"))?;
            workspace::finish_call(base, ahead, spec.limits.memory_bytes, workspace)?
        }
        None => {
            let mounted = mounts::show_call(base, spec)?;
            wait_for(launcher)?;
            mounts::finish(&mounted.writable)?;
            mounted
        }
    };
    let message = ToLauncher { limits, namespaces, workspace, direct };
    let mut fds: Vec<BorrowedFd<'_>> = vec![memory.as_fd(), stdin.as_fd()];
    fds.extend(way_out.as_ref().map(AsFd::as_fd));
    handoff::send(&launcher.line, &message, &fds).step("launcher", "send the call")
}

/// While anybody so much as reads on a mount, the kernel may refuse to make it read-only (it counts who writes down the time
/// of the access).
fn wait_for(launcher: &Launcher) -> Result<(), StageFailure> {
    let ready = handoff::recv::<Ready>(&launcher.line).step("launcher", "wait")?;
    ready.ok_or_else(|| StageFailure::new("launcher", "ended early")).map(|_| ())
}

fn show_ahead(base: &BaseSpec, launcher: &Launcher) -> Result<Option<workspace::Ahead>, StageFailure> {
    let Some(ahead) = &base.ahead else { return Ok(None) };
    let shown = workspace::show_ahead(base, ahead)?;
    wait_for(launcher)?;
    workspace::finish_ahead(&shown)?;
    Ok(Some(shown))
}

/// The namespaces that are really other ones than the host's. All must be.
fn own_namespaces(host: &BTreeMap<String, String>) -> Result<Vec<String>, StageFailure> {
    let mut own = Vec::new();
    for (name, theirs) in host {
        let ours = std::fs::read_link(format!("/proc/self/ns/{name}")).step(name, "read link")?;
        if ours.to_string_lossy() == *theirs {
            return Err(StageFailure::new(name, "is still the host's namespace"));
        }
        own.push(if name == "mnt" { "mount".to_owned() } else { name.clone() });
    }
    Ok(own)
}

/// Waits for the program, reaping whatever else ends. Our own end kills the rest.
fn reap(program: Pid, host: &impl AsFd) -> i32 {
    let (code, signal) = loop {
        match waitpid(None, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == program => break (Some(code), None),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => break (None, Some(signal as i32)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return 125,
        }
    };
    let _ = handoff::send(host, &FromStage::Exited { code, signal, was_last: is_alone() }, &[]);
    0
}

/// Whether nothing else is alive here. Each process of the namespace has one of our children above it, or is one: the kernel
/// gives us those whose parents end. `__WALL`: also children that were made to end without a signal to us, which a plain
/// wait does not see.
fn is_alone() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::StillAlive) => return false,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return error == Errno::ECHILD,
        }
    }
}

/// Lets go of the call's output: who reads it must see its end when the call's processes are gone, not when we are.
fn let_go_of_output() -> Result<(), StageFailure> {
    let null = fs::File::options().write(true).open("/dev/null").step("descriptors", "/dev/null")?;
    dup2_stdout(&null).and_then(|()| dup2_stderr(&null)).step("descriptors", "let go of the output")
}
