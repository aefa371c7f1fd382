//! The journal on SQLite: every run a hash-chained stream of events, written by one thread under a
//! fence, signed at its head, and read back by whoever asks.
//!
//! In comes [`homarus_contract::journal::Journal`]; out come committed events. The format is
//! described in `docs/journal.md`. Reading order: [`Store`], then `ops` (what a transaction does),
//! `writer` (how transactions share an fsync), `chain` (the hashes), `verify`.

mod chain;
mod delete;
mod drivers;
mod error;
mod health;
mod journal;
mod key;
mod layout;
mod lock;
mod log;
mod ops;
mod project;
mod read;
mod rebuild;
mod requests;
mod rows;
mod schema;
mod turn;
mod verify;
mod writer;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use ed25519_dalek::{SigningKey, VerifyingKey};
use homarus_contract::{
    ids::{DriverId, RunId},
    journal::{JournalError, RunRow},
};
use rusqlite::{Connection, OptionalExtension};
use tokio::sync::watch;

pub use delete::Swept;
pub use error::StoreError;
pub use health::Health;
pub use verify::{Finding, VerifyReport};

use crate::{
    delete::{SWEEP_BLOBS_MAX, Unnamed},
    lock::DriverLock,
    ops::{Command, Done},
    read::Readers,
    schema::FormatLock,
    writer::{Handle, Parts},
};

/// Milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The database file of a journal in this state folder, and its bound in bytes, for whoever looks at the disk.
pub fn database_file(dir: &Path) -> (PathBuf, u64) {
    (layout::database(dir), JOURNAL_BYTES_MAX)
}

const JOURNAL_BYTES_MAX: u64 = 64 << 30;

#[derive(Clone)]
pub struct Options {
    /// The state folder; made when it is opened for writing.
    pub dir: PathBuf,
    pub clock: Clock,
    /// The database file grows no larger; appends are then refused as if the disk were full.
    pub journal_bytes_max: u64,
}

impl Options {
    /// The wall clock and the default bound.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let clock = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        };
        Self { dir: dir.into(), clock: Arc::new(clock), journal_bytes_max: JOURNAL_BYTES_MAX }
    }
}

/// What the writer of this process has done. `commits` is the number of times it waited for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    pub requests: u64,
    pub commits: u64,
}

/// A journal that is open. For writing, this process is one driver of it.
pub struct Store {
    dir: PathBuf,
    public_key: VerifyingKey,
    readers: Readers,
    /// Before `lock`: the lock is let go after the last write.
    writer: Option<Handle>,
    lock: Option<DriverLock>,
    /// Last: until then nobody may change the format.
    _format: Option<FormatLock>,
}

impl Store {
    /// Opens for writing; makes folder, keys and database if they are not there.
    pub fn open(options: Options) -> Result<Arc<Self>, StoreError> {
        let dir = options.dir;
        layout::prepare(&dir)?;
        // Before the database: whoever sees a database may rely on its key.
        let key = key::load(&dir, !schema::has_database(&dir))?;
        let (connection, format) = schema::open_for_writing(&dir, options.journal_bytes_max, (options.clock)())?;
        agree_on_key(&connection, &dir, &key)?;
        let lock = DriverLock::create(&dir)?;
        let public_key = key.verifying_key();
        let driver = lock.driver.clone();
        let writer = Handle::start(Parts {
            connection,
            dir: dir.clone(),
            journal_bytes_max: options.journal_bytes_max,
            driver,
            key,
            clock: options.clock,
        })?;
        let readers = Readers::new(&dir);
        Ok(Arc::new(Self { dir, public_key, readers, writer: Some(writer), lock: Some(lock), _format: Some(format) }))
    }

    /// Opens to look only: it is no driver, and every write is refused.
    pub fn open_read_only(options: Options) -> Result<Arc<Self>, StoreError> {
        let dir = options.dir;
        let format = schema::hold_for_reading(&dir)?;
        let connection = schema::open_for_reading(&dir)?;
        schema::check_format(&connection, &dir)?;
        let public_key = key::load_public(&dir)?;
        if stored_key(&connection)?.is_some_and(|stored| stored != hex::encode(public_key.to_bytes())) {
            return Err(StoreError::WrongKey(layout::public_key(&dir)));
        }
        let readers = Readers::new(&dir);
        Ok(Arc::new(Self { dir, public_key, readers, writer: None, lock: None, _format: format }))
    }

    /// This process as an owner of runs; `None` when opened read-only.
    pub fn driver(&self) -> Option<&DriverId> {
        self.lock.as_ref().map(|lock| &lock.driver)
    }

    /// The lock that says this driver lives. The first process of each of its sandboxes inherits it,
    /// so that nobody takes a run over while something of it can still act.
    pub fn driver_lock(&self) -> Option<&File> {
        self.lock.as_ref().map(|lock| &lock.file)
    }

    /// Changes after each commit of this process. Commits of others are seen by reading again.
    pub fn changes(&self) -> watch::Receiver<u64> {
        match &self.writer {
            Some(writer) => writer.changes.clone(),
            None => watch::channel(0).1,
        }
    }

    pub fn stats(&self) -> Stats {
        let Some(writer) = &self.writer else { return Stats { requests: 0, commits: 0 } };
        Stats {
            requests: writer.counters.requests.load(Ordering::Relaxed),
            commits: writer.counters.commits.load(Ordering::Relaxed),
        }
    }

    /// Checks one run, or everything, without trusting any of it. Needs no lock and no network.
    pub fn verify(&self, run: Option<&RunId>) -> Result<VerifyReport, JournalError> {
        let log = log::damage(&layout::log(&self.dir)).map_err(|error| JournalError::Unreadable(error.to_string()))?;
        self.readers.with(|connection| verify::verify(connection, &self.public_key, run, log.as_deref()))
    }

    /// How the database is. `quick` leaves out the look at every page.
    pub fn health(&self, quick: bool) -> Result<Health, JournalError> {
        self.readers.with(|connection| {
            let format =
                schema::format(connection, &self.dir).map_err(|error| JournalError::Unreadable(error.to_string()))?;
            health::look(connection, format, quick)
        })
    }

    /// Makes all projections anew from the events; answers how many runs there are.
    pub async fn rebuild_projections(&self) -> Result<u64, JournalError> {
        match self.submit(Command::Rebuild).await? {
            Done::Rebuilt(runs) => Ok(runs),
            _ => Ok(0),
        }
    }

    /// Deletes a run that has ended: its events, its place in all lists, and with [`Store::sweep`] what only it named.
    /// The system stream says from then on that it was, and who deleted it.
    pub async fn delete(&self, run: RunId, who: String) -> Result<(), JournalError> {
        self.submit(Command::Delete { run, who }).await.map(drop)
    }

    /// Deletes the blobs that no event names any more. Reads the whole journal.
    pub async fn sweep(&self) -> Result<Swept, JournalError> {
        let unnamed = self.readers.with(|connection| delete::unnamed(connection).map_err(error::unreadable))?;
        let mut swept = Swept::default();
        for blobs in unnamed.blobs.chunks(SWEEP_BLOBS_MAX) {
            let part = Unnamed { blobs: blobs.to_vec(), seen: unnamed.seen.clone() };
            if let Done::Swept(part) = self.submit(Command::Sweep(part)).await? {
                swept.blobs += part.blobs;
                swept.bytes += part.bytes;
            }
        }
        Ok(swept)
    }

    /// Runs that have ended and whose last event is older than this, the oldest first.
    pub fn ended_before(&self, at_ms: u64, limit: u32) -> Result<Vec<RunRow>, JournalError> {
        self.readers.with(|connection| read::ended_before(connection, &self.dir, at_ms, limit))
    }

    async fn submit(&self, command: Command) -> Result<Done, JournalError> {
        match &self.writer {
            Some(writer) => writer.submit(command).await,
            None => Err(JournalError::Unwritable("it was opened for reading only".to_owned())),
        }
    }
}

impl Drop for Store {
    /// The writer's connection closes last, so that it is the one that tidies the database.
    fn drop(&mut self) {
        self.readers.close();
    }
}

/// The key must be the one the database names, once it names one.
fn agree_on_key(connection: &Connection, dir: &Path, key: &SigningKey) -> Result<(), StoreError> {
    let public = hex::encode(key.verifying_key().to_bytes());
    if stored_key(connection)?.is_none() {
        let name = "INSERT INTO meta (name, value) VALUES ('public_key', ?1) ON CONFLICT DO NOTHING";
        connection.execute(name, [&public])?;
    }
    if stored_key(connection)? == Some(public) { Ok(()) } else { Err(StoreError::WrongKey(layout::key(dir))) }
}

fn stored_key(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT value FROM meta WHERE name = 'public_key'", [], |row| row.get(0)).optional()
}
