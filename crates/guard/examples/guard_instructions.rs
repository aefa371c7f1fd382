//! `guard_instructions N`: N calls pass a gate, by the rules that are built in and with a ledger in memory. `cargo xtask
//! bench --only instructions` counts what that costs the processor, from the wish to the permit.

use std::hint::black_box;

use homarus_contract::{
    action::{Action, EffectClass, Plan, Resource, Tier},
    budget::Budget,
    event::{ApprovalsMode, Profile},
    gate::{Admission, Wish},
    ids::{CallId, RunId},
    journal::{Append, Fence},
    model::ModelRef,
};
use homarus_guard::Guard;
use homarus_test_kit::permit::{admit, gate_of};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let count: u32 = std::env::args().nth(1).ok_or("usage: guard_instructions N")?.parse()?;
    let run = RunId::generate(0, [0; 5]);
    let guard = Guard::new("default.toml", |_: &ModelRef| true);
    let profile = Profile {
        grants: ["file:read:./**", "file:write:./**", "shell:run"].map(str::to_owned).to_vec(),
        rules: homarus_policy::DEFAULT_POLICY.to_owned(),
        approvals: ApprovalsMode::Auto,
        tier: Tier::Internal,
    };
    guard.register(&run, &profile, &Budget::default())?;
    let gate = gate_of(guard);
    let mut fence = Fence::new(run, 1, 0);
    for number in 0..count {
        let action = Action { call: CallId::new(1, number), tool: "shell.execute".into(), arguments: "{}".into() };
        let resources = vec![Resource { verb: "shell:run".into(), target: format!("cargo test --package p{number}") }];
        let plan = Plan { summary: String::new(), resources, class: EffectClass::Workspace, diff: None };
        let tier = Tier::Internal;
        let wish = Wish { action, plan, attempt: 1, tier, approval: None, approval_expires_ms: 0 };
        let Admission::Permitted { permit, fence: next, .. } = admit(&gate, Append::new(fence), wish)? else {
            return Err("the gate did not open".into());
        };
        black_box(permit);
        fence = next;
    }
    Ok(())
}
