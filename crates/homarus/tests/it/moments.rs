//! Kills between the commits, and clocks that jump: what the protocol table says after each of its arrows holds
//! beside them too.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use homarus_contract::{
    action::EffectClass,
    budget::Amount,
    event::{Event, FinishStatus, Resolution, WaitingOn},
    ids::RunId,
    journal::Journal,
    model::ProviderBlock,
};
use homarus_driver::Ended;

use crate::{
    fatal::Point,
    lives::{Death, FAILS_FIRST, Kill, World, call, text},
};

const ALLOW: &str = "default = \"allow\"\n";
const ASK_WRITES: &str = "default = \"allow\"\n[[rule]]\neffect = \"ask\"\nmatch = \"file:write:./**\"\nreason = \"writes are shown first\"\n";
const ASK_WRITES_FIRST: &str = "default = \"allow\"\n[[rule]]\neffect = \"ask\"\nmatch = \"file:write:./**\"\nwhen = \"before-run\"\nreason = \"writes are asked about\"\n";
const TIMES_MAX: u32 = 40;
const HOUR_MS: u64 = 3_600_000;

fn run_id() -> RunId {
    RunId::parse("r1").unwrap()
}

/// Every class, a merge of many paths with removals and folders, and two calls of one answer.
fn job() -> Vec<Vec<ProviderBlock>> {
    let many = "mkdir -p d/e; for i in 1 2 3 4; do echo $i > d/e/$i.txt; done; echo line >> seed.txt; rm a.txt";
    vec![
        vec![text("I look first."), call("file.read", r#"{"path":"seed.txt"}"#)],
        vec![call("file.write", r#"{"path":"a.txt","content":"alpha\n"}"#)],
        vec![call("shell.execute", &format!(r#"{{"command":"{many}"}}"#))],
        vec![
            call("file.write", r#"{"path":"b.txt","content":"beta\n"}"#),
            call("file.write", r#"{"path":"c.txt","content":"gamma\n"}"#),
        ],
        vec![call("effect.keyed", "{}")],
        vec![text("All done.")],
    ]
}

fn check_job(world: &World, ended: &Ended, when: &str) {
    let done = Ended::Finished { status: FinishStatus::Completed, summary: "All done.".to_owned() };
    assert_eq!(*ended, done, "{when}");
    assert_eq!(world.file("seed.txt").as_deref(), Some("seed\nline\n"), "{when}: applied exactly once");
    for (path, wanted) in [("b.txt", "beta\n"), ("d/e/1.txt", "1\n"), ("d/e/4.txt", "4\n")] {
        assert_eq!(world.file(path).as_deref(), Some(wanted), "{when}: {path}");
    }
    assert_eq!(world.file("a.txt"), None, "{when}: it was removed");
    assert!(world.outside.keyed.lock().unwrap().len() <= 1, "{when}: one key");
    let report = world.store().verify(None).unwrap();
    assert!(report.findings.is_empty(), "{when}: {:?}", report.findings);
    let layers = world.state.join("layers/r1");
    assert!(!layers.exists(), "{when}: a layer is left behind");
}

/// Kills when it comes to this moment the first time, the second time, ... in a run of its own each, and takes over.
fn killed_at_each(point: Point, make: impl Fn() -> World, check: impl Fn(&World, &Ended, &str)) -> u32 {
    for times in 1..TIMES_MAX {
        let world = make();
        let when = format!("killed at {point:?}, time {times}");
        match world.live_until(&run_id(), Kill::At(point, times)) {
            Death::Rested(ended) => {
                check(&world, &ended, &when);
                return times - 1;
            }
            Death::Killed => {
                let is_final = world.store().run(&run_id()).unwrap().status.is_final();
                let ended = if is_final { finished(&world) } else { world.live_to_the_end(&run_id()) };
                check(&world, &ended, &when);
            }
        }
    }
    panic!("{point:?} comes more than {TIMES_MAX} times");
}

fn finished(world: &World) -> Ended {
    match world.records(&run_id()).pop().unwrap().event {
        Event::Finished { status, summary } => Ended::Finished { status, summary },
        other => panic!("{other:?}"),
    }
}

#[test]
fn killed_beside_a_commit_the_job_is_done_exactly_once() {
    for (point, at_least) in [
        (Point::Block, 6),
        (Point::Answer, 6),
        (Point::Effect, 6),
        (Point::Contents, 3),
        (Point::Merged, 4),
        (Point::Released, 1),
    ] {
        let kills = killed_at_each(point, || World::new(job(), ALLOW), check_job);
        assert!(kills >= at_least, "{point:?} came only {kills} times");
    }
}

#[test]
fn killed_in_the_middle_of_a_merge_all_of_it_is_there_in_the_end() {
    // The shell call changes eight paths: a removal, two folders, four files and the seed.
    for paths in 1..=8 {
        for rules in [ALLOW, ASK_WRITES] {
            let world = World::new(job(), rules);
            let when = format!("killed after {paths} paths of the second merge, {rules}");
            assert!(matches!(world.live_until(&run_id(), Kill::At(Point::Merge { paths }, 2)), Death::Killed));
            let first = world.file("a.txt").is_none();
            assert!(first, "{when}: the removal comes first");
            check_job(&world, &world.live_to_the_end(&run_id()), &when);
            let merged = world.records(&run_id());
            let merged = merged.iter().filter(|record| record.event.kind() == "merged").count();
            assert_eq!(merged, 4, "{when}: each call is merged once");
        }
    }
}

/// Of a run that has ended: nothing is reserved, and no call is left without a word of what became of it.
fn check_closed(world: &World, when: &str) {
    let (_, budget) = world.store().budget(&run_id()).unwrap();
    assert_eq!(budget.reserved, Amount::default(), "{when}");
    let (mut unkeyed, mut unsettled) = (BTreeSet::new(), BTreeSet::new());
    for record in world.records(&run_id()) {
        match record.event {
            Event::ActIntent { call, class: EffectClass::Unkeyed, .. } => {
                unkeyed.insert(call);
            }
            Event::OutcomeUnknown { call } => {
                unkeyed.remove(&call);
            }
            Event::ActResult(result) => {
                unkeyed.remove(&result.call);
                if !result.diff.is_empty() {
                    unsettled.insert(result.call);
                }
            }
            Event::Merged { call, .. } | Event::Discarded { call, .. } => {
                unsettled.remove(&call);
            }
            _ => {}
        }
    }
    assert!(unkeyed.is_empty(), "{when}: nobody says whether these happened: {unkeyed:?}");
    assert!(unsettled.is_empty(), "{when}: neither applied nor thrown away: {unsettled:?}");
    let report = world.store().verify(None).unwrap();
    assert!(report.findings.is_empty(), "{when}: {:?}", report.findings);
    assert!(!world.state.join("layers/r1").exists(), "{when}: a layer is left behind");
}

fn cancelled() -> Ended {
    Ended::Finished { status: FinishStatus::Cancelled, summary: "Cancelled.".to_owned() }
}

#[test]
fn cancelled_after_a_kill_in_the_middle_of_a_merge_all_of_it_is_there() {
    for (rules, paths, times) in [(ALLOW, 1, 2), (ALLOW, 4, 2), (ALLOW, 8, 2), (ASK_WRITES, 4, 2), (ASK_WRITES, 1, 1)] {
        let world = World::new(job(), rules);
        let when = format!("killed after {paths} paths of merge {times}, {rules}");
        assert!(matches!(world.live_until(&run_id(), Kill::At(Point::Merge { paths }, times)), Death::Killed));
        assert_eq!(world.cancel(&run_id()), cancelled(), "{when}");
        if times == 1 {
            assert_eq!(world.file("a.txt").as_deref(), Some("alpha\n"), "{when}: it was agreed to");
        } else {
            assert_eq!(world.file("a.txt"), None, "{when}");
            assert_eq!(world.file("seed.txt").as_deref(), Some("seed\nline\n"), "{when}");
            let made = (1..=4).filter(|n| world.file(&format!("d/e/{n}.txt")) == Some(format!("{n}\n"))).count();
            assert_eq!(made, 4, "{when}");
        }
        let merged = world.records(&run_id()).iter().filter(|record| record.event.kind() == "merged").count();
        assert_eq!(merged, times as usize, "{when}");
        check_closed(&world, &when);
    }
}

#[test]
fn cancelled_after_a_kill_at_any_moment_nothing_is_left_open() {
    for point in [Point::Block, Point::Answer, Point::Effect, Point::Contents, Point::Merged] {
        for times in [1, 3] {
            let world = World::new(job(), ALLOW);
            let when = format!("killed at {point:?}, time {times}");
            assert!(matches!(world.live_until(&run_id(), Kill::At(point, times)), Death::Killed), "{when}");
            assert_eq!(world.cancel(&run_id()), cancelled(), "{when}");
            check_closed(&world, &when);
        }
    }
}

/// A change nobody has agreed to is thrown away with the run, and one of which nobody knows is called that.
#[test]
fn cancelled_while_a_person_is_asked_or_an_effect_is_under_way_it_says_so() {
    let asked = (1..TIMES_MAX).find_map(|kill_after| {
        let write = call("file.write", r#"{"path":"a.txt","content":"x"}"#);
        let world = World::new(vec![vec![write]], ASK_WRITES).silent();
        world.live(&run_id(), Some(kill_after));
        (world.records(&run_id()).pop().unwrap().event.kind() == "waiting").then_some(world)
    });
    let asked = asked.expect("the wait is a commit of its own");
    assert_eq!(asked.cancel(&run_id()), cancelled());
    assert_eq!(asked.file("a.txt"), None);
    check_closed(&asked, "asked");

    let acting = World::new(vec![vec![call("effect.unkeyed", "{}")]], ALLOW);
    assert!(matches!(acting.live_until(&run_id(), Kill::At(Point::Effect, 1)), Death::Killed));
    assert_eq!(acting.cancel(&run_id()), cancelled());
    check_closed(&acting, "acting");
    let unknown = acting.records(&run_id()).iter().filter(|record| record.event.kind() == "outcome_unknown").count();
    assert_eq!((unknown, acting.outside.unkeyed.load(Ordering::SeqCst)), (1, 1));
}

/// The second call still runs when the time is up: what the first has done is not lost with it.
#[test]
fn at_the_limit_of_time_what_finished_calls_did_is_applied() {
    let first = call("shell.execute", r#"{"command":"echo one > one.txt"}"#);
    let second = call("shell.execute", r#"{"command":"sleep 100"}"#);
    let mut world = World::new(vec![vec![first, second]], ALLOW);
    world.wall_ms_max = 3_000;
    let ended = world.live_to_the_end(&run_id());
    assert!(matches!(ended, Ended::Finished { status: FinishStatus::OutOfBudget, .. }), "{ended:?}");
    let has_result = world.records(&run_id()).iter().any(|record| record.event.kind() == "act_result");
    assert_eq!(world.file("one.txt").is_some(), has_result);
    check_closed(&world, "out of time");
}

/// The run may take a millisecond, and the answer takes longer.
#[test]
fn a_person_who_thinks_takes_none_of_the_time_of_the_run() {
    let mut world = World::of_call("file.write", r#"{"path":"a.txt","content":"x"}"#, ASK_WRITES_FIRST).refusing();
    world.wall_ms_max = 1;
    world.thinks = Duration::from_millis(300);
    let ended = world.live_to_the_end(&run_id());
    assert!(matches!(ended, Ended::Finished { status: FinishStatus::Denied, .. }), "{ended:?}");
    assert!(!world.records(&run_id()).iter().any(|record| record.event.kind() == "bound_hit"));
}

/// The result is durable, its changes are not applied, and the next driver has other rules.
#[test]
fn what_was_allowed_is_shown_when_the_rules_have_come_to_ask() {
    for rules in [ASK_WRITES, ASK_WRITES_FIRST] {
        for refuses in [false, true] {
            let killed = (1..TIMES_MAX).find_map(|kill_after| {
                let write = call("file.write", r#"{"path":"a.txt","content":"x"}"#);
                let world = World::new(vec![vec![write], vec![text("Done.")]], ALLOW);
                world.live(&run_id(), Some(kill_after));
                let last: Vec<_> =
                    world.records(&run_id()).iter().rev().take(2).map(|record| record.event.kind()).collect();
                (last == ["model_intent", "act_result"]).then_some(world)
            });
            let world = killed.expect("a result is committed with the next question").under(rules);
            let world = if refuses { world.refusing() } else { world };
            let ended = world.live_to_the_end(&run_id());
            assert!(matches!(ended, Ended::Finished { .. }), "{ended:?}");
            let when = format!("refused: {refuses}, {rules}");
            let records = world.records(&run_id());
            let count = |kind: &str| records.iter().filter(|record| record.event.kind() == kind).count();
            assert_eq!(count("approval_requested"), 1, "{when}");
            assert_eq!(world.file("a.txt").as_deref(), (!refuses).then_some("x"), "{when}");
            assert_eq!((count("merged"), count("discarded")), if refuses { (0, 1) } else { (1, 0) }, "{when}");
        }
    }
}

#[test]
fn an_undo_that_is_killed_in_the_middle_of_its_merge_is_done_exactly_once() {
    let undo = RunId::parse("u1").unwrap();
    for paths in 1..=4 {
        let world = World::new(job(), ALLOW);
        check_job(&world, &world.live_to_the_end(&run_id()), "before");
        world.undoing(&undo, &run_id());
        assert!(matches!(world.live_until(&undo, Kill::At(Point::Merge { paths }, 1)), Death::Killed), "{paths}");
        world.live_to_the_end(&undo);
        let left: BTreeSet<String> = std::fs::read_dir(&world.workspace)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        assert_eq!(left, BTreeSet::from(["seed.txt".to_owned()]), "killed after {paths} paths");
        assert_eq!(world.file("seed.txt").as_deref(), Some("seed\n"));
    }
}

/// The effect has happened and nothing says so: only a person can know.
#[test]
fn killed_after_an_unkeyed_effect_it_is_unknown_and_never_repeated_by_itself() {
    for (decision, wanted) in [(Resolution::Done, 1), (Resolution::Failed, 1), (Resolution::Repeat, 2)] {
        let world = World::new(vec![vec![call("effect.unkeyed", "{}")], vec![text("Sent.")]], ALLOW);
        assert!(matches!(world.live_until(&run_id(), Kill::At(Point::Effect, 1)), Death::Killed));
        assert_eq!(world.outside.unkeyed.load(Ordering::SeqCst), 1, "it has happened");
        for _ in 0..3 {
            let ended = world.live_to_the_end(&run_id());
            assert!(matches!(ended, Ended::Waiting(WaitingOn::Resolution { .. })), "{ended:?}");
        }
        assert_eq!(world.outside.unkeyed.load(Ordering::SeqCst), 1, "it was not repeated");
        world.resolve(&run_id(), decision);
        assert!(matches!(world.live_to_the_end(&run_id()), Ended::Finished { status: FinishStatus::Completed, .. }));
        assert_eq!(world.outside.unkeyed.load(Ordering::SeqCst), wanted, "{decision:?}: as the person said");
    }
}

#[test]
fn a_keyed_effect_that_is_repeated_after_a_kill_carries_the_same_key() {
    let world = World::new(vec![vec![call("effect.keyed", "{}")], vec![text("Sent.")]], ALLOW);
    assert!(matches!(world.live_until(&run_id(), Kill::At(Point::Effect, 1)), Death::Killed));
    world.live_to_the_end(&run_id());
    let keyed: Vec<u32> = world.outside.keyed.lock().unwrap().values().copied().collect();
    assert_eq!(keyed, [2], "sent twice with one key, for the other side to see that it is one");
}

#[test]
fn a_refused_change_stays_refused_when_the_driver_dies_with_its_layer() {
    let write = || {
        let write = call("file.write", r#"{"path":"a.txt","content":"x"}"#);
        World::new(vec![vec![write], vec![text("Refused.")]], ASK_WRITES).refusing()
    };
    let kills = killed_at_each(Point::Discarded, write, |world, ended, when| {
        assert!(matches!(ended, Ended::Finished { .. }), "{when}: {ended:?}");
        assert_eq!(world.file("a.txt"), None, "{when}");
        let asked =
            world.records(&run_id()).iter().filter(|record| record.event.kind() == "approval_requested").count();
        assert_eq!(asked, 1, "{when}: one answer is enough");
    });
    assert!(kills >= 1);
}

/// The protocol table, enumerated: after which event a commit ends, and so after which a kill falls. Every kill is
/// taken over, and the run ends.
#[test]
fn after_every_row_of_the_table_there_is_a_kill() {
    const ASK_SHELL_FIRST: &str = "default = \"allow\"\n[[rule]]\neffect = \"ask\"\nmatch = \"shell:run:*\"\nwhen = \"before-run\"\nreason = \"commands are asked about\"\n";
    const DENY_SHELL: &str =
        "default = \"allow\"\n[[rule]]\neffect = \"deny\"\nmatch = \"shell:run:*\"\nreason = \"no commands\"\n";
    let write = || call("file.write", r#"{"path":"x.txt","content":"x"}"#);
    let shell = || call("shell.execute", r#"{"command":"echo line >> seed.txt"}"#);
    let unkeyed = || call("effect.unkeyed", "{}");
    let worlds: [(&str, bool, Vec<ProviderBlock>); 5] = [
        (ALLOW, false, vec![write(), shell(), unkeyed()]),
        (ASK_WRITES, false, vec![write()]),
        (ASK_WRITES, true, vec![write()]),
        (ASK_SHELL_FIRST, false, vec![shell()]),
        (DENY_SHELL, false, vec![shell()]),
    ];
    let rows: BTreeSet<&str> = std::thread::scope(|scope| {
        let lived = worlds.map(|(rules, refuses, calls)| scope.spawn(move || rows_of(rules, refuses, &calls)));
        lived.into_iter().flat_map(|lived| lived.join().unwrap()).collect()
    });
    let before = ["accepted", "model_intent", "approval_requested", "approval_decided", "waiting", "denied"];
    let after = ["act_intent", "outcome_unknown", "act_result", "discarded", "finished"];
    let wanted: BTreeSet<&str> = before.into_iter().chain(after).collect();
    assert_eq!(rows, wanted, "a commit that ends otherwise is a row the table lacks");
}

/// The kinds of event after which a kill fell, in a job of these calls that is killed after each of its commits.
fn rows_of(rules: &str, refuses: bool, calls: &[ProviderBlock]) -> BTreeSet<&'static str> {
    let mut answers: Vec<_> = calls.iter().map(|call| vec![call.clone()]).collect();
    answers[0].insert(0, text(FAILS_FIRST));
    answers.push(vec![text("Done.")]);
    let mut rows = BTreeSet::new();
    for kill_after in 1..TIMES_MAX {
        let world = World::new(answers.clone(), rules);
        let world = if refuses { world.refusing() } else { world };
        let killed = matches!(world.live(&run_id(), Some(kill_after)), Death::Killed);
        rows.insert(world.records(&run_id()).pop().unwrap().event.kind());
        let mut resolved = 0;
        while !world.store().run(&run_id()).unwrap().status.is_final() {
            if let Ended::Waiting(WaitingOn::Resolution { .. }) = world.live_to_the_end(&run_id()) {
                rows.insert("outcome_unknown");
                world.resolve(&run_id(), Resolution::Done);
                resolved += 1;
            }
            assert!(resolved <= 1, "killed after {kill_after}, {rules}: one kill leaves one outcome unknown");
        }
        assert!(world.outside.unkeyed.load(Ordering::SeqCst) <= 1, "killed after {kill_after}, {rules}");
        if !killed {
            return rows;
        }
    }
    panic!("the job has more than {TIMES_MAX} commits")
}

/// Forward and back by an hour, each time it is looked at.
fn jumping() -> Arc<dyn Fn() -> u64 + Send + Sync> {
    let looks = AtomicU64::new(0);
    Arc::new(move || match looks.fetch_add(1, Ordering::SeqCst) % 4 {
        0 => 10 * HOUR_MS,
        1 => 11 * HOUR_MS,
        2 => 10 * HOUR_MS,
        _ => 9 * HOUR_MS,
    })
}

#[test]
fn a_clock_that_jumps_an_hour_each_way_changes_nothing_but_times() {
    for rules in [ALLOW, ASK_WRITES] {
        for kill_after in [None, Some(3), Some(6), Some(9)] {
            let mut world = World::new(job(), rules);
            world.clock = jumping();
            let when = format!("killed after {kill_after:?}, {rules}");
            if kill_after.is_some() {
                assert!(matches!(world.live(&run_id(), kill_after), Death::Killed));
            }
            check_job(&world, &world.live_to_the_end(&run_id()), &when);
            for record in world.records(&run_id()) {
                let took_ms = match &record.event {
                    Event::ActResult(result) => result.wall_ms,
                    Event::ModelResult { wall_ms, .. } => *wall_ms,
                    _ => 0,
                };
                assert_eq!(took_ms, 0, "{when}: {} of the wall time budget, by a clock that stood still", took_ms);
            }
        }
    }
}

#[test]
fn a_clock_that_was_set_back_does_not_keep_a_question_open() {
    let asked_and_killed = (1..TIMES_MAX).find_map(|kill_after| {
        let write = call("file.write", r#"{"path":"a.txt","content":"x"}"#);
        let mut world = World::new(vec![vec![write], vec![text("So be it.")]], ASK_WRITES).silent();
        world.approval_ms = 20;
        world.clock = Arc::new(|| 10 * HOUR_MS);
        world.live(&run_id(), Some(kill_after));
        (world.records(&run_id()).pop().unwrap().event.kind() == "approval_requested").then_some(world)
    });
    // Asked at ten o'clock, and killed.
    let mut world = asked_and_killed.expect("the question is a commit of its own");
    // At nine o'clock the next driver takes over: nobody answers for an hour.
    world.clock = Arc::new(|| 9 * HOUR_MS);
    world.live_to_the_end(&run_id());
    let decided = world.records(&run_id()).into_iter().find_map(|record| match record.event {
        Event::ApprovalDecided { approval, .. } => Some(approval),
        _ => None,
    });
    let decided = decided.expect("the question has an end");
    assert!(!decided.granted && decided.who == "timeout", "{decided:?}");
    assert_eq!(world.file("a.txt"), None);
}
