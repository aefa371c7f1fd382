//! Exit codes, and errors as people read them: message, cause, help.

use std::fmt::Display;

use homarus_contract::{
    event::FinishStatus,
    journal::{JournalError, RunStatus},
};
use homarus_driver::DriverError;
use homarus_store::StoreError;
use miette::{Diagnostic, MietteDiagnostic, Report};

pub const DONE: u8 = 0;
pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
/// Denied, or out of budget.
pub const DENIED: u8 = 3;
/// Waits for a person: an approval, or an outcome that is unknown.
pub const WAITING: u8 = 4;
pub const CANCELLED: u8 = 130;

#[derive(Debug)]
pub struct CliError {
    pub code: u8,
    message: String,
    help: Option<String>,
}

impl CliError {
    pub fn failed(message: impl Display) -> Self {
        Self { code: FAILED, message: message.to_string(), help: None }
    }

    pub fn usage(message: impl Display) -> Self {
        Self { code: USAGE, message: message.to_string(), help: None }
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Prints it to standard error.
    pub fn report(&self) {
        let mut diagnostic = MietteDiagnostic::new(self.message.clone());
        if let Some(help) = &self.help {
            diagnostic = diagnostic.with_help(help.clone());
        }
        debug_assert!(Diagnostic::code(&diagnostic).is_none());
        eprintln!("{:?}", Report::new(diagnostic));
    }
}

impl From<JournalError> for CliError {
    fn from(error: JournalError) -> Self {
        let help = match &error {
            JournalError::NoSuchRun(_) => Some("`homarus runs list` shows the runs there are"),
            JournalError::Busy(_) => {
                Some("follow it with `homarus runs log --follow`, or end it with `homarus runs cancel`")
            }
            JournalError::Unwritable(_) => {
                Some("nothing was lost: free some space or mend the folder's permissions, then `homarus runs resume`")
            }
            JournalError::Damaged(_) => Some("`homarus runs verify` says exactly what does not fit"),
            _ => None,
        };
        let error = Self::failed(error);
        match help {
            Some(help) => error.help(help),
            None => error,
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
