//! The operation that looks for what is wrong with an installation.

use serde::{Deserialize, Serialize};

use crate::operation::operation;

operation!(
    /// Looks at everything Homarus needs, and changes nothing.
    Check, "doctor.check", "POST" "/v1/doctor", needs "doctor:read", CheckRequest => CheckResponse
);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CheckRequest {}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResponse {
    /// No finding is an error.
    pub ok: bool,
    pub errors: u32,
    pub warnings: u32,
    pub findings: Vec<Finding>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable: `docs/doctor.md` lists them.
    pub id: String,
    pub severity: Severity,
    /// What was found.
    pub what: String,
    pub cause: Option<String>,
    /// What to do about it.
    pub fix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Good to know.
    Info,
    /// Works, but not as it should, or not for long.
    Warning,
    /// Something does not work.
    Error,
}
