//! `guard_instructions N`: N calls judged by the rules that are built in. `cargo xtask bench --only instructions`
//! counts what a judgement costs the processor.

use std::hint::black_box;

use homarus_contract::{
    action::{Action, EffectClass, Plan, Resource, Tier},
    budget::Budget,
    event::{ApprovalsMode, Profile},
    gate::Judge,
    ids::{CallId, RunId},
    model::ModelRef,
};
use homarus_guard::Guard;

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
    for number in 0..count {
        let action = Action { call: CallId::new(1, number), tool: "shell.execute".into(), arguments: "{}".into() };
        let resources = vec![Resource { verb: "shell:run".into(), target: format!("cargo test --package p{number}") }];
        let plan = Plan { summary: String::new(), resources, class: EffectClass::Workspace, diff: None };
        black_box(guard.judge(&run, &action, &plan));
    }
    Ok(())
}
