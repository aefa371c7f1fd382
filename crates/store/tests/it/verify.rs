//! Tampering: each way of it is found, and an untouched journal is clean.

use homarus_contract::{
    ids::{Hash, StreamId},
    journal::{Append, Journal, JournalError},
};
use homarus_store::VerifyReport;

use crate::fixture::*;

/// Three runs: `a` finished, `b` paused with a blob and events after its last checkpoint, `c` fresh.
async fn world() -> World {
    let world = World::new();
    let fence = world.run("a").await;
    push(&world.store, fence, vec![note("a2"), note("a3"), finished()]).await;
    let fence = world.run("b").await;
    let fence = push(&world.store, fence, vec![note("b2"), paused()]).await;
    let mut append = Append::new(fence);
    append.blob("the blob of b");
    append.push(note("b4"));
    append.push(note("b5"));
    world.store.append(append).await.unwrap();
    world.run("c").await;
    world
}

fn found(report: &VerifyReport, stream: &str, what: &str) -> bool {
    report.findings.iter().any(|finding| finding.stream.as_deref() == Some(stream) && finding.what.contains(what))
}

/// Tampers with SQL, then expects a finding on the stream (empty: on none) that contains the text.
async fn check(tamper: &str, stream: &str, what: &str) {
    let world = world().await;
    let clean = world.store.verify(None).unwrap();
    assert!(clean.is_whole(), "{clean:?}");
    world.sql().execute_batch(tamper).unwrap();
    let report = world.store.verify(None).unwrap();
    let fits = if stream.is_empty() {
        report.findings.iter().any(|finding| finding.stream.is_none() && finding.what.contains(what))
    } else {
        found(&report, stream, what)
    };
    assert!(fits, "{tamper}\n{report:#?}");
    if !stream.is_empty() && stream != "system" && what != "was inserted" {
        let one = world.store.verify(Some(&run_id(stream))).unwrap();
        assert!(found(&one, stream, what), "{tamper}, alone\n{one:#?}");
    }
}

#[tokio::test]
async fn an_untouched_journal_is_whole() {
    let world = world().await;
    let report = world.store.verify(None).unwrap();
    assert!(report.is_whole());
    assert_eq!((report.streams, report.events, report.checkpoints), (4, 4 + 5 + 1 + 5, 5));
    let one = world.store.verify(Some(&run_id("b"))).unwrap();
    assert!(one.is_whole());
    assert_eq!(one.streams, 2);
    assert_eq!(world.store.verify(Some(&run_id("zz"))), Err(JournalError::NoSuchRun("zz".into())));
    assert!(World::new().store.verify(None).unwrap().is_whole(), "an empty one too");
}

#[tokio::test]
async fn a_changed_event_is_found() {
    let fits_not = "its hash does not fit";
    check("UPDATE events SET body = replace(body, 'a2', 'a9') WHERE stream = 'a' AND seq = 2", "a", fits_not).await;
    check("UPDATE events SET at_ms = at_ms + 1 WHERE stream = 'a' AND seq = 2", "a", fits_not).await;
    check("UPDATE events SET epoch = 2 WHERE stream = 'a' AND seq = 2", "a", fits_not).await;
    check("UPDATE events SET changes = '[]' WHERE stream = 'a' AND seq = 2", "a", fits_not).await;
    check("UPDATE events SET hash = zeroblob(32) WHERE stream = 'a' AND seq = 2", "a", fits_not).await;
    check("UPDATE events SET hash = x'00' WHERE stream = 'a' AND seq = 2", "a", fits_not).await;
    check("UPDATE events SET body = 'nonsense' WHERE stream = 'a' AND seq = 2", "a", "not an event").await;
    check("UPDATE events SET at_ms = -5 WHERE stream = 'a' AND seq = 2", "a", fits_not).await;
}

#[tokio::test]
async fn every_bit_of_a_hash_counts() {
    let world = world().await;
    let sql = world.sql();
    let read = "SELECT hash FROM events WHERE stream = 'a' AND seq = 3";
    let hash: Vec<u8> = sql.query_row(read, [], |row| row.get(0)).unwrap();
    for bit in 0..256 {
        let mut flipped = hash.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        sql.execute("UPDATE events SET hash = ?1 WHERE stream = 'a' AND seq = 3", [flipped]).unwrap();
        assert!(!world.store.verify(Some(&run_id("a"))).unwrap().is_whole(), "bit {bit}");
    }
}

#[tokio::test]
async fn removed_inserted_and_swapped_events_are_found() {
    check("DELETE FROM events WHERE stream = 'a' AND seq = 2", "a", "it is missing").await;
    check("DELETE FROM events WHERE stream = 'b' AND seq IN (2, 3)", "b", "events 2 to 3 are missing").await;
    check("DELETE FROM events WHERE stream = 'a' AND seq = 1", "a", "it is missing").await;
    check(
        "INSERT INTO events SELECT stream, 6, at_ms, epoch, hash, body, changes FROM events
         WHERE stream = 'b' AND seq = 5",
        "b",
        "after the head",
    )
    .await;
    check(
        "UPDATE events SET seq = 99 WHERE stream = 'a' AND seq = 2; UPDATE events SET seq = 2 WHERE stream = 'a' AND seq = 3;
         UPDATE events SET seq = 3 WHERE stream = 'a' AND seq = 99",
        "a",
        "its hash does not fit",
    )
    .await;
}

#[tokio::test]
async fn a_cut_off_tail_is_found_even_with_the_head_put_right() {
    check("DELETE FROM events WHERE stream = 'b' AND seq = 5", "b", "were cut off").await;
    let to = |seq: u32| {
        format!(
            "DELETE FROM events WHERE stream = 'b' AND seq > {seq};
             UPDATE streams SET head_seq = {seq},
                 head_hash = (SELECT hash FROM events WHERE stream = 'b' AND seq = {seq}) WHERE stream = 'b'"
        )
    };
    check(&to(4), "b", "the signature of the head does not fit").await;
    check(&to(2), "b", "vouches for it, and it is gone").await;
}

/// Whoever keeps an old signature can go back to it only as far as the last checkpoint.
#[tokio::test]
async fn a_tail_cut_back_to_an_old_signature_is_found_by_the_checkpoint() {
    let world = World::new();
    let fence = world.run("a").await;
    let fence = push(&world.store, fence, vec![note("signed")]).await;
    let old: (i64, Vec<u8>, Vec<u8>) = world
        .sql()
        .query_row("SELECT head_seq, head_hash, head_sig FROM streams WHERE stream = 'a'", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    push(&world.store, fence, vec![paused()]).await;
    let sql = world.sql();
    sql.execute("DELETE FROM events WHERE stream = 'a' AND seq > 2", []).unwrap();
    sql.execute("UPDATE streams SET head_seq = ?1, head_hash = ?2, head_sig = ?3 WHERE stream = 'a'", old).unwrap();
    let report = world.store.verify(None).unwrap();
    assert!(found(&report, "a", "vouches for it, and it is gone"), "{report:?}");
    assert!(!found(&report, "a", "signature"), "the old signature is a good one: {report:?}");
}

#[tokio::test]
async fn a_removed_run_is_found() {
    let every_row =
        "DELETE FROM inbox WHERE run = 'a'; DELETE FROM budgets WHERE run = 'a'; DELETE FROM runs WHERE run = 'a';
                     DELETE FROM events WHERE stream = 'a'; DELETE FROM streams WHERE stream = 'a'";
    check(every_row, "a", "the run was removed").await;
}

#[tokio::test]
async fn an_inserted_run_is_found() {
    let copy =
        "INSERT INTO streams SELECT 'x', head_seq, head_hash, head_sig, epoch, owner FROM streams WHERE stream = 'c';
                INSERT INTO events SELECT 'x', seq, at_ms, epoch, hash, body, changes FROM events WHERE stream = 'c'";
    check(copy, "x", "was inserted").await;
    check("INSERT INTO events VALUES ('y', 1, 1, 1, zeroblob(32), '{}', NULL)", "y", "was inserted").await;
    check("INSERT INTO runs SELECT 'x', status, prompt, workspace, 1, 1, 1 FROM runs WHERE run = 'c'", "x", "no head")
        .await;
}

#[tokio::test]
async fn the_system_stream_vouches_for_itself_too() {
    let fits_not = "its hash does not fit";
    check("UPDATE events SET body = replace(body, 'paused', 'failed') WHERE stream = 'system'", "system", fits_not)
        .await;
    check("DELETE FROM events WHERE stream = 'system' AND seq = 2", "system", "it is missing").await;
    check("DELETE FROM events WHERE stream = 'system' AND seq = 5", "system", "cut off").await;
    check(
        "DELETE FROM events WHERE stream = 'system'; DELETE FROM streams WHERE stream = 'system'",
        "system",
        "removed",
    )
    .await;
}

#[tokio::test]
async fn changed_and_missing_blobs_are_found() {
    let named = hex::encode(Hash::of(NAMES[0]).as_bytes());
    let change = format!("UPDATE blobs SET bytes = x'00' WHERE hash = x'{named}'");
    check(&change, "a", "is missing or was changed").await;
    check(&change, "", "has other content").await;
    check(&format!("DELETE FROM blobs WHERE hash = x'{named}'"), "a", "is missing or was changed").await;
    let unnamed = hex::encode(Hash::of(b"the blob of b").as_bytes());
    check(&format!("UPDATE blobs SET bytes = x'00' WHERE hash = x'{unnamed}'"), "", "has other content").await;
}

#[tokio::test]
async fn edited_projections_are_found() {
    let differs = "the projection differs from the events";
    check("UPDATE runs SET status = 'failed' WHERE run = 'a'", "a", "events: status").await;
    check("UPDATE runs SET prompt = 'other' WHERE run = 'a'", "a", differs).await;
    check("UPDATE runs SET cost_known = 0 WHERE run = 'a'", "a", differs).await;
    check("UPDATE budgets SET used_cost = 0, reserved_cost = 5 WHERE run = 'a'", "a", "events: budget").await;
    check("UPDATE budgets SET tokens_max = 9999999 WHERE run = 'a'", "a", "events: limits").await;
    check("UPDATE runs SET status = 'odd' WHERE run = 'a'", "a", "cannot be read").await;
    check("DELETE FROM budgets WHERE run = 'a'; DELETE FROM runs WHERE run = 'a'", "a", "missing from the list").await;
    check("DELETE FROM inbox WHERE run = 'a'", "a", "events: inbox").await;
    check("INSERT INTO inbox VALUES ('irc', 'forged', 'a')", "a", "events: inbox").await;
    check("UPDATE streams SET epoch = 7 WHERE stream = 'b'", "b", "the head has epoch 7").await;
}

/// A request that is listed as accepted is refused as a duplicate, whatever run it is listed for.
#[tokio::test]
async fn rows_of_runs_that_do_not_exist_are_found() {
    let no_head = "it has no head";
    check("INSERT INTO inbox VALUES ('irc', '42', 'ghost')", "ghost", no_head).await;
    check("INSERT INTO budgets SELECT 'ghost', 1, 1, 1, 1, 0, 0, 0, 0, 0, 0", "ghost", no_head).await;
    let listed = "a run is listed under its name";
    check("INSERT INTO inbox VALUES ('irc', '43', 'system')", "system", listed).await;
    check("INSERT INTO budgets SELECT 'system', 1, 1, 1, 1, 0, 0, 0, 0, 0, 0", "system", listed).await;
    check(
        "INSERT INTO runs SELECT 'system', status, prompt, workspace, 1, 1, 1 FROM runs WHERE run = 'c'",
        "system",
        listed,
    )
    .await;
}

#[tokio::test]
async fn garbage_is_a_finding_and_no_panic() {
    let garbage = "PRAGMA ignore_check_constraints = 1; PRAGMA writable_schema = 1;
        UPDATE events SET seq = 9223372036854775807 WHERE stream = 'a' AND seq = 3;
        UPDATE events SET seq = -1 WHERE stream = 'b' AND seq = 1;
        UPDATE streams SET head_seq = -9223372036854775808, head_hash = x'', head_sig = x'01', epoch = -1 WHERE stream = 'c';
        UPDATE events SET body = char(0) || '{}' , changes = '}' WHERE stream = 'c';
        UPDATE events SET hash = zeroblob(100000) WHERE stream = 'system' AND seq = 1";
    check(garbage, "c", "").await;
    let not_utf8 = "UPDATE events SET body = CAST(x'ff00fe' AS TEXT) WHERE stream = 'a' AND seq = 2;
        UPDATE streams SET stream = CAST(x'ff' AS TEXT) WHERE stream = 'c'";
    check(not_utf8, "a", "").await;
}

/// What readers see of a damaged stream: an error, not the damage.
#[tokio::test]
async fn reading_stops_at_damage() {
    let a: StreamId = run_id("a").stream();
    for tamper in [
        "UPDATE events SET body = replace(body, 'a2', 'a9') WHERE stream = 'a' AND seq = 2",
        "DELETE FROM events WHERE stream = 'a' AND seq = 2",
        "DELETE FROM events WHERE stream = 'a' AND seq = 4",
        "UPDATE events SET hash = zeroblob(32) WHERE stream = 'a' AND seq = 4",
        "UPDATE streams SET head_hash = zeroblob(32) WHERE stream = 'a'",
    ] {
        let world = world().await;
        world.sql().execute_batch(tamper).unwrap();
        let read = world.store.read(&a, 0, 10);
        assert!(matches!(read, Err(JournalError::Damaged(_))), "{tamper}: {read:?}");
    }
    let world = world().await;
    world.sql().execute("UPDATE blobs SET bytes = x'00'", []).unwrap();
    assert!(matches!(world.store.blob(&Hash::of(NAMES[0])), Err(JournalError::Damaged(_))));
}

/// A file with random pages overwritten is reported, whatever it does to SQLite.
#[tokio::test]
async fn a_mangled_file_does_not_panic() {
    for seed in 0..12u32 {
        let world = world().await;
        let path = world.dir.path().join("journal.db");
        let World { dir, store } = world;
        drop(store);
        let mut bytes = std::fs::read(&path).unwrap();
        let pages = bytes.len() / 4096;
        let page = 1 + seed as usize % (pages - 1);
        for at in 0..600 {
            let noise = seed.wrapping_mul(2_654_435_761).wrapping_add(at * 40_503).rotate_left(at % 31);
            bytes[page * 4096 + at as usize * 6] ^= noise as u8 | 1;
        }
        std::fs::write(&path, bytes).unwrap();
        let Ok(store) = homarus_store::Store::open_read_only(options(dir.path())) else { continue };
        let report = store.verify(None);
        assert!(!report.as_ref().is_ok_and(VerifyReport::is_whole), "page {page}: {report:?}");
    }
}
