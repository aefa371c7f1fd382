//! Whether the clock can be believed. Time is shown, budgets and approvals expire by it; the journal's order does not
//! depend on it.

use std::time::UNIX_EPOCH;

use homarus_api::doctor::Finding;

use super::{Because, Patient, error, ok, warning};
use crate::{put, wiring};

/// Behind by less than this is how clocks are.
const BEHIND_MS_MAX: u64 = 60_000;

pub fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let newest = wiring::open_read_only_in(patient.dirs)
        .ok()
        .flatten()
        .and_then(|store| store.health(true).ok())
        .and_then(|health| health.newest_event_ms);
    vec![judge(patient.now_ms, newest, program_ms())]
}

/// When this program was put where it is.
fn program_ms() -> Option<u64> {
    let modified = std::env::current_exe().ok()?.metadata().ok()?.modified().ok()?;
    Some(modified.duration_since(UNIX_EPOCH).ok()?.as_millis() as u64)
}

fn judge(now_ms: u64, event_ms: Option<u64>, program_ms: Option<u64>) -> Finding {
    let now = format!("it is {} UTC", put::time(now_ms));
    let behind = |then: Option<u64>| then.filter(|then| *then > now_ms.saturating_add(BEHIND_MS_MAX));
    let fix = "set the clock, for example with `timedatectl set-ntp true`";
    if let Some(then) = behind(event_ms) {
        return warning("clock", &format!("the clock went back: {now}"))
            .because(format!("the newest event in the journal is of {}", put::time(then)))
            .fix(fix);
    }
    if let Some(then) = behind(program_ms) {
        return error("clock", &format!("the clock is wrong: {now}"))
            .because(format!("this program was installed at {}; keys and certificates fail", put::time(then)))
            .fix(fix);
    }
    ok("clock", &now)
}

#[cfg(test)]
mod tests {
    use homarus_api::doctor::Severity;

    use super::*;

    #[test]
    fn a_clock_that_went_back_is_told() {
        let now = 1_800_000_000_000;
        assert_eq!(judge(now, None, None).severity, Severity::Ok);
        assert_eq!(judge(now, Some(now - 5), Some(now + 5)).severity, Severity::Ok);
        assert_eq!(judge(now, Some(now + 3_600_000), None).severity, Severity::Warning);
        assert_eq!(judge(0, None, Some(now)).severity, Severity::Error);
    }
}
