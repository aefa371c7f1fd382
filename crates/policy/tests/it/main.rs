//! Policies as people write them, against actions as agents (and attackers) make them.

mod attacks;
mod decisions;
mod shipped;

use homarus_contract::action::Resource;
use homarus_policy::{Decision, Policy};

fn resource(verb: &str, target: &str) -> Resource {
    Resource { verb: verb.to_owned(), target: target.to_owned() }
}

fn policy(text: &str) -> Policy {
    Policy::parse("rules.toml", text).unwrap()
}

fn shell(policy: &Policy, line: &str) -> Decision {
    policy.evaluate(&[resource("shell:run", line)])
}
