//! `homarus-local-model`: the embedded model, as a worker process of its own.
//!
//! It loads one GGUF file, answers [`homarus_contract::worker`] requests line by line on standard
//! input and output, and ends when its input does. It is a process because llama.cpp aborts on
//! internal errors: an abort here is one failed model call, not a dead daemon. It needs no network
//! and reads no file but its weights.

mod engine;
mod grammar;
mod output;
mod plain;
mod render;
mod repeat;
mod serve;

use std::{io::Write, path::PathBuf, process::ExitCode, thread};

use clap::Parser;

use crate::engine::{Engine, Weights};

/// Answers model requests (JSON lines) with a model in a GGUF file.
#[derive(Parser)]
#[command(name = "homarus-local-model", version)]
struct Options {
    /// The weights, a GGUF file of a model that speaks ChatML.
    #[arg(long, value_name = "PATH")]
    weights: PathBuf,
    /// Prompt and answer together.
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(512..=131_072))]
    context_tokens: u32,
    /// Threads that compute; as many as the machine has cores, unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Shows llama.cpp's own log on standard error.
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let threads = options.threads.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from);
    let result = Weights::load(&options.weights, options.verbose).and_then(|weights| {
        let engine = Engine::new(&weights, options.context_tokens, threads)?;
        serve::run(engine, weights.model_name())
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be done about a closed standard error.
            let _ = writeln!(std::io::stderr(), "homarus-local-model: {error}");
            ExitCode::FAILURE
        }
    }
}
