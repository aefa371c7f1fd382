//! The host's side of the zygote: starts it when a sandbox is first needed, and asks it for more.

use std::{
    fs::File,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags, openat},
    process::{Signal, pidfd_send_signal},
};

use crate::{
    handoff,
    spec::{Fork, FromZygote, StageFailure, Step},
    stages::MARKER,
};

/// Forking takes a millisecond; past this something hangs.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Where sandboxes come from.
#[derive(Debug)]
pub struct Zygote {
    exe: PathBuf,
    alive: Mutex<Option<Alive>>,
}

#[derive(Debug)]
struct Alive {
    child: Child,
    socket: OwnedFd,
}

/// The first stage of a sandbox. It is the zygote's child, so there is a descriptor of it instead of a number to wait for.
#[derive(Debug)]
pub struct Outer {
    id: u32,
    fd: OwnedFd,
}

impl Zygote {
    pub fn new(exe: &Path) -> Self {
        Self { exe: exe.to_owned(), alive: Mutex::new(None) }
    }

    /// A first stage with these descriptors as its standard three.
    pub fn fork(&self, stdio: [BorrowedFd<'_>; 3]) -> Result<Outer, StageFailure> {
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = alive.as_ref()
            && let Ok(outer) = ready.fork(&stdio)
        {
            return Ok(outer);
        }
        // There was none, or it was ended by somebody. What fails with a new one is told.
        let new = Alive::start(&self.exe)?;
        let outer = new.fork(&stdio);
        *alive = outer.is_ok().then_some(new);
        outer
    }

    /// Ends it. The sandboxes it forked live on; the next one starts another zygote.
    pub fn close(&self) {
        drop(self.alive.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Alive {
    fn start(exe: &Path) -> Result<Self, StageFailure> {
        let (socket, theirs) = handoff::pair().step("host", "socket pair")?;
        let child = Command::new(exe)
            .args([MARKER, "zygote"])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .step("host", &format!("start {}", exe.display()))?;
        Ok(Self { child, socket })
    }

    fn fork(&self, stdio: &[BorrowedFd<'_>]) -> Result<Outer, StageFailure> {
        handoff::send(&self.socket, &Fork, stdio).step("zygote", "ask")?;
        if !handoff::readable(&self.socket, ANSWER_MAX).step("zygote", "wait")? {
            return Err(StageFailure::new("zygote", "does not answer"));
        }
        let answer = handoff::recv::<FromZygote>(&self.socket).step("zygote", "hear")?;
        match answer.map(|(answer, fds)| (answer, fds.into_iter().next())) {
            Some((FromZygote::Forked { process }, Some(fd))) => Ok(Outer { id: process, fd }),
            Some((FromZygote::Failed(failure), _)) => Err(failure),
            Some(_) => Err(StageFailure::new("zygote", "no descriptor of the process")),
            None => Err(StageFailure::new("zygote", "ended early")),
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        // It keeps nothing that would have to be put in order. Even a stopped one ends by this.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outer {
    /// Waits for its end; `false`: it has not come within this time.
    pub fn ended(&self, wait: Duration) -> bool {
        handoff::readable(&self.fd, wait).unwrap_or(true)
    }

    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    pub fn kill(&self) {
        // An error means it is gone already.
        let _ = pidfd_send_signal(&self.fd, Signal::KILL);
    }

    /// Its folder in `/proc`: of this process, and of no later one with its number.
    pub fn proc(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(rustix::fs::CWD, format!("/proc/{}", self.id), flags, Mode::empty())?;
        // What was opened is its own if it still lives now.
        if self.ended(Duration::ZERO) { Err(io::Error::other("the stage has ended")) } else { Ok(File::from(folder)) }
    }
}
