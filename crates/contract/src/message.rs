//! What a model is told and what it answers, in one shape for all providers.

use serde::{Deserialize, Serialize};

use crate::{ids::CallId, model::ModelRef};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    User {
        text: String,
    },
    /// One model answer: its text and tool calls in the order they came.
    Assistant {
        blocks: Vec<Block>,
    },
    /// The outcome of one tool call of the assistant message before it.
    ToolResult {
        call: CallId,
        text: String,
        is_error: bool,
    },
}

/// A complete part of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    Text {
        text: String,
    },
    ToolCall(ToolCall),
    /// What the model thought before the next block, sealed by its provider.
    Thought(Thought),
}

/// Reasoning as a provider sends it: signed or encrypted, to be given back exactly as it came, and only to the
/// model it came from. Some providers refuse the results of tool calls without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thought {
    pub model: ModelRef,
    /// JSON text in that provider's own format.
    pub json: String,
}

/// A tool call as the model made it. `arguments` is raw JSON text: only the tool itself parses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    pub call: CallId,
    /// The id the provider gave the call; it is sent back with the result.
    pub provider_id: String,
    pub name: String,
    pub arguments: String,
}

/// A tool as offered to a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolDefinition {
    pub name: String,
    pub description: String,
    /// JSON Schema of the arguments, as JSON text.
    pub schema: String,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model finished its answer.
    EndTurn,
    /// The model waits for the results of its tool calls.
    ToolUse,
    /// The output token limit cut the answer off.
    MaxTokens,
    /// The provider refused to answer or filtered the content.
    Refusal,
    /// The stream or this process ended before the answer did; what had arrived is kept.
    Interrupted,
}

/// Tokens of one model call as the provider counted them; `None` where it did not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt tokens that were not read from a cache.
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
    pub cache_read_tokens: Option<u64>,
    pub cache_write_tokens: Option<u64>,
}

impl Usage {
    /// All tokens that count against a token budget.
    pub fn total_tokens(&self) -> u64 {
        [self.input_tokens, self.output_tokens, self.cache_read_tokens, self.cache_write_tokens]
            .into_iter()
            .flatten()
            .fold(0, u64::saturating_add)
    }
}
