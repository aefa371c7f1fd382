//! The rule language: which actions are allowed, asked about or denied. Pure: text in, decision out.
//!
//! A policy file is a list of `[[rule]]` tables, tried in order; the first that matches a resource
//! decides it. Paths are compared after lexical normalisation ([`path`]), command lines after they were
//! taken apart into the commands a shell would run ([`shell`]).
//!
//! **Matching command lines by their text is a convenience, not a boundary.** It sees through quotes,
//! wrappers and nesting, but a program can do anything under any name (`python3 -c ...`, a script, a
//! `Makefile`). What bounds a command is the sandbox it runs in; rules only decide which commands a
//! person wants to hear about.

pub mod evaluate;
mod glob;
pub mod grants;
pub mod host;
pub mod path;
pub mod pattern;
pub mod rule;
pub mod shell;
pub mod suggest;
mod wildcard;

pub use evaluate::{Decision, Explanation, Tried};
pub use grants::{GrantError, Grants};
pub use rule::{Effect, Policy, PolicyError, Rule, When};

/// The policy that is in force where nobody wrote another: commented, and tested line by line.
pub const DEFAULT_POLICY: &str = include_str!("../data/default.toml");

/// The name [`DEFAULT_POLICY`] goes by in decisions.
pub const DEFAULT_POLICY_NAME: &str = "default.toml";
