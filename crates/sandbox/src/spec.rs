//! What the host tells the stages, and what they tell it back. Wire types of this crate alone.

use std::{collections::BTreeMap, path::PathBuf};

use homarus_contract::sandbox::Limits;
use serde::{Deserialize, Serialize};

/// Everything the stages need to know. Travels as JSON in a memory file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StageSpec {
    /// `true`: the host (real root) writes the id maps; `false`: the stage maps 0 to itself.
    pub map_by_host: bool,
    pub uid: u32,
    pub gid: u32,
    /// Files the first stage writes its own id to, to enter its control groups.
    pub cgroup_join: Vec<PathBuf>,
    /// How each limit is enforced by what the host set up; the stages add their own.
    pub limits_by_host: BTreeMap<String, String>,
    pub limits: Limits,
    /// Link texts of the host's namespaces, to compare with our own.
    pub host_namespaces: BTreeMap<String, String>,
    /// Read-only binds: host path (canonical) to the path inside.
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// Symbolic links of the root, as the host has them: path and target.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Small files written into the root.
    pub files: Vec<(PathBuf, String)>,
    pub workspace: Option<WorkspaceSpec>,
    /// Where our own binary is bound, for internal functions.
    pub exe: Option<PathBuf>,
    pub program: ProgramSpec,
    pub env: BTreeMap<String, String>,
    /// Absolute.
    pub cwd: PathBuf,
    /// The tool runs as this id pair (the owner of the workspace), if it is not 0.
    pub run_as: Option<(u32, u32)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkspaceSpec {
    /// Canonical host path.
    pub source: PathBuf,
    /// Path inside.
    pub target: PathBuf,
    /// `None`: read-only, no layer.
    pub layer: Option<LayerSpec>,
    /// Relative paths to make unreachable, if they exist.
    pub secret: Vec<String>,
    /// Relative paths to make read-only, if they exist.
    pub fixed: Vec<String>,
    /// Relative folders bound directly and writable, if they exist.
    pub caches: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LayerSpec {
    pub upper: PathBuf,
    pub work: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ProgramSpec {
    Command { argv: Vec<String> },
    Internal { name: String },
}

/// Host to stage.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToStage {
    /// Comes with the spec's memory file, the tool's standard input and, if there is one, the lock.
    Begin { lock: bool },
    Mapped,
}

/// Stage to host.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromStage {
    /// In the new namespaces, waiting for the id maps.
    Unshared,
    Started(Started),
    /// The tool has ended; what it left running is being killed.
    Exited { code: Option<i32>, signal: Option<i32> },
    /// The summed memory of the call passed its limit, and it is being ended.
    MemoryExceeded,
    Failed(StageFailure),
}

/// What was really enforced, as the stages found it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Started {
    pub namespaces: Vec<String>,
    pub workspace: String,
    pub landlock_abi: u32,
    /// Hex of the hash of the loaded programs.
    pub seccomp: Option<String>,
    pub no_new_privs: bool,
    pub capabilities_dropped: bool,
    pub limits: BTreeMap<String, String>,
    /// Microseconds since the first stage began, by step.
    pub steps_us: Vec<(String, u64)>,
}

/// Which step failed, in the probe's terms, and how.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct StageFailure {
    pub step: String,
    pub detail: String,
}

impl StageFailure {
    pub fn new(step: &str, detail: impl std::fmt::Display) -> Self {
        Self { step: step.to_owned(), detail: detail.to_string() }
    }
}

/// Adds the step's name to an error.
pub trait Step<T> {
    fn step(self, step: &str, what: &str) -> Result<T, StageFailure>;
}

impl<T, E: std::fmt::Display> Step<T> for Result<T, E> {
    fn step(self, step: &str, what: &str) -> Result<T, StageFailure> {
        self.map_err(|error| StageFailure::new(step, format!("{what}: {error}")))
    }
}
