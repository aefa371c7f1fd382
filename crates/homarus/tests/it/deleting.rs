//! Runs that are deleted, by hand and by age.

use std::fs;

use homarus_test_kit::Turn;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::program::Program;

/// Runs that have ended, oldest first; each leaves its own file behind.
fn ended(names: &[&str]) -> (Program, Vec<String>) {
    ended_of(names, names.len())
}

/// Only so many of them.
fn ended_of(names: &[&str], count: usize) -> (Program, Vec<String>) {
    let turns = |name: &&str| {
        let command = format!("echo only-in-{name} > {name}.txt");
        [Turn::call("shell.execute", json!({ "command": command })), Turn::text("done"), Turn::text("looked: done")]
    };
    let program = Program::with_turns(names.iter().flat_map(turns).collect());
    let run = |name: &&str| {
        let done = program.output(&["run", &format!("make {name}"), "--approvals", "auto", "--json"]);
        assert_eq!(done.code, 0, "{done:?}");
        done.json_lines().last().unwrap()["run_id"].as_str().unwrap().to_owned()
    };
    let runs = names.iter().take(count).map(run).collect();
    (program, runs)
}

fn listed(program: &Program) -> Vec<String> {
    let done = program.output(&["runs", "list", "--json"]);
    let response: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    response["runs"].as_array().unwrap().iter().map(|row| row["run"].as_str().unwrap().to_owned()).collect()
}

fn json_of(program: &Program, args: &[&str]) -> Value {
    let done = program.output(args);
    assert_eq!(done.code, 0, "{done:?}");
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

/// As if its last event had come so many days ago.
fn is_older(program: &Program, run: &str, days: i64) {
    let connection = Connection::open(program.home.join("state/journal.db")).unwrap();
    let older = "UPDATE runs SET updated_ms = updated_ms - ?2 * 86400000 WHERE run = ?1";
    assert_eq!(connection.execute(older, (run, days)).unwrap(), 1);
}

#[test]
fn a_run_is_deleted_for_good() {
    let (program, runs) = ended(&["one", "two"]);
    let state = program.home.join("state");
    for run in &runs {
        fs::create_dir_all(state.join("conflicts").join(run).join("c1.0")).unwrap();
    }
    let asked = program.output(&["runs", "delete", &runs[0]]);
    assert_eq!(asked.code, 2, "{asked:?}");
    assert!(asked.stderr.contains("--yes") && asked.stderr.contains("make one"), "{asked:?}");
    assert_eq!(listed(&program).len(), 2);

    let response = json_of(&program, &["runs", "delete", &runs[0], &runs[0], "--yes", "--json"]);
    assert_eq!(response["runs"], json!([runs[0]]));
    assert!(response["blobs"].as_u64().unwrap() > 0, "{response}");
    assert_eq!(listed(&program), runs[1..]);
    program.verify();
    assert!(!state.join("conflicts").join(&runs[0]).exists() && state.join("conflicts").join(&runs[1]).exists());
    assert_eq!(program.file("one.txt").as_deref(), Some("only-in-one\n"), "the workspace is not the journal");

    for args in [["runs", "show"], ["runs", "log"], ["runs", "delete"], ["runs", "verify"], ["runs", "resume"]] {
        let done = program.output(&[args[0], args[1], &runs[0]]);
        assert_eq!(done.code, 1, "{args:?}: {done:?}");
        assert!(
            done.stderr.contains("was deleted by cli:") && done.stderr.contains("cause: on 20"),
            "{args:?}: {done:?}"
        );
    }
    // What the other did is still known whole.
    let undone = program.output(&["undo", &runs[1], "--yes"]);
    assert_eq!((undone.code, program.file("two.txt")), (0, None), "{undone:?}");
}

#[test]
fn what_is_not_over_is_not_deleted() {
    // The second has a script for a run, and rests before its call.
    let (program, runs) = ended_of(&["one", "two"], 1);
    let waiting = program.output(&["run", "make two", "--approvals", "ask"]);
    assert_eq!(waiting.code, 4, "{waiting:?}");
    let open = listed(&program).into_iter().find(|run| *run != runs[0]).unwrap();
    let refused = program.output(&["runs", "delete", &runs[0], &open, "--yes"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("has not ended") && refused.stderr.contains("runs cancel"), "{refused:?}");
    assert_eq!(listed(&program).len(), 2, "not the one before it either");
    is_older(&program, &open, 400);
    let response = json_of(&program, &["runs", "prune", "--older-than", "30", "--yes", "--json"]);
    assert_eq!(response["runs"], json!([]));
}

#[test]
fn old_runs_are_pruned() {
    let (program, runs) = ended(&["one", "two", "three"]);
    is_older(&program, &runs[0], 40);
    is_older(&program, &runs[1], 20);
    let forever = program.output(&["runs", "prune", "--yes"]);
    assert_eq!(forever.code, 2, "{forever:?}");
    assert!(forever.stderr.contains("runs.keep_days") && forever.stderr.contains("--older-than"), "{forever:?}");

    let set = program.output(&["config", "set", "runs.keep_days", "30"]);
    assert_eq!(set.code, 0, "{set:?}");
    let foreseen = json_of(&program, &["runs", "prune", "--dry-run", "--json"]);
    assert_eq!(foreseen, json!({"days": 30, "dry_run": true, "runs": [runs[0]], "blobs": 0, "bytes": 0}));
    assert_eq!(listed(&program).len(), 3, "nothing yet");
    let asked = program.output(&["runs", "prune"]);
    assert_eq!(asked.code, 2, "{asked:?}");
    let response = json_of(&program, &["runs", "prune", "--yes", "--json"]);
    assert_eq!(response["runs"], json!([runs[0]]));
    let shorter = program.output(&["runs", "prune", "--older-than", "10", "--yes"]);
    assert_eq!(shorter.code, 0, "{shorter:?}");
    assert!(shorter.stdout.starts_with("1 run is deleted, and "), "{shorter:?}");
    assert_eq!(listed(&program), runs[2..]);
    program.verify();
    // As one leaves it that was killed between the two: no event names this any more.
    let connection = Connection::open(program.home.join("state/journal.db")).unwrap();
    let left = homarus_contract::ids::Hash::of(b"left");
    connection
        .execute("INSERT INTO blobs (hash, bytes) VALUES (?1, ?2)", (&left.as_bytes()[..], &b"left"[..]))
        .unwrap();
    drop(connection);
    let swept = json_of(&program, &["runs", "prune", "--json"]);
    assert_eq!(
        swept,
        json!({"days": 30, "dry_run": false, "runs": [], "blobs": 1, "bytes": 4}),
        "nobody is asked where no run goes"
    );
    let none = program.output(&["runs", "prune", "--yes"]);
    assert!(none.code == 0 && none.stdout.starts_with("0 runs are deleted"), "{none:?}");
}
