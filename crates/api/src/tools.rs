//! Operations on tools.

use homarus_contract::{
    action::EffectClass,
    event::ApprovalsMode,
    ids::{CallId, RunId},
    journal::RunStatus,
    sandbox::Exit,
    tool::Scope,
};
use serde::{Deserialize, Serialize};

use crate::operation::operation;

operation!(
    /// Lists the tools there are.
    List, "tools.list", "GET" "/v1/tools", needs "tools:read", ListRequest => ListResponse
);
operation!(
    /// Shows one tool.
    Show, "tools.show", "GET" "/v1/tools/{tool}", needs "tools:read", ToolRequest => Tool
);
operation!(
    /// Makes one call, in a run of its own without a model.
    Call, "tools.call", "POST" "/v1/tools/{tool}/calls", needs "runs:start", CallRequest => CallResponse
);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListRequest {
    /// Whose tools; `None`: the current agent's, or those of a run without one.
    pub agent: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListResponse {
    pub tools: Vec<Tool>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolRequest {
    pub tool: String,
    pub agent: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tool {
    pub name: String,
    /// As models are told.
    pub description: String,
    /// The worst any call of it can be.
    pub class: EffectClass,
    pub scope: Scope,
    /// Its own bounds, besides those of every call.
    pub limits: String,
    /// Those of every call that hold for it as well, as they are configured; the smaller one counts.
    pub bounds: Vec<Bound>,
    pub offered: bool,
    /// Why it is not offered.
    pub why_not: Option<String>,
    /// JSON Schema of the arguments.
    pub schema: serde_json::Value,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bound {
    /// As the configuration names it: `wall_s`.
    pub name: String,
    pub value: u64,
    /// It is set for this tool, not for every call.
    pub is_own: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallRequest {
    pub tool: String,
    /// JSON text.
    pub arguments: String,
    pub workspace: String,
    pub agent: Option<String>,
    pub approvals: ApprovalsMode,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CallResponse {
    pub run_id: RunId,
    pub call: CallId,
    pub status: RunStatus,
    pub summary: String,
    /// What a model would be shown; `None`: the call did not run.
    pub text: Option<String>,
    pub exit: Option<Exit>,
    pub wall_ms: u64,
    /// What it changed, as a unified diff; empty: nothing.
    pub diff: String,
    /// Paths that are now in the workspace as the call left them.
    pub merged: Vec<String>,
    /// Paths that somebody else had changed meanwhile: the call's version was kept apart.
    pub conflicts: Vec<String>,
    pub exit_code: u8,
    /// What to do next, if a person has to do something.
    pub next: Option<String>,
}
