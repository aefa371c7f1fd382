//! When there is no room: nothing is lost, and it goes on when there is.

use std::process::Command;

use homarus_contract::journal::{Append, Journal, JournalError};
use homarus_store::{Options, Store};

use crate::fixture::*;

#[tokio::test]
async fn what_does_not_fit_is_refused_whole_and_smaller_things_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Options { journal_bytes_max: 1 << 20, ..options(dir.path()) }).unwrap();
    let fence = accept(&store, "a").await;
    let mut large = Append::new(fence.clone());
    let hash = large.blob(vec![1; 2 << 20]);
    large.push(note("too large"));
    let refused = store.append(large).await;
    assert!(matches!(&refused, Err(JournalError::Unwritable(why)) if why.contains("full")), "{refused:?}");
    assert_eq!(store.blob(&hash), Err(JournalError::NoSuchBlob(hash)));
    let fence = push(&store, fence, vec![note("small")]).await;
    assert_eq!(fence.seq(), 2);
    assert!(store.verify(None).unwrap().is_whole());
    drop(store);
    let store = open(dir.path());
    let fence = store.claim(run_id("a")).await.unwrap();
    let mut large = Append::new(fence);
    let hash = large.blob(vec![1; 2 << 20]);
    large.push(note("it fits now"));
    store.append(large).await.unwrap();
    assert_eq!(store.blob(&hash).unwrap().len(), 2 << 20);
}

#[tokio::test]
async fn in_a_group_only_what_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Options { journal_bytes_max: 1 << 20, ..options(dir.path()) }).unwrap();
    let (a, b, c) = (accept(&store, "a").await, accept(&store, "b").await, accept(&store, "c").await);
    let mut large = Append::new(b);
    large.blob(vec![1; 2 << 20]);
    large.push(note("too large"));
    let (a, b, c) = tokio::join!(
        store.append(with(a, vec![note("a")])),
        store.append(large),
        store.append(with(c, vec![note("c")])),
    );
    assert!(matches!(b, Err(JournalError::Unwritable(_))), "{b:?}");
    assert_eq!((a.unwrap().seq(), c.unwrap().seq()), (2, 2));
}

/// A real full disk, where this user may mount one.
#[tokio::test]
async fn a_full_disk_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_mounted) = SmallDisk::mount(dir.path()) else {
        eprintln!("skipped: this user cannot mount a small disk");
        return;
    };
    let store = open(dir.path());
    let mut fence = accept(&store, "a").await;
    let ballast = dir.path().join("ballast");
    std::fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let refused = loop {
        match store.append(with(fence.clone(), vec![note(&"x".repeat(50_000))])).await {
            Ok(next) => fence = next,
            Err(error) => break error,
        }
        assert!(fence.seq() < 200, "the disk never filled");
    };
    assert!(matches!(&refused, JournalError::Unwritable(why) if why.contains("full")), "{refused}");
    assert_eq!(store.read(&run_id("a").stream(), 0, 500).unwrap().len() as u64, fence.seq());
    std::fs::remove_file(ballast).unwrap();
    let fence = push(&store, fence, vec![note("on")]).await;
    assert_eq!(store.run(&run_id("a")).unwrap().events, fence.seq());
    assert!(store.verify(None).unwrap().is_whole());
    drop(store);
}

/// An auditor's copy on a medium that cannot be written is read and verified.
#[tokio::test]
async fn a_read_only_medium_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path()) else {
        eprintln!("skipped: this user cannot mount a small disk");
        return;
    };
    let state = dir.path().join("st%te ?&");
    let store = open(&state);
    accept(&store, "a").await;
    drop(store);
    disk.make_read_only();
    let reader = Store::open_read_only(options(&state)).unwrap();
    assert_eq!(reader.runs(10).unwrap().len(), 1);
    assert!(reader.verify(None).unwrap().is_whole());
    assert!(Store::open(options(&state)).is_err());
    drop(reader);
}

struct SmallDisk<'a>(&'a std::path::Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a std::path::Path) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }

    fn make_read_only(&self) {
        let output = Command::new("mount").args(["-o", "remount,ro"]).arg(self.0).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}
