//! The program all sandboxes of a host are forked from. It has one thread, no environment and one socket, to the host;
//! it never sees a spec, and learns nothing from those it forked but that they ended.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use homarus_fork::{Forked, fork_alone};
use nix::sys::wait::{WaitPidFlag, waitpid};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, pidfd_open},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};

use super::{outer, seccomp};
use crate::{
    handoff,
    spec::{Fork, FromZygote, StageFailure, Step},
};

/// What becomes of this process.
enum Next {
    Ends,
    IsOuter,
}

pub fn run() -> i32 {
    match serve(&io::stdin()) {
        Ok(Next::Ends) => 0,
        Ok(Next::IsOuter) => outer::run(),
        // The host sees the end; the next sandbox starts another one.
        Err(_) => 125,
    }
}

/// Forks when asked, until the host is gone.
fn serve(host: &impl AsFd) -> Result<Next, StageFailure> {
    outer::close_inherited().step("descriptors", "close what was inherited")?;
    // Away from the terminal: no signals from its keys, and it can never be ours again.
    nix::unistd::setsid().step("session", "setsid")?;
    // All that are forked have it then. That it cannot be compiled, the call that needs it says.
    let _ = seccomp::compiled();
    let mut forked: Vec<(u32, OwnedFd)> = Vec::new();
    loop {
        let mut fds = vec![PollFd::new(host, PollFlags::IN)];
        fds.extend(forked.iter().map(|(_, process)| PollFd::new(process, PollFlags::IN)));
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.step("zygote", "wait")?,
        };
        let asked = !fds[0].revents().is_empty();
        forked.retain(|(process, _)| !has_ended(*process));
        if !asked {
            continue;
        }
        let Some((Fork, given)) = handoff::recv::<Fork>(host).step("zygote", "receive")? else {
            return Ok(Next::Ends);
        };
        let failure = match fork(given) {
            Ok(Is::Child { whole: true }) => return Ok(Next::IsOuter),
            // It must not go on as a second zygote. The host sees the end.
            Ok(Is::Child { whole: false }) => return Ok(Next::Ends),
            Ok(Is::Zygote { process, fd }) => {
                let answer = FromZygote::Forked { process };
                handoff::send(host, &answer, &[fd.as_fd()]).step("zygote", "answer")?;
                forked.push((process, fd));
                continue;
            }
            Err(failure) => failure,
        };
        handoff::send(host, &FromZygote::Failed(failure), &[]).step("zygote", "answer")?;
    }
}

/// Which of the two processes this is after the fork.
enum Is {
    Zygote {
        process: u32,
        fd: OwnedFd,
    },
    /// `whole`: it stands there as a program that was just started, with the three descriptors it was given.
    Child {
        whole: bool,
    },
}

fn fork(given: Vec<OwnedFd>) -> Result<Is, StageFailure> {
    let [stdin, stdout, stderr] = given.as_slice() else {
        return Err(StageFailure::new("zygote", "descriptors are missing"));
    };
    match fork_alone().step("zygote", "fork")? {
        Forked::Child => {
            let taken = dup2_stdin(stdin).and_then(|()| dup2_stdout(stdout)).and_then(|()| dup2_stderr(stderr));
            Ok(Is::Child { whole: taken.is_ok() })
        }
        Forked::Parent(process) => {
            let id = Pid::from_raw(process.cast_signed());
            let id = id.ok_or_else(|| StageFailure::new("zygote", "no process id"))?;
            // It cannot be another process: until we reap it, the number is its own.
            Ok(Is::Zygote { process, fd: pidfd_open(id, PidfdFlags::empty()).step("zygote", "pidfd")? })
        }
    }
}

/// Reaps it if so.
fn has_ended(process: u32) -> bool {
    let id = nix::unistd::Pid::from_raw(process.cast_signed());
    !matches!(waitpid(id, Some(WaitPidFlag::WNOHANG)), Ok(nix::sys::wait::WaitStatus::StillAlive))
}
