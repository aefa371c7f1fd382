//! Undoing, undoing that, and what stands in the way; and the diff of a run.

use std::os::unix::fs::PermissionsExt;

use homarus_test_kit::Turn;
use serde_json::{Value, json};

use crate::program::{Done, Program};

fn shell(command: &str) -> Turn {
    Turn::call("shell.execute", json!({ "command": command }))
}

fn run(program: &Program) -> String {
    let done = program.output(&["run", "do it", "--approvals", "auto", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    done.json_lines().last().unwrap()["run_id"].as_str().unwrap().to_owned()
}

/// The paths of `conflicts` or `refused`.
fn paths_of(response: &Value, list: &str) -> Vec<String> {
    response[list].as_array().unwrap().iter().map(|note| note["path"].as_str().unwrap().to_owned()).collect()
}

/// What a dry run says, which changes nothing and ends well.
fn foreseen(program: &Program) -> Value {
    let before = picture(program);
    let dry = program.output(&["undo", "--dry-run", "--json"]);
    assert_eq!((dry.code, picture(program)), (0, before), "{dry:?}");
    json_of(&dry)
}

fn json_of(done: &Done) -> Value {
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

/// Every path under the workspace: what it is, its mode, its content or where it leads.
fn picture(program: &Program) -> Vec<String> {
    let mut all = Vec::new();
    let mut folders = vec![program.workspace.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            let meta = path.symlink_metadata().unwrap();
            let mode = meta.permissions().mode() & 0o777;
            let name = path.strip_prefix(&program.workspace).unwrap().display().to_string();
            all.push(if meta.is_symlink() {
                format!("{name} -> {}", std::fs::read_link(&path).unwrap().display())
            } else if meta.is_dir() {
                folders.push(path);
                format!("{name}/ {mode:o}")
            } else {
                format!("{name} {mode:o} {:?}", String::from_utf8_lossy(&std::fs::read(&path).unwrap()))
            });
        }
    }
    all.sort();
    all
}

const MANY: &str = "set -e; echo more >> seed.txt; rm gone; mv old-name new-name; mkdir -p empty sub/x; echo c > sub/x/c; \
    rm -r dir; ln -sfn seed.txt link; chmod 755 tool; rm swap; mkdir swap; echo in > swap/in; rm -r flat; echo flat > flat; rm -r void";

fn many_kinds(program: &Program) {
    for (path, text) in [
        ("gone", "x"),
        ("old-name", "moved"),
        ("dir/a", "a"),
        ("dir/deep/b", "b"),
        ("swap", "file"),
        ("tool", "#!"),
        ("flat/x", "y"),
    ] {
        let path = program.workspace.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    std::fs::create_dir(program.workspace.join("void")).unwrap();
    std::os::unix::fs::symlink("gone", program.workspace.join("link")).unwrap();
}

#[test]
fn every_kind_of_change_is_undone_and_that_too() {
    let program = Program::with_turns(vec![
        shell(MANY),
        shell("echo second > second; echo again >> seed.txt"),
        Turn::text("Done."),
        Turn::text("Done."),
    ]);
    many_kinds(&program);
    let before = picture(&program);
    let id = run(&program);
    let after = picture(&program);
    assert_ne!(before, after);

    let dry = program.output(&["undo", "--dry-run"]);
    assert_eq!(dry.code, 0, "{dry:?}");
    assert!(dry.stdout.contains("-more\n") && dry.stdout.contains("paths would be undone"), "{}", dry.stdout);
    assert_eq!(picture(&program), after, "a dry run changes nothing");

    let undone = program.output(&["undo", "--yes", "--json"]);
    assert_eq!(undone.code, 0, "{undone:?}");
    let undone = json_of(&undone);
    assert_eq!((undone["run"].as_str(), undone["status"].as_str()), (Some(id.as_str()), Some("completed")));
    assert_eq!(picture(&program), before);
    // Again: there is nothing left, by name or without.
    let again = program.output(&["undo", &id, "--yes"]);
    assert_eq!((again.code, again.stdout.trim()), (0, "Nothing is left to undo."), "{again:?}");
    assert_eq!(program.output(&["undo", "--yes"]).code, 1);

    // Undo of the undo, and undo of that.
    let undo_run = undone["undo_run"].as_str().unwrap();
    let redone = json_of(&program.output(&["undo", undo_run, "--yes", "--json"]));
    assert_eq!(redone["status"], "completed", "{redone}");
    assert_eq!(picture(&program), after);
    let redo_run = redone["undo_run"].as_str().unwrap();
    assert_eq!(program.output(&["undo", redo_run, "--yes"]).code, 0);
    assert_eq!(picture(&program), before);
    assert_eq!(program.output(&["undo", redo_run, "--yes"]).stdout.trim(), "Nothing is left to undo.");
    program.verify();
}

#[test]
fn a_step_and_what_came_after_it_can_be_undone_alone() {
    let program = Program::with_turns(vec![
        shell("echo 1 > a; echo 1 > b"),
        shell("echo 2 > a"),
        shell("echo 3 > a; rm b; echo 3 > c"),
        Turn::text("Done."),
        Turn::text("Done."),
    ]);
    let id = run(&program);
    let state = || ["a", "b", "c"].map(|path| program.file(path));
    let owned = |text: &str| Some(text.to_owned());
    assert_eq!(program.output(&["undo", &format!("{id}:3"), "--yes"]).code, 0);
    assert_eq!(state(), [owned("2\n"), owned("1\n"), None]);
    // The rest goes back past what was undone already.
    assert_eq!(program.output(&["undo", &format!("{id}:2"), "--yes"]).code, 0);
    assert_eq!(state(), [owned("1\n"), owned("1\n"), None]);
    assert_eq!(program.output(&["undo", "--yes"]).code, 0);
    assert_eq!(state(), [None, None, None]);
    for bad in ["0", "9", "x"] {
        assert_eq!(program.output(&["undo", &format!("{id}:{bad}"), "--yes"]).code, 2, "{bad}");
    }
    program.verify();
}

#[test]
fn what_was_changed_since_stays_and_the_rest_is_undone() {
    let program = Program::with_turns(vec![
        shell("echo agent >> seed.txt; echo x > made; echo y > other"),
        Turn::text("Done."),
        Turn::text("Done."),
    ]);
    run(&program);
    std::fs::write(program.workspace.join("seed.txt"), "mine\n").unwrap();
    std::fs::write(program.workspace.join("made"), "mine too\n").unwrap();
    let dry = foreseen(&program);
    assert_eq!(dry["summary"], "1 path would be undone. Not undone: 2 that were changed since, 0 that cannot be.");
    let text = program.output(&["undo", "--dry-run"]).stdout;
    assert!(text.contains("made: was changed since, and stays") && !text.contains("mine"), "{text}");
    let undone = program.output(&["undo", "--yes", "--json"]);
    assert_eq!(undone.code, 1, "{undone:?}");
    let undone = json_of(&undone);
    for list in ["conflicts", "refused"] {
        assert_eq!(paths_of(&dry, list), paths_of(&undone, list), "{dry}");
    }
    assert_eq!(undone["undone"], json!(["other"]), "{undone}");
    let conflicts: Vec<_> =
        undone["conflicts"].as_array().unwrap().iter().map(|note| note["path"].as_str().unwrap()).collect();
    assert_eq!(conflicts, ["made", "seed.txt"]);
    assert_eq!(program.file("seed.txt").as_deref(), Some("mine\n"));
    assert_eq!(program.file("made").as_deref(), Some("mine too\n"));
    assert_eq!(program.file("other"), None);
    let kept = undone["conflicts"][1]["note"].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "seed\n", "the older version is kept apart");
    program.verify();
}

#[test]
fn a_file_too_large_to_keep_is_named_and_the_rest_is_undone() {
    let program = Program::with_turns(vec![
        shell("echo small > big; echo small > seed.txt; rm -f huge"),
        Turn::text("Done."),
        Turn::text("Done."),
    ]);
    std::fs::create_dir_all(program.home.join("config")).unwrap();
    std::fs::write(program.home.join("config/homarus.toml"), "[undo]\nfile_mb = 1\n").unwrap();
    std::fs::write(program.workspace.join("big"), "x".repeat(1 << 20)).unwrap();
    std::fs::write(program.workspace.join("huge"), "x".repeat((1 << 20) + 1)).unwrap();
    run(&program);
    let dry = foreseen(&program);
    assert_eq!(dry["summary"], "2 paths would be undone. Not undone: 0 that were changed since, 1 that cannot be.");
    let undone = program.output(&["undo", "--yes", "--json"]);
    assert_eq!(undone.code, 1, "{undone:?}");
    let undone = json_of(&undone);
    assert_eq!((&dry["conflicts"], &dry["refused"]), (&undone["conflicts"], &undone["refused"]));
    assert_eq!(undone["undone"], json!(["big", "seed.txt"]), "{undone}");
    assert_eq!(undone["refused"][0]["path"], "huge");
    assert!(undone["refused"][0]["note"].as_str().unwrap().contains("not kept"), "{undone}");
    assert_eq!(program.file("big").unwrap().len(), 1 << 20);
    assert_eq!(program.file("seed.txt").as_deref(), Some("seed\n"));
    assert_eq!(program.file("huge"), None);
}

#[test]
fn nobody_is_asked_without_a_terminal_and_another_process_may_answer() {
    let program = Program::with_turns(vec![shell("echo x >> seed.txt"), Turn::text("Done."), Turn::text("Done.")]);
    run(&program);
    assert_eq!(program.output(&["undo"]).code, 2);
    assert_eq!(program.file("seed.txt").as_deref(), Some("seed\nx\n"));
    for (deny, code, expected) in [(true, 3, "seed\nx\n"), (false, 0, "seed\n")] {
        let mut running = program.spawn(&["undo", "--approvals-from", "cli"]);
        let question = loop {
            let show = program.show();
            if show["question"].is_object() {
                break show["question"].clone();
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        };
        assert!(question["diff"].as_str().unwrap().contains("-x\n"), "{question}");
        let mut args = vec!["runs", "approve", "last", "--why", "\x1b[2Jseen"];
        args.extend(deny.then_some("--deny"));
        assert_eq!(program.output(&args).code, 0);
        let done = running.finish();
        assert_eq!(done.code, code, "{done:?}");
        assert!(!done.stdout.contains('\x1b') && done.stdout.contains("␛[2Jseen") == deny, "{done:?}");
        assert_eq!(program.file("seed.txt").as_deref(), Some(expected));
    }
}

#[test]
fn a_request_that_reads_like_an_undo_run_is_none() {
    let program = Program::with_turns(vec![
        shell("echo x > a"),
        Turn::text("Done."),
        Turn::text("Done."),
        shell("echo y > a"),
        Turn::text("Done."),
    ]);
    let id = run(&program);
    let request = format!("undo {id}:0 up to c9.0");
    // The script ends before this run does: it has changed the file by then.
    program.output(&["run", &request, "--approvals", "auto", "--steps-max", "2"]);
    assert_eq!(program.file("a").as_deref(), Some("y\n"));
    // It is undone like any other, and first, as the newest.
    let undone = json_of(&program.output(&["undo", "--yes", "--json"]));
    assert_ne!(undone["run"], id.as_str(), "{undone}");
    assert_eq!(program.file("a").as_deref(), Some("x\n"));
    let diff = json_of(&program.output(&["undo", &id, "--dry-run", "--json"]));
    assert!(diff["summary"].as_str().unwrap().starts_with("1 path "), "{diff}");
}

#[test]
fn a_run_and_its_steps_show_what_they_changed() {
    let program = Program::with_turns(vec![
        shell("echo two >> seed.txt; echo 1 > a; head -c 10 /dev/zero > zeros"),
        shell("echo three >> seed.txt; rm a"),
        Turn::text("Done."),
        Turn::text("Done."),
    ]);
    let id = run(&program);
    let all = json_of(&program.output(&["runs", "diff", &id, "--json"]));
    let paths: Vec<_> = all["paths"].as_array().unwrap().iter().map(|path| path["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["seed.txt", "zeros"], "what came and went is not shown");
    assert_eq!((all["added"].as_u64(), all["removed"].as_u64()), (Some(2), Some(0)), "{all}");
    assert!(
        all["paths"][1]["added"].is_null() && all["paths"][1]["diff"].as_str().unwrap().contains("10 bytes"),
        "{all}"
    );
    let first = program.output(&["runs", "diff", &format!("{id}:1")]);
    assert!(first.stdout.contains("+two\n") && !first.stdout.contains("three"), "{first:?}");
    assert!(first.stdout.contains("--- /dev/null\n+++ b/a\n"), "{first:?}");
    let stat = program.output(&["runs", "diff", "last", "--stat"]);
    assert!(stat.stdout.contains(" seed.txt | changed | +2 -0\n"), "{stat:?}");
    assert!(stat.stdout.ends_with("2 paths changed, 2 lines added, 0 lines removed\n"), "{stat:?}");
    // From the journal alone.
    std::fs::remove_file(program.workspace.join("seed.txt")).unwrap();
    assert_eq!(json_of(&program.output(&["runs", "diff", &id, "--json"])), all);
    assert_eq!(program.output(&["runs", "diff", &format!("{id}:7")]).code, 2);
}

#[test]
fn declared_cache_paths_are_written_directly_and_never_through_a_link() {
    let program = Program::with_turns(vec![
        shell("echo built > target/out; echo x > linked/out; echo src > src"),
        Turn::text("Done."),
        Turn::text("Done."),
    ]);
    std::fs::create_dir_all(program.home.join("config")).unwrap();
    let config = "[sandbox]\ncache_paths = [\"target\", \"linked\", \"missing\"]\n";
    std::fs::write(program.home.join("config/homarus.toml"), config).unwrap();
    let outside = program.home.join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::create_dir(program.workspace.join("target")).unwrap();
    std::os::unix::fs::symlink(&outside, program.workspace.join("linked")).unwrap();
    let id = run(&program);
    assert_eq!(program.file("target/out").as_deref(), Some("built\n"));
    assert!(!outside.join("out").exists(), "a link is no cache path");
    let diff = json_of(&program.output(&["runs", "diff", &id, "--json"]));
    let paths: Vec<_> = diff["paths"].as_array().unwrap().iter().map(|path| path["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["src"], "what is written directly is not journalled");
    std::fs::write(program.home.join("config/homarus.toml"), "[sandbox]\ncache_paths = [\".git/hooks\"]\n").unwrap();
    assert_eq!(program.output(&["run", "x"]).code, 2);
}
