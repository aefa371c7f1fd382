//! What the rules of a run say of a host, for calls that are led from one host to another.

use homarus_contract::{
    action::Resource,
    event::{ApprovalsMode, Profile},
    tool::{HostRules, HostView},
};
use homarus_policy::{Effect, Grants, Policy};

const VERB: &str = "net:connect";

/// Reads the profile anew for each question: calls that leave the machine are few and slow.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hosts;

impl HostRules for Hosts {
    fn view(&self, profile: &Profile, target: &str) -> Result<HostView, String> {
        let grants = Grants::parse(&profile.grants).map_err(|error| error.to_string())?;
        let policy = Policy::parse("rules", &profile.rules).map_err(|error| error.to_string())?;
        let resource = Resource { verb: VERB.to_owned(), target: target.to_owned() };
        if grants.covering(&resource).is_none() {
            return Ok(HostView { is_free: false, is_named: false });
        }
        let decision = policy.evaluate(std::slice::from_ref(&resource));
        Ok(HostView {
            is_free: match decision.effect {
                Effect::Allow => true,
                Effect::Ask => profile.approvals == ApprovalsMode::Auto,
                Effect::Deny => false,
            },
            is_named: decision.effect != Effect::Deny && (decision.is_exact || grants.name(&resource)),
        })
    }
}
