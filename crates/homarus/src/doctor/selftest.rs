//! What the sandbox was found to hold against when it was last attacked, by `homarus sandbox selftest`.

use homarus_api::{
    doctor::Finding,
    sandbox::{SelftestResponse, SelftestVerdict},
};

use super::{Because, Patient, error, info, ok, warning};
use crate::{
    cli::VERSION,
    put,
    selftest::{self, Found, Kind, Record},
};

const WHOLE: &str = "selftest.whole";
const PART: &str = "selftest.part";
const FIX: &str = "`homarus sandbox selftest` attacks it anew; it takes about half a minute";

pub fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let state = &patient.dirs.state;
    let whole = selftest::last(state, Kind::Whole);
    let number = whole.as_ref().map_or(0, |found| found.number);
    let part = selftest::last(state, Kind::Part).filter(|found| found.number > number);
    let mut findings = vec![match whole {
        Some(found) => judge(WHOLE, found),
        None => info(WHOLE, "the sandbox was not attacked here yet").fix(FIX),
    }];
    findings.extend(part.map(|found| judge(PART, found)));
    findings
}

fn judge(id: &str, found: Found) -> Finding {
    let record = match found.record {
        Ok(record) => record,
        Err(why) => {
            let why = format!("{}: {why}", found.path.display());
            return info(id, "the record of the last self-test cannot be read").because(why).fix(FIX);
        }
    };
    let when = format!("as {}, {} UTC", record.outcome.users.join(" and "), put::time(record.at_ms));
    let outcome = &record.outcome;
    if outcome.got_through > 0 {
        let fix = format!("do not run what you do not trust on this machine; all of it is in {}", found.path.display());
        let what = format!("{} got through the sandbox, {when}", put::counted(outcome.got_through.into(), "attack"));
        return error(id, &what).because(first(outcome, SelftestVerdict::GotThrough)).fix(fix);
    }
    if !outcome.ok {
        let what = format!("{} could not be tried, {when}", put::counted(outcome.not_tried.into(), "attack"));
        return warning(id, &what).because(first(outcome, SelftestVerdict::NotTried)).fix(FIX);
    }
    let held = format!("{} held, {when}", put::counted(outcome.held.into(), "attack"));
    match changes(&record, &selftest::kernel(), VERSION).as_slice() {
        [] => ok(id, &held),
        changes => info(id, &held).because(format!("since then {}", changes.join(", and "))).fix(FIX),
    }
}

/// The first result that is like this.
fn first(outcome: &SelftestResponse, verdict: SelftestVerdict) -> String {
    let results = outcome.attacks.iter().flat_map(|attack| attack.results.iter().map(move |result| (attack, result)));
    let mut wrong = results.filter(|(_, result)| result.verdict == verdict);
    let first = wrong.next().map(|(attack, result)| format!("{} as {}: {}", attack.id, result.user, result.how));
    first.unwrap_or_else(|| "the record does not say which".to_owned())
}

fn changes(record: &Record, kernel: &str, program: &str) -> Vec<String> {
    let pairs = [("kernel", record.kernel.as_str(), kernel), ("program", record.program.as_str(), program)];
    let changed = pairs.into_iter().filter(|(_, then, now)| then != now);
    changed.map(|(what, then, now)| format!("the {what} was changed from {then} to {now}")).collect()
}

#[cfg(test)]
mod tests {
    use homarus_api::doctor::Severity;

    use super::super::{severity, with_patient};
    use super::*;
    use crate::selftest::tests::record;

    #[test]
    fn what_it_came_to_is_told() {
        with_patient("", |patient| {
            let state = &patient.dirs.state;
            let look = |id: &str| severity(&check(patient), id);
            assert_eq!((look(WHOLE), look(PART)), (Some(Severity::Info), None));
            let keep = |record: Record| record.keep(state).unwrap();
            keep(record(&["write"], 0, 0));
            assert_eq!((look(WHOLE), look(PART)), (Some(Severity::Info), Some(Severity::Ok)), "it is no whole one");
            keep(record(&[], 0, 0));
            assert_eq!((look(WHOLE), look(PART)), (Some(Severity::Ok), None), "the whole one is newer");
            keep(record(&["write"], 1, 0));
            assert_eq!((look(WHOLE), look(PART)), (Some(Severity::Ok), Some(Severity::Error)));
            keep(record(&[], 0, 2));
            assert_eq!((look(WHOLE), look(PART)), (Some(Severity::Warning), None));
            let path = keep(record(&[], 2, 2));
            assert_eq!(look(WHOLE), Some(Severity::Error));
            std::fs::write(path, "half of i").unwrap();
            assert_eq!(look(WHOLE), Some(Severity::Info));
        });
    }

    #[test]
    fn a_change_of_kernel_or_program_is_a_note() {
        let mut record = record(&[], 0, 0);
        assert_eq!(changes(&record, &record.kernel, &record.program), [] as [String; 0]);
        record.kernel = "6.1.0".to_owned();
        assert_eq!(changes(&record, "6.2.0", &record.program), ["the kernel was changed from 6.1.0 to 6.2.0"]);
        with_patient("", |patient| {
            record.keep(&patient.dirs.state).unwrap();
            let [finding] = check(patient).try_into().unwrap();
            assert!(finding.severity == Severity::Info && finding.cause.unwrap().contains("from 6.1.0 to"));
        });
    }
}
