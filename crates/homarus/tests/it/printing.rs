//! What is printed: text of models and servers moves no cursor, and nothing is followed for a reader that has gone.

use std::io::{BufRead, BufReader};

use homarus_test_kit::{Script, Turn};
use serde_json::json;

use crate::program::Program;

/// Whether a terminal would do more than show it.
fn acts(text: &str) -> bool {
    text.contains(['\x1b', '\x07', '\r', '\u{202e}'])
}

#[test]
fn names_that_a_server_made_up_are_only_shown() {
    let models = ["good", "evil\x1b[2J\x1b]0;title\x07\r\u{202e}"].map(str::to_owned).to_vec();
    let program = Program::with_script(Script { models, ..Script::new(Vec::new()) });
    let done = program.output(&["models", "list"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("openai/good\n") && done.stdout.contains("openai/evil␛[2J"), "{done:?}");
    assert!(!acts(&done.stdout), "{done:?}");
}

#[test]
fn an_answer_repeats_what_was_asked_without_the_tricks_in_it() {
    let turns = || vec![Turn::call("file.write", json!({"path": "a\u{202e}txt.sh", "content": "x\n"}))];
    for flag in [None, Some("--deny")] {
        let program = Program::with_turns(turns());
        assert_eq!(program.output(&["run", "do it", "--approvals", "ask"]).code, 4);
        let mut args = vec!["runs", "approve", "last"];
        args.extend(flag);
        let done = program.output(&args);
        assert_eq!(done.code, 0, "{done:?}");
        assert!(done.stdout.contains("a\u{fffd}txt.sh") && !acts(&done.stdout), "{done:?}");
    }
}

/// `homarus runs log --follow ... | head -1`: it would hold the journal's format until the run ends.
#[test]
fn a_log_is_not_followed_for_a_reader_that_has_gone() {
    let program = Program::with_turns(vec![Turn::call("file.write", json!({"path": "a.txt", "content": "x\n"}))]);
    assert_eq!(program.output(&["run", "do it", "--approvals", "ask"]).code, 4);
    // In the middle, and after all there was to print: then it rests and looks for more.
    for last in ["accepted", "waiting"] {
        let mut child = program.command(&["runs", "log", "last", "--follow", "--json"]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains(&format!("\"kind\":\"{last}\"")) {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it ended before {last}");
        }
        drop(lines);
        assert_eq!(child.wait().unwrap().code(), Some(0), "{last}");
    }
}
