//! The `homarus` program: command line, configuration and wiring. Everything else is a library.

// They panic when the reader has gone away; `put` has what does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod agents;
mod approver;
mod browser;
mod chat;
mod choose;
mod cli;
mod commands;
mod config;
mod conversation;
mod daily;
mod dirs;
#[cfg(test)]
mod docs;
mod doctor;
mod editor;
mod env;
mod exit;
mod machines;
mod nearest;
mod providers;
mod put;
mod reload;
mod route;
mod selftest;
mod show;
mod signals;
mod skills;
mod weights;
mod wiring;

use std::process::ExitCode;

use clap::{Parser, error::ErrorKind};

use crate::exit::CliError;

fn main() -> ExitCode {
    // A sandbox stage is this program again. It must come first: namespaces need a single thread.
    if let Some(code) = homarus_sandbox::stage_main(&homarus_tools::internal_table::<homarus_guard::Readable>()) {
        return code;
    }
    let json = std::env::args_os().any(|word| word == "--json");
    let done = match cli::Cli::try_parse() {
        Ok(cli) => cli.execute(),
        Err(error) => told(&error),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            error.report(json);
            ExitCode::from(error.code)
        }
    }
}

/// Prints help and version where they were asked for, or where a command is missing; the rest is an error.
fn told(error: &clap::Error) -> Result<u8, CliError> {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // A reader that has gone away has read enough.
        let _ = error.print();
        return Ok(if error.use_stderr() { exit::USAGE } else { exit::DONE });
    }
    Err(error.into())
}
