//! Runs the tests of some crates, by `cargo nextest` or by `cargo test`, and counts them.

use std::process::Command;

use super::{
    Outcome,
    tally::{Report, Tally},
};
use crate::{env, places::Places, sh};

const NEXTEST_PROFILE: &str = "ci";

pub struct Runner<'a> {
    pub nextest: bool,
    pub places: &'a Places,
}

impl Runner<'_> {
    /// `packages` are Cargo's options that choose them; `cargo` makes the command, `prepare` sets its
    /// environment.
    pub fn tests(
        &self,
        packages: &[&str],
        cargo: fn(&Places, &[&str]) -> Command,
        prepare: &dyn Fn(&mut Command),
    ) -> Outcome {
        if !self.nextest {
            let args = [&["test", "--no-fail-fast", "--all-targets"], packages].concat();
            return self.libtest(cargo(self.places, &args), prepare);
        }
        let options = ["nextest", "run", "--profile", NEXTEST_PROFILE, "--color", "never", "--no-tests", "pass"];
        let mut command = cargo(self.places, &[&options, packages].concat());
        prepare(&mut command);
        let target = command.get_envs().find(|(name, _)| *name == env::CARGO_TARGET_DIR).and_then(|(_, value)| value);
        let target = target.map_or_else(|| self.places.target.clone(), std::path::PathBuf::from);
        let report_path = target.join("nextest").join(NEXTEST_PROFILE).join("junit.xml");
        // An old report must not speak for this run.
        let _ = std::fs::remove_file(&report_path);
        let mut tally = None;
        let ended = sh::watch(&mut command, |line| tally = Tally::of_nextest_summary(line).or(tally));
        let report = std::fs::read_to_string(&report_path).map(|xml| Report::of_junit(&xml)).unwrap_or_default();
        outcome(ended.map(|status| status.success()), tally, report)
    }

    pub fn doc_tests(&self, prepare: &dyn Fn(&mut Command)) -> Outcome {
        let args = ["test", "--doc", "--no-fail-fast", "--workspace", "--exclude", "homarus-local-model"];
        self.libtest(sh::cargo(self.places, &args), prepare)
    }

    fn libtest(&self, mut command: Command, prepare: &dyn Fn(&mut Command)) -> Outcome {
        prepare(&mut command);
        let mut total = None;
        let ended = sh::watch(&mut command, |line| {
            if let Some(tally) = Tally::of_libtest_result(line) {
                total.get_or_insert_with(Tally::default).add(&tally);
            }
        });
        outcome(ended.map(|status| status.success()), total, Report::default())
    }
}

/// A run that failed without a failed test (it did not compile, say) counts as one failure; so does one
/// that ended well and counted nothing.
fn outcome(ended: Result<bool, String>, tally: Option<Tally>, report: Report) -> Outcome {
    let mut notes: Vec<String> = report.failed.iter().map(|name| format!("failed: {name}")).collect();
    let mut tally = match tally {
        Some(tally) => tally,
        None => {
            notes.push("failed: no summary of the tests was found".to_owned());
            Tally { failed: 1, ..Tally::default() }
        }
    };
    let counted = report.skipped.len() as u64;
    tally.passed = tally.passed.saturating_sub(counted);
    tally.skipped += counted;
    notes.extend(report.skipped.iter().map(|(name, reason)| format!("skipped: {name}: {reason}")));
    match ended {
        Ok(true) => {}
        Ok(false) if tally.failed > 0 => {}
        Ok(false) => {
            tally.failed += 1;
            notes.push("failed: the test runner failed".to_owned());
        }
        Err(message) => {
            tally.failed += 1;
            notes.push(format!("failed: {message}"));
        }
    }
    Outcome { tally, notes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_failure_is_lost() {
        let some = Some(Tally { passed: 3, failed: 0, skipped: 1 });
        let failed = |ended, tally| outcome(ended, tally, Report::default()).tally.failed;
        assert_eq!(failed(Ok(true), some), 0);
        assert_eq!(failed(Ok(false), some), 1);
        assert_eq!(failed(Ok(true), None), 1);
        assert_eq!(failed(Ok(false), None), 1);
        assert_eq!(failed(Err("no cargo".to_owned()), some), 1);
    }

    #[test]
    fn a_test_that_could_not_run_has_not_passed() {
        let report = Report { failed: Vec::new(), skipped: vec![("a".to_owned(), "no kvm".to_owned())] };
        let outcome = outcome(Ok(true), Some(Tally { passed: 3, failed: 0, skipped: 1 }), report);
        assert_eq!(outcome.tally, Tally { passed: 2, failed: 0, skipped: 2 });
        assert_eq!(outcome.notes, ["skipped: a: no kvm"]);
    }
}
