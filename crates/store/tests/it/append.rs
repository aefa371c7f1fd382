//! Appending: fenced, ordered, whole or not at all, and many at once.

use homarus_contract::{
    event::Event,
    gate::Ledger,
    ids::{Hash, StreamId},
    journal::{Append, Fence, Journal, JournalError},
};

use crate::fixture::*;

#[tokio::test]
async fn what_is_appended_is_read_back_in_order() {
    let world = World::new();
    let fence = world.run("a").await;
    assert_eq!((fence.epoch(), fence.seq()), (1, 1));
    let fence = push(&world.store, fence, vec![note("one"), note("two")]).await;
    assert_eq!(fence.seq(), 3);
    let stream = run_id("a").stream();
    let records = world.store.read(&stream, 0, 100).unwrap();
    let kinds: Vec<_> = records.iter().map(|record| (record.seq, record.event.kind(), record.epoch)).collect();
    assert_eq!(kinds, [(1, "accepted", 1), (2, "nudged", 1), (3, "nudged", 1)]);
    assert_eq!(world.store.read(&stream, 1, 1).unwrap(), records[1..2]);
    assert_eq!(world.store.read(&stream, 3, 10).unwrap(), []);
    assert_eq!(world.store.read(&stream, 99, 10).unwrap(), []);
}

#[tokio::test]
async fn a_stale_epoch_a_wrong_seq_and_an_unknown_run_are_refused() {
    let world = World::new();
    let fence = world.run("a").await;
    let stale = world.store.append(with(Fence::new(run_id("a"), 0, 1), vec![note("x")])).await;
    assert_eq!(stale, Err(JournalError::Fenced { run: run_id("a"), ours: 0, current: 1 }));
    let wrong = world.store.append(with(Fence::new(run_id("a"), 1, 7), vec![note("x")])).await;
    assert_eq!(wrong, Err(JournalError::WrongSeq { run: run_id("a"), expected: 7, actual: 1 }));
    let none = world.store.append(with(Fence::new(run_id("b"), 1, 1), vec![note("x")])).await;
    assert_eq!(none, Err(JournalError::NoSuchRun("b".into())));
    let system = world.store.append(with(Fence::new(run_id("system"), 0, 1), vec![note("x")])).await;
    assert_eq!(system, Err(JournalError::NoSuchRun("system".into())));
    assert_eq!(push(&world.store, fence, vec![note("x")]).await.seq(), 2, "nothing was written before");
}

#[tokio::test]
async fn a_fence_of_another_driver_does_not_fit_here() {
    let world = World::new();
    let fence = world.run("a").await;
    let other = world.other();
    let refused = other.append(with(fence, vec![note("x")])).await;
    assert!(matches!(refused, Err(JournalError::Fenced { .. })), "{refused:?}");
}

#[tokio::test]
async fn nothing_follows_the_end_of_a_run() {
    let world = World::new();
    let fence = world.run("a").await;
    let both = world.store.append(with(fence.clone(), vec![finished(), note("x")])).await;
    assert!(matches!(both, Err(JournalError::Refused(_))), "{both:?}");
    let fence = push(&world.store, fence, vec![note("last"), finished()]).await;
    let after = world.store.append(with(fence.clone(), vec![note("x")])).await;
    assert_eq!(after, Err(JournalError::AlreadyFinished(run_id("a"))));
    assert_eq!(world.store.claim(run_id("a")).await, Err(JournalError::AlreadyFinished(run_id("a"))));
    assert_eq!(world.store.release(fence).await, Ok(()));
    assert_eq!(world.store.run(&run_id("a")).unwrap().owner, None);
}

#[tokio::test]
async fn what_the_journal_writes_itself_is_refused_from_others() {
    let world = World::new();
    let fence = world.run("a").await;
    let forged = [
        Event::Accepted(accepted("a")),
        Event::TakenOver { driver: world.store.driver().unwrap().clone() },
        Event::Checkpoint { stream: StreamId::system(), seq: 1, hash: Hash::ZERO, status: "running".into() },
    ];
    for event in forged {
        let kind = event.kind();
        let refused = world.store.append(with(fence.clone(), vec![event])).await;
        assert!(matches!(&refused, Err(JournalError::Refused(why)) if why.contains(kind)), "{refused:?}");
    }
}

#[tokio::test]
async fn blobs_come_with_the_events_that_name_them() {
    let world = World::new();
    let missing = world.store.accept(accepted("a"), vec![]).await;
    assert_eq!(missing, Err(JournalError::NoSuchBlob(Hash::of(NAMES[0]))));
    let fence = world.run("a").await;
    let mut append = Append::new(fence);
    let hash = append.blob(vec![7; 100_000]);
    append.push(note("with a blob"));
    assert_eq!(world.store.blob(&hash), Err(JournalError::NoSuchBlob(hash)));
    world.store.commit(append).await.unwrap();
    assert_eq!(world.store.blob(&hash).unwrap(), vec![7; 100_000]);
}

#[tokio::test]
async fn a_refused_append_leaves_nothing_behind() {
    let world = World::new();
    let fence = world.run("a").await;
    let mut append = Append::new(fence.clone());
    let hash = append.blob("gone");
    append.push(note("x"));
    append.push(Event::TakenOver { driver: world.store.driver().unwrap().clone() });
    world.store.append(append).await.unwrap_err();
    assert_eq!(world.store.blob(&hash), Err(JournalError::NoSuchBlob(hash)));
    assert_eq!(world.store.read(&fence.run().stream(), 0, 10).unwrap().len(), 1);
}

#[tokio::test]
async fn too_much_at_once_is_refused() {
    let world = World::new();
    let fence = world.run("a").await;
    let many = world.store.append(with(fence.clone(), vec![note("x"); 1001])).await;
    assert!(matches!(many, Err(JournalError::Refused(_))), "{many:?}");
    let large = world.store.append(with(fence.clone(), vec![note(&"x".repeat(17 << 20))])).await;
    assert!(matches!(large, Err(JournalError::Refused(_))), "{large:?}");
    assert_eq!(push(&world.store, fence, vec![note("x"); 1000]).await.seq(), 1001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_tasks_lose_nothing_and_share_commits() {
    let world = World::new();
    let before = world.store.stats();
    let tasks: Vec<_> = (0..100)
        .map(|task| {
            let store = world.store.clone();
            tokio::spawn(async move {
                let mut fence = accept(&store, &format!("run{task}")).await;
                for step in 0..10 {
                    fence = push(&store, fence, vec![note(&format!("{task}.{step}"))]).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for task in 0..100 {
        let records = world.store.read(&run_id(&format!("run{task}")).stream(), 0, 100).unwrap();
        let texts: Vec<_> = records
            .iter()
            .filter_map(|record| match &record.event {
                Event::Nudged { text, .. } => Some(text.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(texts, (0..10).map(|step| format!("{task}.{step}")).collect::<Vec<_>>());
    }
    let after = world.store.stats();
    assert_eq!(after.requests - before.requests, 1_100);
    assert!(after.commits - before.commits < 550, "{after:?}");
    assert!(world.store.verify(None).unwrap().is_whole());
}

#[tokio::test]
async fn in_a_group_a_refused_append_fails_alone() {
    let world = World::new();
    let (a, b) = (world.run("a").await, world.run("b").await);
    let stale = Fence::new(run_id("a"), 9, 1);
    // Polled together, all are queued before the writer has taken the second.
    let (first, second, third) = tokio::join!(
        world.store.append(with(a, vec![note("a")])),
        world.store.append(with(stale, vec![note("no")])),
        world.store.append(with(b, vec![note("b")])),
    );
    assert_eq!((first.unwrap().seq(), third.unwrap().seq()), (2, 2));
    assert!(matches!(second, Err(JournalError::Fenced { .. })));
}

#[tokio::test]
async fn a_commit_wakes_those_who_wait_for_changes() {
    let world = World::new();
    let mut changes = world.store.changes();
    changes.mark_unchanged();
    world.run("a").await;
    assert!(changes.has_changed().unwrap());
}
