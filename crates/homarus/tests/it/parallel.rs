//! Several calls of one answer: beside each other where nothing depends on the order, and else one after the other.

use homarus_test_kit::Turn;
use serde_json::{Value, json};

use crate::program::Program;

fn shells(commands: &[&str]) -> Turn {
    commands.iter().fold(Turn::empty(), |turn, command| {
        turn.and_call("shell.execute", json!({ "command": command, "timeout_s": 30 }))
    })
}

/// A program whose calls can signal each other through a folder that is bound directly.
fn signalling(turns: Vec<Turn>, config: &str) -> Program {
    let program = Program::with_turns(turns);
    std::fs::create_dir_all(program.home.join("config")).unwrap();
    let config = format!("{config}\n[sandbox]\ncache_paths = [\"signal\"]\n");
    std::fs::write(program.home.join("config/homarus.toml"), config).unwrap();
    std::fs::create_dir(program.workspace.join("signal")).unwrap();
    program
}

fn run(program: &Program, approvals: &str) {
    let done = program.output(&["run", "do it", "--approvals", approvals, "--steps-max", "6"]);
    assert_eq!(done.code, 0, "{done:?}");
}

/// `kind call` of the events about calls.
fn order(program: &Program) -> Vec<String> {
    let kinds = ["act_intent", "act_result", "merged", "discarded"];
    let about_calls = |event: &Value| {
        let kind = event["kind"].as_str()?;
        kinds.contains(&kind).then(|| format!("{kind} {}", event["call"].as_str().unwrap_or_default()))
    };
    program.events().iter().filter_map(about_calls).collect()
}

fn done() -> Vec<Turn> {
    vec![Turn::text("Done."), Turn::text("Done."), Turn::text("Done.")]
}

#[test]
fn commands_of_one_answer_run_at_the_same_time_and_count_in_order() {
    // Each waits for the other, and the first ends last.
    let first = "touch signal/0; until test -e signal/1; do sleep 0.01; done; sleep 0.2; echo 0 > a";
    let second = "touch signal/1; until test -e signal/0; do sleep 0.01; done; test -e a || echo 1 > b";
    let program = signalling([vec![shells(&[first, second])], done()].concat(), "");
    run(&program, "auto");
    assert_eq!(
        order(&program),
        ["act_intent c1.0", "act_intent c1.1", "act_result c1.0", "act_result c1.1", "merged c1.0", "merged c1.1"]
    );
    let exits: Vec<Value> = program
        .events()
        .iter()
        .filter(|event| event["kind"] == "act_result")
        .map(|event| event["exit"]["code"].clone())
        .collect();
    assert_eq!(exits, [json!(0), json!(0)], "neither waited in vain");
    assert_eq!((program.file("a").as_deref(), program.file("b").as_deref()), (Some("0\n"), Some("1\n")));
    program.verify();
}

#[test]
fn a_path_that_two_calls_changed_is_the_first_ones_and_the_model_is_told() {
    let first = "touch signal/0; until test -e signal/1; do sleep 0.01; done; echo first > both; echo 1 > one";
    let second = "touch signal/1; until test -e signal/0; do sleep 0.01; done; echo second > both; echo 2 > two";
    let program = signalling([vec![shells(&[first, second])], done()].concat(), "");
    run(&program, "auto");
    assert_eq!(program.file("both").as_deref(), Some("first\n"));
    assert_eq!((program.file("one").as_deref(), program.file("two").as_deref()), (Some("1\n"), Some("2\n")));
    let merged: Vec<Value> = program.events().into_iter().filter(|event| event["kind"] == "merged").collect();
    assert_eq!(merged[1]["report"]["conflicts"][0]["path"], "both", "{merged:?}");
    let kept = merged[1]["report"]["conflicts"][0]["kept_at"].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "second\n");
    let told = "both (an earlier call of the same answer changed it; your version was kept apart)";
    let prompts: String = program.server.model_calls().iter().map(|call| call.body.to_string()).collect();
    assert!(prompts.contains(told), "{prompts}");
    // Undoing it brings everything back.
    assert_eq!(program.output(&["undo", "--yes"]).code, 0);
    assert_eq!((program.file("both"), program.file("one"), program.file("two")), (None, None, None));
}

#[test]
fn a_command_waits_for_what_was_written_before_it() {
    let turn = Turn::call("file.write", json!({"path": "script.sh", "content": "echo from-script > out\n"}))
        .and_call("shell.execute", json!({"command": "sh script.sh"}))
        .and_call("file.read", json!({"path": "out"}));
    let program = Program::with_turns([vec![turn], done()].concat());
    run(&program, "auto");
    assert_eq!(program.file("out").as_deref(), Some("from-script\n"));
    let order = order(&program);
    let at = |what: &str| order.iter().position(|event| event == what).unwrap_or_else(|| panic!("{what}: {order:?}"));
    assert!(at("merged c1.0") < at("act_intent c1.1") && at("merged c1.1") < at("act_intent c1.2"), "{order:?}");
}

#[test]
fn one_at_a_time_if_the_configuration_says_so() {
    let program =
        signalling([vec![shells(&["echo one > a", "cat a > b"])], done()].concat(), "[limits]\ncalls_at_once = 1\n");
    run(&program, "auto");
    assert_eq!(program.file("b").as_deref(), Some("one\n"), "the second sees what the first did");
}

#[test]
fn calls_that_are_asked_about_stay_in_order_and_alone() {
    let program = signalling([vec![shells(&["echo one > a", "cat a > b", "cat b > c"])], done()].concat(), "");
    let mut running = program.spawn(&["run", "do it", "--approvals-from", "cli", "--steps-max", "6", "--json"]);
    for call in ["c1.0", "c1.1", "c1.2"] {
        let asked = running.wait_for("approval_requested");
        assert_eq!(asked["call"], call);
        running.wait_for("waiting");
        assert_eq!(program.output(&["runs", "approve", "last"]).code, 0);
    }
    let done = running.finish();
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(program.file("c").as_deref(), Some("one\n"));
    let order = order(&program);
    let expected: Vec<String> = ["c1.0", "c1.1", "c1.2"]
        .iter()
        .flat_map(|call| ["act_intent", "act_result", "merged"].map(|kind| format!("{kind} {call}")))
        .collect();
    assert_eq!(order, expected);
}

#[test]
fn more_calls_than_may_run_at_once_are_all_done() {
    let commands: Vec<String> = (0..9).map(|n| format!("echo {n} > f{n}")).collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let program = Program::with_turns([vec![shells(&commands)], done()].concat());
    run(&program, "auto");
    for n in 0..9 {
        assert_eq!(program.file(&format!("f{n}")), Some(format!("{n}\n")));
    }
    program.verify();
}

#[test]
fn people_see_calls_that_ran_at_the_same_time_one_after_the_other() {
    let first = "touch signal/0; until test -e signal/1; do sleep 0.01; done; sleep 0.2; echo of-first";
    let second = "echo of-second; touch signal/1; until test -e signal/0; do sleep 0.01; done; echo of-second-again";
    let program = signalling([vec![shells(&[first, second])], done()].concat(), "");
    let done = program.output(&["run", "do it", "--approvals", "auto", "--steps-max", "6"]);
    let shown: Vec<&str> = done.stderr.lines().filter(|line| line.contains("▸ ") || line.contains("│ ")).collect();
    let is = |at: usize, text: &str| assert!(shown[at].contains(text), "{text}: {shown:#?}");
    assert_eq!(shown.len(), 7, "{shown:#?}");
    is(2, "touch signal/0");
    is(3, "│ of-first");
    is(4, "echo of-second; touch");
    is(5, "│ of-second");
    is(6, "│ of-second-again");
}
