//! The inside: what our own binary does when it re-executes itself to become a sandbox.
//!
//! `zygote` is the program that is started, once; it forks the others, so that a sandbox costs no loading of a program.
//! `outer` unshares and keeps the sandbox: it holds the driver's lock until everything inside is
//! dead. `init` is process 1 inside: it builds the root and reaps. `launcher` is its child: it confines itself and becomes
//! the program. They have an empty environment; what they need comes over a socket on
//! their standard input. The host closing its end ends them.

use std::{io, process::ExitCode};

use crate::{selftest, spec::StageFailure};

pub(crate) mod attempts;
mod confine;
mod covers;
mod init;
mod landlocked;
mod launcher;
pub mod mounts;
mod outer;
mod seccomp;
mod watch;
mod wayout;
mod workspace;
mod zygote;

pub(crate) use attempts::Attempt;
pub(crate) use init::EXE_INSIDE;

/// Functions of the binary that may run inside by name; each reads standard input, writes standard
/// output and returns its exit code.
pub type InternalTable = [(&'static str, fn() -> i32)];

/// First argument of a re-execution; nobody types this by chance.
pub const MARKER: &str = "--homarus-sandbox-stage";

/// Name of the built-in internal function that tries what must be denied.
pub const ATTEMPTS: &str = "sandbox.attempts";

/// To be called first thing in `main`, before any thread exists. `Some`: this process was a stage
/// or an internal function; end with this code and do nothing else.
pub fn stage_main(internal: &InternalTable) -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != MARKER {
        return None;
    }
    let stage = args.next().and_then(|stage| stage.into_string().ok()).unwrap_or_default();
    let name = args.next().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let code = match stage.as_str() {
        "zygote" => zygote::run(),
        "internal" => run_internal(&name, internal),
        "selftest" => selftest::stage::column(),
        "selftest-machine" => selftest::stage::machine(),
        _ => 125,
    };
    Some(ExitCode::from(u8::try_from(code.clamp(0, 255)).unwrap_or(125)))
}

fn run_internal(name: &str, internal: &InternalTable) -> i32 {
    if name == ATTEMPTS {
        return attempts::run();
    }
    if let Some(place) = name.strip_prefix(selftest::stage::ATTACK) {
        return selftest::stage::attack(place);
    }
    match internal.iter().find(|(known, _)| *known == name) {
        Some((_, function)) => function(),
        None => {
            eprintln!("there is no internal function `{name}`");
            127
        }
    }
}

/// A failure as an I/O error, for the few places that can only print it.
fn failed(failure: &StageFailure) -> io::Error {
    io::Error::other(format!("{}: {}", failure.step, failure.detail))
}
