//! Forks: what was recorded is neither asked nor done again, and nothing new is done unasked.

use homarus_test_kit::Turn;
use serde_json::{Value, json};

use crate::program::Program;

const ALLOW_ALL: &str = "default = \"allow\"\n";

fn shell(command: &str) -> Turn {
    Turn::call("shell.execute", json!({ "command": command }))
}

fn run(program: &Program) -> String {
    let policy = program.home.with_file_name("allow.toml");
    std::fs::write(&policy, ALLOW_ALL).unwrap();
    let done = program.output(&["run", "do it", "--policy", policy.to_str().unwrap(), "--approvals", "auto", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    done.json_lines().last().unwrap()["run_id"].as_str().unwrap().to_owned()
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_fork_goes_on_from_what_was_recorded_and_is_held() {
    let program = Program::with_turns(vec![
        shell("echo once >> a; echo recorded-output"),
        shell("echo old > b"),
        Turn::text("Done."),
        Turn::text("Done."),
        // The fork.
        shell("echo new > c"),
        Turn::text("Forked."),
        Turn::text("Forked."),
    ]);
    let id = run(&program);
    let asked = program.server.model_calls().len();
    // Nobody to ask: it waits, whatever the rules and the old run's --approvals auto say.
    let fork = program.output(&["runs", "fork", &format!("{id}:1"), "--approvals-from", "terminal"]);
    assert_eq!(fork.code, 4, "{fork:?}");
    assert!(
        fork.stderr.contains("as that is now") && fork.stderr.contains(&format!("homarus undo {id}:2")),
        "{fork:?}"
    );
    assert_eq!(program.file("c"), None, "nothing is applied before it is agreed to");
    assert_eq!(program.file("a").as_deref(), Some("once\n"), "what was recorded is not done again");
    let calls = program.server.model_calls();
    assert_eq!(calls.len(), asked + 1, "what was recorded is not asked again");
    let prompt = calls.last().unwrap().body.to_string();
    assert!(prompt.contains("recorded-output") && !prompt.contains("echo old"), "{prompt}");

    let kinds = program.kinds();
    let forked = kinds.iter().position(|kind| kind == "forked").unwrap();
    assert!(kinds[..forked].contains(&"merged".to_owned()), "{kinds:?}");
    assert!(!kinds[..forked].iter().any(|kind| kind == "finished" || kind == "taken_over" || kind == "waiting"));
    assert_eq!(program.output(&["runs", "approve", "last"]).code, 0);
    let done = program.output(&["runs", "resume", "last"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(program.file("c").as_deref(), Some("new\n"));
    let show = program.show();
    assert_eq!((show["calls"].as_u64(), show["budget"]["used"]["steps"].as_u64()), (Some(1), Some(3)), "{show}");

    // Its changes are its own.
    let diff = json_of(&program.output(&["runs", "diff", "last", "--json"]).stdout);
    assert_eq!(diff["paths"].as_array().unwrap().len(), 1, "{diff}");
    assert_eq!(program.output(&["undo", "last", "--yes"]).code, 0);
    assert_eq!(
        (program.file("a").as_deref(), program.file("b").as_deref(), program.file("c")),
        (Some("once\n"), Some("old\n"), None)
    );
    program.verify();
}

#[test]
fn a_fork_of_the_answer_needs_a_message_and_gets_it() {
    let program = Program::with_turns(vec![
        shell("echo x > a"),
        Turn::text("Here is my answer."),
        Turn::text("Here is my answer."),
        Turn::text("Second thoughts."),
    ]);
    let id = run(&program);
    let last = program.show()["steps"].as_u64().unwrap();
    let target = format!("{id}:{last}");
    let without = program.output(&["runs", "fork", &target]);
    assert_eq!(without.code, 2, "{without:?}");
    let fork = program.output(&["runs", "fork", &target, "are you sure?"]);
    assert_eq!((fork.code, fork.stdout.as_str()), (0, "Second thoughts.\n"), "{fork:?}");
    let prompt = program.server.model_calls().last().unwrap().body.to_string();
    assert!(prompt.contains("Here is my answer.") && prompt.contains("are you sure?"), "{prompt}");
    for (wrong, code) in [(id.clone(), 2), (format!("{id}:0"), 2), (format!("{id}:99"), 2), ("nothing:1".to_owned(), 1)]
    {
        assert_eq!(program.output(&["runs", "fork", &wrong, "go on"]).code, code, "{wrong}");
    }
    program.verify();
}

#[test]
fn after_an_outage_another_model_is_asked_what_the_first_could_not_answer() {
    let program = Program::with_turns(vec![
        shell("echo x > a; echo recorded-output"),
        Turn::status(401, &[], "{}"),
        Turn::text("Back."),
        Turn::text("Back."),
    ]);
    assert_eq!(program.output(&["run", "do it", "--approvals", "auto"]).code, 1);
    let fork = program.output(&["runs", "fork", "last:2", "--model", "openai/other"]);
    assert_eq!((fork.code, fork.stdout.as_str()), (0, "Back.\n"), "{fork:?}");
    let asked = program.server.model_calls()[2].body.clone();
    assert_eq!(asked["model"], "other");
    assert!(asked.to_string().contains("recorded-output"), "{asked}");
    program.verify();
}

#[test]
fn a_run_that_was_killed_can_be_forked_where_it_stood() {
    let program = Program::with_turns(vec![
        shell("echo x > a"),
        Turn::text("Thinking about it for long").hold(),
        shell("echo other > b"),
        Turn::text("Forked."),
        Turn::text("Forked."),
    ]);
    let mut running = program.spawn(&["run", "do it", "--approvals", "auto", "--json"]);
    program.wait_for_model_calls(2);
    running.kill();
    program.wait_until_unowned();
    let id = program.show()["run"].as_str().unwrap().to_owned();
    let mut fork = program.spawn(&["runs", "fork", &format!("{id}:1"), "--approvals-from", "cli", "--json"]);
    // Settling the killed run is told first.
    while fork.wait_for("waiting")["run_id"] == id.as_str() {}
    assert_eq!(program.file("b"), None);
    assert_eq!(program.output(&["runs", "approve", "last"]).code, 0);
    let done = fork.finish();
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!((program.file("a").as_deref(), program.file("b").as_deref()), (Some("x\n"), Some("other\n")));
    program.verify();
}

#[test]
fn an_undo_is_not_forked() {
    let program = Program::with_turns(vec![shell("echo x > a"), Turn::text("Done."), Turn::text("Done.")]);
    run(&program);
    assert_eq!(program.output(&["undo", "--yes"]).code, 0);
    let fork = program.output(&["runs", "fork", "last:1", "go on"]);
    assert_eq!(fork.code, 2, "{fork:?}");
    assert!(fork.stderr.contains("made by the machine"), "{fork:?}");
}
