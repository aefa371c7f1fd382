//! The one thread that writes. It takes all requests that wait, commits them together, and answers
//! them after the commit: many appends share one fsync, and a refused one fails alone.
//!
//! After an I/O error nobody knows what is on the disk: a second fsync may succeed although what the first one
//! failed for is lost. So nothing more is acknowledged before the database was opened anew and its whole log is
//! in it, synced.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use ed25519_dalek::SigningKey;
use homarus_contract::{ids::DriverId, journal::JournalError};
use rusqlite::{Connection, ErrorCode, params};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    Clock,
    chain::sign_head,
    drivers,
    error::{OpError, StoreError, unwritable},
    layout, lock,
    ops::{Command, Done, Memory, Ops},
    rows, schema,
    turn::Queue,
};

const QUEUE_MAX: usize = 1024;
const GROUP_MAX: usize = 256;
const GROUP_BYTES_MAX: usize = 32 << 20;

type Answer = Result<Done, JournalError>;

struct Job {
    command: Command,
    reply: oneshot::Sender<Answer>,
}

/// What the writer has done since it started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub requests: AtomicU64,
    pub commits: AtomicU64,
}

pub(crate) struct Handle {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
    pub counters: Arc<Counters>,
    pub changes: watch::Receiver<u64>,
}

pub(crate) struct Parts {
    pub connection: Connection,
    pub dir: PathBuf,
    pub journal_bytes_max: u64,
    pub driver: DriverId,
    pub key: SigningKey,
    pub clock: Clock,
}

impl Handle {
    pub(crate) fn start(parts: Parts) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let (changed, changes) = watch::channel(0);
        let counters = Arc::new(Counters::default());
        let dir = parts.dir.clone();
        let turns = Queue::new(&parts.dir, schema::BUSY);
        let memory = Memory::default();
        let writer = Writer { parts, turns, memory, counters: counters.clone(), changed, in_doubt: false };
        let thread = thread::Builder::new()
            .name("journal-writer".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(StoreError::io("start the writer of", dir))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), counters, changes })
    }

    pub(crate) async fn submit(&self, command: Command) -> Answer {
        let stopped = || JournalError::Unwritable("its writer has stopped".to_owned());
        let (reply, answer) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.send(Job { command, reply }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Handle {
    /// Waits for what was asked already, so that the lock is let go only after the last write.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Writer {
    parts: Parts,
    turns: Queue,
    memory: Memory,
    counters: Arc<Counters>,
    changed: watch::Sender<u64>,
    /// The disk failed, and the database was not opened anew since.
    in_doubt: bool,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let mut bytes = first.command.bytes();
            let mut group = vec![first];
            while group.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX {
                let Ok(job) = queue.try_recv() else { break };
                bytes += job.command.bytes();
                group.push(job);
            }
            self.work(group);
        }
        let _turn = self.turns.take(&self.parts.connection);
        // A lock file that stays is swept by a later process.
        let _ = drivers::retire(&self.parts.connection, &self.parts.dir, &self.parts.driver);
    }

    fn work(&mut self, group: Vec<Job>) {
        let attempted = match self.in_doubt {
            true => self.open_anew().and_then(|()| self.attempt(&group)),
            false => self.attempt(&group),
        };
        match attempted {
            Ok(answers) => reply(group, answers),
            Err(error) if is_in_doubt(&error) => {
                self.in_doubt = true;
                let answers = group.iter().map(|_| Err(unwritable(&error))).collect();
                reply(group, answers);
            }
            Err(error) if group.len() == 1 => reply(group, vec![Err(unwritable(&error))]),
            // One of them may be to blame (too large for the disk, say): let each stand for itself.
            Err(_) => group.into_iter().for_each(|job| self.work(vec![job])),
        }
    }

    /// Trusts nothing of the connection that met the error, nor of the log.
    fn open_anew(&mut self) -> rusqlite::Result<()> {
        // Closed first: it may still hold what a transaction of it had locked.
        self.parts.connection = Connection::open_in_memory()?;
        let connection = schema::reopen(&self.parts.dir, self.parts.journal_bytes_max)?;
        // Reads the whole log, writes it into the database, syncs that, and begins the log anew.
        let (busy, left, done): (i64, i64, i64) =
            connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        if busy != 0 || left != done {
            let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
            return Err(rusqlite::Error::SqliteFailure(busy, None));
        }
        self.parts.connection = connection;
        self.in_doubt = false;
        Ok(())
    }

    /// Commits the group in one transaction; nothing of it is written when this fails.
    fn attempt(&mut self, group: &[Job]) -> rusqlite::Result<Vec<Answer>> {
        self.memory.touched.clear();
        self.memory.forget.clear();
        let turn = self.turns.take(&self.parts.connection);
        let answers = self.transact(group);
        if answers.is_err() && !self.parts.connection.is_autocommit() {
            // Should even this fail, SQLite rolls back at the next start.
            let _ = self.parts.connection.execute_batch("ROLLBACK");
        }
        drop(turn);
        let answers = answers?;
        for driver in self.memory.forget.drain(..) {
            lock::remove(layout::driver_lock(&self.parts.dir, &driver));
        }
        let done = answers.iter().filter(|answer| answer.is_ok()).count();
        if done > 0 {
            self.counters.requests.fetch_add(done as u64, Ordering::Relaxed);
            self.counters.commits.fetch_add(1, Ordering::Relaxed);
            self.changed.send_modify(|count| *count += 1);
        }
        Ok(answers)
    }

    fn transact(&mut self, group: &[Job]) -> rusqlite::Result<Vec<Answer>> {
        self.run_sql("BEGIN IMMEDIATE")?;
        let mut answers = Vec::with_capacity(group.len());
        for job in group {
            self.run_sql("SAVEPOINT request")?;
            let done = Ops {
                connection: &self.parts.connection,
                dir: &self.parts.dir,
                driver: &self.parts.driver,
                // The database has no larger number, and the hash must cover what the row says.
                now_ms: (self.parts.clock)().min(i64::MAX as u64),
                memory: &mut self.memory,
            }
            .perform(&job.command);
            let answer = match done {
                Ok(done) => Ok(done),
                Err(OpError::Own(error)) => {
                    self.run_sql("ROLLBACK TO request")?;
                    Err(error)
                }
                Err(OpError::Sql(error)) => return Err(error),
            };
            self.run_sql("RELEASE request")?;
            answers.push(answer);
        }
        self.sign_heads()?;
        self.run_sql("COMMIT")?;
        Ok(answers)
    }

    fn sign_heads(&self) -> rusqlite::Result<()> {
        let mut update = self.parts.connection.prepare_cached("UPDATE streams SET head_sig = ?2 WHERE stream = ?1")?;
        for stream in &self.memory.touched {
            // None: the request that made the stream was refused after all.
            let Some(head) = rows::head(&self.parts.connection, stream)? else { continue };
            update.execute(params![stream, sign_head(&self.parts.key, stream, head.seq, &head.hash)])?;
        }
        Ok(())
    }

    fn run_sql(&self, sql: &str) -> rusqlite::Result<()> {
        self.parts.connection.prepare_cached(sql)?.execute([]).map(|_| ())
    }
}

/// Whether it is unknown what of a transaction is on the disk. A full disk is not that: SQLite knows what did
/// not fit.
fn is_in_doubt(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen))
}

fn reply(group: Vec<Job>, answers: Vec<Answer>) {
    for (job, answer) in group.into_iter().zip(answers) {
        // Whoever asked may be gone; what was written stays written.
        let _ = job.reply.send(answer);
    }
}
