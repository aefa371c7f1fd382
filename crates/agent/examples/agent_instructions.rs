//! `agent_instructions N`: a run of N steps, each one call, folded event by event and asked after each what is next.
//! `cargo xtask bench --only instructions` counts what a step costs the processor.

use std::hint::black_box;

use homarus_agent::{Agent, State};
use homarus_contract::{
    action::{Action, EffectClass, Plan, Resource, Tier},
    budget::{Amount, Budget},
    event::{Accepted, ActResult, ApprovalsMode, Event, Inbound, Judgement, Profile, PromptParts},
    gate::Verdict,
    ids::{CallId, Hash, RunId},
    machine::Machine,
    message::{Block, StopReason, ToolCall, Usage},
    model::ModelRef,
    sandbox::{LayerDiff, MergeReport},
};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let count: u32 = std::env::args().nth(1).ok_or("usage: agent_instructions N")?.parse()?;
    let model: ModelRef = "a/x".parse()?;
    let mut state = State::default();
    Agent.apply(&mut state, &Event::Accepted(accepted(&model)));
    for step in 1..=count {
        for event in events(step, &model) {
            Agent.apply(&mut state, &event);
            black_box(Agent.next(&state));
        }
    }
    Ok(())
}

/// What the journal holds of one step with one call.
fn events(step: u32, model: &ModelRef) -> Vec<Event> {
    let call = CallId::new(step, 0);
    let arguments = format!(r#"{{"command":"echo {step}"}}"#);
    let action = Action { call: call.clone(), tool: "shell.execute".into(), arguments: arguments.clone() };
    let resources = vec![Resource { verb: "shell:run".into(), target: format!("echo {step}") }];
    let plan = Plan { summary: format!("echo {step}"), resources, class: EffectClass::Workspace, diff: None };
    let judgement = Judgement {
        verdict: Verdict::Allow,
        rule: "default.toml:1 allow shell:run".into(),
        reason: "allowed".into(),
        policy_hash: Hash::ZERO,
        capability: Some("shell:run".into()),
        tainted: false,
    };
    let asked =
        ToolCall { call: call.clone(), provider_id: format!("id-{step}"), name: "shell.execute".into(), arguments };
    vec![
        Event::ModelIntent {
            step,
            attempt: 1,
            prompt: PromptParts::default(),
            model: model.clone(),
            reserved: Amount::default(),
        },
        Event::BlockDone { step, block: Block::ToolCall(asked), partial: false },
        Event::Judged { action, plan, judgement },
        Event::ActIntent {
            call: call.clone(),
            class: EffectClass::Workspace,
            key: None,
            tier: Tier::Internal,
            attempt: 1,
        },
        Event::ModelResult {
            step,
            stop: StopReason::ToolUse,
            usage: Usage::default(),
            served_by: model.clone(),
            cost: Some(0),
            wall_ms: 10,
        },
        Event::ActResult(ActResult {
            call: call.clone(),
            attempt: 1,
            is_error: false,
            exit: None,
            shown: Hash::of(step.to_string().as_bytes()),
            whole: None,
            wall_ms: 5,
            receipt: None,
            diff: LayerDiff::default(),
            kept: Vec::new(),
        }),
        Event::Merged { call, report: MergeReport::default() },
    ]
}

fn accepted(model: &ModelRef) -> Accepted {
    Accepted {
        run: RunId::generate(0, [0; 5]),
        inbound: Inbound { source: "count".into(), ext_id: "1".into(), text: "Run some commands.".into() },
        machine: "agent".into(),
        workspace: "/nowhere".into(),
        agent: None,
        models: vec![model.clone()],
        models_why: String::new(),
        answer_ms_max: 900_000,
        profile: Profile {
            grants: Vec::new(),
            rules: String::new(),
            approvals: ApprovalsMode::Auto,
            tier: Tier::Internal,
        },
        budget: Budget { steps_max: u32::MAX, ..Budget::default() },
        chosen: None,
        conversation: false,
        system: Hash::ZERO,
        tools: Hash::ZERO,
        orientation: Hash::ZERO,
        homarus_version: env!("CARGO_PKG_VERSION").into(),
    }
}
