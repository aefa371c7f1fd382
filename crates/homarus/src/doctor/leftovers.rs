//! What runs and tries that were cut off have left behind.

use std::{collections::BTreeSet, fs, path::Path};

use homarus_api::doctor::Finding;
use homarus_contract::journal::Journal;

use super::{Because, Patient, of_error, ok, warning};
use crate::wiring;

const LISTED_MAX: usize = 5;

pub fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let state = &patient.dirs.state;
    let mut findings = vec![probes(state)];
    // That it cannot be opened is the journal's own finding.
    let Ok(Some(store)) = wiring::open_read_only_in(patient.dirs) else { return findings };
    findings.push(match store.orphans() {
        Ok(orphans) => runs(&orphans.iter().map(ToString::to_string).collect::<Vec<_>>()),
        Err(failure) => of_error("leftovers.runs", failure.into()),
    });
    findings.push(match store.health(true) {
        Ok(health) => layers(state, &health.unfinished.iter().map(ToString::to_string).collect()),
        Err(failure) => of_error("leftovers.layers", failure.into()),
    });
    findings
}

fn runs(orphans: &[String]) -> Finding {
    let Some(first) = orphans.first() else { return ok("leftovers.runs", "every run is driven or at rest") };
    warning("leftovers.runs", &format!("{} runs were cut off", orphans.len()))
        .because(format!("the process that drove them is gone: {}", some(orphans)))
        .fix(format!("`homarus runs resume {first}` goes on; the next `homarus run` brings them to rest"))
}

/// Layers of runs that have ended.
fn layers(state: &Path, unfinished: &BTreeSet<String>) -> Finding {
    let folder = state.join("layers");
    // What begins with a dot is no run's: layers nobody used, which the next start removes.
    let is_left = |run: &String| !run.starts_with('.') && !unfinished.contains(run);
    let left: Vec<String> = names(&folder).into_iter().filter(is_left).collect();
    if left.is_empty() {
        return ok("leftovers.layers", "none that no run needs");
    }
    warning("leftovers.layers", &format!("{} folders of layers belong to no run that goes on", left.len()))
        .because(some(&left))
        .fix(format!("they may be removed: they are folders in {}", folder.display()))
}

fn probes(state: &Path) -> Finding {
    let own = format!("probe-{}-", std::process::id());
    let is_left = |name: &String| {
        let process = name.strip_prefix("probe-").and_then(|rest| rest.split('-').next());
        let alive = process.is_some_and(|id| Path::new("/proc").join(id).exists());
        process.is_some() && !name.starts_with(&own) && !alive
    };
    let left: Vec<String> = names(state).into_iter().filter(is_left).collect();
    if left.is_empty() {
        return ok("leftovers.probes", "none");
    }
    warning("leftovers.probes", &format!("{} folders of tries of the sandbox were left", left.len()))
        .because(some(&left))
        .fix(format!("they may be removed: they are folders in {}", state.display()))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn some(names: &[String]) -> String {
    let more = names.len().saturating_sub(LISTED_MAX);
    let listed = names[..names.len().min(LISTED_MAX)].join(", ");
    if more > 0 { format!("{listed} and {more} more") } else { listed }
}

#[cfg(test)]
mod tests {
    use homarus_api::doctor::Severity;

    use super::super::with_patient;
    use super::*;

    #[test]
    fn what_was_left_is_told() {
        with_patient("", |patient| {
            let state = &patient.dirs.state;
            let unfinished = BTreeSet::from(["goes-on".to_owned()]);
            assert_eq!(probes(state).severity, Severity::Ok);
            fs::create_dir_all(state.join("layers/goes-on")).unwrap();
            fs::create_dir_all(state.join(format!("probe-{}-1", std::process::id()))).unwrap();
            assert_eq!(layers(state, &unfinished).severity, Severity::Ok);
            assert_eq!(probes(state).severity, Severity::Ok, "ours is under way");
            fs::create_dir_all(state.join("layers/ended/c1-1")).unwrap();
            // No process has this id: it is above the kernel's bound.
            fs::create_dir_all(state.join("probe-4194999-1")).unwrap();
            assert_eq!(layers(state, &unfinished).severity, Severity::Warning);
            assert_eq!(probes(state).severity, Severity::Warning);
        });
        assert_eq!(runs(&[]).severity, Severity::Ok);
        let found = runs(&["r1".to_owned()]);
        assert!(found.severity == Severity::Warning && found.fix.unwrap().contains("runs resume r1"));
    }
}
