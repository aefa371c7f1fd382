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

operation!(
    /// Attacks the sandbox from inside, and says what got through.
    Selftest, "sandbox.selftest", "POST" "/v1/sandbox/selftest", needs "sandbox:test", SelftestRequest => SelftestResponse
);

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SelftestRequest {
    /// Beginnings of ids, such as `write` or `limit.memory`; everything if empty.
    #[serde(default)]
    pub only: Vec<String>,
    /// Do not make harmless attacks without a sandbox to see that they work there.
    #[serde(default)]
    pub no_controls: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SelftestResponse {
    /// Every attack was tried as every user, and failed.
    pub ok: bool,
    /// The columns: `root`, `user 1000`.
    pub users: Vec<String>,
    pub held: u32,
    pub got_through: u32,
    pub not_tried: u32,
    pub took_ms: u64,
    /// The file this is kept in; absent: it could not be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    pub attacks: Vec<SelftestAttack>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SelftestAttack {
    pub id: String,
    pub about: String,
    /// One for each user, in their order.
    pub results: Vec<SelftestResult>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SelftestResult {
    pub user: String,
    pub verdict: SelftestVerdict,
    /// How it was denied, or what got through.
    pub how: String,
    /// What a receipt, an outcome or a diff tells of it later; absent: only the call itself was told.
    pub recorded: Option<String>,
    pub outside: SelftestOutside,
    pub took_ms: u64,
    pub tries: Vec<SelftestTry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelftestVerdict {
    Held,
    GotThrough,
    NotTried,
}

/// The same attack without the sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SelftestOutside {
    /// `works`, `fails` or `not_tried`.
    pub seen: String,
    pub detail: String,
}

/// One try of an attack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SelftestTry {
    pub what: String,
    /// `denied`, `confined`, `through`, `untried`, or `begun` where the kernel ended it.
    pub outcome: String,
    pub detail: String,
}
