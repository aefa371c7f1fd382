//! Opening: quickly, safely, and not at all when something is wrong.

use std::{fs, os::unix::fs::PermissionsExt};

use homarus_contract::journal::{Journal, JournalError};
use homarus_store::{Store, StoreError};

use crate::fixture::*;

fn refusal(opened: Result<std::sync::Arc<Store>, StoreError>) -> StoreError {
    opened.err().expect("it opened")
}

#[tokio::test]
async fn a_closed_journal_opens_as_it_was() {
    let world = World::new();
    let fence = world.run("a").await;
    push(&world.store, fence, vec![note("x")]).await;
    let World { dir, store } = world;
    let before = store.read(&run_id("a").stream(), 0, 10).unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.read(&run_id("a").stream(), 0, 10).unwrap(), before);
    assert!(store.verify(None).unwrap().is_whole());
}

#[tokio::test]
async fn read_only_reads_and_does_not_write() {
    let dir = tempfile::tempdir().unwrap();
    let none = refusal(Store::open_read_only(options(dir.path())));
    assert!(matches!(none, StoreError::NoJournal(_)));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "looking makes nothing");
    let store = open(dir.path());
    accept(&store, "a").await;
    for is_open_elsewhere in [true, false] {
        let reader = Store::open_read_only(options(dir.path())).unwrap();
        assert_eq!(reader.runs(10).unwrap().len(), 1, "open elsewhere: {is_open_elsewhere}");
        assert!(reader.verify(None).unwrap().is_whole());
        assert!(reader.driver().is_none() && reader.driver_lock().is_none());
        assert!(matches!(reader.request_cancel(run_id("a")).await, Err(JournalError::Unwritable(_))));
        assert!(matches!(reader.accept(accepted("b"), blobs()).await, Err(JournalError::Unwritable(_))));
        if is_open_elsewhere {
            drop(open(dir.path()));
        }
    }
    drop(store);
    assert_eq!(Store::open_read_only(options(dir.path())).unwrap().runs(10).unwrap().len(), 1);
}

#[test]
fn first_starts_at_once_agree() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let begin = std::sync::Barrier::new(5);
        std::thread::scope(|scope| {
            let start = || {
                begin.wait();
                Store::open(options(dir.path())).map(drop)
            };
            let starts: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            let look = scope.spawn(|| {
                begin.wait();
                Store::open_read_only(options(dir.path())).map(drop)
            });
            for start in starts {
                start.join().unwrap().unwrap();
            }
            match look.join().unwrap() {
                Ok(()) | Err(StoreError::NoJournal(_)) => {}
                Err(error) => panic!("{error}"),
            }
        });
    }
}

#[tokio::test]
async fn the_key_is_private_and_must_stay() {
    let world = World::new();
    world.run("a").await;
    let World { dir, store } = world;
    drop(store);
    let key = dir.path().join("keys/journal.key");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&key), 0o600);
    assert_eq!(mode(&dir.path().join("keys")), 0o700);

    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = refusal(Store::open(options(dir.path())));
    assert!(matches!(exposed, StoreError::KeyExposed { mode: 0o644, .. }), "{exposed}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    let text = fs::read_to_string(&key).unwrap();
    fs::write(&key, "00").unwrap();
    assert!(matches!(refusal(Store::open(options(dir.path()))), StoreError::BadKey(_)));
    fs::write(&key, "11".repeat(32)).unwrap();
    assert!(matches!(refusal(Store::open(options(dir.path()))), StoreError::WrongKey(_)));
    fs::remove_file(&key).unwrap();
    assert!(matches!(refusal(Store::open(options(dir.path()))), StoreError::KeyMissing(_)));
    assert!(!key.exists(), "no new key in its place");

    fs::write(&key, text).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(open(dir.path()).verify(None).unwrap().is_whole());
}

#[tokio::test]
async fn opening_again_writes_nothing_to_the_database() {
    let world = World::new();
    world.run("a").await;
    let World { dir, store } = world;
    drop(store);
    let path = dir.path().join("journal.db");
    let before = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
    let store = open(dir.path());
    assert_eq!(store.runs(10).unwrap().len(), 1);
    assert_eq!(store.stats().commits, 0);
    drop(store);
    assert_eq!((fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap()), before);
}
