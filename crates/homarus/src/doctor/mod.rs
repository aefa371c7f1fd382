//! What may be wrong with an installation, one room a matter. Every look is read-only, short, and goes to no
//! server that is not set up.
//!
//! A finding has an id that does not change; `CHECKS` lists them, and `docs/doctor.md` after it.

mod browser;
mod clock;
mod disk;
mod journal;
mod keys;
mod leftovers;
mod local;
mod permissions;
mod sandbox;
mod selftest;
mod servers;
mod versions;

use std::collections::BTreeSet;

use homarus_api::doctor::{CheckResponse, Finding, Severity};

use crate::{
    config::{Config, file::UserFile},
    dirs::Dirs,
    exit::CliError,
    nearest::did_you_mean,
    wiring,
};

/// Ids of findings and what each looks at. A `*` stands for the part that depends on what is there.
pub const CHECKS: &[(&str, &str)] = &[
    ("config", "the configuration can be read, has no unknown key, and the files it names are right"),
    ("sandbox.*", "one thing the sandbox has to enforce or to deny, tried out in a sandbox"),
    ("selftest.whole", "the last self-test of the sandbox held, and neither kernel nor program was changed since"),
    ("selftest.part", "so did one of some attacks only, where that is newer"),
    ("keys.*", "a provider's key: set or not, and usable; never shown"),
    ("servers.*", "a provider that is set up answers, and takes the key"),
    ("models", "there is a model to ask"),
    ("local.weights", "the weights of the embedded model are here and whole"),
    ("local.worker", "the embedded model's worker is here"),
    ("local.version", "the worker is of the same version as the program"),
    ("browser", "there is a Chromium for the browser's tools"),
    ("disk.*", "there is room for state, weights and workspace"),
    ("clock", "the clock is not behind the newest event or the program itself"),
    ("journal.open", "the journal can be opened"),
    ("journal.pages", "SQLite finds nothing wrong with the database"),
    ("journal.chain", "every event follows from the one before it, as `homarus runs verify` sees it"),
    ("journal.room", "the journal is not near the size it may have"),
    ("version.program", "which program this is"),
    ("version.journal", "the journal's format is the one this program writes"),
    ("version.kernel", "which kernel this is"),
    ("permissions.*", "state and configuration can be written by you, and by nobody else"),
    ("leftovers.runs", "no run was left behind by a driver that is gone"),
    ("leftovers.layers", "no layer lies about that no run needs"),
    ("leftovers.probes", "no folder of a try of the sandbox lies about"),
];

/// What is looked at.
pub struct Patient<'a> {
    pub dirs: &'a Dirs,
    pub config: &'a Config,
    /// Milliseconds since 1970.
    pub now_ms: u64,
    /// Whoever reads is a program: no progress is shown.
    pub quiet: bool,
}

/// Looks at everything, and tells of the matters that are named; of all if none is.
pub fn examine(dirs: &Dirs, matters: &[String], quiet: bool) -> Result<CheckResponse, CliError> {
    let known: BTreeSet<&str> = CHECKS.iter().map(|(id, _)| matter(id)).collect();
    if let Some(unknown) = matters.iter().find(|matter| !known.contains(matter.as_str())) {
        let all = format!("known are {}", known.iter().copied().collect::<Vec<_>>().join(", "));
        return Err(CliError::usage(format!("the doctor knows nothing of {unknown:?}"))
            .help(did_you_mean(unknown, known, &all)));
    }
    let mut findings = Vec::new();
    let config = config(dirs, &mut findings)?;
    let patient = Patient { dirs, config: &config, now_ms: wiring::now_ms(), quiet };
    findings.extend(versions::check());
    let (sandbox, launcher) = sandbox::check(&patient);
    findings.extend(sandbox);
    findings.extend(selftest::check(&patient));
    findings.extend(keys::check(patient.config));
    findings.extend(local::check(&patient, launcher.as_ref()));
    findings.extend(servers::check(&patient));
    findings.extend(browser::check(&patient));
    findings.extend(disk::check(&patient, disk::space));
    findings.extend(permissions::check(&patient));
    findings.extend(journal::check(&patient));
    findings.extend(clock::check(&patient));
    findings.extend(leftovers::check(&patient));
    findings.retain(|finding| matters.is_empty() || matters.iter().any(|wanted| wanted == matter(&finding.id)));
    Ok(response(findings))
}

/// The first part of an id.
fn matter(id: &str) -> &str {
    id.split('.').next().unwrap_or(id)
}

fn response(findings: Vec<Finding>) -> CheckResponse {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count() as u32;
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    CheckResponse { ok: errors == 0, errors, warnings, findings }
}

/// The configuration, or the built-in one where the user's cannot be used, so that the other looks can go on.
fn config(dirs: &Dirs, findings: &mut Vec<Finding>) -> Result<Config, CliError> {
    let file = match UserFile::of(dirs) {
        Ok(file) => file,
        Err(error) => {
            findings.push(of_error("config", error));
            return Config::parse("", &dirs.config_file());
        }
    };
    let problems = crate::commands::config_check::problems(&file)?;
    let path = file.path.display();
    for problem in &problems {
        let line = problem.line.map_or_else(String::new, |line| format!(", line {line}"));
        let finding = error("config", &problem.what).because(format!("{path}{line}"));
        findings.push(finding.fix(problem.help.clone().unwrap_or_else(|| "`homarus config edit`".to_owned())));
    }
    if problems.is_empty() {
        let what = if file.text.is_some() { format!("{path} is right") } else { "every default holds".to_owned() };
        findings.push(ok("config", &what));
    }
    match Config::parse(file.text(), &file.path) {
        Ok(config) => Ok(config),
        Err(_) => Config::parse("", &file.path),
    }
}

fn finding(severity: Severity, id: &str, what: &str) -> Finding {
    Finding { id: id.to_owned(), severity, what: what.to_owned(), cause: None, fix: None }
}

fn ok(id: &str, what: &str) -> Finding {
    finding(Severity::Ok, id, what)
}

fn info(id: &str, what: &str) -> Finding {
    finding(Severity::Info, id, what)
}

fn warning(id: &str, what: &str) -> Finding {
    finding(Severity::Warning, id, what)
}

fn error(id: &str, what: &str) -> Finding {
    finding(Severity::Error, id, what)
}

fn of_error(id: &str, failure: CliError) -> Finding {
    let found = error(id, &failure.summary());
    Finding { fix: failure.advice(), ..found }
}

trait Because: Sized {
    fn because(self, cause: impl ToString) -> Self;
    fn fix(self, fix: impl ToString) -> Self;
}

impl Because for Finding {
    fn because(mut self, cause: impl ToString) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    fn fix(mut self, fix: impl ToString) -> Self {
        self.fix = Some(fix.to_string());
        self
    }
}

/// A patient in a folder of its own, for the tests of each room.
#[cfg(test)]
pub fn with_patient(text: &str, test: impl FnOnce(&Patient<'_>)) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let dirs = Dirs {
        state: at("state"),
        config: at("config"),
        models: at("models"),
        agents: at("agents"),
        skills: at("skills"),
    };
    let config = Config::parse(text, &at("config/homarus.toml")).unwrap();
    test(&Patient { dirs: &dirs, config: &config, now_ms: 1_800_000_000_000, quiet: true });
}

/// What a room says of one id.
#[cfg(test)]
pub fn severity(findings: &[Finding], id: &str) -> Option<Severity> {
    findings.iter().find(|finding| finding.id == id).map(|finding| finding.severity)
}
