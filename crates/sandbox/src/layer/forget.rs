//! What is kept of a run besides its events goes with it.

use std::{fs, io, path::Path};

use homarus_contract::ids::RunId;

use super::{gone, remove_tree};

/// Removes the versions in conflict of runs that are no more; answers of how many runs.
pub fn forget_conflicts(state_dir: &Path, is_deleted: impl Fn(&RunId) -> bool) -> io::Result<u64> {
    let entries = match fs::read_dir(state_dir.join("conflicts")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut forgotten = 0;
    for entry in entries {
        let entry = entry?;
        let run = entry.file_name().into_string().ok().and_then(|name| RunId::parse(name).ok());
        if run.is_some_and(|run| is_deleted(&run)) {
            gone(remove_tree(&entry.path()))?;
            forgotten += 1;
        }
    }
    Ok(forgotten)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_runs_that_are_no_more_are_forgotten() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(forget_conflicts(state.path(), |_| true).unwrap(), 0);
        let conflicts = state.path().join("conflicts");
        for run in ["gone", "kept"] {
            fs::create_dir_all(conflicts.join(run).join("c1.0")).unwrap();
            fs::write(conflicts.join(run).join("c1.0/file"), "version").unwrap();
        }
        std::os::unix::fs::symlink(conflicts.join("kept"), conflicts.join("gone/link")).unwrap();
        fs::write(conflicts.join("no run!"), "").unwrap();
        assert_eq!(forget_conflicts(state.path(), |run| run.as_str() == "gone").unwrap(), 1);
        assert!(!conflicts.join("gone").exists());
        assert!(conflicts.join("kept/c1.0/file").exists() && conflicts.join("no run!").exists());
    }
}
