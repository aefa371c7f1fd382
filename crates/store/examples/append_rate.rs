//! How many steps a second this machine makes durable: `cargo run --release -p homarus-store
//! --example append_rate [FOLDER [RUNS [STEPS]]]`. A step is what a run journals around one call: the intent, and once that
//! is durable the result. Nothing is run in between. Prints one JSON line for each number of runs at work at once, then
//! how long it takes to open and list a journal of 10,000 runs, and to take them all over. With RUNS, prints only
//! the line of that many at once, who do so many STEPS together.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use homarus_contract::{
    action::{Action, EffectClass, Plan, Resource, Tier},
    budget::Budget,
    event::{Accepted, ActResult, ApprovalsMode, Event, Inbound, Judgement, Profile},
    gate::Verdict,
    ids::{CallId, Hash, RunId},
    journal::{Append, Fence, Journal, JournalError},
    message::{Block, ToolCall},
    model::ModelRef,
    sandbox::{Exit, LayerDiff, MergeReport},
};
use homarus_store::{Options, Store};

type Failure = Box<dyn std::error::Error>;

const STEPS: u32 = 2_000;
const RUNS: u32 = 10_000;

fn main() -> Result<(), Failure> {
    let dir = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("append-rate-journal"), PathBuf::from);
    let runtime = tokio::runtime::Runtime::new()?;
    if let Some(at_once) = std::env::args().nth(2) {
        let steps = std::env::args().nth(3).map_or(Ok(STEPS), |steps| steps.parse())?;
        runtime.block_on(rate(&dir, at_once.parse()?, steps))?;
    } else {
        for at_once in [1, 10, 100] {
            runtime.block_on(rate(&dir.join(format!("rate-{at_once}")), at_once, STEPS))?;
        }
        runtime.block_on(many_runs(&dir.join("many")))?;
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

async fn rate(dir: &Path, at_once: u32, steps: u32) -> Result<(), Failure> {
    let store = Store::open(Options::new(dir))?;
    let before = store.stats();
    let start = Instant::now();
    let tasks: Vec<_> = (0..at_once).map(|at| tokio::spawn(work(store.clone(), at, steps / at_once))).collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    let (seconds, after) = (start.elapsed().as_secs_f64(), store.stats());
    times.sort();
    let ms = |at: usize| times[at].as_secs_f64() * 1e3;
    println!(
        r#"{{"at_once":{at_once},"per_second":{:.0},"p50_ms":{:.3},"p99_ms":{:.3},"commits":{},"requests":{}}}"#,
        times.len() as f64 / seconds,
        ms(times.len() / 2),
        ms(times.len() * 99 / 100),
        after.commits - before.commits,
        after.requests - before.requests,
    );
    Ok(())
}

/// One run that goes on, each time after the last append is durable, as an agent does.
async fn work(store: Arc<Store>, at: u32, steps: u32) -> Result<Vec<Duration>, JournalError> {
    let mut fence = store.accept(accepted(at), vec![Vec::new()]).await?;
    let mut times = Vec::new();
    for step in 1..=steps {
        let start = Instant::now();
        fence = store.append(intent(fence, step)).await?;
        fence = store.append(result(fence, at, step)).await?;
        times.push(start.elapsed());
    }
    Ok(times)
}

/// A call that came, was judged, and may run.
fn intent(fence: Fence, step: u32) -> Append {
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
    let mut append = Append::new(fence);
    append.push(Event::BlockDone { step, block: Block::ToolCall(asked), partial: false });
    append.push(Event::Judged { action, plan, judgement });
    append.push(Event::ActIntent { call, class: EffectClass::Workspace, key: None, tier: Tier::Internal, attempt: 1 });
    append
}

/// What became of it: some 800 bytes of output.
fn result(fence: Fence, at: u32, step: u32) -> Append {
    let call = CallId::new(step, 0);
    let mut append = Append::new(fence);
    let shown = append.blob(format!("{at}: {step:0>800}"));
    append.push(Event::ActResult(ActResult {
        call: call.clone(),
        attempt: 1,
        is_error: false,
        exit: Some(Exit::Code { code: 0 }),
        shown,
        whole: None,
        wall_ms: 5,
        receipt: None,
        diff: LayerDiff::default(),
        kept: Vec::new(),
    }));
    append.push(Event::Merged { call, report: MergeReport::default() });
    append
}

async fn many_runs(dir: &Path) -> Result<(), Failure> {
    let store = Store::open(Options::new(dir))?;
    let tasks: Vec<_> = (0..RUNS).map(|at| tokio::spawn(accept(store.clone(), at))).collect();
    for task in tasks {
        task.await??;
    }
    drop(store);

    let start = Instant::now();
    let reader = Store::open_read_only(Options::new(dir))?;
    let listed = reader.runs(50)?.len();
    println!("open read-only and list {listed} of {RUNS} runs: {:?}", start.elapsed());
    let start = Instant::now();
    println!("list all {}: {:?}", reader.runs(RUNS)?.len(), start.elapsed());
    drop(reader);

    let start = Instant::now();
    let store = Store::open(Options::new(dir))?;
    println!("open for writing: {:?}", start.elapsed());
    let start = Instant::now();
    let orphans = store.orphans()?;
    let tasks: Vec<_> = orphans
        .into_iter()
        .map(|run| {
            let store = store.clone();
            tokio::spawn(async move { store.claim(run).await })
        })
        .collect();
    let count = tasks.len();
    for task in tasks {
        task.await??;
    }
    println!("take over {count} runs: {:?}", start.elapsed());
    let start = Instant::now();
    let report = store.verify(None)?;
    println!("verify {} events, {} findings: {:?}", report.events, report.findings.len(), start.elapsed());
    Ok(())
}

async fn accept(store: Arc<Store>, at: u32) -> Result<(), JournalError> {
    store.accept(accepted(at), vec![Vec::new()]).await.map(|_| ())
}

fn accepted(at: u32) -> Accepted {
    let nothing = Hash::of(b"");
    Accepted {
        run: RunId::generate(u64::from(at), [0; 5]),
        inbound: Inbound { source: "rate".into(), ext_id: at.to_string(), text: "measure".into() },
        machine: "agent".into(),
        workspace: "/nowhere".into(),
        agent: None,
        models: vec![ModelRef { provider: "none".into(), model: "none".into() }],
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
