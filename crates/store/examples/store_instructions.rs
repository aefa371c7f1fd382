//! `store_instructions N FOLDER`: one run appends N times, each time two events. `cargo xtask bench --only
//! instructions` counts what an append costs the processor.

use homarus_contract::{
    action::Tier,
    budget::Budget,
    event::{Accepted, ApprovalsMode, Event, Inbound, Profile},
    ids::{Hash, RunId},
    journal::{Append, Journal},
};
use homarus_store::{Options, Store};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [count, folder] = args.as_slice() else { return Err("usage: store_instructions N FOLDER".into()) };
    let count: u32 = count.parse()?;
    let store = Store::open(Options::new(folder))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let mut fence = store.accept(accepted(), vec![Vec::new()]).await?;
        for step in 0..count {
            let mut append = Append::new(fence);
            append.push(Event::Nudged { reason: "count".into(), text: format!("{step:0>400}") });
            append.push(Event::Nudged { reason: "count".into(), text: format!("{step:0>400}") });
            fence = store.append(append).await?;
        }
        Ok(())
    })
}

fn accepted() -> Accepted {
    let nothing = Hash::of(b"");
    Accepted {
        run: RunId::generate(0, [0; 5]),
        inbound: Inbound { source: "count".into(), ext_id: "1".into(), text: "count".into() },
        machine: "agent".into(),
        workspace: "/nowhere".into(),
        agent: None,
        models: Vec::new(),
        models_why: String::new(),
        answer_ms_max: 900_000,
        profile: Profile {
            grants: Vec::new(),
            rules: String::new(),
            approvals: ApprovalsMode::Deny,
            tier: Tier::Internal,
        },
        budget: Budget::default(),
        chosen: None,
        conversation: false,
        system: nothing,
        tools: nothing,
        orientation: nothing,
        homarus_version: env!("CARGO_PKG_VERSION").into(),
    }
}
