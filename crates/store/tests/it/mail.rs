//! What other processes leave for an owner: cancels and answers.

use homarus_contract::{
    event::Event,
    gate::Approval,
    ids::{CallId, Hash},
    journal::{Journal, JournalError},
};

use crate::fixture::*;

fn approval(of: &str) -> Approval {
    Approval { hash: Hash::of(of.as_bytes()), granted: true, who: "cli:user".into(), why: "looks right".into() }
}

#[tokio::test]
async fn a_cancel_from_another_process_is_seen() {
    let world = World::new();
    world.run("a").await;
    let other = world.other();
    assert!(!world.store.cancel_requested(&run_id("a")).unwrap());
    other.request_cancel(run_id("a")).await.unwrap();
    other.request_cancel(run_id("a")).await.unwrap();
    assert!(world.store.cancel_requested(&run_id("a")).unwrap());
    assert!(world.store.run(&run_id("a")).unwrap().cancel_requested);
    assert_eq!(other.request_cancel(run_id("b")).await, Err(JournalError::NoSuchRun("b".into())));
}

#[tokio::test]
async fn a_finished_run_takes_no_mail() {
    let world = World::new();
    let fence = world.run("a").await;
    push(&world.store, fence, vec![finished()]).await;
    assert_eq!(world.store.request_cancel(run_id("a")).await, Err(JournalError::AlreadyFinished(run_id("a"))));
    let left = world.store.leave_answer(run_id("a"), CallId::new(1, 0), approval("x")).await;
    assert_eq!(left, Err(JournalError::AlreadyFinished(run_id("a"))));
}

#[tokio::test]
async fn an_answer_waits_until_it_is_journalled() {
    let world = World::new();
    let fence = world.run("a").await;
    let (run, call) = (run_id("a"), CallId::new(1, 0));
    assert_eq!(world.store.answer(&run, &call).unwrap(), None);
    let other = world.other();
    other.leave_answer(run.clone(), call.clone(), Approval { granted: false, ..approval("x") }).await.unwrap();
    other.leave_answer(run.clone(), call.clone(), approval("x")).await.unwrap();
    assert_eq!(world.store.answer(&run, &call).unwrap(), Some(approval("x")), "the last one counts");
    assert_eq!(world.store.answer(&run, &CallId::new(1, 1)).unwrap(), None);
    push(&world.store, fence, vec![Event::ApprovalDecided { call: call.clone(), approval: approval("x") }]).await;
    assert_eq!(world.store.answer(&run, &call).unwrap(), None);
}

#[tokio::test]
async fn an_answer_to_another_question_is_thrown_away() {
    let world = World::new();
    let fence = world.run("a").await;
    let (run, call) = (run_id("a"), CallId::new(1, 0));
    let ask = |of: &str| Event::ApprovalRequested { call: call.clone(), hash: Hash::of(of.as_bytes()), expires_ms: 9 };
    world.store.leave_answer(run.clone(), call.clone(), approval("x")).await.unwrap();
    let fence = push(&world.store, fence, vec![ask("x")]).await;
    assert_eq!(world.store.answer(&run, &call).unwrap(), Some(approval("x")), "the same question again");
    push(&world.store, fence, vec![ask("y")]).await;
    assert_eq!(world.store.answer(&run, &call).unwrap(), None);
}

#[tokio::test]
async fn an_endless_answer_is_refused() {
    let world = World::new();
    world.run("a").await;
    let long = Approval { why: "x".repeat(70_000), ..approval("x") };
    let left = world.store.leave_answer(run_id("a"), CallId::new(1, 0), long).await;
    assert!(matches!(left, Err(JournalError::Refused(_))), "{left:?}");
}
