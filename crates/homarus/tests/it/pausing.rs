//! A run is paused by another process, where its step ends, and goes on as if nothing had been.

use std::process::Command;

use homarus_test_kit::Turn;
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::openpty,
};
use serde_json::{Value, json};

use crate::program::{Program, Running};

fn write(path: &str) -> Turn {
    Turn::call("file.write", json!({ "path": path, "content": "x\n" }))
}

fn pause(program: &Program) -> Value {
    let done = program.output(&["runs", "pause", "last", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    serde_json::from_str(&done.stdout).unwrap()
}

fn begin(program: &Program) -> Running {
    let running = program.spawn(&["run", "do it", "--approvals", "auto"]);
    program.wait_for_model_calls(1);
    running
}

#[test]
fn what_is_under_way_ends_first_and_resume_goes_on() {
    let program =
        Program::with_turns(vec![write("a.txt").hold(), write("b.txt"), Turn::text("Done."), Turn::text("Checked.")]);
    let mut running = begin(&program);
    let response = pause(&program);
    assert_eq!(response["status"], Value::Null, "it is told to: {response}");
    program.server.release();
    let done = running.finish();
    assert_eq!(done.code, 5, "{done:?}");
    assert!(done.stderr.contains("Paused by cli:") && done.stderr.contains("next: homarus runs resume"), "{done:?}");
    assert_eq!(program.server.model_calls().len(), 1, "no further step was begun");
    assert_eq!(program.file("a.txt").as_deref(), Some("x\n"), "the call ended, and what it wrote is applied");
    let shown = program.show();
    assert_eq!((shown["status"].as_str(), shown["owner_alive"].as_bool()), (Some("paused"), Some(false)), "{shown}");
    let last = program.events().pop().unwrap();
    assert_eq!((&last["kind"], &last["on"]["what"]), (&json!("waiting"), &json!("resume")));
    assert!(last["on"]["who"].as_str().unwrap().starts_with("cli:"), "{last}");
    assert_eq!(pause(&program)["status"], "paused", "once more changes nothing");

    let done = program.output(&["runs", "resume", "last"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(program.file("b.txt").as_deref(), Some("x\n"));
    let results = program.kinds().iter().filter(|kind| *kind == "act_result").count();
    assert_eq!(results, 2, "no call was made twice");
    assert_eq!(program.output(&["runs", "pause", "last"]).code, 1, "it has ended");
    program.verify();
}

#[test]
fn a_run_that_waits_for_an_answer_is_paused_at_once_and_asks_again() {
    let program = Program::with_turns(vec![write("a.txt"), Turn::text("Done."), Turn::text("Checked.")]);
    let mut running = program.spawn(&["run", "do it", "--approvals", "ask", "--approvals-from", "cli", "--json"]);
    running.wait_for("waiting");
    pause(&program);
    assert_eq!(running.finish().code, 5);
    assert_eq!(program.file("a.txt"), None);
    assert_eq!(program.show()["status"], "paused");
    let mut running = program.spawn(&["runs", "resume", "last", "--approvals-from", "cli", "--json"]);
    running.wait_for("waiting");
    assert_eq!(program.output(&["runs", "approve", "last"]).code, 0);
    assert_eq!(running.finish().code, 0);
    assert_eq!(program.file("a.txt").as_deref(), Some("x\n"));
    program.verify();
}

#[test]
fn a_pause_that_nobody_came_to_stops_no_later_driver() {
    let program = Program::with_turns(vec![
        Turn::text("never heard").hold(),
        write("a.txt"),
        Turn::text("Done."),
        Turn::text("Checked."),
    ]);
    let mut running = begin(&program);
    pause(&program);
    running.kill();
    program.wait_until_unowned();
    let done = program.output(&["runs", "resume", "last", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(program.file("a.txt").as_deref(), Some("x\n"));
    program.verify();
}

#[test]
fn a_run_whose_driver_was_killed_is_brought_to_rest() {
    let program = Program::with_turns(vec![Turn::text("never heard").hold(), Turn::text("Done.")]);
    let mut running = begin(&program);
    running.kill();
    program.wait_until_unowned();
    assert_eq!(pause(&program)["status"], "paused");
    assert_eq!(program.show()["status"], "paused");
    assert_eq!(program.output(&["runs", "resume", "last"]).code, 0);
}

#[test]
fn a_conversation_that_waits_for_a_message_rests_already() {
    let program = Program::with_turns(vec![Turn::text("One."), Turn::text("Two.")]);
    assert_eq!(program.output(&["run", "hello", "--conversation"]).code, 0);
    assert_eq!(pause(&program)["status"], "waiting");
    let done = program.output(&["runs", "say", "last", "again"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "Two.\n"), "{done:?}");
}

#[test]
fn when_the_terminal_goes_the_run_comes_to_rest() {
    let program = Program::with_turns(vec![Turn::text("never heard").hold(), Turn::text("Done.")]);
    let pty = openpty(None, None).unwrap();
    // The program must not hold its own terminal open.
    fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    let plain = program.command(&["run", "do it"]);
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait"]).arg(plain.get_program()).args(plain.get_args()).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(&program.workspace);
    command.stdin(pty.slave.try_clone().unwrap()).stdout(pty.slave.try_clone().unwrap()).stderr(pty.slave);
    let mut child = command.spawn().unwrap();
    drop(command);
    program.wait_for_model_calls(1);
    drop(pty.master);
    child.wait().unwrap();
    program.wait_until_unowned();
    assert_eq!(program.show()["status"], "paused");
    assert!(!program.kinds().contains(&"reconfigured".to_owned()), "{:?}", program.kinds());
    assert_eq!(program.output(&["runs", "resume", "last"]).code, 0);
}
