//! Many processes on one journal.

use std::{fs::File, thread};

use homarus_contract::ids::RunId;

use crate::fixture::{World, accept, finished, note, open, push};

const DRIVERS: usize = 100;
const STEPS: usize = 10;

fn work(dir: &std::path::Path, name: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = open(dir);
        let mut fence = accept(&store, name).await;
        for step in 0..STEPS {
            fence = push(&store, fence, vec![note(&step.to_string())]).await;
        }
        push(&store, fence, vec![finished()]).await;
    });
}

#[test]
fn a_hundred_drivers_write_beside_each_other() {
    let world = World::new();
    thread::scope(|scope| {
        for number in 0..DRIVERS {
            let dir = world.dir.path();
            scope.spawn(move || work(dir, &format!("run{number}")));
        }
    });
    let report = world.store.verify(None).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let events: i64 =
        world.sql().query_row("SELECT count(*) FROM events WHERE stream <> 'system'", [], |row| row.get(0)).unwrap();
    assert_eq!(events, (DRIVERS * (STEPS + 2)) as i64);
    let left: i64 = world.sql().query_row("SELECT count(*) FROM drivers", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0, "each has signed off");
}

#[test]
fn a_writer_queues_behind_the_one_who_writes() {
    let world = World::new();
    let dir = world.dir.path();
    work(dir, "first");
    let writing = File::open(dir.join("writing.lock")).unwrap();
    writing.lock().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| work(dir, "second"));
        let next = File::open(dir.join("next.lock")).unwrap();
        while next.try_lock().is_ok() {
            next.unlock().unwrap();
            thread::yield_now();
        }
        assert_eq!(
            world.store.verify(Some(&RunId::parse("first").unwrap())).unwrap().findings.len(),
            0,
            "reading goes on"
        );
        let runs: i64 = world.sql().query_row("SELECT count(*) FROM runs", [], |row| row.get(0)).unwrap();
        assert_eq!(runs, 1);
        writing.unlock().unwrap();
    });
    let runs: i64 = world.sql().query_row("SELECT count(*) FROM runs", [], |row| row.get(0)).unwrap();
    assert_eq!(runs, 2);
}
