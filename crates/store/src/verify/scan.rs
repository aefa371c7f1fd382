//! The scan itself: streams one by one, then what they say of each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ed25519_dalek::VerifyingKey;
use homarus_contract::{
    event::Event,
    ids::{Hash, RunId},
    journal::JournalError,
};
use rusqlite::{Connection, OptionalExtension, Row, types::ValueRef};

use super::{deleted::Tombstone, report::VerifyReport};
use crate::{
    chain::{Link, head_is_signed},
    error::unreadable,
    project::{Projection, blobs_of},
    rebuild::Folding,
    rows,
};

pub(super) const SYSTEM: &str = "system";

pub(super) struct Scan<'a> {
    pub(super) connection: &'a Connection,
    key: &'a VerifyingKey,
    pub(super) report: VerifyReport,
    /// What the system stream vouches for: stream, then sequence number.
    pub(super) checkpoints: BTreeMap<String, BTreeMap<u64, Checkpoint>>,
    /// Runs it says were deleted.
    pub(super) deleted: BTreeMap<String, Tombstone>,
    /// Whether each blob that was looked at is whole.
    blobs: HashMap<Hash, bool>,
}

pub(super) struct Checkpoint {
    pub(super) hash: Hash,
    status: String,
    /// Where in the system stream it stands.
    pub(super) at: u64,
}

/// The last link of a chain as far as it could be followed.
#[derive(Default)]
struct Chain {
    seq: u64,
    hash: Option<Hash>,
    epoch: u64,
    folding: Folding,
    /// Something in it could not be folded: its projection cannot be judged.
    is_broken: bool,
}

impl<'a> Scan<'a> {
    pub(super) fn new(connection: &'a Connection, key: &'a VerifyingKey) -> Self {
        Self {
            connection,
            key,
            report: VerifyReport::default(),
            checkpoints: BTreeMap::new(),
            deleted: BTreeMap::new(),
            blobs: HashMap::new(),
        }
    }

    pub(super) fn finish(self) -> VerifyReport {
        self.report
    }

    /// Of whatever stream the events were that are lost.
    pub(super) fn log_is_damaged(&mut self, what: &str) {
        self.report.add(None, None, format!("the write-ahead log is damaged: {what}"));
    }

    pub(super) fn one(&mut self, run: &str) -> Result<(), JournalError> {
        self.stream(SYSTEM);
        let exists = self.has_rows(run).map_err(unreadable)?;
        if !exists && !self.checkpoints.contains_key(run) {
            return Err(JournalError::NoSuchRun(run.to_owned()));
        }
        self.run(run);
        Ok(())
    }

    pub(super) fn all(&mut self) {
        self.integrity();
        self.stream(SYSTEM);
        // A row of a run there is not says something too: an inbox entry, that a request was accepted.
        let names = self.names(
            "SELECT stream FROM streams UNION SELECT stream FROM events UNION SELECT run FROM runs
             UNION SELECT run FROM budgets UNION SELECT run FROM inbox UNION SELECT run FROM deleted",
        );
        for name in names.union(&self.checkpoints.keys().cloned().collect()) {
            if name != SYSTEM {
                self.run(name);
            }
        }
        self.all_blobs();
    }

    /// SQLite's own check of its file: pages and indexes.
    fn integrity(&mut self) {
        let checked: rusqlite::Result<Vec<String>> = self
            .connection
            .prepare("PRAGMA integrity_check(20)")
            .and_then(|mut check| check.query_map([], |row| row.get(0))?.collect());
        match checked {
            Ok(lines) => {
                for line in lines.into_iter().filter(|line| line != "ok") {
                    self.report.add(None, None, format!("the database file is damaged: {line}"));
                }
            }
            Err(error) => self.report.add(None, None, format!("the database file is damaged: {error}")),
        }
    }

    fn names(&mut self, sql: &str) -> BTreeSet<String> {
        let read = || -> rusqlite::Result<BTreeSet<String>> {
            self.connection.prepare(sql)?.query_map([], |row| Ok(lossy(row.get_ref(0)?)))?.collect()
        };
        read().unwrap_or_else(|error| {
            self.report.add(None, None, format!("the list of streams cannot be read: {error}"));
            BTreeSet::new()
        })
    }

    /// Whether any table has something of a run.
    pub(super) fn has_rows(&self, run: &str) -> rusqlite::Result<bool> {
        let find = "SELECT 1 FROM streams WHERE stream = ?1 UNION SELECT 1 FROM events WHERE stream = ?1
             UNION SELECT 1 FROM runs WHERE run = ?1 UNION SELECT 1 FROM budgets WHERE run = ?1
             UNION SELECT 1 FROM inbox WHERE run = ?1";
        self.connection.prepare_cached(find)?.exists([run])
    }

    pub(super) fn stream(&mut self, name: &str) {
        self.report.streams += 1;
        let mut chain = Chain { hash: Some(Hash::ZERO), ..Chain::default() };
        if let Err(error) = self.walk(name, &mut chain) {
            self.report.add(
                Some(name),
                Some(chain.seq.saturating_add(1)),
                format!("the events cannot be read: {error}"),
            );
            chain.is_broken = true;
        }
        self.head(name, &chain);
        if name == SYSTEM {
            self.no_run_is_called_system();
            return;
        }
        self.vouched(name, &chain);
        self.projection(name, &chain);
    }

    fn walk(&mut self, name: &str, chain: &mut Chain) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare_cached(
            "SELECT seq, at_ms, epoch, hash, body, changes FROM events WHERE stream = ?1 ORDER BY seq",
        )?;
        let mut found = statement.query([name])?;
        while let Some(row) = found.next()? {
            self.report.events += 1;
            self.link(name, row, chain)?;
        }
        Ok(())
    }

    fn link(&mut self, name: &str, row: &Row<'_>, chain: &mut Chain) -> rusqlite::Result<()> {
        let seq = number(row, 0)?;
        let expected = chain.seq.saturating_add(1);
        if seq != expected {
            let what = if seq == expected.saturating_add(1) {
                "it is missing".to_owned()
            } else {
                format!("events {expected} to {} are missing", seq.saturating_sub(1))
            };
            self.report.add(Some(name), Some(expected), what);
            chain.is_broken = true;
            // What came before this event is gone, so its own link cannot be checked.
            chain.hash = None;
        }
        chain.seq = seq;
        let body = bytes(row.get_ref(4)?);
        let changes = bytes(row.get_ref(5)?);
        let stored = <[u8; 32]>::try_from(bytes(row.get_ref(3)?)).ok().map(Hash::from_bytes);
        let (at_ms, epoch) = (number(row, 1)?, number(row, 2)?);
        if let Some(prev) = &chain.hash {
            let link = Link { stream: name.as_bytes(), seq, at_ms, epoch, prev, body, changes };
            if stored != Some(link.hash()) {
                self.report.add(Some(name), Some(seq), "its hash does not fit: it, or the one before it, was changed");
            }
        }
        if epoch < chain.epoch {
            self.report.add(
                Some(name),
                Some(seq),
                format!("its epoch {epoch} is lower than {} before it", chain.epoch),
            );
        }
        chain.epoch = epoch;
        // Goes on from the hash as stored, so that one change is one finding.
        chain.hash = stored;
        match serde_json::from_slice::<Event>(body) {
            Ok(event) => self.event(name, seq, at_ms, &event, changes, chain),
            Err(error) => {
                self.report.add(Some(name), Some(seq), format!("its body is not an event: {error}"));
                chain.is_broken = true;
            }
        }
        Ok(())
    }

    fn event(&mut self, name: &str, seq: u64, at_ms: u64, event: &Event, changes: &[u8], chain: &mut Chain) {
        if name == SYSTEM {
            self.system_event(seq, at_ms, event);
            return;
        }
        for hash in blobs_of(event) {
            if !self.blob_is_whole(&hash) {
                self.report.add(Some(name), Some(seq), format!("blob {hash} is missing or was changed"));
            }
        }
        if let Some(point) = self.checkpoints.get(name).and_then(|points| points.get(&seq))
            && chain.hash != Some(point.hash)
        {
            let what = format!("the system stream (event {}) vouches for another event here", point.at);
            self.report.add(Some(name), Some(seq), what);
        }
        if chain.is_broken {
            return;
        }
        let changes = String::from_utf8_lossy(changes);
        let folded = chain.folding.take(event, &changes, at_ms);
        if let Err(what) = folded {
            self.report.add(Some(name), Some(seq), what);
            chain.is_broken = true;
            return;
        }
        let status = chain.folding.projection.as_ref().map(|projection| projection.status.as_str());
        if let Some(point) = self.checkpoints.get(name).and_then(|points| points.get(&seq))
            && status != Some(point.status.as_str())
        {
            let what = format!("the system stream (event {}) says it was then {}", point.at, point.status);
            self.report.add(Some(name), Some(seq), what);
        }
    }

    fn system_event(&mut self, seq: u64, at_ms: u64, event: &Event) {
        match event {
            Event::Checkpoint { stream, seq: of, hash, status } => {
                self.report.checkpoints += 1;
                let point = Checkpoint { hash: *hash, status: status.clone(), at: seq };
                self.checkpoints.entry(stream.to_string()).or_default().insert(*of, point);
            }
            Event::Deleted { stream, seq: of, hash, who, .. } => {
                let tombstone = Tombstone { seq: *of, hash: *hash, at_ms, who: who.clone(), at: seq };
                if self.deleted.insert(stream.to_string(), tombstone).is_some() {
                    self.report.add(Some(SYSTEM), Some(seq), format!("{stream} is deleted twice"));
                }
            }
            other => self.report.add(Some(SYSTEM), Some(seq), format!("`{}` does not belong here", other.kind())),
        }
    }

    /// The head row: where the chain ends, signed.
    fn head(&mut self, name: &str, chain: &Chain) {
        let read = self
            .connection
            .prepare_cached("SELECT head_seq, head_hash, head_sig, epoch FROM streams WHERE stream = ?1")
            .and_then(|mut find| {
                let read = |row: &Row<'_>| {
                    Ok((
                        number(row, 0)?,
                        bytes(row.get_ref(1)?).to_vec(),
                        bytes(row.get_ref(2)?).to_vec(),
                        number(row, 3)?,
                    ))
                };
                find.query_row([name], read).optional()
            });
        let (seq, hash, signature, epoch) = match read {
            Ok(Some(head)) => head,
            Ok(None) if name == SYSTEM && chain.seq == 0 => {
                // A journal without runs has no system stream yet.
                if self.connection.prepare("SELECT 1 FROM streams").and_then(|mut find| find.exists([])).unwrap_or(true)
                {
                    self.report.add(Some(name), None, "the system stream was removed");
                }
                return;
            }
            Ok(None) => return self.report.add(Some(name), None, "it has no head: the run was removed"),
            Err(error) => return self.report.add(Some(name), None, format!("its head cannot be read: {error}")),
        };
        let hash = <[u8; 32]>::try_from(hash).ok().map(Hash::from_bytes);
        if seq > chain.seq {
            self.report.add(
                Some(name),
                Some(chain.seq.saturating_add(1)),
                format!("the events up to {seq} were cut off"),
            );
        } else if seq < chain.seq {
            self.report.add(Some(name), Some(seq.saturating_add(1)), "it stands after the head");
        } else if hash.is_none() || hash != chain.hash {
            self.report.add(Some(name), Some(seq), "the head names another last event");
        }
        if epoch != chain.epoch && seq == chain.seq {
            self.report.add(Some(name), None, format!("the head has epoch {epoch}, its last event {}", chain.epoch));
        }
        if !hash.is_some_and(|hash| head_is_signed(self.key, name, seq, &hash, &signature)) {
            self.report.add(Some(name), Some(seq), "the signature of the head does not fit");
        }
    }

    fn no_run_is_called_system(&mut self) {
        let rows = "SELECT run FROM runs WHERE run = 'system' UNION SELECT run FROM budgets WHERE run = 'system'
             UNION SELECT run FROM inbox WHERE run = 'system'";
        if !self.names(rows).is_empty() {
            self.report.add(Some(SYSTEM), None, "a run is listed under its name");
        }
    }

    /// Whether the system stream knows the run, and nothing it vouches for was cut off.
    fn vouched(&mut self, name: &str, chain: &Chain) {
        let Some(points) = self.checkpoints.get(name) else {
            return self.report.add(Some(name), None, "the system stream does not know it: it was inserted");
        };
        let Some((last, point)) = points.last_key_value() else { return };
        if *last > chain.seq {
            let what = format!("the system stream (event {}) vouches for it, and it is gone", point.at);
            self.report.add(Some(name), Some(*last), what);
        }
    }

    /// The run's row, budget and inbox against what its events say.
    fn projection(&mut self, name: &str, chain: &Chain) {
        let Some(wanted) = chain.folding.projection.as_ref().filter(|_| !chain.is_broken) else { return };
        let Ok(run) = RunId::parse(name) else {
            return self.report.add(Some(name), None, "it is not the name of a run");
        };
        match rows::projection(self.connection, &run) {
            Ok(Some(live)) => {
                for what in differences(wanted, &live) {
                    self.report.add(Some(name), None, format!("the projection differs from the events: {what}"));
                }
            }
            Ok(None) => self.report.add(Some(name), None, "it is missing from the list of runs"),
            Err(error) => self.report.add(Some(name), None, format!("its row cannot be read: {error}")),
        }
        let found = self
            .connection
            .prepare_cached("SELECT source, ext_id FROM inbox WHERE run = ?1 ORDER BY source, ext_id")
            .and_then(|mut find| {
                find.query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect::<rusqlite::Result<Vec<(String, String)>>>()
            });
        let mut keys = wanted.inbox.clone();
        keys.sort();
        // Exactly these: one more would make the journal refuse somebody's request.
        if !matches!(found, Ok(found) if found == keys) {
            self.report.add(Some(name), None, "the projection differs from the events: inbox");
        }
    }

    fn blob_is_whole(&mut self, hash: &Hash) -> bool {
        if let Some(known) = self.blobs.get(hash) {
            return *known;
        }
        let read = self.connection.prepare_cached("SELECT bytes FROM blobs WHERE hash = ?1").and_then(|mut find| {
            find.query_row([hash.as_bytes()], |row| Ok(Hash::of(bytes(row.get_ref(0)?)))).optional()
        });
        let whole = read.ok().flatten() == Some(*hash);
        self.report.blobs += 1;
        self.blobs.insert(*hash, whole);
        whole
    }

    /// Blobs that no event names are checked too.
    fn all_blobs(&mut self) {
        let read = || -> rusqlite::Result<Vec<(String, bool)>> {
            self.connection
                .prepare("SELECT hash, bytes FROM blobs")?
                .query_map([], |row| {
                    let named = bytes(row.get_ref(0)?);
                    let hash = Hash::of(bytes(row.get_ref(1)?));
                    Ok((hex::encode(named), named == hash.as_bytes()))
                })?
                .filter(|row| !matches!(row, Ok((_, true))))
                .collect()
        };
        match read() {
            Ok(bad) => {
                for (name, _) in bad {
                    self.report.add(None, None, format!("blob {name} has other content than its name says"));
                }
            }
            Err(error) => self.report.add(None, None, format!("the blobs cannot be read: {error}")),
        }
    }
}

fn differences(wanted: &Projection, live: &Projection) -> Vec<&'static str> {
    [
        ("status", wanted.status == live.status),
        ("prompt", wanted.prompt == live.prompt),
        ("workspace", wanted.workspace == live.workspace),
        ("times", (wanted.created_ms, wanted.updated_ms) == (live.created_ms, live.updated_ms)),
        ("cost_known", wanted.cost_known == live.cost_known),
        ("limits", wanted.budget == live.budget),
        ("budget", wanted.state == live.state),
    ]
    .into_iter()
    .filter_map(|(name, same)| (!same).then_some(name))
    .collect()
}

/// A number that was made negative is none that was ever written; it then fits no hash.
pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(match row.get_ref(column)? {
        ValueRef::Integer(value) => u64::try_from(value).unwrap_or(u64::MAX),
        _ => u64::MAX,
    })
}

fn bytes(value: ValueRef<'_>) -> &[u8] {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
        _ => &[],
    }
}

fn lossy(value: ValueRef<'_>) -> String {
    String::from_utf8_lossy(bytes(value)).into_owned()
}
