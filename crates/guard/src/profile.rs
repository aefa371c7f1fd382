//! What the guard knows of one run: its profile, parsed once.

use homarus_contract::{
    budget::Budget,
    event::{ApprovalsMode, Profile},
    ids::Hash,
};
use homarus_policy::{GrantError, Grants, Policy, PolicyError};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum GuardError {
    #[error("the rules cannot be used: {0}")]
    Rules(#[from] PolicyError),
    #[error("the profile cannot be used: {0}")]
    Grants(#[from] GrantError),
    #[error("{0} runs are registered already; more are not judged at once")]
    TooManyRuns(usize),
}

/// The parsed profile of a run.
#[derive(Debug)]
pub struct RunProfile {
    pub grants: Grants,
    pub policy: Policy,
    pub approvals: ApprovalsMode,
    pub has_cost_limit: bool,
    /// Of rules, grants and approvals mode: an approval is good only while none of them changes.
    pub hash: Hash,
}

impl RunProfile {
    pub fn parse(rules_name: &str, profile: &Profile, budget: &Budget) -> Result<Self, GuardError> {
        let policy = Policy::parse(rules_name, &profile.rules)?;
        let grants = Grants::parse(&profile.grants)?;
        let mode = match profile.approvals {
            ApprovalsMode::Ask => "ask",
            ApprovalsMode::AskAll => "ask_all",
            ApprovalsMode::Deny => "deny",
            ApprovalsMode::Auto => "auto",
        };
        let hash = Hash::of_parts([policy.hash().as_bytes().as_slice(), grants.hash().as_bytes(), mode.as_bytes()]);
        Ok(Self { grants, policy, approvals: profile.approvals, has_cost_limit: budget.cost_max.is_some(), hash })
    }
}
