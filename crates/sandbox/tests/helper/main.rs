//! Stands in for the `homarus` binary in the tests: dispatches to the sandbox's stages first thing.
//! Its internal functions attack the sandbox from inside.

use std::{io::Read, process::ExitCode};

fn main() -> ExitCode {
    if let Some(code) = homarus_sandbox::stage_main(&[("echo", echo)]) {
        return code;
    }
    ExitCode::from(64)
}

/// Copies standard input to standard output, and says it ran.
fn echo() -> i32 {
    let mut text = String::new();
    if std::io::stdin().read_to_string(&mut text).is_err() {
        return 1;
    }
    print!("echo:{text}");
    0
}
