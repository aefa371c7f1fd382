//! The attacker: our own binary, inside the sandbox (or, as a control, outside of it). It trusts nothing and is trusted
//! with nothing: it prints what it could do, and the host looks for itself.

use std::{io, path::PathBuf};

use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};

use super::catalogue;
use crate::stages::{EXE_INSIDE, MARKER};

pub mod files;
pub mod kernel;
pub mod limits;
pub mod mounts;
pub mod network;
pub mod processes;
pub mod secrets;

/// What the attacker is told: where things are that it must not reach. It travels in its command line, so that all its
/// processes are known by it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Place {
    /// Which attack, or which helper of one.
    pub attack: String,
    /// Marks every process of this attack.
    pub token: String,
    pub workspace: PathBuf,
    /// A folder of the host beside the workspace.
    pub outside: PathBuf,
    /// The state folder, with a secret in it.
    pub state: PathBuf,
    /// A folder shown read-only.
    pub readable: PathBuf,
    /// The process that started the sandbox, as the host numbers it.
    pub driver: i32,
    /// Where the host listens, on its loopback.
    pub tcp_port: u16,
    pub udp_port: u16,
    pub abstract_socket: String,
    pub memory_bytes: u64,
    pub processes_max: u32,
    pub open_files_max: u32,
    /// Made without the sandbox, to see that it works there: what would touch the machine itself is left out.
    pub control: bool,
    /// A control that first enters namespaces of its own.
    pub lab: bool,
}

/// What became of one try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// About to be tried; nothing follows if the kernel ends the process for it.
    Begun,
    Denied {
        how: String,
    },
    /// It worked, on something that belongs to the sandbox alone.
    Confined {
        how: String,
    },
    Through {
        how: String,
    },
    Untried {
        why: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub what: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What an attack does its tries with.
pub struct Tried<'a> {
    pub place: &'a Place,
}

/// The name of the internal function, before the place.
pub const ATTACK: &str = "sandbox.attack ";

/// The command line of an attack, after the name of the program.
pub fn arguments(place: &Place) -> io::Result<[String; 3]> {
    Ok([MARKER.to_owned(), "internal".to_owned(), name(place)?])
}

/// The same with the program, as it is called inside.
pub fn command(place: &Place) -> io::Result<Vec<String>> {
    let arguments = arguments(place)?;
    Ok([EXE_INSIDE.to_owned()].into_iter().chain(arguments).collect())
}

fn name(place: &Place) -> io::Result<String> {
    Ok(format!("{ATTACK}{}", serde_json::to_string(place)?))
}

/// Runs the attack that this place names.
pub fn run(place: &str) -> i32 {
    let place: Place = match serde_json::from_str(place) {
        Ok(place) => place,
        Err(error) => {
            eprintln!("the attack cannot be read: {error}");
            return 64;
        }
    };
    let tried = Tried { place: &place };
    if place.lab
        && let Err(error) = enter_lab()
    {
        tried.note("the control's own namespaces", Outcome::Untried { why: error.to_string() });
        return 0;
    }
    if let Some(code) = processes::helper(&place) {
        return code;
    }
    match catalogue::find(&place.attack) {
        Some(attack) => {
            (attack.act)(&tried);
            0
        }
        None => {
            eprintln!("there is no attack `{}`", place.attack);
            64
        }
    }
}

fn enter_lab() -> io::Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let all = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    nix::sched::unshare(all)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    use rustix::mount::{MountPropagationFlags, mount_change};
    Ok(mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

impl Tried<'_> {
    pub fn note(&self, what: &str, outcome: Outcome) {
        let note = Note { what: what.to_owned(), outcome };
        println!("{}", serde_json::to_string(&note).unwrap_or_default());
    }

    /// An error is a denial; anything else got through.
    pub fn denied<T>(&self, what: &str, result: io::Result<T>) {
        let outcome = match result {
            Ok(_) => Outcome::Through { how: "was possible".to_owned() },
            Err(error) => Outcome::Denied { how: errno(&error) },
        };
        self.note(what, outcome);
    }

    /// Only these errors are denials: any other shows that it was the arguments that were refused, not the call.
    pub fn denied_as<T>(&self, what: &str, result: io::Result<T>, wanted: &[rustix::io::Errno]) {
        let outcome = match result {
            Ok(_) => Outcome::Through { how: "was possible".to_owned() },
            Err(error) if wanted.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) => {
                Outcome::Denied { how: errno(&error) }
            }
            Err(error) => Outcome::Through { how: format!("reached the kernel, which answered {}", errno(&error)) },
        };
        self.note(what, outcome);
    }

    pub fn confined(&self, what: &str, how: &str) {
        self.note(what, Outcome::Confined { how: how.to_owned() });
    }

    pub fn through(&self, what: &str, how: &str) {
        self.note(what, Outcome::Through { how: how.to_owned() });
    }

    pub fn untried(&self, what: &str, why: impl std::fmt::Display) {
        self.note(what, Outcome::Untried { why: why.to_string() });
    }

    pub fn begun(&self, what: &str) {
        self.note(what, Outcome::Begun);
    }
}

/// `EPERM`, not a sentence: what a reader of the matrix compares.
pub fn errno(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("{:?}", nix::errno::Errno::from_raw(number)),
        None => error.to_string(),
    }
}
