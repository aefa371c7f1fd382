//! Two versions of the program on one state folder.

use std::{collections::BTreeMap, fs, path::Path};

use homarus_test_kit::Turn;
use nix::fcntl::{Flock, FlockArg};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::program::{Done, Program};

/// What SQLite makes for whoever looks: an index of its log, and the log, empty.
fn is_of_a_look(path: &Path) -> bool {
    let name = path.to_string_lossy();
    name.ends_with("-shm") || name.ends_with("-wal") && fs::metadata(path).is_ok_and(|log| log.len() == 0)
}

/// Every other file of a folder, by content.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder_of) = folders.pop() {
        for entry in fs::read_dir(&folder_of).unwrap().flatten() {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if !is_of_a_look(&path) {
                all.insert(path.strip_prefix(folder).unwrap().display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    all
}

/// Which of them are not the same in both.
fn differ(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

fn with_a_run() -> Program {
    let turn = Turn::call("shell.execute", json!({ "command": "echo one > one" }));
    let mut turns = vec![turn];
    turns.extend((0..8).map(|_| Turn::text("done")));
    let program = Program::with_turns(turns);
    let done = program.output(&["run", "do it", "--approvals", "auto", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    program
}

/// The format the tables say they have, moved by this much.
fn move_format(program: &Program, by: i64) {
    let sql = Connection::open(program.home.join("state/journal.db")).unwrap();
    // All of them, and in two steps, for no two may be the same in between.
    let moved = format!(
        "UPDATE refinery_schema_history SET version = -1000 - (version + {by});
         UPDATE refinery_schema_history SET version = -1000 - version;"
    );
    sql.execute_batch(&moved).unwrap();
}

fn error_of(done: &Done) -> Value {
    let line = done.stderr.lines().last().unwrap_or_default();
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    value["error"].clone()
}

#[test]
fn a_program_that_is_too_old_says_so_and_writes_nothing() {
    let program = with_a_run();
    move_format(&program, 1);
    let before = files(&program.home.join("state"));
    for args in [
        &["run", "more", "--json"][..],
        &["runs", "list", "--json"],
        &["runs", "log", "last", "--json"],
        &["runs", "resume", "last", "--json"],
        &["runs", "verify", "--json"],
        &["undo", "--yes", "--json"],
    ] {
        let done = program.output(args);
        assert_eq!(done.code, 1, "{args:?}: {done:?}");
        let error = error_of(&done);
        assert!(error["cause"].as_str().unwrap().contains("written by a newer Homarus"), "{args:?}: {error}");
        assert_eq!(error["help"], "update Homarus", "{args:?}");
        assert_eq!(differ(&before, &files(&program.home.join("state"))), Vec::<String>::new(), "{args:?}");
    }
    move_format(&program, -1);
    program.verify();
    assert_eq!(program.output(&["run", "more", "--json"]).code, 0);
}

/// An older program that still works: held are the locks it holds, its own and, as all do now, the format's.
#[test]
fn the_format_is_not_changed_under_a_program_that_works() {
    let program = with_a_run();
    let state = program.home.join("state");
    move_format(&program, -1);
    let before = files(&state);
    let lock = |path: &str, how: FlockArg| {
        let path = state.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap();
        Flock::lock(file, how).map_err(|(_, error)| error).unwrap()
    };
    for (path, how) in
        [("format.lock", FlockArg::LockShared), ("drivers/driver-0123456789abcdef.lock", FlockArg::LockExclusive)]
    {
        let held = lock(path, how);
        let done = program.output(&["run", "more", "--json"]);
        assert_eq!(done.code, 1, "{path}: {done:?}");
        let error = error_of(&done);
        assert!(error["cause"].as_str().unwrap().contains("another Homarus has it open"), "{path}: {error}");
        assert!(error["help"].as_str().unwrap().contains("then try again"), "{path}: {error}");
        drop(held);
        let _ = fs::remove_file(state.join("drivers/driver-0123456789abcdef.lock"));
        assert_eq!(differ(&before, &files(&state)), Vec::<String>::new(), "{path}");
    }
    // Those who only look are told what to do, and change nothing either.
    let look = program.output(&["runs", "list", "--json"]);
    assert_eq!(look.code, 1);
    assert!(error_of(&look)["help"].as_str().unwrap().contains("brings it up to date"), "{look:?}");
    // Alone it would change it; these tables are none of a format before, so that fails, and all stays as it was.
    let failed = program.output(&["run", "more", "--json"]);
    assert_eq!(failed.code, 1);
    let error = error_of(&failed);
    assert!(error["cause"].as_str().unwrap().contains("left as it was"), "{error}");
    let mut after = files(&state);
    let copies: Vec<String> = after.keys().filter(|path| path.starts_with("backups/")).cloned().collect();
    assert_eq!(copies.len(), 1, "{copies:?}");
    after.remove(&copies[0]);
    assert!(after.keys().eq(before.keys()), "{:?}", after.keys());
    move_format(&program, 1);
    program.verify();
    assert_eq!(program.output(&["run", "more", "--json"]).code, 0);
}
