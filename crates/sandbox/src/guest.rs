//! Guests: programs that are not ours and live long, such as a browser. Confined like a call, with a folder of their own
//! at most, and a way out that the host serves.

use std::{
    io::{self, Read},
    net::TcpListener,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use homarus_contract::{
    guest::{Guest, GuestFolder, GuestSpec},
    sandbox::SandboxError,
};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::{
    backend::{Inner, receipt},
    call::{self, Ender},
    disk::DiskBound,
};

/// What is kept of what a guest complains about.
const COMPLAINTS_BYTES_MAX: usize = 8 << 10;
/// How often the free space is looked at, and how often its folder in any case.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const WALK_EVERY: Duration = Duration::from_secs(10);

pub fn launch(inner: &Inner, spec: &GuestSpec) -> Result<Guest, SandboxError> {
    let setup = |error: io::Error| SandboxError::Setup(error.to_string());
    let asked = Instant::now();
    inner.available()?;
    let stage = inner.host.plan_guest(spec)?;
    let stage_folder = stage.writable.as_ref().map(|(real, _)| real.clone());
    let (stdin_inside, stdin) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| setup(error.into()))?;
    let mut running = inner.launch(stage, stdin_inside)?;
    let Some(way_out) = running.way_out.take() else {
        return Err(SandboxError::Setup("the guest has no way out".to_owned()));
    };
    let receipt = receipt(&running.started, asked.elapsed())?;
    let stdout = running.stdout.try_clone().map_err(setup)?;
    let mut stderr = running.stderr.try_clone().map_err(setup)?;
    let kept = Arc::new(Mutex::new(Vec::new()));
    if let Some(folder) = &spec.folder {
        // The real one, for no link is followed there.
        let real = stage_folder.as_deref().unwrap_or(&folder.path);
        bound(real, folder, running.ender().map_err(setup)?, kept.clone()).map_err(setup)?;
    }
    let keep = kept.clone();
    // It must not block on what it says. Ends with the guest.
    std::thread::Builder::new()
        .name("guest-stderr".to_owned())
        .spawn(move || {
            let mut buffer = [0u8; 4096];
            while let Ok(got @ 1..) = stderr.read(&mut buffer) {
                let mut kept = keep.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&buffer[..got]);
                let over = kept.len().saturating_sub(COMPLAINTS_BYTES_MAX);
                kept.drain(..over);
            }
        })
        .map_err(setup)?;
    Ok(Guest {
        stdin,
        stdout: OwnedFd::from(stdout),
        egress: TcpListener::from(way_out),
        receipt,
        complaints: Box::new(move || {
            let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8_lossy(&kept).into_owned()
        }),
        guard: Box::new(Guard(Mutex::new(running))),
    })
}

/// Ends the guest when its folder holds too much. What it writes there is kept, and would fill the disk.
fn bound(path: &Path, folder: &GuestFolder, guest: Ender, kept: Arc<Mutex<Vec<u8>>>) -> io::Result<()> {
    let mut disk = DiskBound::walking(WALK_EVERY, path, folder.bytes_max, folder.files_max)?;
    let told = format!("sandbox: its folder may hold {} MiB and {} files\n", folder.bytes_max >> 20, folder.files_max);
    std::thread::Builder::new().name("guest-disk".to_owned()).spawn(move || {
        while !guest.ended(LOOK_EVERY) {
            if disk.is_exceeded() {
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(told.as_bytes());
                return guest.kill();
            }
        }
    })?;
    Ok(())
}

/// Ends the guest, and waits for it, when it is dropped.
struct Guard(#[allow(dead_code, reason = "held for its drop")] Mutex<call::Running>);
