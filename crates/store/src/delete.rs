//! Deleting runs for good. What stays of one is an event of the system stream, so that it is told from one that
//! somebody took away.
//!
//! Blobs may be of several runs, and no table says of which. So they go afterwards, in a sweep: what no event names
//! is looked for without keeping others from writing, and what was named meanwhile is left out when it is deleted.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use homarus_contract::{
    event::Event,
    ids::{Hash, RunId},
    journal::JournalError,
};
use rusqlite::{Connection, params};

use crate::{
    error::{OpError, unreadable},
    ops::{Ops, refuse},
    rows::{self, signed, unsigned},
};

/// Blobs of one transaction of a sweep.
pub(crate) const SWEEP_BLOBS_MAX: usize = 200;
const WHO_CHARS_MAX: usize = 200;
const HASH_DIGITS: usize = 64;

/// What a sweep took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    pub blobs: u64,
    pub bytes: u64,
}

/// Blobs that no event named, and up to which event of each stream that was looked at.
#[derive(Debug, Clone)]
pub(crate) struct Unnamed {
    pub blobs: Vec<Hash>,
    pub seen: Arc<BTreeMap<String, u64>>,
}

impl Ops<'_> {
    /// Only a run that has ended.
    pub(crate) fn delete(&mut self, run: &RunId, who: &str) -> Result<(), OpError> {
        let (head, projection) = self.load(run)?;
        if !projection.status.is_final() {
            return refuse(&format!("run {run} has not ended; `homarus runs cancel` ends it"));
        }
        if who.chars().count() > WHO_CHARS_MAX {
            return refuse("the name of who deletes it is too long");
        }
        self.overwrite_what_goes()?;
        // Each refers to the next.
        for sql in [
            "DELETE FROM answers WHERE run = ?1",
            "DELETE FROM cancels WHERE run = ?1",
            "DELETE FROM requests WHERE run = ?1",
            "DELETE FROM inbox WHERE run = ?1",
            "DELETE FROM budgets WHERE run = ?1",
            "DELETE FROM runs WHERE run = ?1",
            "DELETE FROM events WHERE stream = ?1",
            "DELETE FROM streams WHERE stream = ?1",
        ] {
            self.connection.prepare_cached(sql)?.execute([run.as_str()])?;
        }
        put_deleted(self.connection, run, self.now_ms, who)?;
        self.put_system(Event::Deleted {
            stream: run.stream(),
            seq: head.seq,
            hash: head.hash,
            status: projection.status.as_str().to_owned(),
            used: projection.state.used,
            cost_known: projection.cost_known,
            created_ms: projection.created_ms,
            who: who.to_owned(),
        })
    }

    pub(crate) fn sweep(&mut self, unnamed: &Unnamed) -> Result<Swept, OpError> {
        let mut doomed: HashSet<Hash> = unnamed.blobs.iter().copied().collect();
        let heads = heads(self.connection)?;
        for (stream, seq) in &heads {
            let seen = unnamed.seen.get(stream).copied().unwrap_or(0);
            if seen < *seq {
                let since = "SELECT body FROM events WHERE stream = ?1 AND seq > ?2";
                let mut find = self.connection.prepare_cached(since)?;
                spare(&mut doomed, find.query(params![stream, signed(seen)])?)?;
            }
        }
        spare(&mut doomed, self.connection.prepare_cached("SELECT request FROM requests")?.query([])?)?;
        self.overwrite_what_goes()?;
        let mut swept = Swept::default();
        let mut find = self.connection.prepare_cached("SELECT length(bytes) FROM blobs WHERE hash = ?1")?;
        let mut delete = self.connection.prepare_cached("DELETE FROM blobs WHERE hash = ?1")?;
        for hash in doomed {
            let bytes = find.query_map([hash.as_bytes()], |row| unsigned(row, 0))?.sum::<rusqlite::Result<u64>>()?;
            swept.blobs += delete.execute([hash.as_bytes()])? as u64;
            swept.bytes += bytes;
        }
        Ok(swept)
    }

    /// Zeros over what is deleted from now on, instead of pages that are only called free.
    fn overwrite_what_goes(&self) -> rusqlite::Result<()> {
        self.connection.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))
    }
}

pub(crate) fn put_deleted(connection: &Connection, run: &RunId, at_ms: u64, who: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT INTO deleted (run, at_ms, who) VALUES (?1, ?2, ?3)")?.execute(params![
        run.as_str(),
        signed(at_ms),
        who
    ])?;
    Ok(())
}

/// Why a run is not there.
pub(crate) fn missing(connection: &Connection, run: &str) -> JournalError {
    let found = connection
        .prepare_cached("SELECT at_ms, who FROM deleted WHERE run = ?1")
        .and_then(|mut find| find.query_row([run], |row| Ok((unsigned(row, 0)?, row.get(1)?))));
    match found {
        Ok((at_ms, who)) => JournalError::Deleted { run: run.to_owned(), at_ms, who },
        Err(rusqlite::Error::QueryReturnedNoRows) => JournalError::NoSuchRun(run.to_owned()),
        Err(error) => unreadable(error),
    }
}

/// Looks through the whole journal, in one snapshot.
pub(crate) fn unnamed(connection: &Connection) -> rusqlite::Result<Unnamed> {
    let snapshot = connection.unchecked_transaction()?;
    let seen = Arc::new(heads(&snapshot)?);
    let mut blobs: HashSet<Hash> = snapshot
        .prepare("SELECT hash FROM blobs")?
        .query_map([], |row| rows::hash(row, 0))?
        .collect::<Result<_, _>>()?;
    for sql in ["SELECT body FROM events", "SELECT request FROM requests"] {
        if !blobs.is_empty() {
            spare(&mut blobs, snapshot.prepare(sql)?.query([])?)?;
        }
    }
    Ok(Unnamed { blobs: blobs.into_iter().collect(), seen })
}

fn heads(connection: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    let mut find = connection.prepare_cached("SELECT stream, head_seq FROM streams")?;
    find.query_map([], |row| Ok((row.get(0)?, unsigned(row, 1)?)))?.collect()
}

/// Takes out what any of the texts names.
fn spare(blobs: &mut HashSet<Hash>, mut texts: rusqlite::Rows<'_>) -> rusqlite::Result<()> {
    while let Some(row) = texts.next()? {
        for hash in hashes_in(row.get_ref(0)?.as_str()?) {
            blobs.remove(&hash);
        }
    }
    Ok(())
}

/// All words of 64 hexadecimal digits. Whatever else they may be: a blob too many stays.
fn hashes_in(text: &str) -> impl Iterator<Item = Hash> {
    let words = text.as_bytes().split(|byte| !byte.is_ascii_hexdigit()).filter(|word| word.len() == HASH_DIGITS);
    words.filter_map(|word| {
        let mut bytes = [0; HASH_DIGITS / 2];
        hex::decode_to_slice(word, &mut bytes).ok()?;
        Some(Hash::from_bytes(bytes))
    })
}

#[cfg(test)]
mod tests {
    use homarus_contract::{
        event::Reconfigured,
        journal::{Append, Journal},
    };
    use serde_json::json;

    use super::*;
    use crate::{
        Options, Store,
        ops::{Command, Done},
    };

    const ALL: [&[u8]; 2] = [b"of all", b"unnamed"];

    fn accepted(run: &str) -> homarus_contract::event::Accepted {
        let of_all = Hash::of(ALL[0]);
        serde_json::from_value(json!({
            "run": run, "inbound": {"source": "cli", "ext_id": run, "text": "do it"}, "machine": "agent", "workspace": "/w",
            "models": ["fake/one"], "models_why": "", "answer_ms_max": 1,
            "profile": {"grants": [], "rules": "", "approvals": "ask", "tier": "internal"},
            "budget": {"cost_max": null, "tokens_max": 1, "steps_max": 1, "wall_ms_max": 1},
            "system": of_all, "tools": of_all, "orientation": of_all, "homarus_version": "0",
        }))
        .unwrap()
    }

    fn names(hash: Hash) -> Event {
        Event::Reconfigured(Reconfigured { system: Some(hash), ..Reconfigured::by("test".to_owned()) })
    }

    async fn swept(store: &Store, unnamed: Unnamed) -> u64 {
        let Done::Swept(swept) = store.submit(Command::Sweep(unnamed)).await.unwrap() else { panic!("not swept") };
        swept.blobs
    }

    #[tokio::test]
    async fn what_was_named_since_it_was_looked_for_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(dir.path())).unwrap();
        let fence = store.accept(accepted("first"), ALL.map(<[u8]>::to_vec).to_vec()).await.unwrap();
        let look = || store.readers.with(|connection| unnamed(connection).map_err(unreadable)).unwrap();
        let unnamed = Hash::of(ALL[1]);
        let before = look();
        assert_eq!(before.blobs, [unnamed]);
        let mut append = Append::new(fence);
        append.push(names(unnamed));
        store.append(append).await.unwrap();
        assert_eq!(swept(&store, before.clone()).await, 0, "by a run that was there");
        store.accept_with(accepted("second"), Vec::new(), vec![names(unnamed)]).await.unwrap();
        let without = Arc::new(before.seen.iter().map(|(stream, seq)| (stream.clone(), seq + 1)).collect());
        assert_eq!(swept(&store, Unnamed { seen: without, ..before }).await, 0, "by a run that was not");
        assert!(look().blobs.is_empty());
    }

    #[test]
    fn hashes_are_found_wherever_they_stand() {
        let (one, two) = (Hash::of(b"1"), Hash::of(b"2"));
        let text = format!("{{\"a\":\"{one}\",\"b\":[\"{two}\"],\"c\":\"{one}0\",\"d\":\"{}\"}}", &one.to_hex()[1..]);
        assert_eq!(hashes_in(&text).collect::<Vec<_>>(), [one, two]);
    }
}
