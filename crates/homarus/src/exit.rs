//! Exit codes, and errors as people read them: message, cause, help.

use std::{fmt::Display, io::Write};

use homarus_contract::{
    event::FinishStatus,
    journal::{JournalError, RunStatus},
    text::neutralise,
};
use homarus_driver::DriverError;
use homarus_store::StoreError;

use crate::show::style::Style;

pub const DONE: u8 = 0;
pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
/// Denied, or out of budget.
pub const DENIED: u8 = 3;
/// Waits for a person: an approval, or an outcome that is unknown.
pub const WAITING: u8 = 4;
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
    ExitCode { code: CANCELLED, name: "cancelled", when: "it was interrupted or cancelled" },
];

pub fn help() -> String {
    let lines: Vec<String> =
        CODES.iter().map(|code| format!("  {:3}  {:11}  {}", code.code, code.name, code.when)).collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}

/// What went wrong, why, and what to do about it.
#[derive(Debug)]
pub struct CliError {
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

    pub fn advice(self) -> Option<String> {
        self.help
    }

    /// `error: …`, `cause: …`, `help: …`, a line each.
    #[cfg(test)]
    pub fn text(&self) -> String {
        self.styled(Style::plain())
    }

    fn styled(&self, style: Style) -> String {
        let mut text = entry(&style.red("error:"), &self.message);
        if let Some(cause) = &self.cause {
            text += &entry(&style.yellow("cause:"), cause);
        }
        if let Some(help) = &self.help {
            text += &entry(&style.green("help:"), help);
        }
        text
    }

    /// Prints it to standard error.
    pub fn report(&self) {
        // Where standard error is closed there is nobody to tell.
        let _ = std::io::stderr().write_all(self.styled(Style::for_stderr()).as_bytes());
    }
}

/// A line with its label; further lines of the text stand below its beginning.
fn entry(label: &str, text: &str) -> String {
    let text = neutralise(text.trim_end());
    format!("{label} {}\n", text.replace('\n', "\n       "))
}

impl From<JournalError> for CliError {
    fn from(error: JournalError) -> Self {
        let again = "nothing was lost: free some space or mend the folder's permissions, then `homarus runs resume`";
        match error {
            JournalError::NoSuchRun(_) => Self::failed(error).help("`homarus runs list` shows the runs there are"),
            JournalError::Busy(_) => Self::failed(error)
                .help("follow it with `homarus runs log --follow`, or end it with `homarus runs cancel`"),
            JournalError::Unwritable(cause) => Self::failed("the journal cannot be written").cause(cause).help(again),
            JournalError::Unreadable(cause) => Self::failed("the journal cannot be read")
                .cause(cause)
                .help("`homarus doctor` looks at the disk, the database and the permissions"),
            JournalError::Damaged(cause) => Self::failed("the journal is damaged")
                .cause(cause)
                .help("`homarus runs verify` says exactly what does not fit"),
            other => Self::failed(other),
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        Self::failed(error)
    }
}

impl From<DriverError> for CliError {
    fn from(error: DriverError) -> Self {
        match error {
            DriverError::Journal(error) => error.into(),
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
