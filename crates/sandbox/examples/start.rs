//! Prints how long sandbox starts take: `cargo run --release -p homarus-sandbox --example start [N] [PAUSE_MS]`.
//!
//! `start`: from the request until the program was started, as the receipt says it. `output`: until the first piece of what
//! it prints is here. `whole`: until the call's result is back, with its diff read and everything inside gone. The last line
//! is JSON. The pause before each call stands for the model's answer; without one, a sandbox is rarely ready when the call
//! comes.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Instant,
};

use homarus_contract::{
    action::Tier,
    ids::{CallId, RunId},
    sandbox::{ExecSpec, LayerId, Limits, Program, Sandbox},
};
use homarus_sandbox::{L1, Options, stage_main};

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/gate.rs"]
mod gate;

fn main() -> ExitCode {
    if let Some(code) = stage_main(&[]) {
        return code;
    }
    match tokio::runtime::Builder::new_multi_thread().enable_time().build() {
        Ok(runtime) => runtime.block_on(bench()),
        Err(_) => ExitCode::FAILURE,
    }
}

async fn bench() -> ExitCode {
    let calls: u32 = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(200);
    let pause_ms: u64 = std::env::args().nth(2).and_then(|pause| pause.parse().ok()).unwrap_or(20);
    let folder = std::env::temp_dir().join(format!("homarus-bench-{}", std::process::id()));
    let workspace = folder.join("workspace");
    if std::fs::create_dir_all(&workspace).is_err() {
        return ExitCode::FAILURE;
    }
    let options = Options::new(folder.join("state"));
    let asked = Instant::now();
    let report = L1::probe(&options);
    println!("probe {:.1} ms, ok: {}", asked.elapsed().as_secs_f64() * 1e3, report.ok);
    for line in report.probes.iter().filter(|line| !line.ok) {
        println!("  {}: {}", line.id, line.detail);
    }
    let Ok(sandbox) = L1::new(options, report) else { return ExitCode::FAILURE };
    let Ok(run) = RunId::parse("bench") else { return ExitCode::FAILURE };
    let (mut start, mut output, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..calls {
        let call = CallId::new(1, index);
        let permit = gate::permit(&run, &call).await;
        let spec = ExecSpec {
            layer: LayerId { run: run.clone(), call, attempt: 1 },
            workspace: workspace.clone(),
            cwd: "".into(),
            program: Program::Command { argv: vec!["/bin/echo".into()] },
            env: BTreeMap::new(),
            stdin: Vec::new(),
            limits: Limits::default(),
            tier: Tier::Internal,
            read_only: false,
        };
        // As the driver does when it asks the model.
        sandbox.prepare_next();
        tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
        let printed = Arc::new(OnceLock::new());
        let first = printed.clone();
        let sink = Arc::new(move |_| {
            first.get_or_init(Instant::now);
        });
        let asked = Instant::now();
        let done = sandbox.exec(permit, spec, sink).await;
        let ended = Instant::now();
        match (done, printed.get()) {
            (Ok(done), Some(printed)) => {
                start.push(done.receipt.setup_us as f64 / 1e3);
                output.push((*printed - asked).as_secs_f64() * 1e3);
                whole.push((ended - asked).as_secs_f64() * 1e3);
            }
            (Ok(done), None) => {
                println!("nothing was printed: {:?}", done.exit);
                return ExitCode::FAILURE;
            }
            (Err(error), _) => {
                println!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }
    let mut figures = Vec::new();
    for (name, times) in [("start", &mut start), ("output", &mut output), ("whole", &mut whole)] {
        times.sort_by(f64::total_cmp);
        for (label, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
            let at = times[((times.len() - 1) as f64 * share) as usize];
            figures.push(format!(r#""{name}_{label}_ms":{at:.3}"#));
        }
    }
    println!("{{{}}}", figures.join(","));
    // A bench's leftovers are in the temporary folder.
    let _ = std::fs::remove_dir_all(&folder);
    ExitCode::SUCCESS
}
