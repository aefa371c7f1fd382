//! What can go wrong when a journal is opened, and how SQLite's errors are told to others.

use std::{io, path::PathBuf};

use homarus_contract::journal::JournalError;
use rusqlite::ErrorCode;
use thiserror::Error;

/// Why a journal could not be opened.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("there is no journal in {}", .0.display())]
    NoJournal(PathBuf),
    #[error("the journal in {} was written by a newer Homarus (format {found}; this program knows {known})", .dir.display())]
    NewerFormat { dir: PathBuf, found: u32, known: u32 },
    #[error("the journal in {} has the older format {found}", .dir.display())]
    OlderFormat { dir: PathBuf, found: u32 },
    #[error("the journal's log {} is damaged: {what}", .path.display())]
    DamagedLog { path: PathBuf, what: String },
    #[error("{} is a database, but not a Homarus journal", .0.display())]
    NotAJournal(PathBuf),
    #[error("the signing key {} is missing, but the journal was signed with it", .0.display())]
    KeyMissing(PathBuf),
    #[error("the signing key {} is not the one this journal was signed with", .0.display())]
    WrongKey(PathBuf),
    #[error("{} is not a signing key", .0.display())]
    BadKey(PathBuf),
    #[error("the signing key {path} can be read by others (mode {mode:o}): run `chmod 600 {path}`", path = .path.display())]
    KeyExposed { path: PathBuf, mode: u32 },
    #[error("cannot {what} {}: {source}", .path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("random numbers are not to be had: {0}")]
    Random(getrandom::Error),
    #[error("the journal in {} has the older format {found}, and another Homarus has it open; this program would change it to format {known}", .dir.display())]
    InUse { dir: PathBuf, found: u32, known: u32 },
    #[error("the journal cannot be copied to {} before its format is changed: {}", .path.display(), why(.source))]
    Backup { path: PathBuf, source: rusqlite::Error },
    #[error("the journal in {} cannot be brought to format {to}, and was left as it was: {}", .dir.display(), why(.source))]
    Migration { dir: PathBuf, to: u32, source: rusqlite::Error },
    #[error("the journal cannot be opened: {}", why(.0))]
    Sql(#[from] rusqlite::Error),
}

impl StoreError {
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

/// Why an operation inside a transaction stopped: its own matter, or the database's.
#[derive(Debug)]
pub(crate) enum OpError {
    /// Only this request fails; the others of its group go on.
    Own(JournalError),
    /// The transaction as a whole is in doubt.
    Sql(rusqlite::Error),
}

impl From<JournalError> for OpError {
    fn from(error: JournalError) -> Self {
        Self::Own(error)
    }
}

impl From<rusqlite::Error> for OpError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

pub(crate) fn unwritable(error: &rusqlite::Error) -> JournalError {
    let text = match error.sqlite_error_code() {
        _ if is_full(error) => {
            "the disk is full, or the journal reached its size limit; free some space and try again".to_owned()
        }
        Some(ErrorCode::SystemIoFailure) => {
            format!("the disk failed ({error}); whether the last step was kept shows when the journal is read again")
        }
        Some(ErrorCode::ReadOnly) => "the state folder is read-only".to_owned(),
        Some(ErrorCode::DatabaseBusy) => "another process held the journal for too long".to_owned(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => return damaged(error),
        _ => error.to_string(),
    };
    JournalError::Unwritable(text)
}

pub(crate) fn unreadable(error: rusqlite::Error) -> JournalError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(&error),
        _ => JournalError::Unreadable(why(&error)),
    }
}

/// SQLite says the same of a page that the disk does not give back.
fn damaged(error: &rusqlite::Error) -> JournalError {
    JournalError::Damaged(format!("{error} (or the disk failed to read it, which the kernel's log would tell)"))
}

/// What SQLite says, for people.
fn why(error: &rusqlite::Error) -> String {
    if is_full(error) { "the disk is full".to_owned() } else { error.to_string() }
}

/// Also where there is no room for the index of the log, of which SQLite only says that it failed.
fn is_full(error: &rusqlite::Error) -> bool {
    let extended = error.sqlite_error().map(|error| error.extended_code);
    error.sqlite_error_code() == Some(ErrorCode::DiskFull) || extended == Some(rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}
