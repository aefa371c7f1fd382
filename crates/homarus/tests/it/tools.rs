//! `homarus tools`: calls by hand pass the same gate, sandbox and journal; and what a tool answers where it cannot
//! do what was asked, through the real confined process.

use std::fs::{self, File};

use serde_json::{Value, json};

use crate::{
    program::{Done, Program},
    site::{Site, page},
};

fn program() -> Program {
    Program::with_turns(Vec::new())
}

fn call(program: &Program, tool: &str, arguments: Value, more: &[&str]) -> Done {
    let arguments = arguments.to_string();
    let mut args = vec!["tools", "call", tool, &arguments];
    args.extend(more);
    // No model is set up: none is needed.
    Done::of(program.bare_command(&args).output().unwrap())
}

fn kinds_and_machine(program: &Program) -> (Vec<String>, Value) {
    let events = program.events();
    (events.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect(), events[0]["machine"].clone())
}

#[test]
fn a_call_by_hand_is_judged_sandboxed_and_journalled() {
    let program = program();
    let done =
        call(&program, "shell.execute", json!({"command": "echo said; echo x > made.txt"}), &["--approvals", "auto"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.stdout, "exit code 0\noutput:\nsaid\n");
    assert!(done.stderr.contains("+x") && done.stderr.contains("completed · The call was made."), "{done:?}");
    assert_eq!(program.file("made.txt").as_deref(), Some("x\n"));
    let (kinds, machine) = kinds_and_machine(&program);
    assert_eq!(kinds, ["accepted", "judged", "act_intent", "act_result", "merged", "finished"]);
    assert_eq!(machine, "call");
    assert!(
        program.show()["prompt"].as_str().unwrap().starts_with("shell.execute {\"command\":"),
        "people can read it"
    );
    let events = program.events();
    assert_eq!(events[3]["receipt"]["backend"], "l1");
    assert_eq!(events[2]["class"], "workspace");
    program.verify();
}

#[test]
fn the_gate_stands_before_it() {
    let program = program();
    let write = json!({"path": "made.txt", "content": "x\n"});
    // Nobody to ask: no. A person elsewhere: asked with the diff. A rule against it: no, whatever was said.
    let done = call(&program, "file.write", write.clone(), &[]);
    assert_eq!((done.code, program.file("made.txt")), (3, None), "{done:?}");
    assert!(done.stderr.contains("approvals are off"), "{done:?}");
    let rules = program.home.parent().unwrap().join("rules.toml");
    fs::write(&rules, "[[rule]]\neffect='deny'\nmatch='file:write'\nreason='never write'\n").unwrap();
    let done =
        call(&program, "file.write", write.clone(), &["--approvals", "auto", "--policy", rules.to_str().unwrap()]);
    assert_eq!((done.code, program.file("made.txt")), (3, None), "{done:?}");
    assert!(done.stderr.contains("never write"), "{done:?}");
    let done = call(&program, "file.write", write.clone(), &["--approvals", "ask"]);
    assert_eq!((done.code, program.file("made.txt")), (4, None), "{done:?}");
    assert_eq!(program.output(&["runs", "approve", "last"]).code, 0);
    assert_eq!(program.output(&["runs", "resume", "last"]).code, 0);
    assert_eq!(program.file("made.txt").as_deref(), Some("x\n"));
    let done = call(&program, "file.write", json!({"path": "b", "content": "y"}), &["--approvals", "ask"]);
    assert_eq!(done.code, 4, "{done:?}");
    assert_eq!(program.output(&["runs", "approve", "last", "--deny"]).code, 0);
    assert_eq!(program.output(&["runs", "resume", "last"]).code, 3, "refused");
    assert_eq!(program.file("b"), None);
    let outside = call(&program, "file.read", json!({"path": "../home/config/homarus.toml"}), &["--approvals", "auto"]);
    assert_eq!(outside.code, 1, "{outside:?}");
    program.verify();
}

#[test]
fn killed_it_is_gone_on_with() {
    let program = program();
    let command = "test -e go && echo went on || sleep 60";
    let arguments = json!({ "command": command }).to_string();
    let mut child =
        program.bare_command(&["tools", "call", "shell.execute", &arguments, "--approvals", "auto"]).spawn().unwrap();
    for _ in 0..1_000 {
        if program.output(&["runs", "log", "last"]).stdout.contains("act_intent") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    program.wait_until_unowned();
    // Later work brings it to rest in passing and is not hindered by it.
    let later = call(&program, "file.read", json!({"path": "seed.txt"}), &[]);
    assert_eq!(later.code, 0, "{later:?}");
    assert!(later.stderr.contains("was interrupted earlier"), "{later:?}");
    let rows: Value = serde_json::from_str(&program.output(&["runs", "list", "--json"]).stdout).unwrap();
    let run = rows["runs"].as_array().unwrap().iter().find(|row| row["status"] == "paused").unwrap()["run"].clone();
    fs::write(program.workspace.join("go"), "").unwrap();
    let done = program.output(&["runs", "resume", run.as_str().unwrap()]);
    assert_eq!(done.code, 0, "{done:?}");
    program.verify();
}

#[test]
fn what_cannot_be_done_is_an_error_that_says_what_to_do() {
    let program = program();
    fs::write(program.workspace.join("data.bin"), b"ab\0cd").unwrap();
    File::create(program.workspace.join("sparse.log")).unwrap().set_len(2 << 30).unwrap();
    fs::write(program.workspace.join("notes.txt"), "port = 80\nport = 80\n").unwrap();
    let shell = "x".repeat(33 * 1024);
    for (tool, arguments, words) in [
        ("file.read", json!({}), "missing field `path`"),
        ("file.read", json!({"path": 5}), "Send for example"),
        ("file.read", json!({"path": "a", "lines": "many"}), "Send for example"),
        ("file.read", json!({"path": "a", "mode": "r"}), "unknown field `mode`"),
        ("file.read", json!([1]), "Send for example"),
        ("file.read", json!({"path": "sed.txt"}), "Did you mean seed.txt?"),
        ("file.read", json!({"path": "data.bin"}), "binary file of 5 bytes"),
        ("file.read", json!({"path": "sparse.log"}), "binary file of 2147483648 bytes"),
        ("file.read", json!({"path": "."}), "is a folder. List it with file.list"),
        ("file.read", json!({"path": "../x"}), "outside the workspace"),
        ("file.edit", json!({"path": "notes.txt", "old": "prot = 80", "new": "x"}), "Copy the text to replace exactly"),
        ("file.edit", json!({"path": "notes.txt", "old": "port = 80", "new": "x"}), "Nothing was changed"),
        ("file.edit", json!({"path": "sparse.log", "old": "a", "new": "b"}), "not a text file that can be edited"),
        ("file.edit", json!({"path": "data.bin", "old": "ab", "new": "b"}), "data.bin is a binary file"),
        ("file.edit", json!({"path": "none.txt", "old": "a", "new": "b"}), "There is no file none.txt"),
        ("file.write", json!({"path": "/etc/x", "content": ""}), "outside the workspace"),
        ("file.write", json!({"path": "a\nb", "content": ""}), "holds a control character"),
        ("file.write", json!({"path": ".cargo/config.toml", "content": "x\n"}), "Not kept: .cargo/config.toml: "),
        ("file.write", json!({"path": ".bashrc", "content": "x\n"}), "Not kept: .bashrc: "),
        ("file.write", json!({"path": "d/.git/info/attributes", "content": "x\n"}), "Not kept: d/.git/info/"),
        ("file.write", json!({"path": ".", "content": ""}), "The path names no file. Send for example"),
        ("file.list", json!({"path": "seed.txt"}), "is a file. Read it with file.read"),
        ("file.list", json!({"path": "nowhere"}), "There is no folder nowhere"),
        ("file.search", json!({"pattern": ""}), "1 to 4096 characters"),
        ("file.search", json!({"pattern": "x", "path": "nowhere"}), "There is no file nowhere"),
        ("shell.execute", json!({"command": " "}), "1 to 32768 bytes"),
        ("shell.execute", json!({ "command": shell }), "1 to 32768 bytes"),
    ] {
        let done = call(&program, tool, arguments.clone(), &["--approvals", "auto", "--json"]);
        let response: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
        let text = response["text"].as_str().unwrap_or_default();
        assert!(text.contains(words), "{tool} {arguments}: {text}");
        assert_eq!((done.code, response["status"].as_str()), (1, Some("failed")), "{tool} {arguments}: {text}");
    }
    let found = call(&program, "file.search", json!({"pattern": "port"}), &[]);
    assert!(
        found.stdout.contains("notes.txt: 2") && found.stdout.contains("Left out: sparse.log (larger than 64 MiB)")
    );
    assert_eq!(program.file("notes.txt").as_deref(), Some("port = 80\nport = 80\n"));
}

#[test]
fn the_longest_command_is_one_that_rules_can_judge() {
    let program = program();
    let command = format!("echo {}", "x".repeat(32 * 1024 - 5));
    let done = call(&program, "shell.execute", json!({ "command": command }), &["--approvals", "auto", "--json"]);
    let response: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((done.code, response["status"].as_str()), (0, Some("completed")), "{}", response["summary"]);
}

#[test]
fn an_agent_remembers_what_it_noted_and_calls_only_its_own_tools() {
    let program = program();
    for (name, template) in [("ada", "researcher"), ("quick", "quick")] {
        let done = program.output(&["agents", "create", name, "--template", template]);
        assert_eq!(done.code, 0, "{done:?}");
    }
    let note = json!({"note": "The user prefers tabs."});
    let done = call(&program, "memory.note", note.clone(), &["--agent", "ada"]);
    assert_eq!(done.code, 3, "what every later run is told is not written unasked: {done:?}");
    let done = call(&program, "memory.note", note.clone(), &["--agent", "ada", "--approvals", "auto"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.stdout, "Noted: The user prefers tabs.\n");
    let event = program.events().into_iter().find(|event| event["kind"] == "act_intent").unwrap();
    assert!(event["class"] == "keyed" && event["key"].is_string(), "{event}");
    let done = call(&program, "memory.note", note.clone(), &["--agent", "ada", "--approvals", "auto"]);
    assert!(done.stdout.contains("in the memory already"), "{done:?}");
    let memory = fs::read_to_string(find(&program.home, "MEMORY.md", "ada")).unwrap();
    assert_eq!(memory.matches("- The user prefers tabs. <!-- ").count(), 1, "{memory}");
    for (args, words) in [
        (vec!["--agent", "quick"], "the agent's `tools` leave it out"),
        (vec![], "only a run of an agent has a memory"),
    ] {
        let done = call(&program, "memory.note", note.clone(), &args);
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.stderr.contains(words), "{done:?}");
    }
    let list = |args: &[&str]| -> Value {
        let done = program.output(&[&["tools", "list", "--json"], args].concat());
        serde_json::from_str(&done.stdout).unwrap()
    };
    let offered = |list: &Value| -> Vec<String> {
        let tools = list["tools"].as_array().unwrap().iter();
        tools.filter(|tool| tool["offered"] == true).map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(offered(&list(&["--agent", "quick"])), ["file.search", "file.read", "file.list"]);
    assert!(offered(&list(&["--agent", "ada"])).contains(&"memory.note".to_owned()));
    assert!(!offered(&list(&[])).contains(&"memory.note".to_owned()));
}

/// The file of this name below a folder, on a path that names `part`.
fn find(folder: &std::path::Path, name: &str, part: &str) -> std::path::PathBuf {
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.ends_with(name) && path.components().any(|component| component.as_os_str() == part) {
                return path;
            }
        }
    }
    panic!("no {name} of {part}");
}

#[test]
fn a_page_is_fetched_by_hand_too() {
    let program = program();
    let site = Site::new(|_| page("text/html", "<h1>Head</h1>"));
    let rules = program.home.parent().unwrap().join("rules.toml");
    fs::write(&rules, format!("[[rule]]\neffect='allow'\nmatch='net:connect:{}'\n", site.address)).unwrap();
    let url = json!({"url": site.url("/")});
    let done = call(&program, "http.request", url.clone(), &["--policy", rules.to_str().unwrap()]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("\n# Head\noutside "), "{done:?}");
    assert_eq!(call(&program, "http.request", url, &[]).code, 3);
    assert_eq!(site.requests().len(), 1);
}

#[test]
fn tools_are_shown_and_mistyped_ones_suggested() {
    let program = program();
    let done = program.output(&["tools", "show", "file.read", "--json"]);
    let tool: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(tool["class"], "read");
    assert_eq!(tool["schema"]["required"], json!(["path"]));
    let done = program.output(&["tools", "show", "file.raed"]);
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("did you mean file.read?"), "{done:?}");
    let done = call(&program, "file.raed", json!({}), &["--json"]);
    assert_eq!(done.code, 2);
    assert!(format!("{}{}", done.stdout, done.stderr).contains("did you mean file.read?"), "{done:?}");
    let runs: Value = serde_json::from_str(&program.output(&["runs", "list", "--json"]).stdout).unwrap();
    assert_eq!(runs["runs"], json!([]), "nothing was started");
}
