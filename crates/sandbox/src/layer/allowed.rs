//! What a diff may hold at all, wherever it comes from: checked when a layer is filled, and again when it is merged.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use homarus_contract::{
    ids::Hash,
    sandbox::{Change, Entry},
};

use super::{beneath::Root, linked::Linked};
use crate::protected::{self, Shape};

const TEMPORARY: &str = ".homarus-merge-";

#[derive(Debug)]
pub struct Allowed {
    linked: Linked,
    /// Paths that shall be files or links. Nothing is in one of them that a call can have put there; several calls, of which each
    /// changed one of both, together can.
    ends: BTreeSet<String>,
}

impl Allowed {
    /// `workspace`: the folder and its path. `own`: paths of Homarus itself.
    pub fn in_diff(changes: &[Change], workspace: (&Root, &Path), own: &[PathBuf]) -> Self {
        let is_end = |change: &&Change| matches!(change.new, Entry::File { .. } | Entry::Symlink { .. });
        let ends = changes.iter().filter(is_end).map(|change| change.path.clone()).collect();
        Self { linked: Linked::of(workspace.0, workspace.1, own), ends }
    }

    /// Why this change can never be merged, if it cannot.
    pub fn why_never(&self, change: &Change) -> Option<String> {
        let (path, shape) = (change.path.as_str(), Shape::of(&change.new));
        protected::refusal(path, shape).or_else(|| self.linked.refusal(path, shape)).or_else(|| {
            if change.new == Entry::Absent {
                return None;
            }
            let mut above = path.match_indices('/').map(|(at, _)| &path[..at]);
            let is_inside = above.any(|folder| self.ends.contains(folder));
            is_inside.then(|| "it would lie in what shall be no folder".to_owned()).or_else(|| why_temporary(path))
        })
    }
}

/// The same name each time, so that a repeated merge replaces what a killed one left; and never that of another path.
pub fn temporary(path: &str) -> String {
    format!("{TEMPORARY}{}", Hash::of(path.as_bytes()))
}

/// Why nothing new may be at this path, if it is or lies in what only a merge makes.
pub fn why_temporary(path: &str) -> Option<String> {
    let is_ours = path.split('/').any(|part| part.starts_with(TEMPORARY));
    is_ours.then(|| "the name is one that merges use".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_paths_wait_under_one_name() {
        // Of a part of the hash, a call can find two paths that have it in common.
        assert_eq!(temporary("a"), format!(".homarus-merge-{}", Hash::of(b"a")));
        assert!(why_temporary(&temporary("a")).is_some() && why_temporary("in/.homarus-merge-x/y").is_some());
        assert!(why_temporary("homarus-merge-x").is_none());
    }
}
