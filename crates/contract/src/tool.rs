//! The port of a tool: `plan` has no effects, `run` takes a permit by value.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    BoxFuture,
    action::{Action, EffectClass, Plan},
    event::{AgentRef, Profile},
    gate::Permit,
    ids::RunId,
    message::ToolDefinition,
    sandbox::{Exit, LayerDiff, LayerId, Limits, OutputSink, Receipt, Sandbox, SandboxError},
};

/// Longest command line that rules judge and `shell.execute` takes, in bytes.
pub const COMMAND_BYTES_MAX: usize = 32 * 1024;

/// What a tool may know when it plans or runs.
#[derive(Clone)]
pub struct ToolContext {
    pub run: RunId,
    pub workspace: PathBuf,
    /// Whose memory a memory tool writes.
    pub agent: Option<AgentRef>,
    pub limits: Limits,
    /// What the run may do.
    pub profile: Profile,
    pub sandbox: Arc<dyn Sandbox>,
}

/// What a tool did.
#[derive(Debug, Clone)]
pub struct ToolOutput {
    /// What the model is shown: bounded, with a marker where it was cut.
    pub text: String,
    pub is_error: bool,
    pub exit: Option<Exit>,
    /// Everything the call printed, kept as a blob; empty if `text` already says it all.
    pub whole: Vec<u8>,
    pub wall_ms: u64,
    pub receipt: Option<Receipt>,
    pub diff: LayerDiff,
}

impl ToolOutput {
    /// Of a call that has only something to say: no process, no layer.
    pub fn said(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_error: false,
            exit: None,
            whole: Vec::new(),
            wall_ms: 0,
            receipt: None,
            diff: LayerDiff::default(),
        }
    }
}

/// The action a tool was permitted; a permit for a model call is none.
pub fn permitted(permit: &Permit) -> Result<&Action, ToolError> {
    permit.action().ok_or_else(|| ToolError::Failed("the permit is not for a tool call".to_owned()))
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ToolError {
    /// The model can mend it: says what is wrong and what to do next.
    #[error("{0}")]
    BadArguments(String),
    /// The call could not be made at all.
    #[error("{0}")]
    Failed(String),
    /// No such call can be made on this machine before a person has mended it: says what is wrong, and how to mend it. Asking
    /// the model again would change nothing.
    #[error("{0}")]
    Unavailable(String),
}

impl From<SandboxError> for ToolError {
    fn from(error: SandboxError) -> Self {
        match error {
            SandboxError::Unavailable { .. } => Self::Unavailable(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// Which files of the workspace a run may read with nobody asked. A tool that comes upon files its plan
/// could not name (in a search of a folder) asks for each, in the sandbox, as it meets them.
pub trait ReadRules: Sized {
    /// The error says what is wrong with the profile.
    fn of(profile: &Profile) -> Result<Self, String>;

    /// `path` is relative to the workspace.
    fn may_read(&self, path: &Path) -> bool;
}

/// What the rules say of a host, for a tool that is led from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostView {
    /// It may be reached with nobody asked.
    pub is_free: bool,
    /// A grant or the rule that decides names this host and port itself, without a `*`.
    pub is_named: bool,
}

/// Asks the rules of a run about hosts.
pub trait HostRules: Send + Sync {
    /// `target` is `HOST:PORT`. The error says what is wrong with the profile.
    fn view(&self, profile: &Profile, target: &str) -> Result<HostView, String>;
}

/// The skills that may be offered.
pub trait SkillShelf: Send + Sync {
    fn has_any(&self) -> bool;

    /// A file of a skill; `None`: its `SKILL.md`. The error is for the model.
    fn read(&self, name: &str, file: Option<&str>) -> Result<String, String>;
}

/// How far a tool reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    Workspace,
    /// The memory of the agent that works.
    Memory,
    Network,
}

pub trait Tool: Send + Sync {
    fn definition(&self) -> ToolDefinition;

    /// The worst class any call of this tool can have.
    fn class(&self) -> EffectClass;

    fn scope(&self) -> Scope {
        Scope::Workspace
    }

    /// Its own bounds, for people, besides those of every call.
    fn limits(&self) -> String;

    /// Why it cannot be offered to a run of this agent, if so.
    fn unavailable(&self, _agent: Option<&AgentRef>) -> Option<String> {
        None
    }

    /// Checks the arguments and says what the call would do. Reads at most; never writes.
    fn plan(&self, context: &ToolContext, action: &Action) -> Result<Plan, ToolError>;

    /// Does what was planned. `layer` is where its writes go.
    fn run(
        &self,
        permit: Permit,
        context: ToolContext,
        layer: LayerId,
        output: OutputSink,
    ) -> BoxFuture<'_, Result<ToolOutput, ToolError>>;
}
