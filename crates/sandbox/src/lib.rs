//! The L1 sandbox and the transactional workspace: where tool calls really run.
//!
//! A call enters as a [`contract::sandbox::ExecSpec`](homarus_contract::sandbox::ExecSpec) with its permit and leaves as its output, a
//! receipt of what was enforced and the diff of what it wrote. Nothing it does reaches the host
//! before [`merge`](homarus_contract::sandbox::Sandbox::merge).
//!
//! Four rooms: the host side ([`l1`], `backend`, [`probe`], `call`, `zygote`, `cgroup`), which trusts nothing it gets
//! back; the stages, which our own binary is when it re-executes itself ([`stage_main`]) and forks;
//! `layer`, trusted host code that reads and merges what a call wrote; and [`selftest`], which attacks all of it.

pub mod l1;
pub mod options;
pub mod probe;
pub mod selftest;
pub mod stages;

mod ahead;
mod backend;
mod call;
mod cancel;
mod cgroup;
mod disk;
mod guest;
mod handoff;
mod hidden;
mod layer;
mod plan;
mod protected;
mod slot;
mod spare;
mod spec;
mod trial;
mod worker;
mod zygote;

pub use l1::L1;
pub use layer::{
    forget::forget_conflicts,
    outlook::{Outlook, outlook},
};
pub use options::{KeepLimits, Options};
pub use probe::{ProbeLine, ProbeReport};
pub use protected::check_cache_path;
pub use stages::{InternalTable, stage_main};
