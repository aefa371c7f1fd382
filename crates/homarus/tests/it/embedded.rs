//! The embedded model, end to end: the real worker with real weights, in its sandbox.
//!
//! `HOMARUS_TEST_LOCAL_MODEL` names the worker and `HOMARUS_MODELS_DIR` the folder of the weights
//! (`cargo xtask test` sets both); elsewhere these tests say that they were skipped.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use nix::{sys::signal::Signal, unistd::Pid};

use crate::program::Program;

/// Fast enough to try out the plumbing; its answers are worth nothing.
const SMALL: &str = "smollm2-135m";

/// A program set up for the worker with the model of that name, and where the weights are; `None` and a word about it without them.
fn embedded(name: &str) -> Option<(Program, String)> {
    let (Ok(worker), Ok(models)) = (std::env::var("HOMARUS_TEST_LOCAL_MODEL"), std::env::var("HOMARUS_MODELS_DIR"))
    else {
        println!("skipped: HOMARUS_TEST_LOCAL_MODEL or HOMARUS_MODELS_DIR is not set");
        return None;
    };
    assert!(Path::new(&worker).is_file(), "{worker}");
    let program = Program::with_turns(Vec::new());
    std::fs::create_dir_all(program.home.join("config")).unwrap();
    let config = format!("[models.local]\nname = \"{name}\"\nworker = \"{worker}\"\n");
    std::fs::write(program.home.join("config/homarus.toml"), config).unwrap();
    Some((program, models))
}

fn command(program: &Program, models: &str, args: &[&str]) -> Command {
    let mut command = program.bare_command(args);
    command.env("HOMARUS_MODELS_DIR", models);
    command
}

#[test]
fn embedded_model_answers_through_its_sandboxed_worker() {
    let Some((program, models)) = embedded("qwen2.5-coder-1.5b") else { return };
    let output = command(&program, &models, &["models", "test", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let test: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(test["model"], "local/qwen2.5-coder-1.5b", "chosen because nothing else is set up");
    assert!(test["answer"].as_str().unwrap().to_lowercase().contains("ready"), "{test}");
    assert!(test["output_tokens"].as_u64().unwrap() > 0, "{test}");
    program.verify();
}

#[test]
fn embedded_model_refuses_a_prompt_beyond_its_context() {
    let Some((program, models)) = embedded(SMALL) else { return };
    let mut run = command(&program, &models, &["run", "-"]);
    let mut child = run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all("word ".repeat(8_000).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("of 4096 for the answer"), "{said}");
    program.verify();
}

#[test]
fn embedded_model_stops_when_its_run_is_interrupted() {
    let Some((program, models)) = embedded(SMALL) else { return };
    let mut run = command(&program, &models, &["run", "Tell a long story.", "--json"]);
    let mut child = run.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("\"model_intent\"")), "the model is asked");
    nix::sys::signal::kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    lines.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let shown = program.show();
    assert_eq!((&shown["status"], &shown["steps"]), (&"paused".into(), &1.into()), "{shown}");
    program.verify();
}
