//! Runs that are deleted: nothing of them is left but a word of the system stream, and nobody else can do that unseen.

use std::fs;

use homarus_contract::{
    event::{Event, Inbound, Reconfigured},
    ids::{Hash, StreamId},
    journal::{Journal, JournalError, Request},
};
use homarus_store::Swept;

use crate::fixture::*;

const SECRET: &str = "nobody may find this again";

/// A run that has ended, with a text and a blob that only it has.
async fn ended(world: &World, name: &str) {
    let fence = world.run(name).await;
    let mut append = with(fence, vec![note(&format!("{SECRET} ({name})"))]);
    let shown = append.blob(format!("{SECRET}, in a blob of {name}"));
    append
        .events
        .push(Event::Reconfigured(Reconfigured { system: Some(shown), ..Reconfigured::by("test".to_owned()) }));
    let fence = world.store.append(append).await.unwrap();
    push(&world.store, fence, vec![finished()]).await;
}

async fn delete(world: &World, name: &str) -> Result<(), JournalError> {
    world.store.delete(run_id(name), "cli:jane".to_owned()).await
}

fn is_deleted<T: std::fmt::Debug>(answer: Result<T, JournalError>) -> bool {
    matches!(answer, Err(JournalError::Deleted { who, .. }) if who == "cli:jane")
}

fn findings(world: &World) -> Vec<String> {
    let report = world.store.verify(None).unwrap();
    report
        .findings
        .iter()
        .map(|finding| format!("{}: {}", finding.stream.as_deref().unwrap_or(""), finding.what))
        .collect()
}

#[tokio::test]
async fn nothing_is_left_but_a_word_of_it() {
    let world = World::new();
    ended(&world, "gone").await;
    ended(&world, "kept").await;
    let head = world.store.read(&run_id("gone").stream(), 0, 100).unwrap().pop().unwrap();
    delete(&world, "gone").await.unwrap();

    assert_eq!(findings(&world), Vec::<String>::new());
    assert!(is_deleted(world.store.run(&run_id("gone"))));
    assert!(is_deleted(world.store.read(&run_id("gone").stream(), 0, 1)));
    assert!(is_deleted(world.store.budget(&run_id("gone"))));
    assert!(is_deleted(world.store.claim(run_id("gone")).await));
    assert!(is_deleted(delete(&world, "gone").await), "once");
    let rows = world.store.runs(10).unwrap();
    assert_eq!(rows.iter().map(|row| row.run.as_str()).collect::<Vec<_>>(), ["kept"]);
    let told = world.store.read(&StreamId::system(), 0, 100).unwrap().pop().unwrap();
    let Event::Deleted { stream, seq, hash, status, who, .. } = told.event else { panic!("{told:?}") };
    assert_eq!((stream.as_str(), seq, hash), ("gone", head.seq, head.hash));
    assert_eq!((status.as_str(), who.as_str()), ("completed", "cli:jane"));

    assert!(is_deleted(world.store.accept(accepted("gone"), blobs()).await), "its name is not used again");
    let mut again = accepted("other");
    again.inbound = Inbound { ext_id: "ext-gone".into(), ..again.inbound };
    world.store.accept(again, blobs()).await.unwrap();
    assert_eq!(world.store.rebuild_projections().await.unwrap(), 2);
    assert!(is_deleted(world.store.run(&run_id("gone"))), "also after a rebuild");
    assert_eq!(findings(&world), Vec::<String>::new());
}

#[tokio::test]
async fn a_run_that_has_not_ended_stays() {
    let world = World::new();
    let fence = world.run("open").await;
    let refused = delete(&world, "open").await.unwrap_err();
    assert!(matches!(&refused, JournalError::Refused(what) if what.contains("runs cancel")), "{refused}");
    let fence = push(&world.store, fence, vec![paused()]).await;
    assert!(delete(&world, "open").await.is_err(), "paused");
    push(&world.store, fence, vec![finished()]).await;
    delete(&world, "open").await.unwrap();
    assert!(matches!(delete(&world, "never").await, Err(JournalError::NoSuchRun(_))));
    assert!(matches!(delete(&world, "system").await, Err(JournalError::NoSuchRun(_))));
}

#[tokio::test]
async fn blobs_go_when_nobody_names_them() {
    let world = World::new();
    ended(&world, "gone").await;
    ended(&world, "kept").await;
    assert_eq!(world.store.sweep().await.unwrap(), Swept::default(), "all are named");
    delete(&world, "gone").await.unwrap();
    let text = format!("{SECRET}, in a blob of gone");
    assert!(world.store.blob(&Hash::of(text.as_bytes())).is_ok(), "until the sweep");
    assert_eq!(world.store.sweep().await.unwrap(), Swept { blobs: 1, bytes: text.len() as u64 });
    assert!(matches!(world.store.blob(&Hash::of(text.as_bytes())), Err(JournalError::NoSuchBlob(_))));
    NAMES.iter().for_each(|name| assert!(world.store.blob(&Hash::of(name)).is_ok(), "the others name it"));
    assert_eq!(findings(&world), Vec::<String>::new());
}

#[tokio::test]
async fn a_blob_that_a_request_names_stays() {
    let world = World::new();
    ended(&world, "gone").await;
    world.run("open").await;
    let text = format!("{SECRET}, in a blob of gone");
    let system = Some(Hash::of(text.as_bytes()));
    let change = Reconfigured { system, ..Reconfigured::by("test".to_owned()) };
    let request = Request::Reconfigure { change: Box::new(change) };
    world.store.leave_request(run_id("open"), request, Vec::new()).await.unwrap();
    delete(&world, "gone").await.unwrap();
    assert_eq!(world.store.sweep().await.unwrap(), Swept::default());
}

#[tokio::test]
async fn what_was_deleted_is_not_in_the_files() {
    let world = World::new();
    ended(&world, "gone").await;
    delete(&world, "gone").await.unwrap();
    world.store.sweep().await.unwrap();
    let World { dir, store } = world;
    drop(store);
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()), "{}", path.display());
        }
    }
}

#[tokio::test]
async fn a_deletion_that_is_forged_is_found() {
    let take = |run: &str| {
        ["inbox WHERE run", "budgets WHERE run", "runs WHERE run", "events WHERE stream", "streams WHERE stream"]
            .map(|from| format!("DELETE FROM {from} = '{run}';"))
            .concat()
    };
    for (name, tampering, found) in [
        ("without a word", take("kept"), "kept: the system stream"),
        (
            "only listed",
            format!("{} INSERT INTO deleted VALUES ('kept', 1, 'cli:jane')", take("kept")),
            "kept: it is listed as deleted, and the system stream does not say so",
        ),
        ("listed beside the run", "INSERT INTO deleted VALUES ('kept', 1, 'x')".to_owned(), "kept: it is listed"),
        ("taken from the list", "DELETE FROM deleted".to_owned(), "gone: the list of deleted runs differs"),
        ("by another", "UPDATE deleted SET who = 'cli:eve'".to_owned(), "gone: the list of deleted runs differs"),
        (
            "come back",
            "INSERT INTO streams SELECT 'gone', head_seq, head_hash, head_sig, epoch, owner FROM streams WHERE stream = 'kept'"
                .to_owned(),
            "gone: the system stream (event 5) says it was deleted, and it is here",
        ),
    ] {
        let world = World::new();
        ended(&world, "gone").await;
        ended(&world, "kept").await;
        delete(&world, "gone").await.unwrap();
        world.sql().execute_batch(&tampering).unwrap();
        let findings = findings(&world);
        assert!(findings.iter().any(|finding| finding.starts_with(found)), "{name}: {findings:#?}");
    }
}

#[tokio::test]
async fn the_oldest_that_ended_come_first() {
    let world = World::new();
    for name in ["b", "a", "c"] {
        ended(&world, name).await;
    }
    world.run("open").await;
    let names = |at_ms, limit| -> Vec<String> {
        world.store.ended_before(at_ms, limit).unwrap().into_iter().map(|row| row.run.to_string()).collect()
    };
    assert_eq!(names(u64::MAX, 10), ["b", "a", "c"]);
    assert_eq!(names(u64::MAX, 2), ["b", "a"]);
    let last = world.store.run(&run_id("a")).unwrap().updated_ms;
    assert_eq!(names(last, 10), ["b"]);
}
