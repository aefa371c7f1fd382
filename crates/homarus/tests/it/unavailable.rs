//! On a machine where nothing can be sandboxed a run comes to rest and says what to mend, instead of paying a model that
//! cannot help.

use std::process::Command;

use homarus_test_kit::Turn;
use serde_json::{Value, json};

use crate::program::{Done, Program};

/// The program where the kernel gives out no namespaces any more.
fn without_namespaces(program: &Program, args: &[&str]) -> Done {
    let script =
        "for kind in user mnt pid; do echo 0 > /proc/sys/user/max_${kind}_namespaces || exit 99; done; exec \"$@\"";
    let plain = program.command(args);
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "sh", "-c", script, "sh"])
        .arg(plain.get_program())
        .args(plain.get_args());
    command.env_clear().current_dir(&program.workspace);
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    Done::of(command.output().unwrap())
}

fn make(path: &str) -> Turn {
    Turn::call("shell.execute", json!({ "command": format!("echo x > {path}") }))
}

#[test]
fn a_run_without_a_sandbox_rests_and_goes_on_where_it_stood_when_there_is_one() {
    let two = make("a.txt").and_call("file.write", json!({ "path": "b.txt", "content": "x\n" }));
    let done = || Turn::text("Done.");
    let program = Program::with_turns(vec![two, done(), done(), done(), done()]);

    let first = without_namespaces(&program, &["run", "do it", "--approvals", "auto"]);
    assert_eq!(first.code, 5, "{first:?}");
    assert!(first.stderr.contains("It cannot go on: the sandbox is not available: "), "{first:?}");
    assert!(first.stderr.contains("max_user_namespaces"), "how to mend it: {first:?}");
    assert!(first.stderr.contains("next: homarus runs resume"), "{first:?}");
    let shown = program.show();
    assert_eq!((shown["status"].as_str(), shown["owner_alive"].as_bool()), (Some("paused"), Some(false)), "{shown}");
    let trouble = shown["trouble"].as_str().unwrap();
    assert!(trouble.starts_with("the sandbox is not available: "), "{shown}");
    let last = program.events().pop().unwrap();
    assert_eq!((&last["kind"], &last["on"]["trouble"]), (&json!("waiting"), &json!(trouble)));

    for _ in 0..8 {
        let again = without_namespaces(&program, &["runs", "resume", "last", "--json"]);
        assert_eq!(again.code, 5, "{again:?}");
        assert_eq!(again.json_lines().last().unwrap()["status"], "paused");
    }
    let all = without_namespaces(&program, &["runs", "resume-all", "--paused"]);
    assert_eq!(all.code, 5, "{all:?}");
    assert_eq!(program.server.model_calls().len(), 1, "the model is not asked what it cannot mend");
    assert!(!program.kinds().iter().any(|kind| kind == "act_result" || kind == "nudged"), "{:?}", program.kinds());
    assert_eq!((program.file("a.txt"), program.file("b.txt")), (None, None));

    let mended = program.output(&["runs", "resume", "last"]);
    assert_eq!(mended.code, 0, "{mended:?}");
    assert_eq!((program.file("a.txt").as_deref(), program.file("b.txt").as_deref()), (Some("x\n"), Some("x\n")));
    assert_eq!(program.show()["trouble"], Value::Null);
    let told = program.server.model_calls()[1].body.to_string();
    assert!(!told.contains("the sandbox is not available"), "all that it had asked for was done: {told}");
    program.verify();
}

#[test]
fn a_call_by_hand_without_a_sandbox_fails_with_the_reason() {
    let program = Program::with_turns(Vec::new());
    let call = ["tools", "call", "shell.execute", r#"{"command": "echo x > a.txt"}"#, "--approvals", "auto"];
    let done = without_namespaces(&program, &call);
    assert_eq!(done.code, 1, "{done:?}");
    let said = format!("{}{}", done.stdout, done.stderr);
    assert!(said.contains("the sandbox is not available: "), "{done:?}");
    assert_eq!(program.file("a.txt"), None);
}
