//! Single bits flipped anywhere in the files, and files cut short: verifying finds each, or the opening does, unless
//! nothing that can be read has changed.

use std::{fs, path::Path};

use homarus_contract::journal::{Append, Journal};
use homarus_store::Store;
use rusqlite::{Connection, OpenFlags};

use crate::fixture::*;

const PAGE_BYTES: usize = 4096;
const FRAME_BYTES: usize = 24 + PAGE_BYTES;
const FLIPS: u64 = 400;
/// What is signed, chained, or a fold of it. Not here: notes of the present, and who owns a run.
const SIGNED: [(&str, &str); 6] = [
    ("events", "stream, seq, at_ms, epoch, hash, body, changes"),
    ("streams", "stream, head_seq, head_hash, head_sig, epoch"),
    ("blobs", "hash, bytes"),
    ("runs", "run, status, prompt, workspace, created_ms, updated_ms, cost_known"),
    ("budgets", "*"),
    ("inbox", "source, ext_id, run"),
];

/// Runs with many events, blobs that fill a page in part and several pages; all commits one by one.
async fn filled() -> World {
    let world = World::new();
    for name in ["a", "b", "c", "d"] {
        let mut fence = world.run(name).await;
        for number in 0..12u32 {
            let mut append = Append::new(fence);
            append.push(note(&format!("{name} {number} {}", "text ".repeat(number as usize * 9))));
            if number % 4 == 0 {
                append.blob(format!("{name} {number}").repeat(800 * (1 + number as usize)).into_bytes());
            }
            fence = world.store.append(append).await.unwrap();
        }
        push(&world.store, fence, vec![if name < "c" { finished() } else { paused() }]).await;
    }
    world
}

fn chance(seed: &mut u64, below: usize) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) as usize % below
}

/// The files of a state folder as they are now, keys included.
fn copy(from: &Path, to: &Path) {
    for name in ["journal.db", "journal.db-wal", "format.lock", "keys/journal.key", "keys/journal.pub"] {
        if from.join(name).exists() {
            fs::create_dir_all(to.join(name).parent().unwrap()).unwrap();
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

/// All that can be read of what is signed; `None` where it cannot be read.
fn content(dir: &Path) -> Option<Vec<String>> {
    let connection = Connection::open_with_flags(dir.join("journal.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    let mut lines = Vec::new();
    for (table, columns) in SIGNED {
        let mut statement =
            connection.prepare(&format!("SELECT {columns} FROM {table} NOT INDEXED ORDER BY 1, 2")).ok()?;
        let count = statement.column_count();
        let mut rows = statement.query([]).ok()?;
        while let Some(row) = rows.next().ok()? {
            lines.push((0..count).map(|at| format!("{:?}|", row.get_ref(at).unwrap())).collect());
        }
    }
    Some(lines)
}

fn is_noticed(dir: &Path) -> bool {
    match Store::open_read_only(options(dir)) {
        Ok(store) => !matches!(store.verify(None), Ok(report) if report.is_whole()),
        Err(_) => true,
    }
}

#[tokio::test]
async fn a_flipped_bit_of_the_database_is_found_or_changes_nothing() {
    let World { dir, store } = filled().await;
    drop(store);
    let path = dir.path().join("journal.db");
    let whole = fs::read(&path).unwrap();
    let before = content(dir.path()).unwrap();
    assert!(!is_noticed(dir.path()));
    let (mut seed, mut noticed) = (1u64, 0);
    for _ in 0..FLIPS {
        let (at, bit) = (chance(&mut seed, whole.len()), chance(&mut seed, 8));
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << bit;
        fs::write(&path, flipped).unwrap();
        if is_noticed(dir.path()) {
            noticed += 1;
        } else {
            assert!(content(dir.path()).as_ref() == Some(&before), "byte {at}, bit {bit}: changed, and not noticed");
        }
    }
    assert!(noticed >= 100, "only {noticed} of {FLIPS} flips were of bytes that carry something");
}

/// The log of a process that was killed: SQLite takes a frame that does not fit for its end, we do not.
#[tokio::test]
async fn a_flipped_bit_of_the_log_is_found_before_its_last_transaction() {
    let world = filled().await;
    let copied = tempfile::tempdir().unwrap();
    copy(world.dir.path(), copied.path());
    let path = copied.path().join("journal.db-wal");
    let whole = fs::read(&path).unwrap();
    let ends: Vec<usize> = (32..whole.len())
        .step_by(FRAME_BYTES)
        .filter(|at| whole[at + 4..at + 8] != [0; 4])
        .map(|at| at + FRAME_BYTES)
        .collect();
    let last_begins = ends[ends.len() - 2];
    assert_eq!((ends[ends.len() - 1], ends.len() > 40), (whole.len(), true));
    let before = content(copied.path()).unwrap();
    let mut seed = 3u64;
    for _ in 0..100 {
        let (at, bit) = (chance(&mut seed, last_begins), chance(&mut seed, 8));
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << bit;
        fs::write(&path, &flipped).unwrap();
        let _ = fs::remove_file(copied.path().join("journal.db-shm"));
        assert!(is_noticed(copied.path()), "byte {at}, bit {bit} of the log");
        let refused = Store::open(options(copied.path())).err();
        assert!(matches!(refused, Some(homarus_store::StoreError::DamagedLog { .. })), "byte {at}: {refused:?}");
        assert!(fs::read(&path).unwrap() == flipped, "nothing was written over it");
    }
    // The last one looks like one that power was lost in: all before it is there.
    let mut flipped = whole.clone();
    flipped[last_begins + 1000] ^= 1;
    fs::write(&path, flipped).unwrap();
    let _ = fs::remove_file(copied.path().join("journal.db-shm"));
    assert!(!is_noticed(copied.path()));
    let after = content(copied.path()).unwrap();
    assert!(after.len() < before.len() && after.len() + 3 >= before.len());
    // Untouched it is whole, and a driver goes on with it.
    fs::write(&path, whole).unwrap();
    let _ = fs::remove_file(copied.path().join("journal.db-shm"));
    assert!(!is_noticed(copied.path()));
    assert!(content(copied.path()).unwrap() == before);
    assert!(open(copied.path()).verify(None).unwrap().is_whole());
}

/// A log that others write is never called damaged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_written_is_not_taken_for_damaged() {
    let world = World::new();
    let mut fence = world.run("a").await;
    let dir = world.dir.path().to_owned();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let looks = std::thread::spawn(move || {
        let mut looks = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let store = Store::open(options(&dir)).unwrap();
            assert!(store.verify(None).unwrap().is_whole());
            looks += 1;
        }
        looks
    });
    for number in 0..600 {
        fence = push(&world.store, fence, vec![note(&format!("{number} {}", "x".repeat(number * 7)))]).await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(looks.join().unwrap() > 3);
}

#[tokio::test]
async fn a_file_that_was_cut_short_is_found() {
    let World { dir, store } = filled().await;
    drop(store);
    let path = dir.path().join("journal.db");
    let whole = fs::read(&path).unwrap();
    let mut seed = 5u64;
    let pages = (1..whole.len() / PAGE_BYTES).map(|page| page * PAGE_BYTES);
    for bytes in pages.chain((0..20).map(|_| 1 + chance(&mut seed, whole.len() - 1))) {
        fs::write(&path, &whole[..bytes]).unwrap();
        assert!(is_noticed(dir.path()), "cut to {bytes} of {}", whole.len());
    }
}

/// An old copy in the place of the database alone, beside the log of the present one.
#[tokio::test]
async fn an_old_database_under_a_new_log_is_found() {
    let world = World::new();
    let fence = world.run("a").await;
    let World { dir, store } = world;
    push(&store, fence, vec![note("early"), paused()]).await;
    drop(store);
    let old = fs::read(dir.path().join("journal.db")).unwrap();
    let store = open(dir.path());
    for name in ["b", "c", "d", "e"] {
        let fence = accept(&store, name).await;
        push(&store, fence, vec![note(&"late ".repeat(3000)), finished()]).await;
    }
    drop(store);
    let store = open(dir.path());
    let fence = accept(&store, "f").await;
    push(&store, fence, vec![finished()]).await;
    let copied = tempfile::tempdir().unwrap();
    copy(dir.path(), copied.path());
    assert!(!is_noticed(copied.path()));
    fs::write(copied.path().join("journal.db"), old).unwrap();
    let _ = fs::remove_file(copied.path().join("journal.db-shm"));
    assert!(is_noticed(copied.path()));
}
