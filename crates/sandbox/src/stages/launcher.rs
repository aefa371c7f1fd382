//! The third stage, which becomes the program. It is forked by `init` before the call is known, takes on what all calls
//! have in common, and waits. What it lost, the program cannot have; and nothing is started twice.

use std::{
    net::TcpListener,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Command, Stdio},
};

use homarus_fork::{Forked, fork_alone};
use nix::unistd::Pid;

use super::{
    MARKER, confine,
    init::{Begun, EXE_INSIDE},
    outer,
};
use crate::{
    handoff,
    spec::{CallSpec, FromStage, ProgramSpec, Ready, StageFailure, Started, Step, ToLauncher},
};

/// What this process is after the fork.
pub enum Role {
    Init(Launcher),
    /// With its end of the line.
    Launcher(OwnedFd),
}

/// What `init` has of it.
pub struct Launcher {
    pub process: Pid,
    pub line: OwnedFd,
}

pub fn fork() -> Result<Role, StageFailure> {
    let (ours, theirs) = handoff::pair().step("launcher", "socket pair")?;
    match fork_alone().step("launcher", "fork")? {
        Forked::Child => Ok(Role::Launcher(theirs)),
        Forked::Parent(id) => Ok(Role::Init(Launcher { process: Pid::from_raw(id.cast_signed()), line: ours })),
    }
}

/// Returns only if there is no program to become; then its code.
pub fn run(begun: &Begun, line: &OwnedFd) -> i32 {
    let (mut command, started, way_out) = match prepare(begun, line) {
        Ok(Some(prepared)) => prepared,
        Ok(None) => return 0,
        Err(failure) => {
            // If the host is gone, our end is near anyway.
            let _ = handoff::send(&begun.host, &FromStage::Failed(failure), &[]);
            return 125;
        }
    };
    let passed: Vec<BorrowedFd<'_>> = way_out.iter().map(AsFd::as_fd).collect();
    let _ = handoff::send(&begun.host, &FromStage::Started(started), &passed);
    // Every descriptor but the standard three closes with it.
    let error = command.exec();
    eprintln!("sandbox: cannot start `{}`: {error}", command.get_program().to_string_lossy());
    127
}

type Prepared = (Command, Started, Option<TcpListener>);

/// `None`: `init` is gone.
fn prepare(begun: &Begun, line: &OwnedFd) -> Result<Option<Prepared>, StageFailure> {
    let ahead = confine::ahead(&begun.base)?;
    handoff::send(line, &Ready, &[]).step("launcher", "tell init")?;
    let Some((message, fds)) = handoff::recv::<ToLauncher>(line).step("launcher", "receive")? else { return Ok(None) };
    let mut fds = fds.into_iter();
    let (Some(memory), Some(stdin)) = (fds.next(), fds.next()) else {
        return Err(StageFailure::new("launcher", "descriptors are missing"));
    };
    let way_out = fds.next().map(TcpListener::from);
    let call: CallSpec = outer::read_spec(&memory)?;
    drop(memory);
    let ToLauncher { mut limits, namespaces, workspace, direct } = message;
    let command = command(&call, stdin)?;
    let confined = confine::this_process(ahead, &begun.base, &call, &mut limits, direct)?;
    let started = Started {
        namespaces,
        workspace,
        landlock_abi: confined.landlock_abi,
        seccomp: Some(confined.seccomp),
        no_new_privs: confined.no_new_privs,
        capabilities_dropped: confined.capabilities_dropped,
        limits,
        bounds: call.limits,
    };
    Ok(Some((command, started, way_out)))
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
