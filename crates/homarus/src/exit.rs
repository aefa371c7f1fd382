//! Exit codes, and errors as people read them: message, cause, help.

use std::{fmt::Display, io::Write};

use homarus_contract::{
    event::FinishStatus,
    journal::{JournalError, RunStatus},
    sandbox::SandboxError,
    text::{neutralise, one_line},
};
use homarus_driver::DriverError;
use homarus_store::StoreError;
use serde::Serialize;

use crate::{put, show::style::Style};

pub const DONE: u8 = 0;
pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
/// Denied, or out of budget.
pub const DENIED: u8 = 3;
/// Waits for a person: an approval, or an outcome that is unknown.
pub const WAITING: u8 = 4;
/// Paused by another process, or because the sandbox is not available.
pub const PAUSED: u8 = 5;
pub const CANCELLED: u8 = 130;

/// A code and what it says; `homarus --help` and `docs/exit-codes.md` list them.
pub struct ExitCode {
    pub code: u8,
    pub name: &'static str,
    pub when: &'static str,
}

/// All there are.
pub const CODES: &[ExitCode] = &[
    ExitCode { code: DONE, name: "done", when: "it was done" },
    ExitCode { code: FAILED, name: "failed", when: "it could not be done, or what was checked is not right" },
    ExitCode {
        code: USAGE,
        name: "wrong usage",
        when: "the command line, the configuration or a file it names is wrong",
    },
    ExitCode { code: DENIED, name: "denied", when: "a rule, a person or a budget did not allow it" },
    ExitCode { code: WAITING, name: "waits", when: "a person has to answer or to say what happened" },
    ExitCode {
        code: PAUSED,
        name: "paused",
        when: "`runs pause` stopped it, or it has no sandbox; `homarus runs resume` goes on",
    },
    ExitCode { code: CANCELLED, name: "cancelled", when: "it was interrupted or cancelled" },
];

pub fn help() -> String {
    let lines: Vec<String> =
        CODES.iter().map(|code| format!("  {:3}  {:11}  {}", code.code, code.name, code.when)).collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}

/// What went wrong, why, and what to do about it.
#[derive(Debug, Serialize)]
pub struct CliError {
    #[serde(rename = "exit_code")]
    pub code: u8,
    message: String,
    cause: Option<String>,
    help: Option<String>,
}

impl CliError {
    pub fn failed(message: impl Display) -> Self {
        Self { code: FAILED, message: message.to_string(), cause: None, help: None }
    }

    pub fn usage(message: impl Display) -> Self {
        Self { code: USAGE, message: message.to_string(), cause: None, help: None }
    }

    pub fn cause(mut self, cause: impl Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Message and cause on one line.
    pub fn summary(&self) -> String {
        match &self.cause {
            Some(cause) => format!("{}: {cause}", self.message),
            None => self.message.clone(),
        }
    }

    /// The same with the help, where there is no room for more lines.
    pub fn brief(&self) -> String {
        match &self.help {
            Some(help) => format!("{} ({help})", self.summary()),
            None => self.summary(),
        }
    }

    pub fn advice(self) -> Option<String> {
        self.help
    }

    /// In one line, among others.
    pub fn short(&self) -> String {
        let cause = self.cause.as_deref().map(|cause| format!(": {cause}")).unwrap_or_default();
        one_line(&format!("{}{cause}", self.message), 600)
    }

    /// `error: …`, `cause: …`, `help: …`, a line each.
    #[cfg(test)]
    pub fn text(&self) -> String {
        self.styled(Style::plain())
    }

    fn styled(&self, style: Style) -> String {
        let mut text = entry("error:", Style::red, &self.message, style);
        if let Some(cause) = &self.cause {
            text += &entry("cause:", Style::yellow, cause, style);
        }
        if let Some(help) = &self.help {
            text += &entry("help:", Style::green, help, style);
        }
        text
    }

    /// Prints it to standard error: as text, or as one JSON document.
    pub fn report(&self, json: bool) {
        #[derive(Serialize)]
        struct Reported<'a> {
            error: &'a CliError,
        }
        let text = match serde_json::to_string(&Reported { error: self }) {
            Ok(text) if json => text + "\n",
            _ => self.styled(Style::for_stderr()),
        };
        // Where standard error is closed there is nobody to tell.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// A line with its label; further lines of the text stand below its beginning.
fn entry(label: &str, paint: fn(Style, &str) -> String, text: &str, style: Style) -> String {
    let next_line = format!("\n{:width$}", "", width = label.len() + 1);
    format!("{} {}\n", paint(style, label), neutralise(text.trim_end()).replace('\n', &next_line))
}

impl From<JournalError> for CliError {
    fn from(error: JournalError) -> Self {
        let again = "nothing was lost: free some space or mend the folder's permissions, then `homarus runs resume`";
        match error {
            JournalError::NoSuchRun(_) => Self::failed(error).help("`homarus runs list` shows the runs there are"),
            JournalError::Deleted { at_ms, .. } => Self::failed(error).cause(format!("on {}", put::time(at_ms))),
            JournalError::Busy(_) => Self::failed(error)
                .help("follow it with `homarus runs log --follow`, or end it with `homarus runs cancel`"),
            JournalError::Unwritable(cause) => Self::failed("the journal cannot be written").cause(cause).help(again),
            JournalError::Unreadable(cause) => Self::failed("the journal cannot be read")
                .cause(cause)
                .help("`homarus doctor` looks at the disk, the database and the permissions"),
            JournalError::Damaged(cause) => Self::failed("the journal is damaged")
                .cause(cause)
                .help("`homarus runs verify` says exactly what does not fit"),
            JournalError::NotDriven(_) => Self::failed(error).help("`homarus runs show` says what it rests on"),
            other => Self::failed(other),
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let help = match &error {
            StoreError::NoJournal(_) => "start a run with: homarus run \"PROMPT\"",
            StoreError::NewerFormat { .. } => "update Homarus",
            StoreError::OlderFormat { .. } => "a command that writes, such as `homarus run`, brings it up to date",
            StoreError::DamagedLog { .. } => {
                "keep a copy of the state folder; then restore it from a backup, or move the log away, which loses all that is in it"
            }
            StoreError::InUse { .. } => {
                "wait until its runs rest, or end it (also `runs log --follow` and sandboxes that are left), then try again"
            }
            StoreError::Backup { .. } => "free some space, or mend the folder's permissions, then try again",
            StoreError::Migration { .. } => {
                "go on with the program that wrote it; a copy from before is in the state folder's `backups`"
            }
            StoreError::KeyMissing(_) | StoreError::WrongKey(_) | StoreError::BadKey(_) => {
                "restore the key from a backup of the state folder"
            }
            _ => "`homarus doctor` looks at the disk, the database and the permissions",
        };
        Self::failed("the journal cannot be opened").cause(error).help(help)
    }
}

impl From<SandboxError> for CliError {
    fn from(error: SandboxError) -> Self {
        match error {
            SandboxError::Unavailable { reason, fix } => {
                Self::failed("the sandbox is not available").cause(reason).help(fix)
            }
            other => Self::failed(other),
        }
    }
}

impl From<&clap::Error> for CliError {
    /// What clap says of a command line, in our three parts.
    fn from(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let (mut message, mut help) = (Vec::new(), Vec::new());
        for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            if let Some(tip) = line.trim_start().strip_prefix("tip: ") {
                help.push(tip.to_owned());
            } else if let Some(usage) = line.strip_prefix("Usage: ") {
                help.push(format!("usage: {usage}"));
            } else if line.starts_with("For more information") {
                help.push("`--help` tells more".to_owned());
            } else if let Some(values) = line.trim_start().strip_prefix("[possible values: ") {
                help.push(format!("possible values: {}", values.trim_end_matches(']')));
            } else if help.is_empty() {
                message.push(line.strip_prefix("error: ").unwrap_or(line).to_owned());
            }
        }
        Self::usage(message.join("\n")).help(help.join("\n"))
    }
}

impl From<DriverError> for CliError {
    fn from(error: DriverError) -> Self {
        match error {
            DriverError::Journal(error) => error.into(),
            DriverError::Unmerged { call, cause, workspace } => Self::failed(format!(
                "the changes of call {call} could not be merged into the workspace"
            ))
            .cause(format!("{cause}; of the workspace, {workspace}"))
            .help(
                "nothing was lost: free some space or mend the permissions, then `homarus runs resume` merges the rest",
            ),
            other => Self::failed(other),
        }
    }
}

pub fn code_of(status: RunStatus) -> u8 {
    match status {
        RunStatus::Completed => DONE,
        RunStatus::Failed | RunStatus::Running => FAILED,
        RunStatus::Denied | RunStatus::OutOfBudget => DENIED,
        RunStatus::Waiting => WAITING,
        RunStatus::Paused | RunStatus::Cancelled => CANCELLED,
    }
}

pub fn status_of(status: FinishStatus) -> RunStatus {
    match status {
        FinishStatus::Completed => RunStatus::Completed,
        FinishStatus::Failed => RunStatus::Failed,
        FinishStatus::Denied => RunStatus::Denied,
        FinishStatus::OutOfBudget => RunStatus::OutOfBudget,
        FinishStatus::Cancelled => RunStatus::Cancelled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_up_to_three_parts_and_forges_nothing() {
        let error = CliError::usage("it is\nwrong").cause("\x1b[2Jgone").help("mend it");
        assert_eq!(error.text(), "error: it is\n       wrong\ncause: ␛[2Jgone\nhelp: mend it\n");
        assert_eq!(CliError::failed("no").text(), "error: no\n");
        assert_eq!(
            serde_json::to_string(&error).unwrap(),
            r#"{"exit_code":2,"message":"it is\nwrong","cause":"\u001b[2Jgone","help":"mend it"}"#
        );
    }

    #[test]
    fn codes_are_told_apart() {
        let codes: std::collections::BTreeSet<u8> = CODES.iter().map(|code| code.code).collect();
        assert_eq!(codes.len(), CODES.len());
        for status in
            [RunStatus::Completed, RunStatus::Failed, RunStatus::Denied, RunStatus::Waiting, RunStatus::Paused]
        {
            assert!(codes.contains(&code_of(status)), "{status:?} has a code that is not listed");
        }
    }
}
