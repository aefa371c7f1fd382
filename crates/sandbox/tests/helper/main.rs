//! Stands in for the `homarus` binary in the tests: dispatches to the sandbox's stages first thing.
//!
//! `drive STATE WORKSPACE SCRIPT [LOCK]` runs a script in the sandbox, merges what it wrote and
//! prints what happened as JSON: the tests run it as an ordinary user, and kill it. `bound BYTES ...` does the same with
//! another limit of what a call may write.

use std::{collections::BTreeMap, fs::File, io::Read, process::ExitCode, sync::Arc};

use homarus_contract::{
    action::Tier,
    ids::{CallId, RunId},
    sandbox::{ExecSpec, LayerId, Limits, OutputChunk, Program, Sandbox},
};
use homarus_sandbox::{L1, Options, stage_main};

#[path = "../it/gate.rs"]
mod gate;

fn main() -> ExitCode {
    if let Some(code) = stage_main(&[("echo", echo), ("peek", peek)]) {
        return code;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["drive", state, workspace, script] => drive(state, workspace, script, None, None),
        ["drive", state, workspace, script, lock] => drive(state, workspace, script, Some(lock), None),
        ["bound", bytes, state, workspace, script] => drive(state, workspace, script, None, bytes.parse().ok()),
        ["pipe-worker"] => pipe_worker(),
        _ => ExitCode::from(64),
    }
}

/// Copies standard input to standard output, and says it ran.
fn echo() -> i32 {
    let mut text = String::new();
    if std::io::stdin().read_to_string(&mut text).is_err() {
        return 1;
    }
    print!("echo:{text}");
    0
}

/// Prints the file named on standard input, or why it cannot.
fn peek() -> i32 {
    let mut path = String::new();
    let _ = std::io::stdin().read_to_string(&mut path);
    match std::fs::read_to_string(path.trim()) {
        Ok(text) => print!("{text}"),
        Err(error) => print!("error: {error}"),
    }
    0
}

/// A worker: answers each line with what it can read at that path, from a thread of its own.
fn pipe_worker() -> ExitCode {
    let answers = std::thread::spawn(|| {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            match std::fs::metadata(&line) {
                Ok(meta) => println!("{} bytes", meta.len()),
                Err(error) => println!("error: {error}"),
            }
        }
    });
    let _ = answers.join();
    ExitCode::SUCCESS
}

#[tokio::main(flavor = "current_thread")]
async fn drive(state: &str, workspace: &str, script: &str, lock: Option<&str>, bytes_max: Option<u64>) -> ExitCode {
    let mut options = Options::new(state);
    options.layer_bytes_max = bytes_max.unwrap_or(options.layer_bytes_max);
    options.driver_lock = lock.map(|path| {
        let file = File::options().append(true).create(true).open(path).unwrap();
        file.try_lock().unwrap();
        Arc::new(file)
    });
    let report = L1::probe(&options);
    let sandbox = L1::new(options, report.clone()).unwrap();
    let (run, call) = (RunId::parse("drive").unwrap(), CallId::new(1, 0));
    let layer = LayerId { run: run.clone(), call: call.clone(), attempt: 1 };
    let spec = ExecSpec {
        layer: layer.clone(),
        workspace: workspace.into(),
        cwd: "".into(),
        program: Program::Command { argv: vec!["/bin/sh".into(), "-c".into(), script.into()] },
        env: BTreeMap::new(),
        stdin: Vec::new(),
        limits: Limits { wall_ms: 60_000, memory_bytes: 256 << 20, ..Limits::default() },
        tier: Tier::Internal,
        read_only: false,
    };
    let permit = gate::permit(&run, &call).await;
    // Live, so that a test sees the script has begun.
    let sink = Arc::new(|chunk| {
        if let OutputChunk::Stdout(bytes) = chunk {
            eprint!("{}", String::from_utf8_lossy(&bytes));
        }
    });
    let done = match sandbox.exec(permit, spec, sink).await {
        Ok(done) => done,
        Err(error) => {
            println!("{}", serde_json::json!({ "error": error.to_string(), "probe": report }));
            return ExitCode::FAILURE;
        }
    };
    let permit = gate::merge_permit(&run, &call, &done.diff);
    let merged = sandbox.merge(permit, workspace.into(), layer, done.diff.clone()).await.unwrap();
    sandbox.close();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    println!(
        "{}",
        serde_json::json!({
            "exit": done.exit, "stdout": text(&done.stdout), "stderr": text(&done.stderr),
            "receipt": done.receipt, "diff": done.diff, "merged": merged, "probe": report,
        })
    );
    ExitCode::SUCCESS
}
