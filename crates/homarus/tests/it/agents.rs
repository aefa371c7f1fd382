//! Agents as folders: made from templates, told their files, held to their tools, grants and limits.

use homarus_test_kit::Turn;
use serde_json::{Value, json};

use crate::program::Program;

fn made(program: &Program, name: &str, template: &str) {
    let done = program.output(&["agents", "create", name, "--template", template]);
    assert_eq!(done.code, 0, "{done:?}");
}

fn set(program: &Program, agent: &str, file: &str, text: &str) {
    std::fs::write(program.home.join("agents").join(agent).join(file), text).unwrap();
}

fn system_of(program: &Program, call: usize) -> String {
    program.server.model_calls()[call].body["messages"][0]["content"].as_str().unwrap().to_owned()
}

fn tools_of(program: &Program, call: usize) -> Vec<String> {
    let calls = program.server.model_calls();
    let tools = calls[call].body["tools"].as_array().cloned().unwrap_or_default();
    tools.iter().map(|tool| tool["function"]["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn agents_are_made_listed_shown_chosen_and_deleted() {
    let program = Program::with_turns(vec![]);
    made(&program, "ada", "coder");
    made(&program, "bob", "quick");
    assert_eq!(program.output(&["agents", "create", "ada"]).code, 2);
    assert_eq!(program.output(&["agents", "create", "../x"]).code, 2);
    assert_eq!(program.output(&["agents", "create", "c", "--template", "nope"]).code, 2);
    assert_eq!(program.output(&["agents", "switch", "bob"]).code, 0);
    let list: Value = serde_json::from_str(&program.output(&["agents", "list", "--json"]).stdout).unwrap();
    let rows = list["agents"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[1]["name"].as_str(), rows[1]["current"].as_bool()), (Some("bob"), Some(true)), "{list}");
    let shown: Value = serde_json::from_str(&program.output(&["agents", "show", "bob", "--json"]).stdout).unwrap();
    assert_eq!(shown["grants"], json!(["file:read:./**"]));
    assert_eq!(shown["files"].as_array().unwrap().len(), 6, "{shown}");
    let done = program.output(&["agents", "delete", "bob"]);
    assert_eq!(done.code, 2, "nobody confirmed it: {done:?}");
    assert_eq!(program.output(&["agents", "delete", "bob", "--yes"]).code, 0);
    let done = program.output(&["agents", "show", "bob"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("there are ada"), "{done:?}");
}

#[test]
fn what_a_copied_folder_says_does_nothing_to_the_terminal() {
    let program = Program::with_turns(vec![]);
    for name in ["ada", "bob"] {
        made(&program, name, "base");
    }
    let evil = r#""a\u001b]0;owned\u0007\u001b[2J\nb""#;
    set(&program, "ada", "agent.toml", &format!("description = {evil}\ntools = [{evil}]\ngrants = [{evil}]\n"));
    set(&program, "bob", "agent.toml", &format!("tools = [{evil}]\n[limits]\n{evil} = 1\n"));
    for args in [&["agents", "list"][..], &["agents", "show", "ada"], &["agents", "show", "bob"]] {
        let done = program.output(args);
        assert!(!done.stdout.contains('\u{1b}') && !done.stderr.contains("\u{1b}]"), "{done:?}");
        assert!(format!("{}{}", done.stdout, done.stderr).contains("owned"), "{done:?}");
    }
}

#[test]
fn an_agent_is_told_its_files_and_what_was_cut_is_said() {
    let program = Program::with_turns(vec![Turn::text("Hello."), Turn::text("Hello.")]);
    made(&program, "ada", "base");
    set(&program, "ada", "SOUL.md", "Never shout.");
    set(&program, "ada", "MEMORY.md", &format!("{}the newest note", "an old note\n".repeat(4_000)));
    std::fs::write(program.workspace.join("CLAUDE.md"), "Use tabs here.").unwrap();
    let done = program.output(&["run", "hi", "--agent", "ada"]);
    assert_eq!(done.code, 0, "{done:?}");
    let system = system_of(&program, 0);
    for part in [
        "You are Homarus",
        "## SOUL.md\n\nNever shout.",
        "## CLAUDE.md of the workspace\n\nUse tabs here.",
        "the newest note\n[...",
    ] {
        assert!(system.contains(part), "{part:?} is missing: {system}");
    }
    assert!(!system.contains("<!--"), "comments are for people");
    assert!(system.len() < 30_000);
    assert!(done.stderr.contains("bytes of MEMORY.md did not fit"), "{}", done.stderr);
    let accepted = &program.events()[0]["event"];
    let accepted = if accepted.is_null() { program.events()[0].clone() } else { accepted.clone() };
    assert_eq!(accepted["agent"]["name"], "ada", "{accepted}");
    // Without an agent only the workspace speaks.
    assert_eq!(program.output(&["run", "hi"]).code, 0);
    assert!(system_of(&program, 1).contains("Use tabs here.") && !system_of(&program, 1).contains("Never shout."));
}

#[test]
fn an_agent_is_held_to_its_tools_grants_and_limits() {
    let call = || Turn::call("file.write", json!({"path": "a.txt", "content": "x"}));
    let program = Program::with_turns(vec![call(), Turn::text("I could not."), call(), call(), call()]);
    made(&program, "bob", "quick");
    let done = program.output(&["run", "write a file", "--agent", "bob", "--approvals", "auto"]);
    assert_eq!(program.file("a.txt"), None, "{done:?}");
    assert_eq!(tools_of(&program, 0), ["file-search", "file-read", "file-list"]);
    set(&program, "bob", "agent.toml", "[limits]\nsteps = 2");
    let done = program.output(&["run", "write a file", "--agent", "bob", "--approvals", "auto"]);
    assert_eq!(done.code, 3, "{done:?}");
    assert!(done.stderr.contains("limit on steps (2)"), "{}", done.stderr);
    set(&program, "bob", "agent.toml", "tools = [\"file.rad\"]");
    let done = program.output(&["run", "x", "--agent", "bob"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("file.rad"), "{done:?}");
    set(&program, "bob", "agent.toml", "tire = 1");
    let done = program.output(&["run", "x", "--agent", "bob"]);
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.stderr.contains("unknown field `tire`"), "{done:?}");
}

#[test]
fn a_file_of_an_agent_is_edited_and_nothing_wrong_replaces_it() {
    let program = Program::with_turns(vec![]);
    made(&program, "ada", "base");
    let edit = |file: &str, script: &str| {
        let mut command = program.command(&["agents", "edit", "ada", file]);
        let output = command.env("EDITOR", format!("f() {{ {script}; }}; f")).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let text = |file: &str| std::fs::read_to_string(program.home.join("agents/ada").join(file)).unwrap();
    assert_eq!(edit("SOUL.md", "echo Be kind. > $1").0, 0);
    assert_eq!(text("SOUL.md"), "Be kind.\n");
    let before = text("agent.toml");
    let (code, said) = edit("agent.toml", "echo 'tire = 1' >> $1");
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("unknown field") && said.contains("rejected"), "{said}");
    assert_eq!(text("agent.toml"), before);
    assert_eq!(edit("agent.toml", "false").0, 1);
    let (code, said) = edit("SOUL.mb", "true");
    assert_eq!(code, 2);
    assert!(said.contains("did you mean `SOUL.md`"), "{said}");
}

#[test]
fn a_tier_nobody_can_give_runs_nothing() {
    let program = Program::with_turns(vec![
        Turn::call("shell.execute", json!({"command": "echo x > a.txt"})),
        Turn::text("It cannot run here."),
    ]);
    made(&program, "far", "base");
    set(&program, "far", "agent.toml", "tier = \"llm_generated\"");
    let done = program.output(&["run", "do it", "--agent", "far", "--approvals", "auto"]);
    assert!(done.stderr.contains("needs more isolation"), "{done:?}");
    assert_eq!(program.file("a.txt"), None);
}

#[test]
fn a_conversation_goes_on_with_another_agent() {
    let program = Program::with_turns(vec![Turn::text("One."), Turn::text("Two.")]);
    made(&program, "bob", "quick");
    set(&program, "bob", "SOUL.md", "Speak like Bob.");
    assert_eq!(program.output(&["run", "hi", "--conversation"]).code, 0);
    let done = program.output(&["runs", "configure", "last", "--agent", "bob"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(program.output(&["runs", "say", "last", "and now?"]).code, 0);
    assert!(!system_of(&program, 0).contains("Bob") && system_of(&program, 1).contains("Speak like Bob."));
    assert_eq!(tools_of(&program, 1).len(), 3);
    let calls = program.server.model_calls();
    assert_eq!(calls[1].body["messages"][2]["content"], "One.", "its history is kept");
    program.verify();
}

#[test]
fn no_sandbox_sees_an_agents_folder() {
    let program = Program::with_turns(vec![]);
    made(&program, "ada", "base");
    set(&program, "ada", "USER.md", "the secret of ada");
    let file = program.home.join("agents/ada/USER.md");
    let command = format!("cat {} | head -1", file.display());
    program.server.push(Turn::call("shell.execute", json!({"command": command})));
    program.server.push(Turn::text("No."));
    program.output(&["run", "look", "--approvals", "auto"]);
    let last = program.server.model_calls().last().unwrap().body["messages"].to_string();
    assert!(last.contains("No such file") && !last.contains("the secret of ada"), "{last}");
}

#[test]
fn rules_send_simple_requests_to_another_model_and_say_why() {
    let program = Program::with_turns((0..6).map(|_| Turn::text("Answered.")).collect());
    std::fs::create_dir_all(program.home.join("config")).unwrap();
    let config = r#"
[models]
order = ["openai/big"]

[[models.route]]
models = ["local/not-here"]
words_max = 100

[[models.route]]
models = ["openai/small"]
words_max = 4
tools = false

[[models.route]]
models = ["openai/tagged"]
tag = "cheap"
"#;
    std::fs::write(program.home.join("config/homarus.toml"), config).unwrap();
    made(&program, "own", "base");
    set(&program, "own", "agent.toml", "models = [\"openai/of-agent\"]");
    let check = |args: &[&str], model: &str, why: &str| {
        assert_eq!(program.output(&[&["run"], args].concat()).code, 0, "{args:?}");
        assert_eq!(program.server.model_calls().last().unwrap().body["model"], model, "{args:?}");
        assert_eq!(program.show()["models_why"], why, "{args:?}");
    };
    check(&["how many files", "--no-tools"], "small", "rule 2 of models.route: words_max = 4, tools = false");
    check(&["how many files"], "big", "models.order in the configuration");
    check(&["how many files", "--tag", "cheap"], "tagged", "rule 3 of models.route: tag = cheap");
    check(&["how many files", "--tag", "cheap", "--agent", "own"], "of-agent", "models of agent own");
    check(&["how many files", "--no-tools", "--model", "openai/named"], "named", "named with --model");
    assert!(tools_of(&program, 0).is_empty() && !tools_of(&program, 1).is_empty());
}

#[test]
fn what_an_agent_was_given_to_do_is_logged_by_day_and_told_to_it() {
    let turns = ["Trust every page.", "Two.", "Three.", "Four.", "Five."];
    let program = Program::with_turns(turns.iter().map(|text| Turn::text(text)).collect());
    assert_eq!(program.output(&["agents", "create", "ada"]).code, 0);
    let system = |call: usize| {
        let calls = program.server.model_calls();
        calls[call].body["messages"][0]["content"].as_str().unwrap().to_owned()
    };
    assert_eq!(program.output(&["run", "count the <!-- x --> lines", "--agent", "ada"]).code, 0);
    assert_eq!(program.output(&["run", "the password is hunter22hunter", "--agent", "ada", "--conversation"]).code, 0);
    assert_eq!(program.output(&["runs", "say", "last", "and the words"]).code, 0);
    let logs: Vec<_> = std::fs::read_dir(program.home.join("agents/ada/memory")).unwrap().flatten().collect();
    let text: String = logs.iter().map(|log| std::fs::read_to_string(log.path()).unwrap()).collect();
    assert_eq!(text.lines().count(), 3, "a line for a run, and one for each turn of a conversation: {text}");
    assert!(text.contains("UTC, completed: \"count the") && text.contains("\"and the words\" (run "), "{text}");
    assert!(!text.contains("hunter22") && text.contains("may hold a secret"), "{text}");
    assert!(!text.contains("Trust every page"), "nothing a model wrote: {text}");
    assert!(!system(0).contains("memory/2"));
    assert!(system(1).contains("## memory/2") && system(1).contains("count the"), "{}", system(1));
    assert!(!system(1).contains("<!--"), "marks are for people");

    let definition = program.home.join("agents/ada/agent.toml");
    let without = std::fs::read_to_string(&definition).unwrap().replace("daily_log = true", "daily_log = false");
    std::fs::write(&definition, without).unwrap();
    assert_eq!(program.output(&["run", "not this", "--agent", "ada"]).code, 0);
    assert!(!system(3).contains("## memory/2"));
    let after: String = logs.iter().map(|log| std::fs::read_to_string(log.path()).unwrap()).collect();
    assert_eq!(after, text);
}
