//! Runs in flight, to be killed: `in_flight FOLDER COUNT WORKSPACE MODEL` accepts so many runs in the journal of this
//! state folder, each with a question to its model under way, says `ready`, and holds them until it is killed.
//! `cargo xtask torture --takeover COUNT` measures how they are taken over.

use std::{path::PathBuf, sync::Arc};

use homarus_contract::{
    action::Tier,
    budget::{Amount, Budget, BudgetChange},
    event::{Accepted, ApprovalsMode, Event, Inbound, Profile, PromptParts},
    ids::{Hash, RunId},
    journal::{Append, Journal, JournalError},
    model::ModelRef,
};
use homarus_store::{Options, Store};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, count, workspace, model] = args.as_slice() else {
        return Err("usage: in_flight FOLDER COUNT WORKSPACE MODEL".into());
    };
    let (count, model): (u32, ModelRef) = (count.parse()?, model.parse()?);
    let runtime = tokio::runtime::Runtime::new()?;
    let store = Store::open(Options::new(dir))?;
    runtime.block_on(async {
        let begin = |at| tokio::spawn(begin(store.clone(), at, PathBuf::from(workspace), model.clone()));
        let tasks: Vec<_> = (0..count).map(begin).collect();
        for task in tasks {
            task.await??;
        }
        Ok::<_, Failure>(())
    })?;
    println!("ready");
    loop {
        std::thread::park();
    }
}

async fn begin(store: Arc<Store>, at: u32, workspace: PathBuf, model: ModelRef) -> Result<(), JournalError> {
    let (system, tools, orientation) = (b"You work.".to_vec(), b"[]".to_vec(), Vec::new());
    let accepted = Accepted {
        run: RunId::generate(u64::from(at), [0; 5]),
        inbound: Inbound { source: "in-flight".into(), ext_id: at.to_string(), text: format!("work, part {at}") },
        machine: "agent".into(),
        workspace,
        agent: None,
        models: vec![model.clone()],
        models_why: String::new(),
        answer_ms_max: 900_000,
        profile: Profile {
            grants: Vec::new(),
            rules: "default = \"deny\"\n".into(),
            approvals: ApprovalsMode::Deny,
            tier: Tier::Internal,
        },
        budget: Budget::default(),
        chosen: None,
        conversation: false,
        system: Hash::of(&system),
        tools: Hash::of(&tools),
        orientation: Hash::of(&orientation),
        homarus_version: env!("CARGO_PKG_VERSION").into(),
    };
    let fence = store.accept(accepted, vec![system.clone(), tools.clone(), orientation]).await?;
    let reserved = Amount { cost: 0, tokens: 1_000, steps: 1 };
    let mut append = Append::new(fence);
    let added = vec![Hash::of(&system), Hash::of(&tools)];
    append.budget.push(BudgetChange::Reserve(reserved));
    append.push(Event::ModelIntent { step: 1, attempt: 1, prompt: PromptParts { kept: 0, added }, model, reserved });
    store.append(append).await.map(|_| ())
}
