//! A long-lived program that is not ours, under the confinement of a call: a folder of its own at most, nothing of the
//! workspace, and as its only way out a socket that the host serves.

use std::{collections::BTreeMap, net::TcpListener, os::fd::OwnedFd, path::PathBuf};

use crate::sandbox::{Limits, Receipt, SandboxError};

/// Where the guest's own folder stands inside.
pub const GUEST_FOLDER: &str = "/run/guest";

#[derive(Debug, Clone)]
pub struct GuestSpec {
    /// The program by its absolute path, and its arguments.
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// Files and folders it may read, besides the system's.
    pub readable: Vec<PathBuf>,
    /// Small files written into its root: absolute path and text.
    pub files: Vec<(PathBuf, String)>,
    /// A folder of the host it may write, shown at [`GUEST_FOLDER`].
    pub folder: Option<GuestFolder>,
    pub limits: Limits,
    /// The port of 127.0.0.1 inside where the way out is.
    pub egress_port: u16,
}

#[derive(Debug, Clone)]
pub struct GuestFolder {
    pub path: PathBuf,
    /// A guest whose folder holds more is ended. It is looked at every few seconds, so there may be more by then.
    pub bytes_max: u64,
    pub files_max: u64,
}

/// A running guest. Dropping the guard ends it and waits for its end.
pub struct Guest {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    /// Listens inside the guest's network namespace; who holds it is the way out.
    pub egress: TcpListener,
    pub receipt: Receipt,
    /// The last it complained about, bounded.
    pub complaints: Box<dyn Fn() -> String + Send + Sync>,
    pub guard: Box<dyn Send + Sync>,
}

pub trait GuestLauncher: Send + Sync {
    /// Blocks for some tens of milliseconds.
    fn launch_guest(&self, spec: GuestSpec) -> Result<Guest, SandboxError>;
}
