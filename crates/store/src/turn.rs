//! Whose turn it is to write. SQLite lets one process write at a time, but those who wait only ask again and
//! again, ever more seldom: the unlucky one of a hundred starves, and one that never pauses keeps all others out.
//! So writers queue here first. It is about fairness only: what keeps two from writing at once is SQLite's lock,
//! and where there is no turn to be had, that is waited for as if this were not there.
//!
//! Two locks make a queue: whoever holds the first is next, and waits for the second. One who has just let go
//! of the second must take the first again, and so goes to the end.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use rusqlite::Connection;

use crate::layout;

/// One process's place in the queue.
#[derive(Debug)]
pub(crate) struct Queue {
    next: PathBuf,
    writing: PathBuf,
    patience: Duration,
    /// Nobody got on; until the queue moves again it is not waited in.
    is_stuck: bool,
}

/// One of the two locks, in the end the turn; the next one has it when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn(File);

impl Drop for Turn {
    /// Not only closed: a process that is being forked off may have the file open, too.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl Queue {
    /// A turn in which nothing is written for as long as `patience` is not waited for any longer.
    pub(crate) fn new(dir: &Path, patience: Duration) -> Self {
        Self { next: layout::next_lock(dir), writing: layout::writing_lock(dir), patience, is_stuck: false }
    }

    /// Waits as long as others get on with their writing. `None`: nobody gets on, or these locks do not work here.
    pub(crate) fn take(&mut self, connection: &Connection) -> Option<Turn> {
        let next = try_lock(&self.next).ok()?;
        if next.is_some()
            && let Some(turn) = try_lock(&self.writing).ok()?
        {
            self.is_stuck = false;
            return Some(turn);
        }
        if self.is_stuck {
            return None;
        }
        let turn = self.wait(next, connection);
        self.is_stuck = turn.is_none();
        turn
    }

    fn wait(&self, next: Option<Turn>, connection: &Connection) -> Option<Turn> {
        let mut seen = commits(connection);
        let (hand, turn) = mpsc::sync_channel(1);
        let paths = [self.next.clone(), self.writing.clone()];
        let wait = move || {
            let turn = wait(next, &paths);
            // Who waited may have given up; then the turn is dropped here.
            let _ = hand.send(turn);
        };
        thread::Builder::new().name("journal-queue".to_owned()).spawn(wait).ok()?;
        loop {
            match turn.recv_timeout(self.patience) {
                Ok(turn) => return turn.ok(),
                Err(RecvTimeoutError::Timeout) => {
                    let now = commits(connection);
                    if now.is_none() || now == seen {
                        return None;
                    }
                    seen = now;
                }
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }
}

fn wait(next: Option<Turn>, [next_path, writing_path]: &[PathBuf; 2]) -> io::Result<Turn> {
    let _next = match next {
        Some(next) => next,
        None => lock(next_path)?,
    };
    lock(writing_path)
}

fn lock(path: &Path) -> io::Result<Turn> {
    let file = open(path)?;
    file.lock()?;
    Ok(Turn(file))
}

/// `None`: another holds it.
fn try_lock(path: &Path) -> io::Result<Option<Turn>> {
    let file = open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Turn(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// A number that is another one after each commit of somebody else.
fn commits(connection: &Connection) -> Option<i64> {
    connection.query_row("PRAGMA data_version", [], |row| row.get(0)).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(20);

    fn journal() -> (tempfile::TempDir, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let connection = Connection::open(layout::database(dir.path())).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a)").unwrap();
        (dir, connection)
    }

    #[test]
    fn one_at_a_time() {
        let (dir, _connection) = journal();
        let inside = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut queue = Queue::new(dir.path(), LONG);
                    let connection = Connection::open(layout::database(dir.path())).unwrap();
                    for _ in 0..50 {
                        let turn = queue.take(&connection).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(turn);
                    }
                });
            }
        });
    }

    #[test]
    fn who_waits_comes_before_who_has_just_written() {
        let (dir, connection) = journal();
        let mut queue = Queue::new(dir.path(), LONG);
        let next = open(&layout::next_lock(dir.path())).unwrap();
        for _ in 0..50 {
            let turn = queue.take(&connection).unwrap();
            let (tried, done) = mpsc::channel();
            thread::scope(|scope| {
                let dir = dir.path();
                scope.spawn(move || {
                    let own = Connection::open(layout::database(dir)).unwrap();
                    let _turn = Queue::new(dir, LONG).take(&own).unwrap();
                    done.recv().unwrap();
                });
                let waits = (0..100_000).any(|_| {
                    let held = next.try_lock().is_err();
                    next.unlock().unwrap();
                    thread::yield_now();
                    held
                });
                drop(turn);
                // As `take` tries it.
                let again = try_lock(&queue.next).unwrap().and_then(|_next| try_lock(&queue.writing).unwrap());
                tried.send(()).unwrap();
                assert!(waits && again.is_none(), "taken from the one who waited");
            });
        }
    }

    #[test]
    fn nobody_waits_for_one_that_does_nothing() {
        let (dir, connection) = journal();
        let mut queue = Queue::new(dir.path(), SHORT);
        let stuck = queue.take(&connection).unwrap();
        assert!(queue.take(&connection).is_none());
        // Waited for once, not with each commit.
        queue.patience = LONG;
        assert!(queue.take(&connection).is_none());
        drop(stuck);
        // Those that gave up pass their turns on.
        let mut patient = Queue::new(dir.path(), LONG);
        drop(patient.take(&connection).unwrap());
        drop(patient.take(&connection).unwrap());
        drop(queue.take(&connection).unwrap());
        assert!(!queue.is_stuck, "the queue moves again");
    }

    #[test]
    fn a_turn_in_which_others_get_on_is_waited_for() {
        let (dir, connection) = journal();
        let held = Queue::new(dir.path(), LONG).take(&connection).unwrap();
        let asked = AtomicBool::new(false);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let own = Connection::open(layout::database(dir.path())).unwrap();
                let mut queue = Queue::new(dir.path(), Duration::from_secs(2));
                asked.store(true, Ordering::SeqCst);
                queue.take(&own).is_some()
            });
            while !asked.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            for _ in 0..40 {
                connection.execute("INSERT INTO t VALUES (1)", []).unwrap();
                thread::sleep(Duration::from_millis(100));
            }
            drop(held);
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn where_the_locks_cannot_be_there_is_no_turn() {
        let (dir, connection) = journal();
        std::fs::create_dir(layout::next_lock(dir.path())).unwrap();
        assert!(Queue::new(dir.path(), LONG).take(&connection).is_none());
    }
}
