//! The wire between Homarus and its `local-model` worker: one JSON object a line, on the worker's
//! standard input and output. One request at a time; the worker ends when its input does.

use serde::{Deserialize, Serialize};

use crate::message::{Message, ToolDefinition};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WorkerRequest {
    Generate {
        id: u64,
        system: String,
        tools: Vec<ToolDefinition>,
        messages: Vec<Message>,
        output_tokens_max: u32,
    },
    /// Stops the generation with this id; it then ends with `stop: interrupted`.
    Cancel {
        id: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WorkerReply {
    /// Sent once, when the weights are loaded.
    Ready {
        model: String,
        context_tokens: u32,
    },
    Text {
        id: u64,
        delta: String,
    },
    CallStarted {
        id: u64,
        index: u32,
        name: String,
    },
    CallDelta {
        id: u64,
        index: u32,
        json: String,
    },
    /// A tool call is complete; `arguments` is JSON that follows the tool's schema.
    Call {
        id: u64,
        index: u32,
        name: String,
        arguments: String,
    },
    Done {
        id: u64,
        /// `end_turn`, `tool_use`, `max_tokens` or `interrupted`
        stop: crate::message::StopReason,
        /// Prompt tokens that had to be computed.
        input_tokens: u64,
        /// Prompt tokens whose KV cache was kept from the turn before.
        cached_tokens: u64,
        output_tokens: u64,
    },
    /// The request failed; the worker goes on. `class` as in [`crate::model::ModelErrorClass`].
    Error {
        id: u64,
        class: crate::model::ModelErrorClass,
        message: String,
    },
}
