//! The list of runs, and what a run's status follows from.

use homarus_contract::{
    event::{Event, FinishStatus, Inbound, WaitingOn},
    ids::CallId,
    journal::{Journal, JournalError, RunStatus},
};

use crate::fixture::*;

#[tokio::test]
async fn status_follows_from_the_last_event() {
    let call = CallId::new(1, 0);
    let end = |status| Event::Finished { status, summary: String::new() };
    let cases = [
        (note("x"), RunStatus::Running),
        (Event::Waiting { on: WaitingOn::Approval { call: call.clone() } }, RunStatus::Waiting),
        (Event::Waiting { on: WaitingOn::Resolution { call } }, RunStatus::Waiting),
        (paused(), RunStatus::Paused),
        (end(FinishStatus::Completed), RunStatus::Completed),
        (end(FinishStatus::Failed), RunStatus::Failed),
        (end(FinishStatus::Denied), RunStatus::Denied),
        (end(FinishStatus::OutOfBudget), RunStatus::OutOfBudget),
        (end(FinishStatus::Cancelled), RunStatus::Cancelled),
    ];
    let world = World::new();
    for (at, (event, status)) in cases.into_iter().enumerate() {
        let fence = world.run(&format!("r{at}")).await;
        let fence = push(&world.store, fence, vec![event]).await;
        let row = world.store.run(fence.run()).unwrap();
        assert_eq!((row.status, row.events), (status, 2));
        if !status.is_final() {
            push(&world.store, fence.clone(), vec![note("on")]).await;
            assert_eq!(world.store.run(fence.run()).unwrap().status, RunStatus::Running);
        }
    }
}

#[tokio::test]
async fn a_row_says_what_was_asked_and_who_works_on_it() {
    let world = World::new();
    let mut long = accepted("a");
    long.inbound.text = "ä".repeat(500);
    let fence = world.store.accept(long, blobs()).await.unwrap();
    push(&world.store, fence, vec![note("x")]).await;
    let row = world.store.run(&run_id("a")).unwrap();
    assert_eq!(row.prompt, "ä".repeat(200));
    assert_eq!(row.workspace, "/home/user/project");
    assert!(row.created_ms < row.updated_ms);
    assert_eq!((row.owner.as_ref(), row.owner_alive), (world.store.driver(), true));
    assert_eq!(world.store.run(&run_id("b")), Err(JournalError::NoSuchRun("b".into())));
}

#[tokio::test]
async fn the_list_is_newest_first_and_bounded() {
    let world = World::new();
    for name in ["b", "c", "a"] {
        world.run(name).await;
    }
    let names = |limit| -> Vec<String> {
        world.store.runs(limit).unwrap().into_iter().map(|row| row.run.to_string()).collect()
    };
    assert_eq!(names(10), ["a", "c", "b"]);
    assert_eq!(names(2), ["a", "c"]);
    assert_eq!(names(0), [""; 0]);
}

#[tokio::test]
async fn a_request_is_accepted_once() {
    let world = World::new();
    world.run("a").await;
    let mut again = accepted("b");
    again.inbound.ext_id = "ext-a".into();
    assert_eq!(world.store.accept(again.clone(), blobs()).await, Err(JournalError::Duplicate(run_id("a"))));
    again.inbound.source = "irc".into();
    assert!(world.store.accept(again, blobs()).await.is_ok(), "the same id from elsewhere is another request");
    let mut taken = accepted("a");
    taken.inbound.ext_id = "new".into();
    assert!(matches!(world.store.accept(taken, blobs()).await, Err(JournalError::Refused(_))));
    let mut system = accepted("system");
    system.inbound.ext_id = "other".into();
    assert!(matches!(world.store.accept(system, blobs()).await, Err(JournalError::Refused(_))));
}

/// The list is read through an index: the work does not grow with the runs that are not listed.
#[tokio::test]
async fn ten_thousand_runs_are_not_sorted_for_each_listing() {
    let world = World::new();
    let plan: Vec<String> = world
        .sql()
        .prepare(
            "EXPLAIN QUERY PLAN SELECT runs.run FROM runs JOIN budgets ON budgets.run = runs.run
             JOIN streams ON streams.stream = runs.run ORDER BY runs.created_ms DESC, runs.run DESC LIMIT 50",
        )
        .unwrap()
        .query_map([], |row| row.get(3))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let plan = plan.join("\n");
    assert!(plan.contains("runs_newest"), "{plan}");
    assert!(!plan.contains("TEMP B-TREE"), "{plan}");
}

#[tokio::test]
async fn a_run_may_begin_with_a_past() {
    let world = World::new();
    let past = || {
        let inbound = Inbound { source: "fork".into(), ext_id: "s1".into(), text: "more".into() };
        let forked = Event::Forked { run: run_id("old"), step: 1, events: 2 };
        vec![note("before"), answered(None, None), forked, Event::Said { inbound }]
    };
    let fence = world.store.accept_with(accepted("a"), blobs(), past()).await.unwrap();
    assert_eq!(fence.seq(), 5);
    let row = world.store.run(&run_id("a")).unwrap();
    assert!(row.cost_known, "what stands before the fork was paid for by another run");
    assert_eq!((row.status, row.budget.used), (RunStatus::Running, amount(0, 0, 0)));
    push(&world.store, fence, vec![note("after")]).await;
    let before = world.projections();
    world.store.rebuild_projections().await.unwrap();
    assert_eq!(world.projections(), before);
    let report = world.store.verify(None).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    // All of it or nothing: here its message was taken in before.
    let again = world.store.accept_with(accepted("b"), blobs(), past()).await;
    assert!(matches!(again, Err(JournalError::Duplicate(_))), "{again:?}");
    assert!(world.store.run(&run_id("b")).is_err());
    for wrong in [vec![finished()], vec![Event::Accepted(accepted("x"))], vec![note("x"); 60_001]] {
        let refused = world.store.accept_with(accepted("c"), blobs(), wrong).await;
        assert!(matches!(refused, Err(JournalError::Refused(_))), "{refused:?}");
        assert!(world.store.run(&run_id("c")).is_err());
    }
}
