//! A journal as the first program wrote it, opened by this one.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use homarus_contract::{ids::Hash, journal::Journal};
use homarus_store::{Store, StoreError};
use rusqlite::Connection;

use crate::fixture::*;

/// The state folder of the first format: its database from the dump, and its keys.
fn first_format(dir: &Path) {
    for folder in ["keys", "drivers"] {
        fs::create_dir(dir.join(folder)).unwrap();
    }
    fs::write(dir.join("keys/journal.key"), include_str!("v1/journal.key")).unwrap();
    fs::set_permissions(dir.join("keys/journal.key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(dir.join("keys/journal.pub"), include_str!("v1/journal.pub")).unwrap();
    let connection = Connection::open(dir.join("journal.db")).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    connection.execute_batch(&format!("BEGIN; {} COMMIT;", include_str!("v1/journal.sql"))).unwrap();
}

fn format(dir: &Path) -> u32 {
    let connection = Connection::open(dir.join("journal.db")).unwrap();
    connection.query_row("SELECT max(version) FROM refinery_schema_history", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn the_first_format_is_read_verified_and_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    first_format(dir.path());
    assert_eq!(format(dir.path()), 1);
    let looked = Store::open_read_only(options(dir.path())).map(|store| store.verify(None).unwrap().is_whole());
    let store = open(dir.path());
    let newest = store.health(true).unwrap().format;
    match looked {
        Ok(is_whole) => assert!(is_whole && newest == 1),
        Err(error) => assert!(matches!(error, StoreError::OlderFormat { found: 1, .. }) && newest > 1, "{error}"),
    }
    let copies: Vec<_> = fs::read_dir(dir.path().join("backups")).map(Iterator::collect).unwrap_or_default();
    assert_eq!(copies.len(), usize::from(newest > 1), "a copy exactly if something was changed");
    let report = store.verify(None).unwrap();
    assert!(report.is_whole(), "{report:#?}");
    assert_eq!((report.streams, report.events, report.checkpoints), (4, 15, 5));
    assert_eq!(store.blob(&Hash::of(b"the blob of b")).unwrap(), b"the blob of b");
    let fence = store.claim(run_id("b")).await.unwrap();
    assert_eq!((fence.epoch(), fence.seq()), (2, 6));
    push(&store, fence, vec![note("written by a later program"), finished()]).await;
    assert!(store.verify(None).unwrap().is_whole());
    assert_eq!(store.rebuild_projections().await.unwrap(), 3);
    assert!(store.verify(None).unwrap().is_whole());
}

/// Made anew and brought up from the first, the tables are the same.
#[tokio::test]
async fn old_and_new_databases_have_the_same_tables() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    first_format(old.path());
    let tables = |dir: &Path| {
        drop(open(dir));
        let connection = Connection::open(dir.join("journal.db")).unwrap();
        let mut find = connection
            .prepare("SELECT name, sql FROM sqlite_schema WHERE name <> 'refinery_schema_history' ORDER BY name")
            .unwrap();
        let rows = find.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<Vec<(String, Option<String>)>, _>>().unwrap()
    };
    assert_eq!(tables(old.path()), tables(new.path()));
    assert_eq!(format(old.path()), format(new.path()));
}
