//! A full disk, as a user meets it: the journal's, the workspace's, and the way on.

use homarus_test_kit::Turn;
use serde_json::{Value, json};

use crate::{
    mounts::{apart, small_disk},
    program::Program,
};

fn shell(command: &str) -> Turn {
    Turn::call("shell.execute", json!({ "command": command }))
}

fn error_of(stderr: &str) -> Value {
    let line = stderr.lines().last().unwrap_or_default();
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    value["error"].clone()
}

/// The output of a call does not fit: the run stops with its reason, can still be looked at, and goes on.
#[test]
fn a_run_whose_journal_is_full_stops_and_goes_on() {
    apart(|| {
        let turns = vec![
            shell("echo one > one"),
            shell("head -c 1500000 /dev/urandom | base64; echo two > two"),
            Turn::text("done"),
            Turn::text("done"),
            Turn::text("done"),
            Turn::text("done"),
        ];
        let program = Program::with_turns(turns);
        small_disk(&program.home, c"size=9m,mode=755");
        let ballast = program.home.join("ballast");
        std::fs::write(&ballast, vec![0; 7_400_000]).unwrap();
        let stopped = program.output(&["run", "do it", "--approvals", "auto", "--json"]);
        assert_eq!(stopped.code, 1, "{}", stopped.stderr);
        let error = error_of(&stopped.stderr);
        assert_eq!(error["message"], "the journal cannot be written", "{error}");
        assert!(error["cause"].as_str().unwrap().contains("the disk is full"), "{error}");
        assert!(error["help"].as_str().unwrap().contains("runs resume"), "{error}");
        let shown: Vec<Value> = stopped.json_lines();
        assert!(program.file("two").is_none(), "what was not journalled was not merged");

        // Not a byte of room: it can be looked at.
        let mut rest = std::fs::File::create(program.home.join("rest")).unwrap();
        while std::io::Write::write(&mut rest, &[0; 4096]).is_ok() {}
        let log = program.events();
        for event in shown.iter().filter(|event| event["seq"].is_u64() && event["offset"].is_null()) {
            assert!(
                log.iter().any(|kept| kept["seq"] == event["seq"] && kept["kind"] == event["kind"]),
                "shown, and not there: {event}"
            );
        }
        program.verify();
        for look in [["runs", "list"], ["runs", "show"], ["runs", "diff"]] {
            let args: &[&str] = if look[1] == "list" { &look } else { &[look[0], look[1], "last"] };
            let done = program.output(args);
            assert_eq!(done.code, 0, "{look:?}: {}", done.stderr);
        }

        drop(rest);
        std::fs::remove_file(program.home.join("rest")).unwrap();
        std::fs::remove_file(&ballast).unwrap();
        let done = program.output(&["runs", "resume", "last", "--json"]);
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert_eq!(program.file("two").as_deref(), Some("two\n"));
        assert_eq!(program.file("one").as_deref(), Some("one\n"));
        program.verify();
    });
}

/// The changes of a call do not fit into the workspace: all of them wait, and are merged later.
#[test]
fn a_workspace_without_room_is_not_merged_in_part() {
    apart(|| {
        let write =
            "head -c 300000 /dev/zero > a; mkdir d; head -c 300000 /dev/zero > d/b; head -c 300000 /dev/zero > z";
        // The model is asked again while a merge is under way, so each try may use up an answer.
        let turns = [shell(write)].into_iter().chain((0..10).map(|_| Turn::text("done"))).collect();
        let program = Program::with_turns(turns);
        small_disk(&program.workspace, c"size=1m,mode=755");
        let ballast = program.workspace.join("ballast");
        std::fs::write(&ballast, vec![0; 400_000]).unwrap();
        let names = || {
            let mut names: Vec<_> =
                std::fs::read_dir(&program.workspace).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let run = program.output(&["run", "do it", "--approvals", "auto", "--json"]);
        assert_eq!(run.code, 1, "{run:?}");
        let stopped = run.json_lines()[0]["run_id"].as_str().unwrap().to_owned();
        let error = error_of(&run.stderr);
        assert!(error["message"].as_str().unwrap().contains("could not be merged into the workspace"), "{error}");
        assert!(error["cause"].as_str().unwrap().contains("No space left on device"), "{error}");
        assert!(error["cause"].as_str().unwrap().contains("nothing in it was changed"), "{error}");
        assert_eq!(names(), ["ballast"]);
        assert!(!program.kinds().iter().any(|kind| kind == "merged" || kind == "discarded"), "{:?}", program.kinds());

        let again = program.output(&["runs", "resume", "last", "--json"]);
        assert_eq!(again.code, 1, "{again:?}");
        assert_eq!(names(), ["ballast"]);
        // Another run is not kept from working by it.
        let other = program.output(&["run", "something else", "--no-tools", "--json"]);
        assert_eq!(other.code, 0, "{other:?}");

        std::fs::remove_file(&ballast).unwrap();
        let done = program.output(&["runs", "resume", &stopped, "--json"]);
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert_eq!(names(), ["a", "d", "z"]);
        assert_eq!(std::fs::metadata(program.workspace.join("d/b")).unwrap().len(), 300_000);
        program.verify();
    });
}
