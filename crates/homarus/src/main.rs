//! The `homarus` program: command line, configuration and wiring. Everything else is a library.

mod agents;
mod approver;
mod choose;
mod cli;
mod commands;
mod config;
mod conversation;
mod dirs;
mod env;
mod exit;
mod machines;
mod put;
mod show;
mod weights;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // A sandbox stage is this program again. It must come first: namespaces need a single thread.
    if let Some(code) = homarus_sandbox::stage_main(&homarus_tools::internal_table::<homarus_guard::Readable>()) {
        return code;
    }
    match cli::Cli::parse().execute() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            error.report();
            ExitCode::from(error.code)
        }
    }
}
