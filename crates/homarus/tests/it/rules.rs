//! Rules of reading against the calls that could read around them.

use homarus_test_kit::Turn;
use serde_json::json;

use crate::program::Program;

const RULES: &str = r#"
[[rule]]
effect = "deny"
match = ["file:read:./private/**", "file:read:./shut.txt"]
reason = "private means private"

[[rule]]
effect = "ask"
match = "file:read:./asked/**"
reason = "ask about these"
"#;

/// Runs one call in a workspace where `the word` stands in an open, a denied and an asked file. Gives what
/// the model was sent in the first place, and what it was told of the call.
fn told(call: Turn) -> (String, String) {
    let program = Program::with_turns(vec![call, Turn::text("Done.")]);
    for folder in ["private/deep", "asked"] {
        std::fs::create_dir_all(program.workspace.join(folder)).unwrap();
    }
    for file in ["open.txt", "shut.txt", "private/one", "private/deep/hidden-name", "asked/three"] {
        std::fs::write(program.workspace.join(file), format!("the word of {file}\n")).unwrap();
    }
    std::os::unix::fs::symlink("private", program.workspace.join("way")).unwrap();
    let rules = program.home.parent().unwrap().join("rules.toml");
    std::fs::write(&rules, RULES).unwrap();
    program.output(&["run", "do it", "--policy", rules.to_str().unwrap()]);
    let calls = program.server.model_calls();
    let tool = calls[1].body["messages"].as_array().unwrap().iter().find(|message| message["role"] == "tool");
    (calls[0].body["messages"].to_string(), tool.unwrap()["content"].to_string())
}

const SECRETS: [&str; 4] = ["word of shut", "word of private", "word of asked", "hidden-name"];

#[track_caller]
fn no_secret_in(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret:?} was told: {text}");
    }
}

#[test]
fn a_search_of_a_folder_reads_no_file_that_may_not_be_read() {
    let (first, last) = told(Turn::call("file.search", json!({"pattern": "word"})));
    assert!(first.contains("the word of open.txt"), "small files are in the first message: {first}");
    no_secret_in(&first);
    assert!(last.contains("open.txt:1: the word of open.txt"), "{last}");
    no_secret_in(&last);
    assert!(last.contains("shut.txt (the rules do not let you read it unasked)"), "{last}");
}

#[test]
fn a_search_of_what_is_denied_is_denied_also_through_a_link() {
    for path in ["private/deep", "shut.txt", "way", "way/deep", "private/../private/one", "asked"] {
        let (_, last) = told(Turn::call("file.search", json!({"pattern": "word", "path": path})));
        no_secret_in(&last);
    }
}

#[test]
fn a_listing_names_nothing_in_a_folder_that_may_not_be_read() {
    for path in [".", "private", "way"] {
        let (first, last) = told(Turn::call("file.list", json!({"path": path})));
        no_secret_in(&first);
        no_secret_in(&last);
    }
}
