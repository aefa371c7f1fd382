//! A run that is under way is changed: by `runs configure` from another process, and by SIGHUP, which has the
//! configuration read again. Nothing of it is lost either way.

use std::io::Write;

use homarus_contract::journal::Journal;
use homarus_test_kit::Turn;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::program::{Program, Running};

fn write(path: &str) -> Turn {
    Turn::call("file.write", json!({ "path": path, "content": "x\n" }))
}

fn configure(program: &Program, text: &str) {
    let folder = program.home.join("config");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("homarus.toml"), text).unwrap();
}

fn changes(program: &Program) -> Vec<Value> {
    program.events().into_iter().filter(|event| event["kind"] == "reconfigured").collect()
}

fn asked(program: &Program, call: usize) -> Value {
    program.server.model_calls()[call].body.clone()
}

fn begin(program: &Program, args: &[&str]) -> Running {
    let running = program.spawn(&[&["run", "do it", "--approvals", "auto"], args].concat());
    program.wait_for_model_calls(1);
    running
}

/// The signal is sent while the model is asked, and what was read is there before it answers.
fn hang_up(program: &Program, running: &mut Running, note: &str) -> String {
    running.signal(Signal::SIGHUP);
    let told = running.wait_for_note(note);
    program.server.release();
    told
}

const READ: &str = "it holds where the step ends";
const KEPT: &str = "stays as it was";

#[test]
fn configure_changes_a_run_that_is_under_way() {
    let program =
        Program::with_turns(vec![write("a.txt").hold(), write("b.txt"), Turn::text("Done."), Turn::text("Checked.")]);
    let mut running = begin(&program, &[]);
    std::fs::write(
        program.workspace.join("rules.toml"),
        "[[rule]]\neffect = \"deny\"\nmatch = \"file:write:./b.txt\"\nreason = \"not this one\"\n",
    )
    .unwrap();
    let rules = ["runs", "configure", "last", "--policy", "rules.toml"];
    let model = ["runs", "configure", "last", "--model", "openai/other", "--json"];
    let done = program.output(&rules);
    assert!(done.code == 0 && done.stdout.contains("where its step ends: rules of rules.toml"), "{done:?}");
    let response: Value = serde_json::from_str(&program.output(&model).stdout).unwrap();
    assert_eq!(response["pending"], true, "{response}");
    assert!(changes(&program).is_empty());
    program.server.release();
    let done = running.finish();
    assert!(done.stderr.contains("rules of rules.toml") && done.stderr.contains("model openai/other"), "{done:?}");
    assert_eq!(
        (asked(&program, 0)["model"].as_str(), asked(&program, 1)["model"].as_str()),
        (Some("scripted"), Some("other"))
    );
    let noted: Vec<String> = changes(&program).iter().map(|event| event["why"].as_str().unwrap().to_owned()).collect();
    assert_eq!(noted, ["rules of rules.toml", "model openai/other"]);
    assert_eq!(program.file("a.txt").as_deref(), Some("x\n"), "what was under way was judged by the rules of its time");
    assert_eq!(program.file("b.txt"), None, "{:?}", program.kinds());
    program.verify();
}

#[test]
fn what_was_allowed_when_it_was_done_is_applied_before_the_rules_change() {
    let program = Program::with_turns(vec![
        write("a.txt").hold(),
        Turn::text("Done."),
        Turn::text("Checked."),
        Turn::text("Checked."),
    ]);
    let mut running = begin(&program, &[]);
    assert_eq!(program.output(&["runs", "configure", "last", "--approvals", "ask"]).code, 0);
    program.server.release();
    let done = running.finish();
    assert_eq!(done.code, 0, "{done:?}");
    let kinds = program.kinds();
    assert_eq!(program.file("a.txt").as_deref(), Some("x\n"), "{kinds:?}");
    let place = |kind: &str| kinds.iter().position(|known| known == kind);
    assert!(place("merged").is_some() && place("merged") < place("reconfigured"), "{kinds:?}");
    program.verify();
}

#[test]
fn a_change_that_was_left_is_made_by_the_next_driver() {
    let program = Program::with_turns(vec![Turn::text("never heard").hold(), Turn::text("Done.")]);
    let mut running = begin(&program, &[]);
    assert_eq!(program.output(&["runs", "configure", "last", "--model", "openai/other"]).code, 0);
    running.kill();
    program.wait_until_unowned();
    assert_eq!(program.output(&["runs", "resume", "last"]).code, 0);
    assert_eq!(asked(&program, 1)["model"], "other");
    assert_eq!(changes(&program).len(), 1, "and once");
    program.verify();
}

#[test]
fn sighup_brings_models_rules_and_limits() {
    let program =
        Program::with_turns(vec![write("a.txt").hold(), write("b.txt"), Turn::text("Done."), Turn::text("x")]);
    let mut running = begin(&program, &[]);
    let rules = program.home.join("rules.toml");
    configure(
        &program,
        &format!("[models]\norder = [\"openai/other\"]\n[policy]\nfile = {rules:?}\n[budget]\nsteps = 3\n"),
    );
    std::fs::write(
        &rules,
        "default = \"allow\"\n[[rule]]\neffect = \"deny\"\nmatch = \"file:write:./b.txt\"\nreason = \"not this one\"\n",
    )
    .unwrap();
    hang_up(&program, &mut running, READ);
    let done = running.finish();
    assert_eq!(asked(&program, 1)["model"], "other", "{done:?}");
    let [change] = changes(&program).try_into().unwrap();
    assert!(change["who"].as_str().unwrap().starts_with("signal:"), "{change}");
    assert_eq!(change["why"], "the configuration was read again: rules, limits, model openai/other");
    assert_eq!(change["budget"]["steps_max"], 3);
    assert_eq!(program.file("a.txt").as_deref(), Some("x\n"));
    assert_eq!(program.file("b.txt"), None);
    assert_eq!(done.code, 3, "the third step was the last: {done:?}");
    assert_eq!(program.server.model_calls().len(), 3);
    program.verify();
}

#[test]
fn sighup_brings_the_limits_of_tools() {
    let shell = || Turn::call("shell.execute", json!({ "command": "head -c 2m /dev/zero > /tmp/big" }));
    let program = Program::with_turns(vec![
        shell().hold(),
        shell(),
        Turn::call("file.read", json!({ "path": "seed.txt" })),
        Turn::text("Done."),
        Turn::text("Done."),
    ]);
    let mut running = begin(&program, &[]);
    configure(&program, "[limits.tools.shell.execute]\nfile_mb = 1\n");
    hang_up(&program, &mut running, READ);
    running.finish();
    let events = program.events();
    let results: Vec<&Value> = events.iter().filter(|event| event["kind"] == "act_result").collect();
    let bounds: Vec<u64> =
        results.iter().map(|one| one["receipt"]["bounds"]["file_bytes_max"].as_u64().unwrap() >> 20).collect();
    assert_eq!(bounds, [1024, 1, 1024], "the step under way ends as it began");
    assert_eq!(results[0]["exit"]["code"], 0);
    assert_ne!(results[1]["exit"]["code"], 0);
    program.verify();
}

#[test]
fn sighup_brings_the_persona_and_tools_of_the_agent() {
    let program = Program::with_turns(vec![write("a.txt").hold(), Turn::text("Done."), Turn::text("x")]);
    assert_eq!(program.output(&["agents", "create", "ada"]).code, 0);
    let mut running = begin(&program, &["--agent", "ada"]);
    let definition = "persona = \"You speak like a pirate.\"\ntools = [\"file.read\"]\n";
    std::fs::write(program.home.join("agents/ada/agent.toml"), definition).unwrap();
    hang_up(&program, &mut running, READ);
    assert_eq!(running.finish().code, 0);
    let (before, after) = (asked(&program, 0), asked(&program, 1));
    let system = |call: &Value| call["messages"][0]["content"].as_str().unwrap().to_owned();
    assert!(!system(&before).contains("pirate") && system(&after).contains("You speak like a pirate."));
    assert_eq!(after["tools"].as_array().unwrap().len(), 1, "{}", after["tools"]);
    assert!(after["messages"].to_string().contains("a.txt"), "what was done before is still told");
    program.verify();
}

#[test]
fn what_was_chosen_for_this_run_stays_chosen() {
    let program = Program::with_turns(vec![write("a.txt").hold(), Turn::text("Done."), Turn::text("x")]);
    std::fs::write(
        program.workspace.join("own.toml"),
        "[[rule]]\neffect = \"allow\"\nmatch = \"file:write:./b.txt\"\nreason = \"not this one\"\n",
    )
    .unwrap();
    let given = ["--model", "openai/mine", "--steps-max", "7", "--policy", "own.toml"];
    let mut running = begin(&program, &given);
    configure(&program, "[models]\norder = [\"openai/other\"]\n[budget]\nsteps = 3\ntokens = 5000000\n");
    hang_up(&program, &mut running, READ);
    assert_eq!(running.finish().code, 0);
    assert_eq!(asked(&program, 1)["model"], "mine");
    let [change] = changes(&program).try_into().unwrap();
    assert_eq!(
        (&change["budget"]["steps_max"], &change["budget"]["tokens_max"]),
        (&json!(7), &json!(5_000_000)),
        "{change}"
    );
    assert_eq!(change["profile"], Value::Null, "its own rules are still there: {change}");
}

/// Stops it where the model is asked, and goes on with it in another process, up to the same place.
fn resumed(program: &Program, mut running: Running) -> Running {
    running.signal(Signal::SIGINT);
    assert_eq!(running.finish().code, 130);
    let asked = program.server.model_calls().len();
    let running = program.spawn(&["runs", "resume", "last"]);
    program.wait_for_model_calls(asked + 1);
    running
}

const NOT_B: &str =
    "default = \"allow\"\n[[rule]]\neffect = \"deny\"\nmatch = \"file:write:./b.txt\"\nreason = \"not this one\"\n";

#[test]
fn rules_that_were_made_stricter_hold_also_for_a_run_that_another_process_goes_on_with() {
    let program = Program::with_turns(vec![
        Turn::text("never heard").hold(),
        write("a.txt").hold(),
        write("b.txt"),
        Turn::text("Done."),
        Turn::text("Done."),
    ]);
    let rules = program.home.join("config/rules.toml");
    configure(&program, "[policy]\nfile = \"rules.toml\"\n");
    std::fs::write(&rules, "default = \"allow\"\n").unwrap();
    let running = begin(&program, &[]);
    std::fs::write(&rules, NOT_B).unwrap();
    configure(&program, "[policy]\nfile = \"rules.toml\"\n[budget]\nsteps = 30\n");
    let mut running = resumed(&program, running);
    hang_up(&program, &mut running, READ);
    // The question of the first process may still wait.
    program.server.release();
    assert_eq!(running.finish().code, 0);
    let [change] = changes(&program).try_into().unwrap();
    assert_eq!(change["why"], "the configuration was read again: rules, limits");
    assert_eq!(change["budget"]["steps_max"], 30);
    assert_eq!((program.file("a.txt").as_deref(), program.file("b.txt")), (Some("x\n"), None), "{:?}", program.kinds());
    program.verify();
}

#[test]
fn what_was_chosen_stays_chosen_for_whoever_goes_on_with_the_run() {
    let program = Program::with_turns(vec![
        Turn::text("never heard").hold(),
        write("a.txt").hold(),
        write("b.txt"),
        write("c.txt"),
        Turn::text("Done."),
        Turn::text("Done."),
    ]);
    std::fs::write(program.workspace.join("own.toml"), NOT_B).unwrap();
    let running = begin(&program, &["--steps-max", "7", "--policy", "own.toml"]);
    // What is chosen is what was read then; and what the configuration says comes after it.
    std::fs::write(program.workspace.join("own.toml"), "default = \"allow\"\n").unwrap();
    configure(&program, "[policy]\nfile = \"rules.toml\"\n[budget]\nsteps = 3\ntokens = 5000000\n");
    let not_c = NOT_B.replace("b.txt", "c.txt");
    std::fs::write(program.home.join("config/rules.toml"), not_c).unwrap();
    let mut running = resumed(&program, running);
    hang_up(&program, &mut running, READ);
    // The question of the first process may still wait.
    program.server.release();
    assert_eq!(running.finish().code, 0);
    let [change] = changes(&program).try_into().unwrap();
    let budget = &change["budget"];
    assert_eq!((&budget["steps_max"], &budget["tokens_max"]), (&json!(7), &json!(5_000_000)), "{change}");
    let files = ["a.txt", "b.txt", "c.txt"].map(|path| program.file(path).is_some());
    assert_eq!(files, [true, false, false], "{:?}", program.kinds());
    program.verify();
}

#[test]
fn rules_that_were_chosen_on_the_way_stay_chosen() {
    let program = Program::with_turns(vec![
        Turn::text("never heard").hold(),
        write("a.txt").hold(),
        write("b.txt"),
        Turn::text("Done."),
        Turn::text("Done."),
    ]);
    let mut running = begin(&program, &[]);
    running.signal(Signal::SIGINT);
    assert_eq!(running.finish().code, 130);
    std::fs::write(program.workspace.join("own.toml"), NOT_B).unwrap();
    assert_eq!(program.output(&["runs", "configure", "last", "--policy", "own.toml"]).code, 0);
    configure(&program, "[policy]\nfile = \"rules.toml\"\n");
    std::fs::write(program.home.join("config/rules.toml"), "default = \"allow\"\n").unwrap();
    let mut running = program.spawn(&["runs", "resume", "last"]);
    program.wait_for_model_calls(2);
    hang_up(&program, &mut running, READ);
    // The question of the first process may still wait.
    program.server.release();
    assert_eq!(running.finish().code, 0);
    assert_eq!((program.file("a.txt").as_deref(), program.file("b.txt")), (Some("x\n"), None), "{:?}", program.kinds());
}

#[test]
fn a_run_of_a_version_that_did_not_write_down_what_was_chosen_keeps_its_rules_and_says_so() {
    let program = Program::with_turns(vec![write("a.txt").hold(), Turn::text("Done."), Turn::text("Done.")]);
    let blob = b"[]".to_vec();
    let store = homarus_store::Store::open(homarus_store::Options::new(program.home.join("state"))).unwrap();
    let mut old = homarus_test_kit::histories::accepted("agent", "hello", false);
    let hash = homarus_contract::ids::Hash::of(&blob);
    (old.system, old.tools, old.orientation) = (hash, hash, hash);
    old.models = vec!["openai/scripted".parse().unwrap()];
    old.profile.rules = NOT_B.to_owned();
    old.workspace.clone_from(&program.workspace);
    assert_eq!(old.chosen, None);
    program.runtime.block_on(store.accept(old, vec![blob])).unwrap();
    drop(store);
    program.wait_until_unowned();
    let mut running = program.spawn(&["runs", "resume", "last"]);
    program.wait_for_model_calls(1);
    hang_up(&program, &mut running, READ);
    running.finish();
    let [change] = changes(&program).try_into().unwrap();
    let why = change["why"].as_str().unwrap();
    assert!(why.contains("rules stay and are not those of the configuration"), "{why}");
    assert_eq!(change["profile"]["rules"].as_str().unwrap_or(NOT_B), NOT_B, "{change}");
}

#[test]
fn a_bad_configuration_keeps_the_old_one_and_says_why() {
    let program = Program::with_turns(vec![write("a.txt").hold(), Turn::text("Done."), Turn::text("x")]);
    let mut running = begin(&program, &[]);
    configure(&program, "[models]\norder = [\"openai/other\"]\n[budget]\nstep = 5\n");
    let told = hang_up(&program, &mut running, KEPT);
    assert!(told.contains("unknown key `budget.step`") && told.contains("did you mean `budget.steps`?"), "{told}");
    assert_eq!(running.finish().code, 0);
    assert_eq!(asked(&program, 1)["model"], "scripted");
    assert_eq!(program.file("a.txt").as_deref(), Some("x\n"));
    let [change] = changes(&program).try_into().unwrap();
    assert!(change["why"].as_str().unwrap().contains("stays as it was: unknown key `budget.step`"), "{change}");
    assert_eq!((&change["models"], &change["profile"]), (&Value::Null, &Value::Null));
    program.verify();
}

#[test]
fn a_chat_reads_again_between_its_turns_and_in_them() {
    let program =
        Program::with_turns(vec![Turn::text("One."), write("a.txt").hold(), Turn::text("Two."), Turn::text("x")]);
    let mut command = program.command(&["chat", "--json", "--approvals", "auto"]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    let mut running = Running::of(child);
    keyboard.write_all(b"hello\n").unwrap();
    running.wait_for("waiting");
    configure(&program, "[models]\norder = [\"openai/second\"]\n");
    running.signal(Signal::SIGHUP);
    while changes(&program).is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    running.wait_for_note("the configuration was read again");
    keyboard.write_all(b"write\n").unwrap();
    program.wait_for_model_calls(2);
    assert_eq!(asked(&program, 1)["model"], "second");
    configure(&program, "[models]\norder = [\"openai/third\"]\n");
    running.signal(Signal::SIGHUP);
    running.wait_for_note(READ);
    program.server.release();
    running.wait_for("waiting");
    assert_eq!(asked(&program, 2)["model"], "third");
    drop(keyboard);
    assert_eq!(running.finish().code, 0);
    assert_eq!(program.file("a.txt").as_deref(), Some("x\n"));
    program.verify();
}
