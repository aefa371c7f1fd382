//! The port behind which every model provider stands.
//!
//! A port call is one attempt: retries and failover belong to the driver, which journals each.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    BoxStream,
    error::InvalidId,
    gate::Permit,
    message::{Message, StopReason, ToolDefinition, Usage},
};

/// A model of a provider, written `PROVIDER/MODEL`, for example `openai/gpt-5-mini`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelRef {
    pub provider: String,
    pub model: String,
}

impl FromStr for ModelRef {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId { what: "model (expected PROVIDER/MODEL)", text: text.chars().take(80).collect() };
        let (provider, model) = text.split_once('/').ok_or_else(invalid)?;
        let provider_ok = !provider.is_empty() && provider.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let model_ok = !model.is_empty() && model.len() <= 200 && model.chars().all(|c| c.is_ascii_graphic());
        if !provider_ok || !model_ok {
            return Err(invalid());
        }
        Ok(Self { provider: provider.to_owned(), model: model.to_owned() })
    }
}

impl TryFrom<String> for ModelRef {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<ModelRef> for String {
    fn from(model: ModelRef) -> String {
        model.to_string()
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

#[derive(Debug, Clone)]
pub struct ModelRequest {
    pub model: ModelRef,
    pub system: Arc<str>,
    pub tools: Arc<[ToolDefinition]>,
    pub messages: Vec<Arc<Message>>,
    pub output_tokens_max: u32,
}

/// What a model call streams. `Done` or `Failed` comes last, exactly once.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelEvent {
    TextDelta(String),
    /// A tool call began; its arguments follow as [`ModelEvent::CallDelta`].
    CallStarted {
        index: u32,
        name: String,
    },
    CallDelta {
        index: u32,
        json: String,
    },
    /// A block is complete. Text blocks repeat what their deltas said.
    BlockDone(ProviderBlock),
    /// What the provider has counted so far: what it charges for should the answer fail now. `Done` says it again.
    Counted(Usage),
    Done {
        stop: StopReason,
        usage: Usage,
    },
    Failed(ModelError),
}

/// A complete block as a provider made it, before it has a [`crate::ids::CallId`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderBlock {
    Text(String),
    /// `name` is our tool name again (dots restored); `arguments` is raw JSON text, `{}` if empty.
    ToolCall {
        provider_id: String,
        name: String,
        arguments: String,
    },
    /// Reasoning to be given back with what follows it: see [`crate::message::Thought`].
    Thought {
        json: String,
    },
}

/// How a model call failed; decides whether it is tried again and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelErrorClass {
    /// The request is wrong (400, 413, 422): no retry, no failover.
    BadRequest,
    /// The prompt does not fit the model's window: no retry.
    ContextOverflow,
    /// Key missing or refused (401, 403): next model.
    Auth,
    /// No such model (404): next model.
    NotFound,
    /// Asked to slow down (429): retry after a pause.
    RateLimited,
    /// The provider is overloaded or broken (408, 5xx, 529): retry.
    Unavailable,
    /// No connection, or it broke: retry.
    Network,
    /// Nothing arrived for too long: retry.
    Timeout,
    /// The answer does not follow the protocol: retry.
    Protocol,
    /// The gate refused it (a budget in USD and an unknown price): next model.
    Denied,
    /// The embedded model's worker died or could not be started: retry once, then next model.
    Worker,
}

impl ModelErrorClass {
    /// Whether the same model may be asked again.
    pub fn is_retryable(self) -> bool {
        use ModelErrorClass::*;
        matches!(self, RateLimited | Unavailable | Network | Timeout | Protocol | Worker)
    }

    /// Whether another model of the configured order may be asked instead.
    pub fn allows_failover(self) -> bool {
        self.is_retryable() || matches!(self, Self::Auth | Self::NotFound | Self::Denied)
    }
}

#[derive(Debug, Clone, PartialEq, Error)]
#[error("{message}")]
pub struct ModelError {
    pub class: ModelErrorClass,
    /// What happened, for people: status, provider's own words, what to do. Never a secret.
    pub message: String,
    /// What the provider sent, at most 4 KiB.
    pub raw: String,
    pub retry_after_ms: Option<u64>,
}

/// What is known of a model before it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    pub context_tokens: u32,
    /// Longest prompt it is given; `None`: nothing is known of that, or it refuses longer ones itself.
    pub prompt_tokens_max: Option<u32>,
    pub output_tokens_max: u32,
    /// `None`: unknown, and a budget in USD then refuses.
    pub price: Option<Price>,
    /// Runs on this machine, at no price.
    pub is_local: bool,
}

/// Price in nano-USD (1e-9 USD) per token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_write: u64,
}

impl Price {
    /// Cost in nano-USD; saturates instead of wrapping.
    pub fn cost(&self, usage: &Usage) -> u64 {
        let part = |tokens: Option<u64>, price: u64| tokens.unwrap_or(0).saturating_mul(price);
        part(usage.input_tokens, self.input)
            .saturating_add(part(usage.output_tokens, self.output))
            .saturating_add(part(usage.cache_read_tokens, self.cache_read))
            .saturating_add(part(usage.cache_write_tokens, self.cache_write))
    }
}

/// Whether a model is asked at all just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    Ask,
    /// Its circuit is open: it failed too often, and is not asked before the pause is over.
    Skip {
        /// For people: how often it failed, and how last.
        why: String,
        retry_in_ms: u64,
    },
}

pub trait Models: Send + Sync {
    /// One attempt at one model. Takes the permit by value: a call without one has no spelling.
    fn stream(&self, permit: Permit, request: ModelRequest) -> BoxStream<ModelEvent>;

    fn info(&self, model: &ModelRef) -> ModelInfo;

    /// Asked before each attempt that has an alternative. Depends on the clock and on what this process has seen,
    /// so the answer *skip* is journalled: no machine sees more of it than that event.
    fn admission(&self, _model: &ModelRef) -> Admission {
        Admission::Ask
    }
}
