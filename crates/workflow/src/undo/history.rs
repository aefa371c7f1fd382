//! What of a run still stands: its changes without those that were undone.

use std::collections::{BTreeMap, BTreeSet};

use homarus_contract::{
    event::Event,
    ids::RunId,
    journal::{Journal, JournalError},
    sandbox::Change,
};

use super::{NAME, Target};
use crate::changes::{Applied, Net, RunChanges};

/// Runs that are looked through for undoings.
const RUNS_MAX: u32 = 10_000;
/// Undoing of undoing of ...; deeper is taken as not undone.
const DEPTH_MAX: u32 = 64;

/// The runs of a workspace, and which of them undo what.
pub struct History<'a> {
    journal: &'a dyn Journal,
    /// By what they undo; oldest first.
    undos: BTreeMap<RunId, Vec<(RunId, Target)>>,
    /// Newest first, and whether the request reads like that of an undo run: anybody may ask an agent for that.
    runs: Vec<(RunId, bool)>,
}

/// What an undoing comes to.
#[derive(Debug)]
pub struct Undoing {
    pub target: Target,
    /// What leads back, as far as it is in one piece.
    pub changes: Vec<Change>,
    /// Paths, and why their older changes stay.
    pub refused: Vec<(String, String)>,
}

impl<'a> History<'a> {
    pub fn read(journal: &'a dyn Journal, workspace: &str) -> Result<Self, JournalError> {
        let mut history = Self { journal, undos: BTreeMap::new(), runs: Vec::new() };
        for row in journal.runs(RUNS_MAX)?.into_iter().filter(|row| row.workspace == workspace) {
            let target = row.prompt.parse::<Target>();
            history.runs.push((row.run.clone(), target.is_ok()));
            if let Ok(target) = target {
                history.undos.entry(target.run.clone()).or_default().push((row.run, target));
            }
        }
        history.undos.values_mut().for_each(|undos| undos.reverse());
        Ok(history)
    }

    /// The newest run with changes that stand. An undo run is undone only when it is named.
    pub fn newest(&self) -> Result<Option<Undoing>, JournalError> {
        for (run, reads_like_undo) in &self.runs {
            if *reads_like_undo && self.is_undo(run)? {
                continue;
            }
            let undoing = self.undoing(run, 0)?;
            if let Some(undoing) = undoing.filter(|undoing| !undoing.changes.is_empty()) {
                return Ok(Some(undoing));
            }
        }
        Ok(None)
    }

    /// The runs that undid something of this one, oldest first, and the paths at which that stands.
    pub fn undos_of(&self, run: &RunId) -> Result<Vec<(RunId, BTreeSet<String>)>, JournalError> {
        let mut undos = Vec::new();
        for (undo, _) in self.undos.get(run).into_iter().flatten() {
            let changes = RunChanges::read(self.journal, undo)?;
            if changes.is_undo() {
                let standing = self.standing(undo, changes, 1)?;
                undos.push((undo.clone(), standing.into_iter().map(|applied| applied.change.path).collect()));
            }
        }
        Ok(undos)
    }

    fn is_undo(&self, run: &RunId) -> Result<bool, JournalError> {
        let first = self.journal.read(&run.stream(), 0, 1)?;
        Ok(first.iter().any(|record| matches!(&record.event, Event::Accepted(accepted) if accepted.machine == NAME)))
    }

    /// What undoing the steps from `step` on would change; `None`: the run has made no call.
    pub fn undoing(&self, run: &RunId, step: u32) -> Result<Option<Undoing>, JournalError> {
        let changes = RunChanges::read(self.journal, run)?;
        let Some(last) = changes.last_call.clone() else { return Ok(None) };
        self.back_to(Target { run: run.clone(), step, last }, changes, 0).map(Some)
    }

    /// The same for a target that was fixed earlier.
    pub fn undoing_of(&self, target: Target) -> Result<Undoing, JournalError> {
        let changes = RunChanges::read(self.journal, &target.run)?;
        self.back_to(target, changes, 0)
    }

    fn back_to(&self, target: Target, changes: RunChanges, depth: u32) -> Result<Undoing, JournalError> {
        let standing = self.standing(&target.run, changes, depth)?;
        let net = Net::of(standing.iter().filter(|applied| target.covers(applied)));
        let why = "somebody else changed it between the changes of this run: only those after that are undone";
        let refused = net.broken.iter().map(|path| (path.clone(), why.to_owned())).collect();
        Ok(Undoing { target, changes: net.reversed(), refused })
    }

    fn standing(&self, run: &RunId, changes: RunChanges, depth: u32) -> Result<Vec<Applied>, JournalError> {
        let mut standing = changes.applied;
        if depth >= DEPTH_MAX {
            return Ok(standing);
        }
        for (undo, target) in self.undos.get(run).into_iter().flatten() {
            let changes = RunChanges::read(self.journal, undo)?;
            if !changes.is_undo() {
                continue;
            }
            let undone = self.standing(undo, changes, depth + 1)?;
            let undone: BTreeSet<&str> = undone.iter().map(|applied| applied.change.path.as_str()).collect();
            standing.retain(|applied| !(target.covers(applied) && undone.contains(applied.change.path.as_str())));
        }
        Ok(standing)
    }
}

impl RunChanges {
    fn is_undo(&self) -> bool {
        self.accepted.as_ref().is_some_and(|accepted| accepted.machine == NAME)
    }
}

impl Target {
    fn covers(&self, applied: &Applied) -> bool {
        applied.step() >= self.step && applied.call.position() <= self.last.position()
    }
}
