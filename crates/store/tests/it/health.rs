//! How a database is told to be: sound, and torn.

use homarus_store::Store;

use crate::fixture::*;

#[tokio::test]
async fn a_sound_database_has_no_complaints_and_names_what_has_not_ended() {
    let world = World::new();
    let fence = world.run("a").await;
    push(&world.store, fence, vec![finished()]).await;
    let fence = world.run("b").await;
    push(&world.store, fence, vec![paused()]).await;
    world.run("c").await;
    let health = world.store.health(false).unwrap();
    assert_eq!(health.complaints, Vec::<String>::new());
    assert_eq!(health.format, 3);
    let mut unfinished: Vec<&str> = health.unfinished.iter().map(|run| run.as_str()).collect();
    unfinished.sort_unstable();
    assert_eq!(unfinished, ["b", "c"]);
    let newest = ["a", "b", "c"]
        .map(|name| homarus_contract::journal::Journal::run(&*world.store, &run_id(name)).unwrap().updated_ms);
    assert_eq!(health.newest_event_ms, newest.into_iter().max());
}

#[test]
fn an_empty_one_has_no_newest_event() {
    let health = World::new().store.health(true).unwrap();
    assert_eq!((health.newest_event_ms, health.unfinished.len()), (None, 0));
}

#[test]
fn a_torn_page_is_complained_of() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let path = dir.path().join("journal.db");
    let whole = std::fs::read(&path).unwrap();
    let pages = whole.len() / 4096;
    let mut found = 0;
    for page in 1..pages {
        let mut torn = whole.clone();
        torn[page * 4096..(page + 1) * 4096].fill(0xff);
        std::fs::write(&path, &torn).unwrap();
        let told = match Store::open_read_only(options(dir.path())) {
            Ok(store) => !matches!(store.health(false), Ok(health) if health.complaints.is_empty()),
            Err(_) => true,
        };
        assert!(told, "page {page} of {pages} is torn, and nothing is said");
        found += 1;
    }
    assert!(found > 5, "{pages} pages");
}
