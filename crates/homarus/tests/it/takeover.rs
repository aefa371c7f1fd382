//! Who may go on with a run: after a crash everything is taken over by one command, of several processes that want
//! one run exactly one drives it, and whoever was overtaken changes nothing any more.

use homarus_contract::{
    ids::{Hash, RunId},
    journal::Journal,
};
use homarus_store::Store;
use homarus_test_kit::{Script, Turn, histories::accepted};
use serde_json::{Value, json};

use crate::program::{Program, Running};

const RIVALS: usize = 4;
const ROUNDS: usize = 5;

/// Starts runs that wait for their model, and kills them.
fn interrupted(program: &Program, runs: usize) {
    let mut running: Vec<Running> = (0..runs).map(|_| program.spawn(&["run", "hello", "--json"])).collect();
    program.wait_for_model_calls(runs);
    running.iter_mut().for_each(Running::kill);
    while list(program).iter().any(|row| row["owner_alive"] == true) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn list(program: &Program) -> Vec<Value> {
    let done = program.output(&["runs", "list", "--json"]);
    let list: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    list["runs"].as_array().unwrap().clone()
}

/// The last line of `resume-all --json`.
fn response(stdout: &str) -> Value {
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap_or_default()).unwrap();
    assert_eq!(last["kind"], "all_ended", "{stdout}");
    last
}

fn held(held: usize, then: &str) -> Program {
    let mut turns: Vec<Turn> = (0..held).map(|_| Turn::text("never heard").hold()).collect();
    turns.push(Turn::text(then));
    Program::with_script(Script { repeat_last: true, ..Script::new(turns) })
}

#[test]
fn one_command_goes_on_with_everything_a_crash_interrupted() {
    let program = held(5, "Done.");
    interrupted(&program, 5);
    let done = program.output(&["runs", "resume-all", "--at-once", "2", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    let last = response(&done.stdout);
    assert_eq!((&last["taken"], &last["completed"], &last["busy"]), (&json!(5), &json!(5), &json!(0)), "{last}");
    let lines = done.json_lines();
    assert_eq!(lines[0]["kind"], "all_taken_over", "all are taken over before one is worked on: {}", lines[0]);
    assert_eq!(lines.iter().filter(|line| line["kind"] == "run_ended").count(), 5);
    assert!(list(&program).iter().all(|row| row["status"] == "completed"));
    program.verify();
    let done = program.output(&["runs", "resume-all"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, ""), "nothing is left: {done:?}");
    assert!(done.stderr.contains("took over 0 runs"), "{done:?}");
}

#[test]
fn what_was_stopped_on_purpose_goes_on_only_when_that_is_said() {
    let program = held(2, "Done.");
    interrupted(&program, 1);
    let mut running = program.spawn(&["run", "stop me", "--json"]);
    program.wait_for_model_calls(2);
    running.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(running.finish().code, 130);
    // The second run has brought the first to rest in passing.
    assert!(list(&program).iter().all(|row| row["status"] == "paused"), "{:?}", list(&program));
    assert_eq!(response(&program.output(&["runs", "resume-all", "--json"]).stdout)["taken"], 0);
    assert!(list(&program).iter().all(|row| row["status"] == "paused"));
    let done = program.output(&["runs", "resume-all", "--paused"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.stdout.matches("completed").count(), 2, "{done:?}");
    program.verify();
}

#[test]
fn a_conversation_whose_turn_is_over_has_ended_well() {
    let program = held(1, "Done.");
    let mut running = program.spawn(&["run", "hello", "--conversation", "--json"]);
    program.wait_for_model_calls(1);
    running.kill();
    program.wait_until_unowned();
    let done = program.output(&["runs", "resume-all", "--json"]);
    let last = response(&done.stdout);
    assert_eq!((done.code, &last["completed"], &last["waiting"]), (0, &json!(1), &json!(0)), "{done:?}");
    assert_eq!(program.show()["status"], "waiting", "for the next message");
}

#[test]
fn a_run_that_is_cancelled_meanwhile_is_told_as_cancelled() {
    let program = held(2, "Done.");
    interrupted(&program, 1);
    let mut all = program.spawn(&["runs", "resume-all", "--json"]);
    program.wait_for_model_calls(2);
    assert_eq!(program.output(&["runs", "cancel", "last"]).code, 0);
    let done = all.finish();
    let last = response(&done.stdout);
    assert_eq!((done.code, &last["ended_otherwise"]), (130, &json!(1)), "{done:?}");
}

#[test]
fn a_run_that_cannot_go_on_does_not_keep_the_others_from_it() {
    let program = held(2, "Done.");
    let keys = [("ANTHROPIC_API_KEY", "sk-ant-test"), ("ANTHROPIC_BASE_URL", &program.server.base_url())];
    let mut other = program.command(&["run", "hello", "--json", "--model", "anthropic/scripted"]);
    let mut both = [Running::of(other.envs(keys).spawn().unwrap()), program.spawn(&["run", "hello", "--json"])];
    program.wait_for_model_calls(2);
    both.iter_mut().for_each(Running::kill);
    while list(&program).iter().any(|row| row["owner_alive"] == true) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // The key of one of them is not there any more.
    let done = program.output(&["runs", "resume-all", "--json"]);
    let last = response(&done.stdout);
    assert_eq!((&last["taken"], &last["completed"], &last["failed"]), (&json!(2), &json!(1), &json!(1)), "{done:?}");
    assert!(done.code == 1 && done.stderr.contains("could not go on") && done.stderr.contains("anthropic"), "{done:?}");
    let done = program.command(&["runs", "resume-all"]).envs(keys).output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(list(&program).iter().all(|row| row["status"] == "completed"));
}

#[test]
fn of_several_processes_that_resume_one_run_exactly_one_drives_it() {
    for round in 0..ROUNDS {
        let turns = vec![Turn::text("never heard").hold(), Turn::text("Done.").hold()];
        let program = Program::with_turns(turns);
        interrupted(&program, 1);
        let mut rivals: Vec<Running> =
            (0..RIVALS).map(|_| program.spawn(&["runs", "resume", "last", "--json"])).collect();
        // The winner waits for the model, so the others must give up by themselves.
        program.wait_for_model_calls(2);
        let mut losers = 0;
        while losers < RIVALS - 1 {
            losers = rivals.iter_mut().filter_map(|rival| rival.child.try_wait().unwrap()).count();
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        // One for the dead process's question, one for the winner's.
        program.server.release();
        program.server.release();
        let done: Vec<_> = rivals.iter_mut().map(Running::finish).collect();
        let (winners, losers): (Vec<_>, Vec<_>) = done.iter().partition(|done| done.code == 0);
        assert_eq!(winners.len(), 1, "round {round}: {done:?}");
        for loser in losers {
            assert_eq!(loser.code, 1, "{loser:?}");
            assert!(loser.stderr.contains("is being worked on by another process"), "{loser:?}");
            assert!(!loser.stdout.contains("\"seq\""), "it has done nothing: {loser:?}");
        }
        assert_eq!(program.kinds().iter().filter(|kind| *kind == "taken_over").count(), 1, "{:?}", program.kinds());
        assert_eq!(program.server.model_calls().len(), 2, "the model was asked once more, not by each");
        program.verify();
    }
}

#[test]
fn two_that_take_over_everything_share_it() {
    let program = held(6, "Done.");
    interrupted(&program, 6);
    let mut both: Vec<Running> = (0..2).map(|_| program.spawn(&["runs", "resume-all", "--json"])).collect();
    let done: Vec<_> = both.iter_mut().map(Running::finish).collect();
    let taken: Vec<u64> = done.iter().map(|done| response(&done.stdout)["taken"].as_u64().unwrap()).collect();
    assert_eq!(taken.iter().sum::<u64>(), 6, "{taken:?}");
    assert!(list(&program).iter().all(|row| row["status"] == "completed"));
    assert_eq!(program.server.model_calls().len(), 12, "each run asked once more");
    program.verify();
}

#[test]
fn a_driver_that_stands_still_is_not_taken_for_dead() {
    let program = Program::with_turns(vec![Turn::text("Done at last.").hold()]);
    let mut frozen = program.spawn(&["run", "hello", "--json"]);
    program.wait_for_model_calls(1);
    frozen.signal(nix::sys::signal::Signal::SIGSTOP);
    let done = program.output(&["runs", "resume", "last"]);
    assert!(done.code == 1 && done.stderr.contains("is being worked on by another process"), "{done:?}");
    assert_eq!(response(&program.output(&["runs", "resume-all", "--paused", "--json"]).stdout)["taken"], 0);
    frozen.signal(nix::sys::signal::Signal::SIGCONT);
    program.server.release();
    assert_eq!(frozen.finish().code, 0);
    assert!(!program.kinds().contains(&"taken_over".to_owned()));
}

/// Ownership hangs on a lock file. Whoever takes that away while its driver lives makes two drivers of one run; then
/// the epoch keeps the first from changing anything.
#[test]
fn a_driver_that_was_overtaken_appends_nothing_and_acts_no_more() {
    let write = Turn::call("file.write", json!({"path": "stale.txt", "content": "x"})).hold();
    let program = Program::with_turns(vec![write, Turn::text("Taken over and done.")]);
    let mut stale = program.spawn(&["run", "hello", "--approvals", "auto", "--json"]);
    program.wait_for_model_calls(1);
    for entry in std::fs::read_dir(program.home.join("state/drivers")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let done = program.output(&["runs", "resume", "last"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "Taken over and done.\n"), "{done:?}");
    let before = program.events();
    program.server.release();
    let done = stale.finish();
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("has finished") || done.stderr.contains("belongs to another driver"), "{done:?}");
    assert!(!done.stdout.contains("act_intent"), "{done:?}");
    assert_eq!(program.events(), before, "nothing was appended");
    assert_eq!(program.file("stale.txt"), None);
    program.verify();
}

fn store(program: &Program) -> std::sync::Arc<Store> {
    Store::open(homarus_store::Options::new(program.home.join("state"))).unwrap()
}

fn status_of(program: &Program, run: &str) -> Value {
    list(program).into_iter().find(|row| row["run"] == run).unwrap()["status"].clone()
}

#[test]
fn a_run_that_was_just_killed_is_cancelled_with_all_it_had_begun() {
    let program = held(1, "Done.");
    let mut running = program.spawn(&["run", "hello", "--json"]);
    program.wait_for_model_calls(1);
    running.kill();
    let done = program.output(&["runs", "cancel", "last", "--json"]);
    let response: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    assert_eq!((done.code, &response["ended"]), (0, &json!(true)), "{done:?}");
    let kinds = program.kinds();
    assert_eq!(kinds[kinds.len() - 2..], ["model_result", "finished"], "{kinds:?}");
    let show = program.show();
    assert_eq!(show["status"], "cancelled");
    assert_eq!(show["budget"]["reserved"], json!({"cost": 0, "tokens": 0, "steps": 0}), "{show}");
    assert_eq!(show["cost_known"], false, "nobody knows what the answer cost: {show}");
    assert_eq!(program.output(&["runs", "cancel", "last"]).code, 1, "it has ended");
    program.verify();
}

#[test]
fn what_was_told_to_stop_before_its_driver_died_is_ended_by_whoever_comes_next() {
    let program = held(1, "Done.");
    interrupted(&program, 1);
    let run = list(&program)[0]["run"].as_str().unwrap().to_owned();
    let store = store(&program);
    program.runtime.block_on(store.request_cancel(RunId::parse(run.as_str()).unwrap())).unwrap();
    drop(store);
    let done = program.output(&["run", "hello"]);
    assert!(
        done.code == 0 && done.stderr.contains(&format!("run {run} was interrupted earlier, and is over now")),
        "{done:?}"
    );
    assert_eq!(status_of(&program, &run), "cancelled");
    program.verify();
}

#[test]
fn a_damaged_orphan_keeps_nobody_from_working() {
    let program = held(1, "Done.");
    interrupted(&program, 1);
    let run = list(&program)[0]["run"].as_str().unwrap().to_owned();
    let sql = rusqlite::Connection::open(program.home.join("state/journal.db")).unwrap();
    let flip = "UPDATE events SET body = replace(body, 'hello', 'hollo') WHERE stream = ?1 AND seq = 1";
    assert_eq!(sql.execute(flip, [&run]).unwrap(), 1);
    drop(sql);
    for _ in 0..2 {
        let done = program.output(&["run", "again"]);
        assert!(done.code == 0 && done.stderr.contains("cannot be brought to rest"), "{done:?}");
    }
    let row = list(&program).into_iter().find(|row| row["run"] == run.as_str()).unwrap();
    assert_eq!(row["owner"], Value::Null, "nobody holds it: {row}");
    // A person can have done with it.
    let done = program.output(&["runs", "cancel", &run]);
    assert_eq!(done.code, 0, "{done:?}");
    let done = program.output(&["run", "and again"]);
    assert!(done.code == 0 && !done.stderr.contains("brought to rest"), "{done:?}");
}

#[test]
fn an_orphan_of_another_version_keeps_nobody_from_working() {
    let program = held(0, "Done.");
    let store = store(&program);
    let blob = b"[]".to_vec();
    let mut other = accepted("quilt", "made by another version", false);
    (other.system, other.tools, other.orientation) = (Hash::of(&blob), Hash::of(&blob), Hash::of(&blob));
    other.profile.rules = "default = \"allow\"\n".to_owned();
    let run = other.run.to_string();
    program.runtime.block_on(store.accept(other, vec![blob])).unwrap();
    drop(store);
    while list(&program).iter().any(|row| row["owner_alive"] == true) {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let done = program.output(&["run", "hello"]);
    assert!(done.code == 0 && done.stderr.contains("\"quilt\", which this version does not have"), "{done:?}");
    assert_eq!(status_of(&program, &run), "running");
    assert_eq!(program.output(&["runs", "cancel", &run]).code, 0);
    assert_eq!(status_of(&program, &run), "cancelled");
    program.verify();
}
