//! The port of the sandbox: run a program in a layer over the workspace, see its diff, merge it.

use std::{collections::BTreeMap, os::fd::OwnedFd, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    BoxFuture,
    action::Tier,
    gate::{MergePermit, Permit},
    ids::{CallId, Hash, RunId},
};

/// Bounds of one call. None may be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub wall_ms: u64,
    pub cpu_s: u64,
    pub memory_bytes: u64,
    pub processes_max: u32,
    pub open_files_max: u32,
    /// Largest single file the call may write.
    pub file_bytes_max: u64,
    /// Bytes of standard output and error, together, that are kept whole; the call is ended past that.
    pub output_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall_ms: 120_000,
            cpu_s: 120,
            memory_bytes: 2 << 30,
            processes_max: 256,
            open_files_max: 1024,
            file_bytes_max: 1 << 30,
            output_bytes_max: 16 << 20,
        }
    }
}

/// The bounds of the calls of each tool.
#[derive(Debug, Clone, Default)]
pub struct CallLimits {
    pub common: Limits,
    /// By the names of the tools that have others.
    pub of_tools: BTreeMap<String, Limits>,
}

impl CallLimits {
    pub fn of(&self, tool: &str) -> Limits {
        self.of_tools.get(tool).copied().unwrap_or(self.common)
    }
}

/// Where a call sees the workspace, and where its writes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerId {
    pub run: RunId,
    pub call: CallId,
    pub attempt: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A program of the sandbox's own root, for example `["/bin/sh", "-c", "make test"]`.
    Command { argv: Vec<String> },
    /// A function of our own binary, run inside the sandbox by its name with this input on its
    /// standard input. File tools use it, so that a path trick meets the sandbox, not us.
    Internal { name: String },
}

#[derive(Debug, Clone)]
pub struct ExecSpec {
    pub layer: LayerId,
    /// Absolute, existing folder on the host; mounted at the same path inside.
    pub workspace: PathBuf,
    /// Relative to the workspace.
    pub cwd: PathBuf,
    pub program: Program,
    pub env: BTreeMap<String, String>,
    pub stdin: Vec<u8>,
    pub limits: Limits,
    pub tier: Tier,
    /// A call that only reads gets the workspace read-only and no layer at all.
    pub read_only: bool,
}

/// A piece of live output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputChunk {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
}

/// Called for each piece of output as it arrives, from any thread. Must not block.
pub type OutputSink = Arc<dyn Fn(OutputChunk) + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Exit {
    Code {
        code: i32,
    },
    Signal {
        signal: i32,
    },
    /// The wall time limit ended it.
    TimedOut {
        wall_ms: u64,
    },
    /// The output limit ended it.
    OutputLimit {
        bytes: u64,
    },
    /// The caller cancelled it.
    Cancelled,
}

impl Exit {
    pub fn is_success(self) -> bool {
        matches!(self, Exit::Code { code: 0 })
    }
}

#[derive(Debug, Clone)]
pub struct ExecDone {
    pub exit: Exit,
    /// At most `output_bytes_max` together.
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub wall_ms: u64,
    pub receipt: Receipt,
    /// What the call changed in its layer; empty for a read-only call.
    pub diff: LayerDiff,
}

/// What was really enforced on one call, as found out while setting it up. Journalled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// `l1`
    pub backend: String,
    /// `user`, `mount`, `pid`, `net`, `ipc`, `uts`, `cgroup`
    pub namespaces: Vec<String>,
    /// `overlay`, `read-only` or `direct`
    pub workspace: String,
    /// 0: not enforced.
    pub landlock_abi: u32,
    /// BLAKE3 of the seccomp program that was loaded; `None`: not enforced.
    pub seccomp: Option<Hash>,
    pub no_new_privs: bool,
    pub capabilities_dropped: bool,
    /// How each limit is enforced: `memory` → `cgroup-v1`, `rlimit`, ...
    pub limits: BTreeMap<String, String>,
    /// What the limits were; `None` in events of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Limits>,
    /// Time from the request until the program was started, in microseconds.
    pub setup_us: u64,
}

/// One path a call changed, with what was there before and what is there after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Relative to the workspace, `/` between parts. Bytes that are not UTF-8 are refused earlier.
    pub path: String,
    pub old: Entry,
    pub new: Entry,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Entry {
    Absent,
    File { hash: Hash, bytes: u64, mode: u32 },
    Folder { mode: u32 },
    Symlink { target: String },
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerDiff {
    /// Sorted by path.
    pub changes: Vec<Change>,
    /// Paths the layer changed that can never be merged (devices, sockets, `.git/hooks`, names that
    /// are not UTF-8), with the reason.
    pub refused: Vec<(String, String)>,
    /// Unified text diff for people, bounded; says where it was cut.
    pub text: String,
}

impl LayerDiff {
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.refused.is_empty()
    }

    /// What an approval of this diff is bound to.
    pub fn hash(&self) -> Hash {
        Hash::of(&serde_json::to_vec(&(&self.changes, &self.refused)).unwrap_or_default())
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeReport {
    pub merged: Vec<String>,
    /// Paths that were no longer as the call had seen them: not overwritten, kept in `kept_at`.
    pub conflicts: Vec<Conflict>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    pub path: String,
    /// Where the call's version was kept, absolute; empty if the call had deleted the path.
    pub kept_at: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SandboxError {
    /// No back end passed its probe: nothing may run.
    #[error("the sandbox is not available: {reason}. {fix}")]
    Unavailable { reason: String, fix: String },
    #[error("the sandbox refused the call: {0}")]
    Refused(String),
    #[error("the sandbox could not be set up: {0}")]
    Setup(String),
    #[error("the workspace layer could not be read or merged: {0}")]
    Layer(String),
    /// The layer stays; merging it again later does what is missing. `workspace` says how far it came.
    #[error("the changes could not be merged: {cause}; of the workspace, {workspace}")]
    Unmerged { cause: String, workspace: String },
}

/// Content by its hash; `None` where it is not known. Called from a thread that may block.
pub type ContentSource = Arc<dyn Fn(&Hash) -> Option<Vec<u8>> + Send + Sync>;

/// Runs calls in a sandbox and merges what they wrote.
pub trait Sandbox: Send + Sync {
    /// Runs one call and waits for it and everything it started to be gone. Dropping the future
    /// kills the call.
    fn exec(&self, permit: Permit, spec: ExecSpec, output: OutputSink)
    -> BoxFuture<'_, Result<ExecDone, SandboxError>>;

    /// Merges a layer into its workspace. Idempotent: a path that already is as the layer has it
    /// counts as merged, so a merge that was killed is simply done again.
    fn merge(
        &self,
        permit: MergePermit,
        workspace: PathBuf,
        layer: LayerId,
        diff: LayerDiff,
    ) -> BoxFuture<'_, Result<MergeReport, SandboxError>>;

    /// Contents of the files a diff names: those the workspace has now, which a merge would replace, and
    /// those of the layer that people can read. Bounded: what is too large, or too much, is left out,
    /// and so is what is not as the diff says. To be asked for after the call and before its merge.
    fn contents(
        &self,
        workspace: PathBuf,
        layer: LayerId,
        diff: LayerDiff,
    ) -> BoxFuture<'_, Result<Vec<Vec<u8>>, SandboxError>>;

    /// Fills a layer with these changes, as if a call had made them; nothing runs. What may never be
    /// merged, and files whose content is not known, are in `refused` of the diff it answers.
    fn stage(
        &self,
        permit: Permit,
        workspace: PathBuf,
        layer: LayerId,
        changes: Vec<Change>,
        contents: ContentSource,
    ) -> BoxFuture<'_, Result<LayerDiff, SandboxError>>;

    /// Throws a layer away; no error if there is none.
    fn discard(&self, layer: &LayerId) -> BoxFuture<'_, Result<(), SandboxError>>;

    /// Tells it that nothing is wanted of it for a while, because a model is asked, say: a good moment to prepare for the
    /// next call. Returns at once.
    fn prepare_next(&self) {}
}

/// A long-lived worker of ours (the embedded model), confined: no network, read-only files.
pub trait WorkerLauncher: Send + Sync {
    fn launch(&self, spec: WorkerSpec) -> Result<WorkerProcess, SandboxError>;
}

#[derive(Debug, Clone)]
pub struct WorkerSpec {
    pub program: PathBuf,
    pub args: Vec<String>,
    /// Files and folders it may read, besides the system's libraries.
    pub readable: Vec<PathBuf>,
    pub memory_bytes: u64,
}

/// A running worker. Dropping it kills the worker and waits for it.
pub struct WorkerProcess {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    /// Kills on drop.
    pub guard: Box<dyn Send + Sync>,
}
