//! Every environment variable that xtask reads or sets, in one place.

#![allow(clippy::disallowed_methods, reason = "this is the module the ban points to")]

use std::path::PathBuf;

/// Where Cargo builds; respected when set.
pub const CARGO_TARGET_DIR: &str = "CARGO_TARGET_DIR";
/// Extra flags for rustc: set for the inference worker only.
pub const RUSTFLAGS: &str = "RUSTFLAGS";
/// All of Homarus's state: a folder of its own for each demo job.
pub const HOMARUS_HOME: &str = "HOMARUS_HOME";
/// Weights, shared by all runs.
pub const HOMARUS_MODELS_DIR: &str = "HOMARUS_MODELS_DIR";
/// For tests: the inference worker's executable.
pub const HOMARUS_TEST_LOCAL_MODEL: &str = "HOMARUS_TEST_LOCAL_MODEL";
/// For tests: executables of model servers that are not ours.
pub const HOMARUS_TEST_FAKELLM: &str = "HOMARUS_TEST_FAKELLM";
pub const HOMARUS_TEST_STUBLLM: &str = "HOMARUS_TEST_STUBLLM";
/// A Python that has the official clients of the providers.
pub const HOMARUS_TEST_CLIENTS: &str = "HOMARUS_TEST_CLIENTS";

/// Set by `cargo run` for its child. A Cargo under this one must not see them, or it would build anew.
const CARGO_OWN_PREFIXES: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];

/// Whose presence would change what a demo or a test does: keys and settings of the user's own.
const USER_PREFIXES: [&str; 6] = ["HOMARUS_", "ANTHROPIC_", "OPENAI_", "OLLAMA_", "GEMINI_", "GOOGLE_"];

pub fn path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

pub fn is_set(name: &str) -> bool {
    path(name).is_some()
}

/// Names to take out of the environment of every child.
pub fn names_to_drop() -> Vec<String> {
    names_with(&CARGO_OWN_PREFIXES)
}

/// Names to take out of the environment of a child whose behaviour must not depend on the user.
pub fn user_names() -> Vec<String> {
    names_with(&USER_PREFIXES)
}

fn names_with(prefixes: &[&str]) -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
        .collect()
}

/// The library path without what `cargo run` put in front of it for us.
pub fn library_path() -> Option<String> {
    let whole = std::env::var("LD_LIBRARY_PATH").ok()?;
    let of_cargo = |part: &&str| part.contains("/.rustup/") || part.contains("/rustlib/") || part.contains("/debug");
    Some(whole.split(':').filter(|part| !of_cargo(part)).collect::<Vec<_>>().join(":"))
}
