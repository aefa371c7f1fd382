//! The second stage, process 1 of the sandbox: builds the root, starts the program, reaps.
//!
//! It keeps its capabilities over the sandbox's namespaces (never over the host) and is not
//! dumpable, so nothing inside can look into it. The program is started by a thread of it that has
//! confined itself; what that thread lost, its child cannot have.

use std::{
    collections::BTreeMap,
    io,
    net::TcpListener,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{MARKER, confine, failed, mounts, outer, watch, wayout};
use crate::{
    handoff,
    spec::{BaseSpec, CallSpec, FromStage, ProgramSpec, StageFailure, Started, Step, ToStage},
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

pub fn run(begun: Begun) -> i32 {
    if let Err(failure) = begin(&io::stdin()) {
        eprintln!("sandbox: {}", failed(&failure));
        return 125;
    }
    // Everything that does not need the call; then it may take any time until the call comes.
    let ready = mounts::base(&begun.base).and_then(|()| receive_call(&begun.host));
    let (call, stdin) = match ready {
        Ok(Some(call)) => call,
        Ok(None) => return 0,
        Err(failure) => return tell(&begun.host, &FromStage::Failed(failure), 125),
    };
    match start(&begun.base, &call, stdin) {
        Ok((started, way_out, Ok(program))) => {
            let passed: Vec<BorrowedFd<'_>> = way_out.iter().map(AsFd::as_fd).collect();
            // If the host is gone, our end is near anyway.
            let _ = handoff::send(&begun.host, &FromStage::Started(started), &passed);
            // Only the host answers there.
            drop(way_out);
            if call.limits_by_host.get("memory").is_none_or(|how| how == "rlimit") {
                watch::memory(call.limits.memory_bytes, &begun.host);
            }
            reap(program, &begun.host)
        }
        Ok((started, _, Err(text))) => {
            tell(&begun.host, &FromStage::Started(started), 0);
            eprintln!("sandbox: {text}");
            tell(&begun.host, &FromStage::Exited { code: Some(127), signal: None }, 127)
        }
        Err(failure) => tell(&begun.host, &FromStage::Failed(failure), 125),
    }
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

/// `None`: the host is gone, or has no use for this sandbox.
fn receive_call(host: &OwnedFd) -> Result<Option<(CallSpec, OwnedFd)>, StageFailure> {
    let Some((message, fds)) = handoff::recv::<ToStage>(host).step("spec", "receive")? else { return Ok(None) };
    let mut fds = fds.into_iter();
    match (message, fds.next(), fds.next()) {
        (ToStage::Call, Some(memory), Some(stdin)) => Ok(Some((outer::read_spec(&memory)?, stdin))),
        _ => Err(StageFailure::new("spec", "out of order")),
    }
}

fn hung_up(socket: &impl AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    let now = handoff::timespec(Duration::ZERO);
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// The outer error is ours (nothing ran); the inner one the program's own (it does not exist, say).
type StartResult = Result<(Started, Option<TcpListener>, Result<Pid, String>), StageFailure>;

fn start(base: &BaseSpec, call: &CallSpec, stdin: OwnedFd) -> StartResult {
    let mut limits = call.limits_by_host.clone();
    // Before /proc becomes read-only.
    confine::bound_processes(base, call, &mut limits)?;
    let way_out = call.egress_port.map(wayout::listen).transpose()?;
    confine::bound_segments(call, &mut limits);
    let mounted = mounts::finish(base, call)?;
    let namespaces = own_namespaces(&base.host_namespaces)?;
    let mut command = command(call, stdin)?;
    let (base, call) = (base.clone(), call.clone());
    let confined = thread::spawn(move || {
        let confined = confine::this_thread(&base, &call, &mut limits, mounted.direct)?;
        let program = command
            .spawn()
            .map_err(|error| format!("cannot start `{}`: {error}", command.get_program().to_string_lossy()));
        Ok::<_, StageFailure>((confined, limits, program.map(|child| Pid::from_raw(child.id().cast_signed()))))
    });
    let (confined, limits, program) =
        confined.join().map_err(|_| StageFailure::new("confine", "the thread panicked"))??;
    let started = Started {
        namespaces,
        workspace: mounted.workspace,
        landlock_abi: confined.landlock_abi,
        seccomp: Some(confined.seccomp),
        no_new_privs: confined.no_new_privs,
        capabilities_dropped: confined.capabilities_dropped,
        limits,
    };
    Ok((started, way_out, program))
}

fn command(spec: &CallSpec, stdin: OwnedFd) -> Result<Command, StageFailure> {
    let mut command = match &spec.program {
        ProgramSpec::Command { argv } => {
            let (program, args) =
                argv.split_first().ok_or_else(|| StageFailure::new("spec", "the command is empty"))?;
            let mut command = Command::new(program);
            command.args(args);
            command
        }
        ProgramSpec::Internal { name } => {
            let mut command = Command::new(EXE_INSIDE);
            command.args([MARKER, "internal", name]);
            command
        }
    };
    command.env_clear().envs(&spec.env).current_dir(&spec.cwd).stdin(Stdio::from(stdin));
    Ok(command)
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
    loop {
        let exited = match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == program => FromStage::Exited { code: Some(code), signal: None },
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                FromStage::Exited { code: None, signal: Some(signal as i32) }
            }
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(_) => return 125,
        };
        let _ = handoff::send(host, &exited, &[]);
        return 0;
    }
}
