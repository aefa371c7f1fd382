//! Signals. SIGINT and SIGTERM bring what is under way to rest. SIGHUP means two things: that the terminal has gone, or
//! that the configuration is to be read again.

use std::{fs, sync::Arc};

use homarus_contract::ids::RunId;
use homarus_driver::{Control, Stop};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    exit::{self, CliError},
    put,
    reload::{Reloader, Slot},
    wiring::Runtime,
};

/// What a SIGHUP meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HangUp {
    /// Somebody sent it: the configuration is to be read again.
    Reload,
    /// The terminal this process was started from has gone.
    TerminalGone,
}

pub struct HangUps {
    signal: Signal,
    had_terminal: bool,
}

pub fn listen(kind: SignalKind) -> Result<Signal, CliError> {
    signal(kind).map_err(|error| CliError::failed("signals cannot be heard").cause(error))
}

/// The person, or the system, wants an end.
pub struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    pub fn listen() -> Result<Self, CliError> {
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    pub async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl HangUps {
    /// From here on the signal does not end the process.
    pub fn listen() -> Result<Self, CliError> {
        // Whoever started this with SIGHUP ignored (`nohup`) wants it to outlive the terminal.
        let had_terminal = has_terminal() && !is_ignored();
        Ok(Self { signal: listen(SignalKind::hangup())?, had_terminal })
    }

    pub async fn next(&mut self) -> HangUp {
        if self.signal.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        if self.had_terminal && !has_terminal() {
            self.had_terminal = false;
            return HangUp::TerminalGone;
        }
        HangUp::Reload
    }
}

/// The first Ctrl-C (or SIGTERM) finishes the journal and leaves a run that resumes; the second
/// ends the process as a kill would, which the journal survives too.
pub async fn watch(control: Control) {
    let Ok(mut ends) = Ends::listen() else { return };
    let mut stopping = false;
    loop {
        ends.any().await;
        if stopping {
            leave_now();
        }
        stopping = true;
        put::say!("\nstopping; once more to leave at once");
        control.stop(Stop::Pause);
    }
}

/// What is read again on SIGHUP, and for which run.
pub struct Reading {
    pub reloader: Reloader,
    pub runtime: Arc<Runtime>,
    pub run: RunId,
    pub slot: Slot,
}

/// Each SIGHUP has the configuration read again, unless it says that the terminal has gone: then the run comes to rest
/// as on Ctrl-C.
pub async fn watch_hang_ups(mut hang_ups: HangUps, control: Control, reading: Reading) {
    loop {
        if hang_ups.next().await == HangUp::TerminalGone {
            control.stop(Stop::Pause);
            continue;
        }
        let read = reading.reloader.read(&reading.runtime, Some(&reading.run)).await;
        match &read {
            Ok(_) => put::say!("the configuration was read again; it holds where the step ends"),
            Err(error) => put::say!("the configuration was read again and stays as it was: {}", error.brief()),
        }
        reading.slot.put(read.map_err(|error| error.summary()));
        control.hand_back();
    }
}

#[allow(clippy::disallowed_methods, reason = "the user asked twice; the journal needs no farewell")]
fn leave_now() -> ! {
    crate::show::seat::give_back();
    std::process::exit(i32::from(exit::CANCELLED))
}

/// The kernel takes the terminal away from the whole session before it sends the signal.
fn has_terminal() -> bool {
    fs::File::open("/dev/tty").is_ok()
}

/// Whether this process was started with SIGHUP ignored.
fn is_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
