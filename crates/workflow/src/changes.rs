//! What a run changed in its workspace, from its events alone.

use std::collections::{BTreeMap, BTreeSet};

use homarus_contract::{
    event::{Accepted, Event},
    ids::{CallId, Hash, RunId},
    journal::{Journal, JournalError},
    sandbox::{Change, Conflict, Entry, LayerDiff},
};

/// One path as one call changed it, merged into the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub call: CallId,
    pub change: Change,
}

impl Applied {
    /// 0 for a call that belongs to no step.
    pub fn step(&self) -> u32 {
        self.call.position().map_or(0, |(step, _)| step)
    }
}

/// A run as far as its workspace is concerned.
#[derive(Debug, Default)]
pub struct RunChanges {
    pub accepted: Option<Accepted>,
    /// In the order in which they were merged.
    pub applied: Vec<Applied>,
    pub conflicts: Vec<Conflict>,
    /// What no merge may carry, of calls that were merged.
    pub refused: Vec<(String, String)>,
    /// Contents the journal has.
    pub kept: BTreeSet<Hash>,
    /// The latest call with a result.
    pub last_call: Option<CallId>,
    /// The latest step a model was asked for.
    pub last_step: u32,
    results: BTreeMap<CallId, LayerDiff>,
}

impl RunChanges {
    pub fn read(journal: &dyn Journal, run: &RunId) -> Result<Self, JournalError> {
        let mut changes = Self::default();
        for record in journal.read_all(run)? {
            changes.apply(record.event);
        }
        Ok(changes)
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Accepted(accepted) => self.accepted = Some(accepted),
            // What stands before was done by another run.
            Event::Forked { .. } => {
                let (accepted, last_step) = (self.accepted.take(), self.last_step);
                *self = Self { accepted, last_step, ..Self::default() };
            }
            Event::ModelIntent { step, .. } => self.last_step = self.last_step.max(step),
            Event::ActResult(result) => {
                self.kept.extend(result.kept);
                self.last_call = Some(result.call.clone());
                self.results.insert(result.call, result.diff);
            }
            Event::Merged { call, report } => {
                let merged: BTreeSet<String> = report.merged.into_iter().collect();
                let diff = self.results.remove(&call).unwrap_or_default();
                let merged = diff.changes.into_iter().filter(|change| merged.contains(&change.path));
                self.applied.extend(merged.map(|change| Applied { call: call.clone(), change }));
                self.conflicts.extend(report.conflicts);
                self.refused.extend(diff.refused);
            }
            Event::Discarded { call, .. } => {
                self.results.remove(&call);
            }
            _ => {}
        }
    }
}

/// Several changes of a path as one: from what it was before the first to what it is after the last.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Net {
    /// Sorted by path; paths that are as they were are left out.
    pub changes: Vec<Change>,
    /// Paths somebody else changed in between: only what came after that is in `changes`.
    pub broken: Vec<String>,
}

impl Net {
    pub fn of<'a>(applied: impl IntoIterator<Item = &'a Applied>) -> Self {
        let mut chains: BTreeMap<&str, (Change, bool)> = BTreeMap::new();
        for Applied { change, .. } in applied {
            match chains.get_mut(change.path.as_str()) {
                None => {
                    chains.insert(&change.path, (change.clone(), false));
                }
                Some((net, broken)) => {
                    if net.new != change.old {
                        net.old = change.old.clone();
                        *broken = true;
                    }
                    net.new = change.new.clone();
                }
            }
        }
        let mut all = Self::default();
        for (path, (change, broken)) in chains {
            if broken {
                all.broken.push(path.to_owned());
            }
            if change.old != change.new {
                all.changes.push(change);
            }
        }
        all
    }

    /// The changes that lead back.
    pub fn reversed(&self) -> Vec<Change> {
        let back =
            |change: &Change| Change { path: change.path.clone(), old: change.new.clone(), new: change.old.clone() };
        self.changes.iter().map(back).collect()
    }
}

/// How many bytes a file has; 0 for all else.
pub fn bytes_of(entry: &Entry) -> u64 {
    match entry {
        Entry::File { bytes, .. } => *bytes,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Entry {
        Entry::File { hash: Hash::of(text.as_bytes()), bytes: text.len() as u64, mode: 0o644 }
    }

    fn applied(call: &str, path: &str, old: Entry, new: Entry) -> Applied {
        Applied { call: CallId::parse(call).unwrap(), change: Change { path: path.to_owned(), old, new } }
    }

    #[test]
    fn several_changes_are_one() {
        let net = Net::of(&[
            applied("c1.0", "a", file("1"), file("2")),
            applied("c1.0", "made-and-gone", Entry::Absent, file("x")),
            applied("c2.0", "a", file("2"), file("3")),
            applied("c3.0", "made-and-gone", file("x"), Entry::Absent),
            applied("c3.0", "b", Entry::Absent, file("b")),
        ]);
        assert!(net.broken.is_empty());
        let shown: Vec<_> = net.changes.iter().map(|change| (change.path.as_str(), &change.old, &change.new)).collect();
        assert_eq!(shown, [("a", &file("1"), &file("3")), ("b", &Entry::Absent, &file("b"))]);
        assert_eq!(net.reversed()[0], Change { path: "a".to_owned(), old: file("3"), new: file("1") });
    }

    #[test]
    fn what_somebody_else_changed_in_between_is_not_part_of_it() {
        let net = Net::of(&[applied("c1.0", "a", file("1"), file("2")), applied("c2.0", "a", file("user"), file("3"))]);
        assert_eq!(net.broken, ["a"]);
        assert_eq!(net.changes, [Change { path: "a".to_owned(), old: file("user"), new: file("3") }]);
    }
}
