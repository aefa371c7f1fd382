//! Operations on the sandbox.

use serde::{Deserialize, Serialize};

use crate::operation::operation;

operation!(
    /// Tries out what this machine can enforce.
    Probe, "sandbox.probe", "GET" "/v1/sandbox/probe", needs "sandbox:read", ProbeRequest => ProbeResponse
);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProbeRequest {}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProbeResponse {
    pub backend: String,
    pub ok: bool,
    pub checks: Vec<ProbeCheck>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProbeCheck {
    pub id: String,
    pub ok: bool,
    pub detail: String,
    /// What to do about it.
    pub fix: Option<String>,
}
