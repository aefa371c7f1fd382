//! What other processes leave for an owner: cancels and answers.

use homarus_contract::{
    budget::{Amount, Budget, BudgetChange},
    event::{Event, Pause, Reconfigured, WaitingOn},
    gate::Approval,
    ids::{CallId, Hash},
    journal::{Append, Journal, JournalError, Request},
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

fn change(why: &str) -> Reconfigured {
    Reconfigured { why: why.to_owned(), ..Reconfigured::by("cli:user".to_owned()) }
}

fn left(change: &Reconfigured) -> Request {
    Request::Reconfigure { change: Box::new(change.clone()) }
}

fn pause() -> Request {
    Request::Pause { who: "cli:user".to_owned() }
}

#[tokio::test]
async fn changes_wait_in_order_and_each_goes_with_its_event() {
    let world = World::new();
    let fence = world.run("a").await;
    let other = world.other();
    for request in [left(&change("one")), pause(), left(&change("two")), left(&change("one"))] {
        other.leave_request(run_id("a"), request, Vec::new()).await.unwrap();
    }
    let fence = push(&world.store, fence, vec![Event::Reconfigured(change("one"))]).await;
    let waiting = [pause(), left(&change("two")), left(&change("one"))];
    assert_eq!(world.store.requests(&run_id("a")).unwrap(), waiting, "only the first of those that are alike");
    let resume = Event::Waiting { on: WaitingOn::Resume(Pause { who: "cli:user".to_owned(), ..Pause::default() }) };
    let fence = push(&world.store, fence, vec![resume]).await;
    assert_eq!(world.store.requests(&run_id("a")).unwrap(), waiting[1..]);
    world.store.release(fence).await.unwrap();
    let fence = other.claim(run_id("a")).await.unwrap();
    assert_eq!(other.requests(&run_id("a")).unwrap(), waiting[1..], "they wait for the next driver");
    push(&other, fence, vec![finished()]).await;
    assert_eq!(other.requests(&run_id("a")).unwrap(), []);
}

/// Another version writes the same change in other words: it is done once all the same.
#[tokio::test]
async fn a_change_goes_with_its_event_however_it_was_written() {
    let world = World::new();
    let fence = world.run("a").await;
    world.store.leave_request(run_id("a"), left(&change("one")), Vec::new()).await.unwrap();
    let sql = "UPDATE requests SET request = json_insert(request, '$.change.later', 1)";
    assert_eq!(world.sql().execute(sql, []).unwrap(), 1);
    assert_eq!(world.store.requests(&run_id("a")).unwrap(), [left(&change("one"))]);
    push(&world.store, fence, vec![Event::Reconfigured(change("one"))]).await;
    assert_eq!(world.store.requests(&run_id("a")).unwrap(), []);
}

#[tokio::test]
async fn a_pause_is_for_the_driver_there_is() {
    let world = World::new();
    let fence = world.run("a").await;
    let other = world.other();
    other.leave_request(run_id("a"), pause(), Vec::new()).await.unwrap();
    world.store.release(fence).await.unwrap();
    assert_eq!(other.requests(&run_id("a")).unwrap(), []);
    let refused = other.leave_request(run_id("a"), pause(), Vec::new()).await;
    assert_eq!(refused, Err(JournalError::NotDriven(run_id("a"))));
}

#[tokio::test]
async fn requests_are_bounded_and_name_blobs_that_are_there() {
    let world = World::new();
    let fence = world.run("a").await;
    let system = Hash::of(b"another system");
    let with_blob = Reconfigured { system: Some(system), ..change("x") };
    let refused = world.store.leave_request(run_id("a"), left(&with_blob), Vec::new()).await;
    assert_eq!(refused, Err(JournalError::NoSuchBlob(system)));
    world.store.leave_request(run_id("a"), left(&with_blob), vec![b"another system".to_vec()]).await.unwrap();
    for _ in 1..100 {
        world.store.leave_request(run_id("a"), pause(), Vec::new()).await.unwrap();
    }
    let refused = world.store.leave_request(run_id("a"), pause(), Vec::new()).await;
    assert!(matches!(refused, Err(JournalError::Refused(_))), "{refused:?}");
    let long = world.store.leave_request(run_id("a"), left(&change(&"x".repeat(2 << 20))), Vec::new()).await;
    assert!(matches!(long, Err(JournalError::Refused(_))), "{long:?}");
    push(&world.store, fence, vec![finished()]).await;
    let refused = world.store.leave_request(run_id("a"), pause(), Vec::new()).await;
    assert_eq!(refused, Err(JournalError::AlreadyFinished(run_id("a"))));
}

#[tokio::test]
async fn a_run_is_held_to_the_budget_it_was_given_last() {
    let world = World::new();
    let fence = world.run("a").await;
    let (budget, _) = world.store.budget(&run_id("a")).unwrap();
    let huge = Budget { tokens_max: u64::MAX, ..budget };
    let mut append = Append::new(fence.clone());
    append.push(Event::Reconfigured(Reconfigured { budget: Some(huge), ..change("x") }));
    assert!(matches!(world.store.append(append).await, Err(JournalError::Refused(_))));
    let small = Budget { steps_max: 1, ..budget };
    let fence =
        push(&world.store, fence, vec![Event::Reconfigured(Reconfigured { budget: Some(small), ..change("x") })]).await;
    assert_eq!(world.store.budget(&run_id("a")).unwrap().0, small);
    let mut append = Append::new(fence);
    append.push(finished());
    append.budget.push(BudgetChange::Reserve(Amount { cost: 0, tokens: 1, steps: 2 }));
    let refused = world.store.append(append).await;
    assert_eq!(refused, Err(JournalError::OverBudget { bound: "steps".to_owned(), limit: 1 }));
    let before = world.projections();
    world.store.rebuild_projections().await.unwrap();
    assert_eq!(world.projections(), before);
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
