//! Kills between the commits, and clocks that jump: what the protocol table says after each of its arrows holds
//! beside them too.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use homarus_contract::{
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
