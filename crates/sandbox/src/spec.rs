//! What the host tells the stages, and what they tell it back. Wire types of this crate alone.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use homarus_contract::sandbox::Limits;
use serde::{Deserialize, Serialize};

/// What can be set up before the call is known, so that it can be ready when the call comes.
/// Travels as JSON in a memory file, as the call's part does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BaseSpec {
    /// `true`: the host (real root) writes the id maps; `false`: the stage maps 0 to itself.
    pub map_by_host: bool,
    pub uid: u32,
    pub gid: u32,
    /// Files the first stage writes its own id to, to enter its control groups.
    pub cgroup_join: Vec<PathBuf>,
    /// Link texts of the host's namespaces, to compare with our own.
    pub host_namespaces: BTreeMap<String, String>,
    pub show: Show,
    /// Our own binary, for internal functions.
    pub exe: PathBuf,
    /// The memory a call has if it does not say otherwise: scratch space is made for that ahead.
    pub memory_bytes: u64,
    /// What the call is likely to see: it is shown ahead, too.
    pub ahead: Option<AheadSpec>,
}

/// What is shown in the root.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Show {
    /// Read-only binds: host path (canonical) and the path inside.
    pub binds: Vec<(PathBuf, PathBuf)>,
    /// Symbolic links, as the host has them: path and target.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Small files written into the root.
    pub files: Vec<(PathBuf, String)>,
}

/// What calls like the last one see, with the layer that one of them is to have.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AheadSpec {
    pub seen: Seen,
    pub layer: LayerSpec,
}

impl AheadSpec {
    /// Whether it is what this call is to see. A call without a layer sees the same, and can change nothing of it.
    pub fn suits(&self, call: &CallSpec) -> bool {
        let layer = call.workspace.as_ref().and_then(|workspace| workspace.layer.as_ref());
        layer.is_none_or(|layer| *layer == self.layer) && Seen::of(call).as_ref() == Some(&self.seen)
    }
}

/// What a call sees besides what all see, as far as it can be mounted before the call is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub files: Vec<(PathBuf, String)>,
    pub source: PathBuf,
    pub source_id: (u64, u64),
    pub target: PathBuf,
    pub run_as: Option<(u32, u32)>,
}

/// Where scratch space is mounted, or a link to it: what is mounted there on top cannot be told from it by its path.
const SCRATCH: [&str; 4] = ["/tmp", "/var/tmp", "/run/home", "/dev/shm"];

impl Seen {
    /// `None`: it sees something that has to be looked up when it comes, or no workspace.
    pub fn of(call: &CallSpec) -> Option<Self> {
        let workspace = call.workspace.as_ref()?;
        let is_plain = call.show.binds.is_empty()
            && call.show.links.is_empty()
            && call.readable.is_empty()
            && call.hidden.is_empty()
            && workspace.caches.is_empty()
            && call.writable.is_none()
            && !SCRATCH.iter().any(|path| workspace.target == Path::new(path))
            && call.egress_port.is_none();
        is_plain.then(|| Self {
            files: call.show.files.clone(),
            source: workspace.source.clone(),
            source_id: workspace.source_id,
            target: workspace.target.clone(),
            run_as: call.run_as,
        })
    }
}

/// The call itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallSpec {
    /// How each limit is enforced by what the host set up; the stages add their own.
    pub limits_by_host: BTreeMap<String, String>,
    pub limits: Limits,
    /// Besides what the base shows.
    pub show: Show,
    /// Read-only: what a user asked to be shown, as host path and the path inside. It is mounted with the call, over the
    /// scratch space it may lie in.
    pub readable: Vec<(PathBuf, PathBuf)>,
    /// Paths inside that lie in what is readable and are to be out of reach.
    pub hidden: Vec<PathBuf>,
    pub workspace: Option<WorkspaceSpec>,
    /// A folder it may write besides: host path (canonical) and the path inside.
    pub writable: Option<(PathBuf, PathBuf)>,
    /// Where on 127.0.0.1 the host is to serve a way out; `None`: not even loopback is up.
    pub egress_port: Option<u16>,
    pub program: ProgramSpec,
    pub env: BTreeMap<String, String>,
    /// Absolute.
    pub cwd: PathBuf,
    /// The tool runs as this id pair (the owner of the workspace), if it is not 0.
    pub run_as: Option<(u32, u32)>,
}

impl CallSpec {
    /// The same call, which writes to this layer. One without a workspace has none.
    pub fn over(mut self, layer: LayerSpec) -> Self {
        if let Some(workspace) = &mut self.workspace {
            workspace.layer = Some(layer);
        }
        self
    }

    /// The same call with a work folder that no overlay had yet: the kernel takes none twice.
    pub fn again(mut self) -> io::Result<Self> {
        if let Some(layer) = self.workspace.as_mut().and_then(|workspace| workspace.layer.as_mut()) {
            layer.work.set_file_name("work-again");
            fs::create_dir_all(&layer.work)?;
        }
        Ok(self)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkspaceSpec {
    /// Canonical host path.
    pub source: PathBuf,
    /// Device and inode of it, as the host sees it: the stage must find the same.
    pub source_id: (u64, u64),
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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSpec {
    pub upper: PathBuf,
    pub work: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ProgramSpec {
    Command { argv: Vec<String> },
    Internal { name: String },
}

/// Host to zygote. Comes with what is to be standard input, output and error.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fork;

/// Zygote to host.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromZygote {
    /// Comes with a descriptor of the process.
    Forked {
        process: u32,
    },
    Failed(StageFailure),
}

/// Host to stage.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToStage {
    /// Comes with the base's memory file and, if there is one, the lock.
    Begin {
        lock: bool,
    },
    Mapped,
    /// Comes with the call's memory file and its standard input.
    Call,
}

/// `init` to the launcher, when all is mounted and read-only. Comes with the call's memory file, its standard input and, if there is one, the listening
/// socket of the way out.
#[derive(Debug, Serialize, Deserialize)]
pub struct ToLauncher {
    /// How each limit is enforced so far.
    pub limits: BTreeMap<String, String>,
    pub namespaces: Vec<String>,
    /// How the workspace is seen.
    pub workspace: String,
    /// Some folder of a user's is there without an overlay between.
    pub direct: bool,
}

/// The launcher to `init`: it has what all calls have in common, and touches nothing until it has its call.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ready;

/// Stage to host.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromStage {
    /// In the new namespaces, waiting for the id maps.
    Unshared,
    /// Comes with the listening socket of the way out, if there is one.
    Started(Started),
    /// The tool has ended; what it left running is being killed.
    Exited {
        code: Option<i32>,
        signal: Option<i32>,
        /// It left nothing running.
        was_last: bool,
    },
    /// Nothing inside is alive any more.
    Gone,
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
    /// As they were read by the stage that set them.
    pub bounds: Limits,
}

/// Which step failed, in the probe's terms, and how.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct StageFailure {
    pub step: String,
    pub detail: String,
}

impl StageFailure {
    /// Must fit a message between stages even if every character of it is escaped.
    const CHARS_MAX: usize = 1000;

    pub fn new(step: &str, detail: impl std::fmt::Display) -> Self {
        let mut detail = detail.to_string();
        if let Some((at, _)) = detail.char_indices().nth(Self::CHARS_MAX) {
            detail.truncate(at);
            detail.push('…');
        }
        Self { step: step.to_owned(), detail }
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
