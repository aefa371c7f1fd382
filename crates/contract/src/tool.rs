//! The port of a tool: `plan` has no effects, `run` takes a permit by value.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

use crate::{
    BoxFuture,
    action::{Action, EffectClass, Plan},
    event::{AgentRef, Profile},
    gate::Permit,
    message::ToolDefinition,
    sandbox::{Exit, LayerDiff, LayerId, Limits, OutputSink, Receipt, Sandbox},
};

/// What a tool may know when it plans or runs.
#[derive(Clone)]
pub struct ToolContext {
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

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ToolError {
    /// The model can mend it: says what is wrong and what to do next.
    #[error("{0}")]
    BadArguments(String),
    /// The call could not be made at all.
    #[error("{0}")]
    Failed(String),
}

/// Which files of the workspace a run may read with nobody asked. A tool that comes upon files its plan
/// could not name (in a search of a folder) asks for each, in the sandbox, as it meets them.
pub trait ReadRules: Sized {
    /// The error says what is wrong with the profile.
    fn of(profile: &Profile) -> Result<Self, String>;

    /// `path` is relative to the workspace.
    fn may_read(&self, path: &Path) -> bool;
}

pub trait Tool: Send + Sync {
    fn definition(&self) -> ToolDefinition;

    /// The worst class any call of this tool can have.
    fn class(&self) -> EffectClass;

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
