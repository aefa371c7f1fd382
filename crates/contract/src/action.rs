//! A wish and its plan: what an agent wants done, before anyone has allowed it.

use serde::{Deserialize, Serialize};

use crate::ids::{CallId, Hash};

/// What an agent wishes to do. It has no effect until the gate turns it into a permit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    pub call: CallId,
    /// The tool, for example `file.write`.
    pub tool: String,
    /// Raw JSON text, as the model wrote it.
    pub arguments: String,
}

/// What an effect is, and so what a kill between intent and result means. Declared by the tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectClass {
    /// Changes nothing: run again.
    Read,
    /// Carries an idempotency key: run again with the same key.
    Keyed,
    /// Writes only to its own layer of the workspace: throw the layer away, run again.
    Workspace,
    /// Anything else: never again by itself.
    Unkeyed,
}

/// What an action touches: the rules and grants are matched against these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// `file:read`, `file:write`, `shell:run`, `net:connect`, ...
    pub verb: String,
    /// What the verb applies to: a path relative to the workspace, a command line, a host.
    pub target: String,
}

/// What a tool would do, worked out without any effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// One line for people.
    pub summary: String,
    pub resources: Vec<Resource>,
    pub class: EffectClass,
    /// What would change, as a unified diff, where it can be known before the call runs.
    pub diff: Option<String>,
}

/// The tier of isolation an action runs in; it follows the origin of the tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    Trusted,
    Internal,
    Untrusted,
    LlmGenerated,
}

/// The hash an approval is bound to: the exact action, plan and policy, and the diff if there is one.
pub fn approval_hash(action: &Action, plan: &Plan, policy: &Hash, diff: Option<&Hash>) -> Hash {
    let plan = serde_json::to_vec(plan).unwrap_or_default();
    let diff = diff.copied().unwrap_or(Hash::ZERO);
    Hash::of_parts([
        action.call.as_str().as_bytes(),
        action.tool.as_bytes(),
        action.arguments.as_bytes(),
        &plan,
        policy.as_bytes(),
        diff.as_bytes(),
    ])
}
