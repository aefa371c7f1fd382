//! The models: one port, several wire formats.
//!
//! [`Registry`] implements [`contract::model::Models`](homarus_contract::model::Models) for
//! Anthropic Messages, OpenAI Responses, OpenAI Chat Completions (and every server that speaks it), Gemini, Ollama,
//! and the embedded worker. A call is one attempt: retries and failover belong to the machine, which learns from
//! `breaker` what is not worth asking just now. Whatever a provider sends, a stream ends with exactly one `Done` or `Failed`, and an answer that was cut,
//! garbled or empty is a failure, never a short answer.
//!
//! No key is seen here: requests name a secret, and `Outbound` adds it.

pub mod base_url;
pub mod prices;
mod registry;

mod answer;
mod attempt;
mod breaker;
mod http;
mod json_scan;
mod lines;
mod names;
mod quirks;
mod reasoning;
mod turns;

mod anthropic;
mod gemini;
mod local;
mod ollama;
mod openai;
mod responses;

pub use base_url::{ProviderKind, base_url_from_env_value};
pub use breaker::BreakerOptions;
pub use registry::{LocalOptions, Options, ProviderOptions, Registry};
