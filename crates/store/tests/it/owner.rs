//! Who may work on a run, and what happens when they are gone.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use homarus_contract::{
    event::Event,
    journal::{Journal, JournalError, RunStatus},
};

use crate::fixture::*;

fn lock_files(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("drivers")).unwrap().count()
}

#[tokio::test]
async fn a_living_owner_keeps_its_run() {
    let world = World::new();
    world.run("a").await;
    let other = world.other();
    assert_eq!(other.claim(run_id("a")).await, Err(JournalError::Busy(run_id("a"))));
    assert_eq!(world.store.claim(run_id("a")).await, Err(JournalError::Busy(run_id("a"))), "it is ours already");
    assert_eq!(other.claim(run_id("b")).await, Err(JournalError::NoSuchRun("b".into())));
    assert!(other.run(&run_id("a")).unwrap().owner_alive);
    assert_eq!(other.orphans().unwrap(), []);
}

#[tokio::test]
async fn a_released_run_goes_to_who_claims_it_and_the_old_fence_is_dead() {
    let world = World::new();
    let fence = world.run("a").await;
    let fence = push(&world.store, fence, vec![paused()]).await;
    world.store.release(fence.clone()).await.unwrap();
    let late = world.store.append(with(fence.clone(), vec![note("late")])).await;
    assert!(matches!(late, Err(JournalError::Fenced { .. })), "{late:?}");
    let other = world.other();
    let taken = other.claim(run_id("a")).await.unwrap();
    assert_eq!((taken.epoch(), taken.seq()), (2, 3));
    let row = other.run(&run_id("a")).unwrap();
    assert_eq!((row.status, row.epoch, row.owner.as_ref()), (RunStatus::Running, 2, other.driver()));
    let stale = world.store.append(with(fence.clone(), vec![note("late")])).await;
    assert_eq!(stale, Err(JournalError::Fenced { run: run_id("a"), ours: 1, current: 2 }));
    assert!(matches!(world.store.release(fence).await, Err(JournalError::Fenced { .. })));
    let last = other.read(&run_id("a").stream(), 2, 1).unwrap().remove(0);
    assert_eq!(last.event, Event::TakenOver { driver: other.driver().unwrap().clone() });
    assert_eq!(last.epoch, 2);
}

#[tokio::test]
async fn the_run_of_a_driver_that_is_gone_is_claimed_at_once() {
    let world = World::new();
    let gone = world.other();
    let dead = gone.driver().unwrap().clone();
    let fence = accept(&gone, "a").await;
    drop(gone);
    assert_eq!(world.store.orphans().unwrap(), [run_id("a")]);
    let row = world.store.run(&run_id("a")).unwrap();
    assert_eq!((row.owner, row.owner_alive), (Some(dead), false));
    let taken = world.store.claim(run_id("a")).await.unwrap();
    assert_eq!((taken.epoch(), taken.seq()), (fence.epoch() + 1, fence.seq() + 1));
    assert_eq!(world.store.orphans().unwrap(), []);
}

#[tokio::test]
async fn a_sandbox_that_still_holds_the_lock_holds_the_run() {
    let world = World::new();
    let gone = world.other();
    accept(&gone, "a").await;
    let inherited = gone.driver_lock().unwrap().try_clone().unwrap();
    drop(gone);
    assert_eq!(world.store.claim(run_id("a")).await, Err(JournalError::Busy(run_id("a"))));
    drop(inherited);
    assert!(world.store.claim(run_id("a")).await.is_ok());
}

#[tokio::test]
async fn waiting_and_paused_runs_are_no_orphans() {
    let world = World::new();
    let gone = world.other();
    let fence = accept(&gone, "a").await;
    push(&gone, fence, vec![paused()]).await;
    drop(gone);
    assert_eq!(world.store.orphans().unwrap(), []);
    assert!(world.store.claim(run_id("a")).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_drivers_that_fight_for_a_run_one_gets_it() {
    let world = World::new();
    let gone = world.other();
    for at in 0..30 {
        accept(&gone, &format!("r{at}")).await;
    }
    drop(gone);
    let other = world.other();
    let mut shares = [0, 0];
    for at in 0..30 {
        let run = run_id(&format!("r{at}"));
        let (store, rival, rivals) = (world.store.clone(), other.clone(), run.clone());
        let here = tokio::spawn(async move { store.claim(run).await });
        let there = tokio::spawn(async move { rival.claim(rivals).await });
        let won = [here.await.unwrap().is_ok(), there.await.unwrap().is_ok()];
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "run {at}");
        shares[usize::from(won[1])] += 1;
    }
    assert_eq!(shares[0] + shares[1], 30);
    assert!(world.store.verify(None).unwrap().is_whole());
}

#[tokio::test]
async fn lock_files_go_when_nothing_needs_them() {
    let world = World::new();
    assert_eq!(lock_files(world.dir.path()), 1);
    drop(world.other());
    assert_eq!(lock_files(world.dir.path()), 1, "it owned nothing");
    let gone = world.other();
    accept(&gone, "a").await;
    accept(&gone, "b").await;
    drop(gone);
    assert_eq!(lock_files(world.dir.path()), 2, "two runs name it");
    world.store.claim(run_id("a")).await.unwrap();
    assert_eq!(lock_files(world.dir.path()), 2, "one run names it");
    world.store.claim(run_id("b")).await.unwrap();
    assert_eq!(lock_files(world.dir.path()), 1);
}

#[tokio::test]
async fn a_missing_lock_file_means_that_its_driver_is_dead() {
    let world = World::new();
    let gone = world.other();
    let name = format!("drivers/{}.lock", gone.driver().unwrap());
    accept(&gone, "a").await;
    drop(gone);
    std::fs::remove_file(world.dir.path().join(name)).unwrap();
    assert!(world.store.claim(run_id("a")).await.is_ok());
}

#[tokio::test]
async fn a_killed_process_loses_its_run_and_nothing_else() {
    let world = World::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner::helper_that_is_killed", "--ignored", "--nocapture"])
        .env("STORE_TEST_DIR", world.dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_line(&mut child, "appended");
    assert_eq!(world.store.claim(run_id("a")).await, Err(JournalError::Busy(run_id("a"))));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(world.store.orphans().unwrap(), [run_id("a")]);
    let taken = world.store.claim(run_id("a")).await.unwrap();
    assert_eq!((taken.epoch(), taken.seq()), (2, 52));
    assert_eq!(world.store.read(&run_id("a").stream(), 0, 100).unwrap().len(), 52);
    assert!(world.store.verify(None).unwrap().is_whole());
}

fn wait_for_line(child: &mut Child, wanted: &str) {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains(wanted)), "the helper ended early");
}

#[test]
#[ignore = "started by the test above, as a process of its own"]
#[expect(clippy::disallowed_methods, reason = "the only way to tell a test harness's child where to work")]
fn helper_that_is_killed() {
    let Some(dir) = std::env::var_os("STORE_TEST_DIR") else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = open(Path::new(&dir));
    runtime.block_on(async {
        let mut fence = accept(&store, "a").await;
        for at in 0..50 {
            fence = push(&store, fence, vec![note(&at.to_string())]).await;
        }
        println!("appended");
        std::future::pending::<()>().await;
    });
}
