//! Long-lived workers of ours under the same confinement: no workspace, no network, given files
//! read-only, pipes for standard input and output.

use std::{
    io::{self, Read},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Mutex,
};

use homarus_contract::sandbox::{Limits, SandboxError, WorkerProcess, WorkerSpec};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::{backend::Inner, call};

/// A worker runs until it is told to stop; these bounds only catch one that has gone wild.
const CPU_S_MAX: u64 = 1 << 20;
const PROCESSES_MAX: u32 = 64;
const OPEN_FILES_MAX: u32 = 256;

pub fn launch(inner: &Inner, spec: WorkerSpec) -> Result<WorkerProcess, SandboxError> {
    let setup = |error: io::Error| SandboxError::Setup(error.to_string());
    inner.available()?;
    let program = std::fs::canonicalize(&spec.program)
        .map_err(|error| SandboxError::Setup(format!("{}: {error}", spec.program.display())))?;
    let Some(name) = program.to_str() else {
        return Err(SandboxError::Setup("the worker's path is not UTF-8".into()));
    };
    let limits = Limits {
        wall_ms: u64::MAX,
        cpu_s: CPU_S_MAX,
        memory_bytes: spec.memory_bytes,
        processes_max: PROCESSES_MAX,
        open_files_max: OPEN_FILES_MAX,
        file_bytes_max: 1 << 20,
        output_bytes_max: u64::MAX,
    };
    let mut argv = vec![name.to_owned()];
    argv.extend(spec.args);
    let mut readable: Vec<PathBuf> = spec.readable;
    readable.push(program.clone());
    let stage = inner.host.plan_worker(argv, &readable, limits).map_err(setup)?;
    let (stdin_inside, stdin) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| setup(error.into()))?;
    let running = inner.launch(stage, stdin_inside)?;
    let mut stderr = running.stderr.try_clone().map_err(setup)?;
    let stdout = running.stdout.try_clone().map_err(setup)?;
    // Nobody reads what a worker complains about, but it must not block on it. Ends with the worker.
    std::thread::Builder::new()
        .name("worker-stderr".to_owned())
        .spawn(move || {
            let mut buffer = [0u8; 4096];
            while stderr.read(&mut buffer).is_ok_and(|got| got > 0) {}
        })
        .map_err(setup)?;
    Ok(WorkerProcess { stdin, stdout: OwnedFd::from(stdout), guard: Box::new(Guard(Mutex::new(running))) })
}

/// Ends the worker, and waits for it, when it is dropped.
struct Guard(#[allow(dead_code, reason = "held for its drop")] Mutex<call::Running>);
