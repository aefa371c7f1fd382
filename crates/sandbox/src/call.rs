//! The host's side of one sandbox: starts the stages, hears what they enforced, carries output,
//! holds the time and output limits, and ends everything by closing one socket.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use homarus_contract::sandbox::{Exit, OutputChunk, OutputSink};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, openat},
    net::{Shutdown, shutdown},
    pipe::{PipeFlags, pipe_with},
};

use crate::{
    cgroup::CallGroups,
    disk::{self, DiskBound},
    handoff,
    spec::{BaseSpec, CallSpec, FromStage, StageFailure, Started, Step, ToStage},
    zygote::{Outer, Zygote},
};

/// Setting up takes milliseconds; past this something hangs.
const SETUP_MAX: Duration = Duration::from_secs(20);
/// After the end, for what is still in the pipes.
const DRAIN_MAX: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 64 << 10;

/// A sandbox. Until it is given its call it only waits. Dropping it ends it, waits for the end of its last stage and
/// removes its control groups.
#[derive(Debug)]
pub struct Running {
    outer: Outer,
    ctl: OwnedFd,
    pub stdout: File,
    pub stderr: File,
    pub started: Started,
    /// The listening socket inside its network namespace, if the call has a way out.
    pub way_out: Option<OwnedFd>,
    groups: CallGroups,
}

/// The same sandbox, as seen by somebody who does not own it.
#[derive(Debug)]
pub struct Ender {
    ctl: OwnedFd,
    outer: OwnedFd,
}

impl Ender {
    /// Waits for its end; `false`: it has not come within this time.
    pub fn ended(&self, wait: Duration) -> bool {
        handoff::readable(&self.outer, wait).unwrap_or(true)
    }

    pub fn kill(&self) {
        // An error means it is gone already.
        let _ = shutdown(&self.ctl, Shutdown::Both);
    }
}

/// What a sandbox is started with before its call is known.
pub struct Launch<'a> {
    pub zygote: &'a Zygote,
    pub base: BaseSpec,
    pub groups: CallGroups,
    pub lock: Option<&'a File>,
    pub id_maps: Option<&'a (String, String)>,
}

/// What a call left behind.
#[derive(Debug)]
pub struct Ended {
    pub exit: Exit,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// More came than may be kept.
    over: bool,
}

/// Bounds of carrying output.
#[derive(Debug)]
pub struct Bounds {
    pub deadline: Instant,
    pub wall_ms: u64,
    pub output_bytes_max: u64,
    /// What the call may take on the disk.
    pub disk: Vec<DiskBound>,
}

/// A memory file with this content, read from its start: standard input that needs no writer. Sealed: what a call wrote to it
/// would be memory that no limit counts as the call's.
pub fn stdin_of(bytes: &[u8]) -> io::Result<OwnedFd> {
    let memory = memfd_create("stdin", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut at = 0;
    while at < bytes.len() {
        at += rustix::io::pwrite(&memory, &bytes[at..], at as u64)?;
    }
    fcntl_add_seals(&memory, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(memory)
}

/// Starts the stages up to the point where the call is needed. Does not wait for them to get there.
pub fn start(mut launch: Launch<'_>) -> Result<Running, StageFailure> {
    let (ctl, theirs) = handoff::pair().step("host", "socket pair")?;
    let (stdout, stdout_inside) = pipe_with(PipeFlags::CLOEXEC).step("host", "pipe")?;
    let (stderr, stderr_inside) = pipe_with(PipeFlags::CLOEXEC).step("host", "pipe")?;
    launch.base.cgroup_join = launch.groups.join.clone();
    let memory = memory_of(&launch.base)?;
    let outer = launch.zygote.fork([theirs.as_fd(), stdout_inside.as_fd(), stderr_inside.as_fd()])?;
    // Only the other side may hold them: their closing is what tells of its end.
    drop((theirs, stdout_inside, stderr_inside));
    // From here on dropping it ends it.
    let mut running = Running {
        outer,
        ctl,
        stdout: File::from(stdout),
        stderr: File::from(stderr),
        started: Started::default(),
        way_out: None,
        groups: launch.groups,
    };
    let mut fds: Vec<BorrowedFd<'_>> = vec![memory.as_fd()];
    fds.extend(launch.lock.map(|lock| lock.as_fd()));
    handoff::send(&running.ctl, &ToStage::Begin { lock: launch.lock.is_some() }, &fds).step("host", "send the base")?;
    if launch.base.map_by_host {
        match running.hear()?.0 {
            FromStage::Unshared => running.map_ids(launch.id_maps)?,
            FromStage::Failed(failure) => return Err(failure),
            _ => return Err(StageFailure::new("host", "a message out of order")),
        }
    }
    Ok(running)
}

fn memory_of<T: serde::Serialize>(spec: &T) -> Result<OwnedFd, StageFailure> {
    stdin_of(&serde_json::to_vec(spec).step("host", "spec")?).step("host", "memory file")
}

impl Running {
    /// Gives it its call and waits until the program was started.
    pub fn begin(&mut self, mut call: CallSpec, stdin: OwnedFd) -> Result<(), StageFailure> {
        self.groups.set(&call.limits).step("limits", "set")?;
        call.limits_by_host = self.groups.limits.clone();
        if let Some((uid, gid)) = call.run_as {
            // So that `/dev/stdout` can be opened by its path, too.
            for fd in [&self.stdout, &self.stderr] {
                let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
                rustix::fs::fchown(fd, Some(uid), Some(gid)).step("host", "pipe owner")?;
            }
        }
        let memory = memory_of(&call)?;
        if handoff::send(&self.ctl, &ToStage::Call, &[memory.as_fd(), stdin.as_fd()]).is_err() {
            // It failed before; what it said of that waits to be read.
            return Err(match self.hear()?.0 {
                FromStage::Failed(failure) => failure,
                _ => StageFailure::new("host", "the sandbox does not listen"),
            });
        }
        match self.hear()? {
            (FromStage::Started(started), fds) => {
                self.started = started;
                self.way_out = fds.into_iter().next();
                Ok(())
            }
            (FromStage::Failed(failure), _) => Err(failure),
            (FromStage::Exited { .. }, _) => {
                Err(StageFailure::new("launcher", "was ended before it became the program (too little memory?)"))
            }
            _ => Err(StageFailure::new("host", "a message out of order")),
        }
    }

    fn hear(&mut self) -> Result<(FromStage, Vec<OwnedFd>), StageFailure> {
        if !handoff::readable(&self.ctl, SETUP_MAX).step("host", "wait")? {
            return Err(StageFailure::new("host", "setting up took longer than 20 s"));
        }
        match handoff::recv::<FromStage>(&self.ctl).step("host", "receive")? {
            Some(heard) => Ok(heard),
            None => Err(self.died()),
        }
    }

    fn map_ids(&self, id_maps: Option<&(String, String)>) -> Result<(), StageFailure> {
        let (uids, gids) = id_maps.ok_or_else(|| StageFailure::new("userns", "no id map"))?;
        let process = self.outer.proc().step("userns", "find the stage")?;
        for (name, map) in [("uid_map", uids), ("gid_map", gids)] {
            let file = openat(&process, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
            file.map(File::from)
                .map_err(io::Error::from)
                .and_then(|mut file| file.write_all(map.as_bytes()))
                .step("userns", &format!("write the {name}"))?;
        }
        handoff::send(&self.ctl, &ToStage::Mapped, &[]).step("userns", "tell the stage")
    }

    /// The stage ended without a word; whatever it printed is the only account.
    fn died(&mut self) -> StageFailure {
        self.outer.ended(DRAIN_MAX);
        let mut said = String::new();
        let _ = (&self.stderr).take(2000).read_to_string(&mut said);
        StageFailure::new("host", format!("the stage ended early {}", said.trim()))
    }

    /// Something to end it by, for another thread.
    pub fn ender(&self) -> io::Result<Ender> {
        Ok(Ender { ctl: self.ctl.try_clone()?, outer: self.outer.descriptor()? })
    }

    /// Ends everything inside, at once and without asking.
    pub fn kill(&self) {
        // An error means it is gone already.
        let _ = shutdown(&self.ctl, Shutdown::Both);
    }

    /// Carries output until everything inside is gone. The last stage may live for a moment still.
    pub fn carry(&mut self, mut bounds: Bounds, cancel: &OwnedFd, sink: &OutputSink) -> io::Result<Ended> {
        let mut ended = Ended { exit: Exit::Signal { signal: 9 }, stdout: Vec::new(), stderr: Vec::new(), over: false };
        let mut reported: Option<Exit> = None;
        let mut forced: Option<Exit> = None;
        let mut gone = false;
        let (mut memory_exceeded, mut disk_exceeded) = (false, false);
        let (mut out_open, mut err_open, mut ctl_open) = (true, true, true);
        let mut deadline = bounds.deadline;
        let mut buffer = vec![0u8; READ_BYTES];
        while out_open || err_open || ctl_open {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                if forced.is_some() || reported.is_some() {
                    // All are dead, yet a pipe stays open: nothing more is to be expected.
                    break;
                }
                forced = Some(Exit::TimedOut { wall_ms: bounds.wall_ms });
                self.kill();
                deadline = Instant::now() + DRAIN_MAX;
                continue;
            }
            if forced.is_none() && bounds.disk.iter_mut().any(DiskBound::is_exceeded) {
                forced = Some(Exit::Signal { signal: 9 });
                disk_exceeded = true;
                self.kill();
                deadline = Instant::now() + DRAIN_MAX;
                continue;
            }
            let left = if bounds.disk.is_empty() { left } else { left.min(disk::LOOK_EVERY) };
            let wanted = |open: bool| if open { PollFlags::IN } else { PollFlags::empty() };
            let mut fds = vec![PollFd::new(cancel, wanted(forced.is_none()))];
            let mut at = [None; 3];
            for (slot, (fd, open)) in
                [(self.ctl.as_fd(), ctl_open), (self.stdout.as_fd(), out_open), (self.stderr.as_fd(), err_open)]
                    .into_iter()
                    .enumerate()
            {
                if open {
                    at[slot] = Some(fds.len());
                    fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                }
            }
            match poll(&mut fds, Some(&handoff::timespec(left))) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            let is_ready = |slot: Option<usize>| slot.is_some_and(|index| ready[index]);
            if ready[0] && forced.is_none() {
                forced = Some(Exit::Cancelled);
                self.kill();
                deadline = Instant::now() + DRAIN_MAX;
            }
            if is_ready(at[1]) {
                out_open = pass_on(&mut self.stdout, &mut buffer, &mut ended, true, bounds.output_bytes_max, sink)?;
            }
            if is_ready(at[2]) {
                err_open = pass_on(&mut self.stderr, &mut buffer, &mut ended, false, bounds.output_bytes_max, sink)?;
            }
            if ended.over && forced.is_none() {
                forced = Some(Exit::OutputLimit { bytes: bounds.output_bytes_max });
                self.kill();
                deadline = Instant::now() + DRAIN_MAX;
            }
            if is_ready(at[0]) {
                match handoff::recv::<FromStage>(&self.ctl)? {
                    Some((FromStage::Exited { code, signal, was_last }, _)) => {
                        gone = was_last;
                        ctl_open = !was_last;
                        reported = Some(match (code, signal) {
                            (Some(code), _) => Exit::Code { code },
                            (None, signal) => Exit::Signal { signal: signal.unwrap_or(9) },
                        });
                        deadline = Instant::now() + DRAIN_MAX;
                    }
                    Some((FromStage::MemoryExceeded, _)) => memory_exceeded = true,
                    Some((FromStage::Gone, _)) => {
                        gone = true;
                        ctl_open = false;
                    }
                    Some(_) => {}
                    None => ctl_open = false,
                }
            }
        }
        if !gone {
            self.end();
        }
        let by_force = disk_exceeded || matches!(forced, Some(Exit::OutputLimit { .. }));
        if let Some(exit) = reported.filter(|_| !by_force).or(forced) {
            ended.exit = exit;
        }
        if memory_exceeded || self.groups.ran_out_of_memory() {
            ended.note(b"\nsandbox: the memory limit was reached\n", sink);
        }
        if disk_exceeded {
            ended.note(b"\nsandbox: the limit of what a call may write to the disk was reached\n", sink);
        }
        Ok(ended)
    }
}

impl Ended {
    fn note(&mut self, text: &[u8], sink: &OutputSink) {
        self.stderr.extend_from_slice(text);
        sink(OutputChunk::Stderr(text.to_vec()));
    }
}

impl Running {
    /// Ends it, and waits: never for ever, for an outer stage that was stopped would not end by itself.
    fn end(&mut self) {
        self.kill();
        // The outer stage ends as soon as all inside are dead; if it cannot, process 1 dies with it.
        if !self.outer.ended(DRAIN_MAX) {
            self.outer.kill();
            self.outer.ended(DRAIN_MAX);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads once and hands it on, keeping what is within the limit; `false` at the end.
fn pass_on(
    from: &mut File,
    buffer: &mut [u8],
    ended: &mut Ended,
    is_stdout: bool,
    bytes_max: u64,
    sink: &OutputSink,
) -> io::Result<bool> {
    let got = match from.read(buffer) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
        other => other?,
    };
    let kept = (ended.stdout.len() + ended.stderr.len()) as u64;
    let room = usize::try_from(bytes_max.saturating_sub(kept)).unwrap_or(usize::MAX).min(got);
    ended.over |= room < got;
    if room > 0 {
        let bytes = buffer[..room].to_vec();
        if is_stdout {
            ended.stdout.extend_from_slice(&bytes);
            sink(OutputChunk::Stdout(bytes));
        } else {
            ended.stderr.extend_from_slice(&bytes);
            sink(OutputChunk::Stderr(bytes));
        }
    }
    Ok(got > 0)
}
