//! Whether the journal can be opened and is whole.

use homarus_api::doctor::Finding;
use homarus_store::{Store, database_file};

use super::{Because, Patient, error, info, of_error, ok, warning};
use crate::{put, wiring};

/// A journal larger than this is not read through; that is said.
const READ_BYTES_MAX: u64 = 1 << 30;
const LISTED_MAX: usize = 3;

pub fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let (path, bytes_max) = database_file(&patient.dirs.state);
    let store = match wiring::open_read_only_in(patient.dirs) {
        Ok(Some(store)) => store,
        Ok(None) => return vec![ok("journal.open", "there is no journal yet")],
        Err(failure) => return vec![of_error("journal.open", failure)],
    };
    let bytes = path.metadata().map_or(0, |meta| meta.len());
    let mut findings = vec![ok("journal.open", &format!("{}, {} MB", path.display(), bytes.div_ceil(1_000_000)))];
    findings.push(room(bytes, bytes_max));
    if bytes > READ_BYTES_MAX {
        findings.push(info("journal.chain", "too large to be read through in passing").fix("`homarus runs verify`"));
    }
    findings.extend(pages(&store, bytes > READ_BYTES_MAX));
    if bytes <= READ_BYTES_MAX {
        findings.push(chain(&store));
    }
    findings
}

fn room(bytes: u64, bytes_max: u64) -> Finding {
    let share = u128::from(bytes) * 100 / u128::from(bytes_max.max(1));
    let what = format!("{share} % of what a journal may have is used");
    match share {
        0..80 => ok("journal.room", &what),
        80..95 => warning("journal.room", &what).fix("keep a copy of the state folder and begin a new one"),
        _ => error("journal.room", &what).fix("keep a copy of the state folder and begin a new one"),
    }
}

fn pages(store: &Store, quick: bool) -> Vec<Finding> {
    let health = match store.health(quick) {
        Ok(health) => health,
        Err(failure) => return vec![of_error("journal.pages", failure.into())],
    };
    let format = ok("version.journal", &format!("format {}, SQLite {}", health.format, health.sqlite_version));
    let pages = match health.complaints.as_slice() {
        [] if quick => info("journal.pages", "too large to be looked at page by page in passing"),
        [] => ok("journal.pages", "SQLite finds nothing wrong"),
        complaints => error("journal.pages", "the database file is damaged")
            .because(complaints.iter().take(LISTED_MAX).cloned().collect::<Vec<_>>().join("; "))
            .fix("stop Homarus, keep a copy of the state folder, and restore it from a backup"),
    };
    vec![format, pages]
}

fn chain(store: &Store) -> Finding {
    let report = match store.verify(None) {
        Ok(report) => report,
        Err(failure) => return of_error("journal.chain", failure.into()),
    };
    let counted = format!("{} events of {} streams", put::count(report.events), put::count(report.streams));
    let [first, ..] = report.findings.as_slice() else { return ok("journal.chain", &format!("{counted} are whole")) };
    let stream = first.stream.as_deref().unwrap_or("journal");
    let at = first.seq.map_or_else(String::new, |seq| format!(" event {seq}"));
    error("journal.chain", &format!("{} things do not fit in {counted}", report.findings.len()))
        .because(format!("{stream}{at}: {}", first.what))
        .fix("`homarus runs verify` lists them; restore the state folder from a backup if nobody can say why")
}

#[cfg(test)]
mod tests {
    use homarus_api::doctor::Severity;

    use super::*;

    #[test]
    fn a_journal_that_grows_full_is_told() {
        assert_eq!(room(10, 100).severity, Severity::Ok);
        assert_eq!(room(85, 100).severity, Severity::Warning);
        assert_eq!(room(99, 100).severity, Severity::Error);
    }
}
