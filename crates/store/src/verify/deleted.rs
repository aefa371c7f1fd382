//! Runs that the system stream says were deleted: nothing of them may be left, and none may be called so that was not.

use std::collections::BTreeMap;

use homarus_contract::ids::Hash;
use rusqlite::OptionalExtension;

use super::scan::{SYSTEM, Scan, number};

pub(super) struct Tombstone {
    pub(super) seq: u64,
    pub(super) hash: Hash,
    pub(super) at_ms: u64,
    pub(super) who: String,
    /// Where in the system stream it stands.
    pub(super) at: u64,
}

impl Scan<'_> {
    pub(super) fn run(&mut self, name: &str) {
        let listed = self
            .connection
            .prepare_cached("SELECT at_ms, who FROM deleted WHERE run = ?1")
            .and_then(|mut find| find.query_row([name], |row| Ok((number(row, 0)?, row.get(1)?))).optional());
        match self.deleted.remove(name) {
            Some(tombstone) => {
                if !matches!(listed, Ok(Some((at_ms, who))) if (at_ms, &who) == (tombstone.at_ms, &tombstone.who)) {
                    self.report.add(Some(name), None, "the list of deleted runs differs from the system stream");
                }
                self.gone(name, &tombstone);
            }
            None => {
                if !matches!(listed, Ok(None)) {
                    self.report.add(Some(name), None, "it is listed as deleted, and the system stream does not say so");
                }
                self.stream(name);
            }
        }
    }

    /// Nothing of it is left, and it was deleted as it was last vouched for.
    fn gone(&mut self, name: &str, tombstone: &Tombstone) {
        if self.has_rows(name).unwrap_or(true) {
            let what = format!("the system stream (event {}) says it was deleted, and it is here", tombstone.at);
            self.report.add(Some(name), None, what);
        }
        let last = self.checkpoints.get(name).and_then(BTreeMap::last_key_value);
        let fits = last.is_some_and(|(seq, point)| {
            point.at < tombstone.at && (*seq < tombstone.seq || (*seq, point.hash) == (tombstone.seq, tombstone.hash))
        });
        if !fits {
            self.report.add(Some(SYSTEM), Some(tombstone.at), format!("it does not fit what was vouched for {name}"));
        }
    }
}
