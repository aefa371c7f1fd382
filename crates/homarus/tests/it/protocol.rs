//! The protocol table, row by row: killed after each of its commits, the run is taken over and must
//! end as if nothing had happened, having asked and acted no more often than the table allows.

use std::sync::atomic::Ordering;

use homarus_contract::{
    event::{Event, FinishStatus, Resolution, WaitingOn},
    ids::RunId,
    journal::{Journal, RunStatus},
    model::ProviderBlock,
};
use homarus_driver::Ended;

use crate::lives::{Death, World, call, text};

const ALLOW: &str = "default = \"allow\"\n";
const ASK_WRITES: &str = "default = \"allow\"\n[[rule]]\neffect = \"ask\"\nmatch = \"file:write:./**\"\nreason = \"writes are shown first\"\n";
const ASK_SHELL_FIRST: &str = "default = \"allow\"\n[[rule]]\neffect = \"ask\"\nmatch = \"shell:run:*\"\nwhen = \"before-run\"\nreason = \"commands are asked about\"\n";
const LIVES_MAX: u32 = 60;

fn run_id() -> RunId {
    RunId::parse("r1").unwrap()
}

fn append_line() -> ProviderBlock {
    call(
        "shell.execute",
        r#"{"command":"echo line >> seed.txt; mkdir -p d; mv seed.txt d/seed.txt; cp d/seed.txt seed.txt"}"#,
    )
}

/// A job with a read, a write, a shell call, a look at the result, and an answer.
fn job() -> Vec<Vec<ProviderBlock>> {
    vec![
        vec![text("I look first."), call("file.read", r#"{"path":"seed.txt"}"#)],
        vec![call("file.write", r#"{"path":"a.txt","content":"alpha\n"}"#)],
        vec![append_line()],
        vec![call("file.read", r#"{"path":"d/seed.txt"}"#)],
        vec![text("All done.")],
    ]
}

fn check_job(world: &World, ended: &Ended) {
    assert_eq!(
        *ended,
        Ended::Finished { status: FinishStatus::Completed, summary: "All done.".to_owned() },
        "{:#?}",
        world.records(&run_id()).iter().map(|record| record.event.kind()).collect::<Vec<_>>()
    );
    assert_eq!(world.file("a.txt").as_deref(), Some("alpha\n"));
    assert_eq!(world.file("seed.txt").as_deref(), Some("seed\nline\n"), "applied exactly once");
    assert_eq!(world.file("d/seed.txt").as_deref(), Some("seed\nline\n"));
    let report = world.store().verify(None).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

/// Kills after the n-th commit of the first life, for every n there is, and takes over once.
fn killed_at_every_commit(make: impl Fn() -> World, mut check: impl FnMut(&World, &Ended)) -> u32 {
    for kill_after in 1..LIVES_MAX {
        let world = make();
        match world.live(&run_id(), Some(kill_after)) {
            Death::Rested(ended) => {
                check(&world, &ended);
                return kill_after - 1;
            }
            Death::Killed => {
                let status = world.store().run(&run_id()).unwrap().status;
                if !status.is_final() {
                    let ended = world.live_to_the_end(&run_id());
                    check(&world, &ended);
                }
            }
        }
    }
    panic!("the run has more than {LIVES_MAX} commits");
}

#[test]
fn killed_at_every_commit_the_job_is_done_exactly_once() {
    let commits = killed_at_every_commit(
        || World::new(job(), ALLOW),
        |world, ended| {
            check_job(world, ended);
            let asked = world.outside.asked.lock().unwrap();
            assert_eq!(asked.len(), 5, "{asked:?}");
            let total: u32 = asked.values().sum();
            assert!(total <= 6, "one kill costs at most one question: {asked:?}");
        },
    );
    assert!(commits >= 8, "only {commits} commits: the protocol has lost some");
}

/// Both see the workspace as it was. A kill may cost the calls of an answer that had not been journalled yet, never the
/// order or the wholeness of those that had.
#[test]
fn two_calls_of_one_answer_are_applied_once_and_in_order_whatever_is_killed() {
    let two = || {
        let second = r#"{"command":"echo two > two.txt; cat seed.txt > copy.txt; echo second > both.txt"}"#;
        let first = r#"{"command":"echo line >> seed.txt; echo first > both.txt"}"#;
        vec![vec![call("shell.execute", first), call("shell.execute", second)], vec![text("All done.")]]
    };
    let mut beside = 0;
    let commits = killed_at_every_commit(
        || World::new(two(), ALLOW),
        |world, ended| {
            assert!(matches!(ended, Ended::Finished { status: FinishStatus::Completed, .. }), "{ended:?}");
            let records = world.records(&run_id());
            let told: Vec<String> = records
                .iter()
                .filter_map(|record| match &record.event {
                    Event::ActResult(result) => Some(world.store().blob(&result.shown).unwrap_or_default()),
                    _ => None,
                })
                .map(|text| String::from_utf8_lossy(&text).into_owned())
                .collect();
            assert_eq!(world.file("seed.txt").as_deref(), Some("seed\nline\n"), "applied exactly once: {told:#?}");
            let merged: Vec<&str> = records
                .iter()
                .filter_map(|record| match &record.event {
                    Event::Merged { call, .. } => Some(call.as_str()),
                    _ => None,
                })
                .collect();
            if merged == ["c1.0"] {
                // The kill came before the second call was journalled.
                assert_eq!(world.file("two.txt"), None);
                return;
            }
            assert_eq!(merged, ["c1.0", "c1.1"], "merged once each, in order");
            assert_eq!(world.file("two.txt").as_deref(), Some("two\n"));
            // Where the second was run again after a kill, it came after the first, and saw it.
            let (copy, both) = (world.file("copy.txt").unwrap(), world.file("both.txt").unwrap());
            beside += u32::from(copy == "seed\n");
            match copy.as_str() {
                "seed\n" => assert_eq!(both, "first\n", "a conflict is the first one's"),
                other => assert_eq!((other, both.as_str()), ("seed\nline\n", "second\n")),
            }
            let report = world.store().verify(None).unwrap();
            assert!(report.findings.is_empty(), "{:?}", report.findings);
        },
    );
    assert!(commits >= 5 && beside >= 2, "{commits} commits, {beside} times beside each other");
}

#[test]
fn an_unkeyed_call_among_others_runs_alone_in_order_and_never_twice() {
    let three = || {
        let first = call("shell.execute", r#"{"command":"echo line >> seed.txt"}"#);
        let last = call("shell.execute", r#"{"command":"cat seed.txt > copy.txt"}"#);
        vec![vec![first, call("effect.unkeyed", "{}"), last], vec![text("All done.")]]
    };
    for kill_after in 1..LIVES_MAX {
        let world = World::new(three(), ALLOW);
        let is_over = matches!(world.live(&run_id(), Some(kill_after)), Death::Rested(_));
        if !world.store().run(&run_id()).unwrap().status.is_final()
            && let Ended::Waiting(WaitingOn::Resolution { .. }) = world.live_to_the_end(&run_id())
        {
            world.resolve(&run_id(), Resolution::Done);
            world.live_to_the_end(&run_id());
        }
        assert!(world.outside.unkeyed.load(Ordering::SeqCst) <= 1, "killed after commit {kill_after}");
        assert_eq!(world.file("seed.txt").as_deref(), Some("seed\nline\n"));
        assert!(matches!(world.file("copy.txt").as_deref(), None | Some("seed\nline\n")), "after the first was merged");
        if is_over {
            assert_eq!(world.outside.unkeyed.load(Ordering::SeqCst), 1);
            assert_eq!(world.file("copy.txt").as_deref(), Some("seed\nline\n"));
            return;
        }
    }
    panic!("no end in {LIVES_MAX} lives");
}

#[test]
fn killed_in_every_life_it_still_ends() {
    let world = World::new(job(), ALLOW);
    for _ in 0..LIVES_MAX {
        // The claim is none of them: one closes what was open, the others are progress.
        let death = world.live(&run_id(), Some(3));
        if let Death::Rested(ended) = death {
            check_job(&world, &ended);
            return;
        }
        if world.store().run(&run_id()).unwrap().status.is_final() {
            assert_eq!(world.file("seed.txt").as_deref(), Some("seed\nline\n"), "applied exactly once");
            return;
        }
    }
    panic!("no progress in {LIVES_MAX} lives");
}

#[test]
fn a_recorded_answer_is_never_asked_for_again() {
    let world = World::new(job(), ALLOW);
    assert!(matches!(world.live(&run_id(), None), Death::Rested(_)));
    let asked = world.outside.asked.lock().unwrap().clone();
    assert!(asked.values().all(|count| *count == 1), "{asked:?}");
}

#[test]
fn an_unkeyed_effect_is_never_repeated_by_itself() {
    let make = || World::new(vec![vec![call("effect.unkeyed", "{}")], vec![text("Sent.")]], ALLOW);
    let mut unknown = 0;
    for kill_after in 1..LIVES_MAX {
        let world = make();
        if let Death::Rested(_) = world.live(&run_id(), Some(kill_after)) {
            assert_eq!(unknown, 1, "exactly the kill between intent and result leaves it unknown");
            return;
        }
        if world.store().run(&run_id()).unwrap().status.is_final() {
            continue;
        }
        let before = world.outside.unkeyed.load(Ordering::SeqCst);
        let ended = world.live_to_the_end(&run_id());
        if let Ended::Waiting(WaitingOn::Resolution { .. }) = ended {
            unknown += 1;
            assert_eq!(world.outside.unkeyed.load(Ordering::SeqCst), before, "it was not run again");
            assert_eq!(world.store().run(&run_id()).unwrap().status, RunStatus::Waiting);
            world.resolve(&run_id(), Resolution::Done);
            let ended = world.live_to_the_end(&run_id());
            assert!(matches!(ended, Ended::Finished { status: FinishStatus::Completed, .. }), "{ended:?}");
            assert_eq!(world.outside.unkeyed.load(Ordering::SeqCst), before);
        }
        assert!(world.outside.unkeyed.load(Ordering::SeqCst) <= 1, "killed after commit {kill_after}");
    }
    panic!("no end in {LIVES_MAX} lives");
}

#[test]
fn a_person_may_have_an_unknown_call_repeated() {
    let world = World::new(vec![vec![call("effect.unkeyed", "{}")], vec![text("Sent.")]], ALLOW);
    let kill_after = (1..LIVES_MAX).find(|kill_after| {
        let probe = World::new(vec![vec![call("effect.unkeyed", "{}")]], ALLOW);
        probe.live(&run_id(), Some(*kill_after));
        matches!(probe.records(&run_id()).last().unwrap().event, Event::ActIntent { .. })
    });
    assert!(matches!(world.live(&run_id(), kill_after), Death::Killed));
    assert!(matches!(world.live_to_the_end(&run_id()), Ended::Waiting(WaitingOn::Resolution { .. })));
    world.resolve(&run_id(), Resolution::Repeat);
    assert!(matches!(world.live_to_the_end(&run_id()), Ended::Finished { status: FinishStatus::Completed, .. }));
    assert_eq!(world.outside.unkeyed.load(Ordering::SeqCst), 1, "the killed attempt never got to act");
}

#[test]
fn a_keyed_effect_carries_one_key_through_all_its_attempts() {
    killed_at_every_commit(
        || World::new(vec![vec![call("effect.keyed", "{}")], vec![text("Sent.")]], ALLOW),
        |world, ended| {
            assert!(matches!(ended, Ended::Finished { status: FinishStatus::Completed, .. }), "{ended:?}");
            assert_eq!(world.outside.keyed.lock().unwrap().len(), 1, "one key");
        },
    );
}

#[test]
fn an_approved_diff_is_merged_exactly_once() {
    killed_at_every_commit(
        || World::new(job(), ASK_WRITES),
        |world, ended| {
            check_job(world, ended);
            let decided =
                world.records(&run_id()).iter().filter(|record| record.event.kind() == "approval_decided").count();
            assert_eq!(decided, 1, "one answer is enough, whatever is killed");
        },
    );
}

#[test]
fn a_refused_diff_leaves_no_trace_in_the_workspace() {
    killed_at_every_commit(
        || {
            World::new(
                vec![vec![call("file.write", r#"{"path":"a.txt","content":"x"}"#)], vec![text("Refused.")]],
                ASK_WRITES,
            )
            .refusing()
        },
        |world, ended| {
            assert!(matches!(ended, Ended::Finished { .. }), "{ended:?}");
            assert_eq!(world.file("a.txt"), None);
            assert!(world.records(&run_id()).iter().any(|record| record.event.kind() == "discarded"));
        },
    );
}

#[test]
fn a_command_that_was_agreed_to_before_it_runs_is_not_asked_about_twice() {
    killed_at_every_commit(
        || World::new(vec![vec![append_line()], vec![text("All done.")]], ASK_SHELL_FIRST),
        |world, ended| {
            assert!(matches!(ended, Ended::Finished { status: FinishStatus::Completed, .. }), "{ended:?}");
            assert_eq!(world.file("seed.txt").as_deref(), Some("seed\nline\n"));
            let asked =
                world.records(&run_id()).iter().filter(|record| record.event.kind() == "approval_requested").count();
            assert_eq!(asked, 1);
        },
    );
}

#[test]
fn a_tool_that_was_not_offered_is_not_run_although_the_driver_has_it() {
    let answers = vec![vec![call("effect.unkeyed", "{}")], vec![text("Sent.")]];
    let world = World::new(answers, ALLOW).withholding("effect.unkeyed");
    world.live_to_the_end(&run_id());
    assert_eq!(world.outside.unkeyed.load(Ordering::SeqCst), 0);
    let records = world.records(&run_id());
    let result = records.iter().find_map(|record| match &record.event {
        Event::ActResult(result) => Some(result),
        _ => None,
    });
    assert!(result.unwrap().is_error);
    assert!(!records.iter().any(|record| record.event.kind() == "judged"));
}

#[test]
fn an_undo_that_is_killed_at_any_commit_is_done_exactly_once() {
    for rules in [ALLOW, ASK_WRITES] {
        let undo = RunId::parse("u1").unwrap();
        let mut killed = 0;
        for kill_after in 1..LIVES_MAX {
            let world = World::new(job(), rules);
            check_job(&world, &world.live_to_the_end(&run_id()));
            world.undoing(&undo, &run_id());
            let ended = match world.live(&undo, Some(kill_after)) {
                Death::Rested(ended) => Some(ended),
                Death::Killed => {
                    killed += 1;
                    let is_final = world.store().run(&undo).unwrap().status.is_final();
                    (!is_final).then(|| world.live_to_the_end(&undo))
                }
            };
            let done = |ended: &Ended| matches!(ended, Ended::Finished { status: FinishStatus::Completed, .. });
            assert!(ended.as_ref().is_none_or(done), "killed after {kill_after}: {ended:?}");
            assert_eq!(world.file("seed.txt").as_deref(), Some("seed\n"), "killed after {kill_after}");
            assert!(!world.workspace.join("d").exists() && world.file("a.txt").is_none(), "killed after {kill_after}");
            // And back again.
            let redo = RunId::parse("u2").unwrap();
            world.undoing(&redo, &undo);
            world.live_to_the_end(&redo);
            check_job(&world, &Ended::Finished { status: FinishStatus::Completed, summary: "All done.".to_owned() });
            if killed < kill_after {
                break;
            }
        }
        assert!(killed >= 3, "{killed}");
    }
}

#[test]
fn a_note_is_in_the_memory_once_however_often_its_call_was_killed() {
    let make = || {
        let note = call("memory.note", r#"{"note":"Prefers tabs."}"#);
        World::new(vec![vec![note], vec![text("Noted.")]], ALLOW).of_agent()
    };
    let kills = killed_at_every_commit(make, |world, ended| {
        assert!(matches!(ended, Ended::Finished { status: FinishStatus::Completed, .. }), "{ended:?}");
        let folder = &world.agent.as_ref().unwrap().folder;
        let memory = std::fs::read_to_string(folder.join("MEMORY.md")).unwrap();
        assert_eq!(memory.matches("- Prefers tabs.").count(), 1, "{memory}");
    });
    assert!(kills >= 4, "{kills}");
}

#[test]
fn a_tool_that_was_not_offered_to_this_run_is_not_there_for_it() {
    for (tool, arguments) in
        [("memory.note", r#"{"note":"Prefers tabs."}"#), ("web.search", r#"{"query":"x"}"#), ("no.such", "{}")]
    {
        let world = World::new(vec![vec![call(tool, arguments)], vec![text("So be it.")]], ALLOW);
        world.live_to_the_end(&run_id());
        let records = world.records(&run_id());
        let result = records.iter().find_map(|record| match &record.event {
            Event::ActResult(result) => Some(result.clone()),
            Event::Judged { .. } | Event::ActIntent { .. } => panic!("{tool} got as far as the gate"),
            _ => None,
        });
        let told = world.store().blob(&result.unwrap().shown).unwrap();
        let told = String::from_utf8(told).unwrap();
        assert!(told.starts_with(&format!("There is no tool {tool:?}. The tools are: ")), "{told}");
        assert!(told.contains("http.request") && !told.contains("memory.note, "), "{told}");
    }
}

#[test]
fn a_call_by_hand_is_made_once_however_often_it_was_killed_and_asks_no_model() {
    let arguments = r#"{"command":"echo line >> seed.txt"}"#;
    for rules in [ALLOW, ASK_WRITES, ASK_SHELL_FIRST] {
        let make = || World::of_call("shell.execute", arguments, rules);
        let kills = killed_at_every_commit(make, |world, ended| {
            assert!(matches!(ended, Ended::Finished { status: FinishStatus::Completed, .. }), "{ended:?}");
            assert_eq!(world.file("seed.txt").as_deref(), Some("seed\nline\n"));
            assert!(world.outside.asked.lock().unwrap().is_empty(), "a model was asked");
        });
        assert!(kills >= 3, "{kills}");
    }
    let refused = World::of_call("shell.execute", arguments, ASK_SHELL_FIRST).refusing();
    assert!(matches!(refused.live_to_the_end(&run_id()), Ended::Finished { status: FinishStatus::Denied, .. }));
    assert_eq!(refused.file("seed.txt").as_deref(), Some("seed\n"));
    for (tool, arguments, wanted) in [
        ("no.such", "{}", FinishStatus::Failed),
        ("file.read", r#"{"path":"none"}"#, FinishStatus::Failed),
        ("effect.unkeyed", "{}", FinishStatus::Completed),
    ] {
        match World::of_call(tool, arguments, ALLOW).live_to_the_end(&run_id()) {
            Ended::Finished { status, .. } => assert_eq!(status, wanted, "{tool}"),
            other => panic!("{tool}: {other:?}"),
        }
    }
}
