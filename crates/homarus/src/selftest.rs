//! What self-tests of the sandbox came to: a file each in the state folder, numbered in their order, the newest few of each
//! kind.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use homarus_api::sandbox::{SelftestRequest, SelftestResponse};
use serde::{Deserialize, Serialize};

use crate::{cli::VERSION, config::file::UserFile, exit::CliError, wiring};

/// Of each kind.
const KEPT_MAX: usize = 10;
const BYTES_MAX: u64 = 32 << 20;
/// How often another self-test may be faster.
const TRIES_MAX: u32 = 20;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    pub program: String,
    pub kernel: String,
    pub asked: SelftestRequest,
    pub outcome: SelftestResponse,
}

/// Whether all attacks were made. Some alone say nothing of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Whole,
    Part,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Whole => "whole-",
            Self::Part => "part-",
        }
    }
}

/// A record that stands in the folder.
#[derive(Debug)]
pub struct Found {
    pub number: u64,
    pub path: PathBuf,
    /// The error says what is wrong with it.
    pub record: Result<Record, String>,
}

impl Record {
    pub fn new(asked: SelftestRequest, outcome: SelftestResponse) -> Self {
        Self { at_ms: wiring::now_ms(), program: VERSION.to_owned(), kernel: kernel(), asked, outcome }
    }

    fn kind(&self) -> Kind {
        if self.asked.only.is_empty() { Kind::Whole } else { Kind::Part }
    }

    /// Writes it down to the disk; where.
    pub fn keep(&self, state: &Path) -> Result<PathBuf, CliError> {
        let folder = folder(state);
        refuse_foreign(&folder)?;
        let text = serde_json::to_string(self).map_err(CliError::failed)?;
        if text.len() as u64 > BYTES_MAX {
            return Err(CliError::failed(format!("the record is larger than {} MiB", BYTES_MAX >> 20)));
        }
        for _ in 0..TRIES_MAX {
            let number = numbers(&folder, "").into_iter().max().unwrap_or(0).saturating_add(1);
            let path = place(&folder, self.kind(), number);
            if (UserFile { path: path.clone(), text: None }).try_replace(&text)? {
                prune(&folder, self.kind());
                // The folder itself may be new.
                let synced = File::open(state).and_then(|state| state.sync_all());
                synced.map_err(|error| CliError::failed(format!("{} may be lost", path.display())).cause(error))?;
                return Ok(path);
            }
        }
        Err(CliError::failed("other self-tests are recorded all the time"))
    }
}

/// The newest record of a kind.
pub fn last(state: &Path, kind: Kind) -> Option<Found> {
    let folder = folder(state);
    let number = numbers(&folder, kind.prefix()).into_iter().max()?;
    let path = place(&folder, kind, number);
    Some(Found { number, record: read(&path), path })
}

pub fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

fn folder(state: &Path) -> PathBuf {
    state.join("selftest")
}

fn place(folder: &Path, kind: Kind, number: u64) -> PathBuf {
    folder.join(format!("{}{number:06}.json", kind.prefix()))
}

/// Of the records whose names begin like this; of all of them where that is nothing.
fn numbers(folder: &Path, prefix: &str) -> Vec<u64> {
    let names =
        fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let number = |name: String| name.strip_suffix(".json")?.rsplit_once('-')?.1.parse().ok();
    names.filter(|name| !name.starts_with('.') && name.starts_with(prefix)).filter_map(number).collect()
}

fn read(path: &Path) -> Result<Record, String> {
    if !fs::symlink_metadata(path).map_err(|error| error.to_string())?.is_file() {
        return Err("it is not a file".to_owned());
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("it is larger than {} MiB", BYTES_MAX >> 20));
    }
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// Root, for whom the self-test says most, makes nothing in the folders of another: that one could not write there any more.
fn refuse_foreign(folder: &Path) -> Result<(), CliError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let there = folder.ancestors().find_map(|path| match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        found => Some((path, found)),
    });
    let cannot = |cause: String| Err(CliError::failed(format!("{} cannot be written", folder.display())).cause(cause));
    match there {
        Some((path, Ok(meta))) if meta.uid() != 0 => {
            cannot(format!("{} belongs to user {}, and this is root", path.display(), meta.uid()))
        }
        Some((_, Err(error))) => cannot(error.to_string()),
        _ => Ok(()),
    }
}

/// What cannot be removed stays, and the next time is tried again.
fn prune(folder: &Path, kind: Kind) {
    let mut numbers = numbers(folder, kind.prefix());
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    for number in numbers.into_iter().skip(KEPT_MAX) {
        let _ = fs::remove_file(place(folder, kind, number));
    }
}

#[cfg(test)]
pub mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Of a self-test of these attacks that came to this.
    pub fn record(only: &[&str], got_through: u32, not_tried: u32) -> Record {
        let asked = SelftestRequest { only: only.iter().map(|id| (*id).to_owned()).collect(), no_controls: false };
        let outcome = SelftestResponse {
            ok: got_through + not_tried == 0,
            users: vec!["root".to_owned(), "user 65534".to_owned()],
            held: 90,
            got_through,
            not_tried,
            took_ms: 30_000,
            record: None,
            attacks: Vec::new(),
        };
        Record::new(asked, outcome)
    }

    #[test]
    fn the_newest_few_of_each_kind_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        assert!(last(&state, Kind::Whole).is_none() && !state.exists());
        let first = record(&[], 0, 0).keep(&state).unwrap();
        assert!(first.ends_with("selftest/whole-000001.json"), "{}", first.display());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&first), mode(&folder(&state)), mode(&state)), (0o600, 0o700, 0o700));
        for _ in 0..12 {
            record(&["write"], 1, 0).keep(&state).unwrap();
        }
        assert!(first.exists(), "some attacks push out no whole self-test");
        assert_eq!(fs::read_dir(folder(&state)).unwrap().count(), 11);
        let found = last(&state, Kind::Part).unwrap();
        assert_eq!((found.number, found.record.unwrap().outcome.got_through), (13, 1));
        assert_eq!(last(&state, Kind::Whole).unwrap().number, 1);
    }

    #[test]
    fn what_is_no_record_is_said() {
        let home = tempfile::tempdir().unwrap();
        let path = record(&[], 0, 0).keep(home.path()).unwrap();
        let wrong = || last(home.path(), Kind::Whole).unwrap().record.unwrap_err();
        fs::write(&path, "{\"at_ms\": ").unwrap();
        assert!(wrong().contains("EOF"));
        fs::write(&path, [0xff; 10]).unwrap();
        assert!(!wrong().is_empty());
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(wrong(), "it is not a file");
        // Names that are none of ours are passed over.
        fs::write(folder(home.path()).join("whole-x.json"), "").unwrap();
        fs::write(folder(home.path()).join("whole-99999999999999999999999.json"), "").unwrap();
        assert_eq!(last(home.path(), Kind::Whole).unwrap().number, 1);
        let next = record(&[], 0, 0).keep(home.path()).unwrap();
        assert!(next.ends_with("whole-000002.json") && last(home.path(), Kind::Whole).unwrap().record.is_ok());
    }
}
