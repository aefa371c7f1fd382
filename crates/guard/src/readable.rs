//! What a run may read with nobody asked, for calls that read many files at once.

use std::path::Path;

use homarus_contract::{
    action::Resource,
    event::{ApprovalsMode, Profile},
    tool::ReadRules,
};
use homarus_policy::{Effect, Grants, Policy};

/// The grants and rules of a profile, asked about one file after another.
pub struct Readable {
    grants: Grants,
    policy: Policy,
    approvals: ApprovalsMode,
}

impl ReadRules for Readable {
    fn of(profile: &Profile) -> Result<Self, String> {
        Ok(Self {
            grants: Grants::parse(&profile.grants).map_err(|error| error.to_string())?,
            policy: Policy::parse("rules", &profile.rules).map_err(|error| error.to_string())?,
            approvals: profile.approvals,
        })
    }

    fn may_read(&self, path: &Path) -> bool {
        let target = if path.as_os_str().is_empty() { ".".to_owned() } else { format!("./{}", path.display()) };
        let resource = Resource { verb: "file:read".to_owned(), target };
        if self.grants.covering(&resource).is_none() {
            return false;
        }
        match self.policy.evaluate(std::slice::from_ref(&resource)).effect {
            Effect::Allow => true,
            Effect::Ask => self.approvals == ApprovalsMode::Auto,
            Effect::Deny => false,
        }
    }
}
