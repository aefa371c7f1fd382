//! Operations on agents.

use homarus_contract::{action::Tier, model::ModelRef};
use serde::{Deserialize, Serialize};

use crate::operation::operation;

operation!(
    /// Lists agents.
    List, "agents.list", "GET" "/v1/agents", needs "agents:read", ListRequest => ListResponse
);
operation!(
    /// Shows one agent: its definition and its files.
    Show, "agents.show", "GET" "/v1/agents/{agent}", needs "agents:read", AgentRequest => AgentDetail
);
operation!(
    /// Makes an agent from a template.
    Create, "agents.create", "POST" "/v1/agents", needs "agents:write", CreateRequest => AgentDetail
);
operation!(
    /// Changes a file of an agent.
    Edit, "agents.edit", "PUT" "/v1/agents/{agent}/files/{file}", needs "agents:write", EditRequest => EditResponse
);
operation!(
    /// Deletes an agent with its memory.
    Delete, "agents.delete", "DELETE" "/v1/agents/{agent}", needs "agents:write", AgentRequest => DeleteResponse
);
operation!(
    /// Chooses the agent of runs that name none.
    Switch, "agents.switch", "PUT" "/v1/agents/current", needs "agents:write", SwitchRequest => SwitchResponse
);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListRequest {}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListResponse {
    pub agents: Vec<AgentRow>,
    pub templates: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgentRow {
    pub name: String,
    pub description: String,
    pub models: Vec<ModelRef>,
    /// Runs that name no agent have this one.
    pub current: bool,
    /// Why its definition cannot be used, if it cannot.
    pub error: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgentRequest {
    pub agent: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AgentDetail {
    pub name: String,
    pub folder: String,
    pub description: String,
    pub current: bool,
    /// Empty: as configured.
    pub models: Vec<ModelRef>,
    pub persona: String,
    /// `null`: all there are.
    pub tools: Option<Vec<String>>,
    /// `null`: as configured.
    pub grants: Option<Vec<String>>,
    pub tier: Tier,
    pub files: Vec<FileRow>,
    /// What will not be in its prompt, and why.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileRow {
    pub name: String,
    pub bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreateRequest {
    pub agent: String,
    /// `null`: `base`.
    pub template: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EditRequest {
    pub agent: String,
    /// `agent.toml` or a memory file.
    pub file: String,
    pub text: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EditResponse {
    pub agent: String,
    pub file: String,
    pub changed: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeleteResponse {
    pub agent: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SwitchRequest {
    /// `null`: none.
    pub agent: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SwitchResponse {
    pub agent: Option<String>,
}
