//! Conversations from the command line: further messages, failed turns, kills, and another model half-way.

use std::{
    io::Write,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
};

use homarus_test_kit::{Script, Turn};
use serde_json::json;

use crate::{
    program::{Done, Program},
    site::{Site, page},
};

const BEGIN: [&str; 5] = ["run", "first question", "--conversation", "--approvals", "auto"];

fn messages(program: &Program, call: usize) -> Vec<(String, String)> {
    let calls = program.server.model_calls();
    let messages = calls[call].body["messages"].as_array().unwrap();
    let text = |message: &serde_json::Value| match &message["content"] {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    messages.iter().map(|message| (message["role"].as_str().unwrap().to_owned(), text(message))).collect()
}

#[test]
fn a_conversation_goes_on_with_all_that_was_said() {
    let program = Program::with_turns(vec![
        Turn::call("file.read", json!({"path": "seed.txt"})),
        Turn::text("First answer."),
        Turn::text("Second answer."),
    ]);
    let done = program.output(&BEGIN);
    assert_eq!((done.code, done.stdout.as_str()), (0, "First answer.\n"), "{done:?}");
    assert!(done.stderr.contains("homarus runs say"), "{}", done.stderr);
    assert_eq!(program.show()["status"], "waiting");
    let done = program.output(&["runs", "say", "last", "second question"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "Second answer.\n"), "{done:?}");
    let sent = messages(&program, 2);
    let roles: Vec<&str> = sent.iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "assistant", "user"]);
    assert!(sent[1].1.ends_with("first question") && sent[5].1 == "second question", "{sent:?}");
    assert_eq!(sent[4].1, "First answer.");
    program.verify();
}

#[test]
fn a_failed_turn_does_not_end_the_conversation() {
    let broken =
        Turn { status: Some(400), body: Some("{\"error\":{\"message\":\"no\"}}".to_owned()), ..Turn::default() };
    let program = Program::with_turns(vec![broken, Turn::text("Here I am.")]);
    let done = program.output(&BEGIN);
    assert!(done.stderr.contains("no"), "{done:?}");
    assert_eq!(program.show()["status"], "waiting");
    let done = program.output(&["runs", "say", "last", "again"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "Here I am.\n"), "{done:?}");
    program.verify();
}

#[test]
fn killed_in_its_second_turn_it_resumes_and_takes_a_third_message() {
    let program = Program::with_turns(vec![
        Turn::text("One."),
        Turn::text("never heard").hold(),
        Turn::text("Two."),
        Turn::text("Three."),
    ]);
    assert_eq!(program.output(&BEGIN).code, 0);
    let mut running = program.spawn(&["runs", "say", "last", "two?", "--json"]);
    program.wait_for_model_calls(2);
    let done = program.output(&["runs", "say", "last", "too early"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("in the middle of a turn"), "{done:?}");
    running.kill();
    program.wait_until_unowned();
    let done = program.output(&["runs", "resume", "last"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "Two.\n"), "{done:?}");
    let done = program.output(&["runs", "say", "last", "three?"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "Three.\n"), "{done:?}");
    let said: Vec<String> =
        messages(&program, 3).into_iter().filter(|(role, _)| role == "user").map(|(_, text)| text).collect();
    assert!(said[0].ends_with("first question"), "{said:?}");
    assert_eq!(said[1..], ["two?", "three?"], "nothing was said twice");
    program.verify();
}

#[test]
fn a_message_goes_only_where_one_is_waited_for() {
    let program = Program::with_turns(vec![Turn::text("Done."), Turn::text("Hello.")]);
    assert_eq!(program.output(&["run", "do it"]).code, 0);
    let done = program.output(&["runs", "say", "last", "more"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("is no conversation"), "{done:?}");
    assert_eq!(program.output(&BEGIN).code, 0);
    assert_eq!(program.output(&["runs", "say", "last", "  "]).code, 2);
    assert_eq!(program.output(&["runs", "cancel", "last"]).code, 0);
    let done = program.output(&["runs", "say", "last", "more"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("has finished"), "{done:?}");
}

#[test]
fn the_model_and_the_rules_change_and_the_conversation_is_kept() {
    let script = Script {
        models: vec!["first".to_owned(), "second".to_owned()],
        ..Script::new(vec![
            Turn::text("One."),
            Turn::call("file.write", json!({"path": "a.txt", "content": "x"})),
            Turn::text("I could not."),
        ])
    };
    let program = Program::with_script(script);
    assert_eq!(program.output(&BEGIN).code, 0);
    assert_eq!(program.output(&["runs", "configure", "last"]).code, 2, "nothing is to be changed");
    let configure = ["runs", "configure", "last", "--model", "openai/second", "--approvals", "deny", "--json"];
    let done = program.output(&configure);
    assert_eq!(done.code, 0, "{done:?}");
    let changed: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(changed["changed"], "approvals deny, model openai/second");
    let done = program.output(&["runs", "say", "last", "write a file"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(program.file("a.txt"), None, "the new rules hold");
    let calls = program.server.model_calls();
    assert_eq!((calls[0].body["model"].as_str(), calls[1].body["model"].as_str()), (Some("first"), Some("second")));
    assert_eq!(messages(&program, 1)[2].1, "One.");
    assert_eq!(program.show()["models"][0], "openai/second");
    program.verify();
}

#[test]
fn a_paused_run_goes_on_with_another_model() {
    let program = Program::with_turns(vec![Turn::text("never heard").hold(), Turn::text("Done.")]);
    let mut running = program.spawn(&["run", "do it", "--json"]);
    program.wait_for_model_calls(1);
    running.kill();
    program.wait_until_unowned();
    let done = program.output(&["runs", "configure", "last", "--model", "openai/other"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(program.show()["status"], "paused");
    let done = program.output(&["runs", "resume", "last"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "Done.\n"), "{done:?}");
    assert_eq!(program.server.model_calls()[1].body["model"], "other");
    let done = program.output(&["runs", "configure", "last", "--model", "openai/other"]);
    assert_eq!(done.code, 1, "a finished run is history: {done:?}");
}

#[test]
fn the_model_is_told_what_was_undone_and_not_what_was_brought_back() {
    let write = || Turn::call("file.write", json!({"path": "a.txt", "content": "x"}));
    let program = Program::with_turns(vec![
        write(),
        Turn::text("Written."),
        Turn::text("Checked."),
        Turn::text("I see."),
        Turn::text("Yes."),
        write(),
        Turn::text("Written."),
        Turn::text("Checked."),
        Turn::text("Fine."),
    ]);
    assert_eq!(program.output(&BEGIN).code, 0);
    let run = program.show()["run"].as_str().unwrap().to_owned();
    let undo = |args: &[&str]| assert_eq!(program.output(&[&["undo", "--yes"], args].concat()).code, 0);
    let told = || messages(&program, program.server.model_calls().len() - 1);
    let is_told = |text: &str| told().iter().filter(|(_, said)| said.contains(text)).count();
    undo(&[&run]);
    assert_eq!(program.file("a.txt"), None);
    assert_eq!(program.output(&["runs", "say", &run, "and now?"]).code, 0);
    assert_eq!(is_told("The user has undone your changes of a.txt."), 1, "{:?}", told());
    assert_eq!(told().last().unwrap().1, "and now?");
    assert_eq!(program.output(&["runs", "say", &run, "again?"]).code, 0);
    assert_eq!(is_told("The user has undone"), 1, "it is told once");
    assert_eq!(program.output(&["runs", "say", &run, "write it again"]).code, 0);
    undo(&[&run]);
    undo(&["last"]);
    assert_eq!(program.file("a.txt").as_deref(), Some("x"), "brought back");
    assert_eq!(program.output(&["runs", "say", &run, "and now?"]).code, 0);
    assert_eq!(is_told("The user has undone"), 1, "what was brought back is not told");
    program.verify();
}

#[test]
fn a_call_that_a_person_has_repeated_is_made_and_the_chat_goes_on() {
    // The first one never hears whether it was sent.
    let is_heard = AtomicBool::new(false);
    let site = Site::new(move |_| match is_heard.swap(true, Ordering::SeqCst) {
        false => Vec::new(),
        true => page("text/plain", "ok"),
    });
    let call = Turn::call("http.request", json!({"url": site.url("/"), "method": "POST", "body": "x"}));
    let program = Program::with_turns(vec![call, Turn::text("It is sent."), Turn::text("Here I am.")]);
    let rules = program.home.parent().unwrap().join("rules.toml");
    std::fs::write(&rules, format!("[[rule]]\neffect = \"allow\"\nmatch = \"net:connect:{}\"\n", site.address))
        .unwrap();
    let hold = site.hold();
    let args = ["run", "send it", "--conversation", "--policy", rules.to_str().unwrap(), "--json"];
    let mut running = program.spawn(&args);
    running.wait_for("act_intent");
    site.wait_for_requests(1);
    running.kill();
    drop(hold);
    program.wait_until_unowned();
    assert_eq!(program.output(&["runs", "resume", "last"]).code, 4, "nobody knows whether it was sent");
    assert_eq!(program.output(&["runs", "resolve", "last", "repeat"]).code, 0);
    let mut chat = program.command(&["chat", "last"]).stdin(Stdio::piped()).spawn().unwrap();
    chat.stdin.take().unwrap().write_all(b"and now?\n").unwrap();
    let done = Done::of(chat.wait_with_output().unwrap());
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("It is sent.\n") && done.stdout.ends_with("Here I am.\n"), "{done:?}");
    assert_eq!(site.requests().len(), 2, "once more, as was said");
    assert_eq!(program.output(&["runs", "resolve", "last", "done"]).code, 1, "nothing is unknown any more");
    program.verify();
}

#[test]
fn cancelled_while_something_is_being_changed_it_says_that_nobody_knows() {
    let site = Site::new(|_| Vec::new());
    let call = Turn::call("http.request", json!({"url": site.url("/"), "method": "POST", "body": "x"}));
    let program = Program::with_turns(vec![call, Turn::text("Done.")]);
    let rules = program.home.parent().unwrap().join("rules.toml");
    std::fs::write(&rules, format!("[[rule]]\neffect = \"allow\"\nmatch = \"net:connect:{}\"\n", site.address))
        .unwrap();
    let hold = site.hold();
    let mut running = program.spawn(&["run", "send it", "--policy", rules.to_str().unwrap(), "--json"]);
    running.wait_for("act_intent");
    site.wait_for_requests(1);
    assert_eq!(program.output(&["runs", "cancel", "last"]).code, 0);
    assert_eq!(running.finish().code, 130);
    drop(hold);
    let kinds = program.kinds();
    assert_eq!(kinds[kinds.len() - 2..], ["outcome_unknown", "finished"], "{kinds:?}");
    program.verify();
}
