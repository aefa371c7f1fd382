//! Chat Completions as it stands on the wire: what is asked, and the pieces of an answer.

use homarus_contract::message::Usage;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::reasoning::Reasoning;

#[derive(Serialize)]
pub(super) struct WireRequest<'a> {
    pub(super) model: &'a str,
    pub(super) messages: Vec<WireMessage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tools: Vec<WireTool<'a>>,
    pub(super) stream: bool,
    pub(super) stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_tokens: Option<u32>,
}

#[derive(Serialize)]
pub(super) struct StreamOptions {
    pub(super) include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub(super) enum WireMessage {
    System {
        content: String,
    },
    User {
        content: String,
    },
    Assistant {
        content: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<WireCall>,
        #[serde(flatten)]
        reasoning: Reasoning,
    },
    Tool {
        tool_call_id: String,
        content: String,
    },
}

#[derive(Serialize)]
pub(super) struct WireCall {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) function: WireFunctionCall,
}

#[derive(Serialize)]
pub(super) struct WireFunctionCall {
    pub(super) name: String,
    pub(super) arguments: String,
}

#[derive(Serialize)]
pub(crate) struct WireTool<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) function: WireFunction<'a>,
}

#[derive(Serialize)]
pub(super) struct WireFunction<'a> {
    pub(super) name: String,
    pub(super) description: &'a str,
    pub(super) parameters: &'a RawValue,
}

#[derive(Deserialize)]
pub(super) struct WireChunk {
    /// Some servers send `null` with the last usage.
    #[serde(default)]
    pub(super) choices: Option<Vec<WireChoice>>,
    pub(super) usage: Option<WireUsage>,
    pub(super) error: Option<WireError>,
}

#[derive(Deserialize)]
pub(super) struct WireChoice {
    #[serde(default)]
    pub(super) index: u32,
    pub(super) delta: Option<WireDelta>,
    pub(super) finish_reason: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct WireDelta {
    pub(super) content: Option<String>,
    pub(super) refusal: Option<String>,
    pub(super) tool_calls: Option<Vec<WireCallDelta>>,
    pub(super) reasoning_content: Option<String>,
    pub(super) reasoning_details: Option<Vec<Value>>,
}

#[derive(Deserialize)]
pub(super) struct WireCallDelta {
    pub(super) index: Option<u64>,
    pub(super) id: Option<String>,
    pub(super) function: Option<WireFunctionDelta>,
}

#[derive(Deserialize, Default)]
pub(super) struct WireFunctionDelta {
    pub(super) name: Option<String>,
    pub(super) arguments: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
pub(super) struct WireUsage {
    pub(super) prompt_tokens: Option<u64>,
    pub(super) completion_tokens: Option<u64>,
    pub(super) total_tokens: Option<u64>,
    pub(super) prompt_tokens_details: Option<WirePromptDetails>,
}

#[derive(Deserialize)]
pub(super) struct WirePromptDetails {
    pub(super) cached_tokens: Option<u64>,
    pub(super) cache_write_tokens: Option<u64>,
}

impl From<WireUsage> for Usage {
    /// The wire counts cached tokens among the prompt's; we count each token once.
    fn from(wire: WireUsage) -> Usage {
        let details = wire.prompt_tokens_details;
        let cache_read_tokens = details.as_ref().and_then(|details| details.cached_tokens);
        let cache_write_tokens = details.as_ref().and_then(|details| details.cache_write_tokens);
        let cached = cache_read_tokens.unwrap_or(0).saturating_add(cache_write_tokens.unwrap_or(0));
        // xAI leaves what was reasoned out of the answer's tokens, and charges for it: the total has it.
        let beyond_the_prompt = wire.total_tokens.unwrap_or(0).saturating_sub(wire.prompt_tokens.unwrap_or(u64::MAX));
        Usage {
            input_tokens: wire.prompt_tokens.map(|tokens| tokens.saturating_sub(cached)),
            output_tokens: wire.completion_tokens.map(|tokens| tokens.max(beyond_the_prompt)),
            cache_read_tokens,
            cache_write_tokens,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum WireError {
    Text(String),
    Object {
        message: Option<String>,
        #[serde(rename = "type")]
        kind: Option<String>,
        code: Option<Value>,
    },
}

impl WireError {
    pub(super) fn message(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Object { message, .. } => message.as_deref().unwrap_or("no reason given"),
        }
    }

    /// The code (a word or a number) is more exact than the type where both are given.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Text(_) => String::new(),
            Self::Object { kind, code, .. } => {
                let code = match code {
                    Some(Value::String(code)) => Some(code.clone()),
                    Some(Value::Number(code)) => Some(code.to_string()),
                    _ => None,
                };
                code.or_else(|| kind.clone()).unwrap_or_default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_is_counted_once() {
        let wire = r#"{"prompt_tokens":100,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":60,"cache_write_tokens":10}}"#;
        let usage: Usage = serde_json::from_str::<WireUsage>(wire).unwrap().into();
        assert_eq!(usage.input_tokens, Some(30));
        assert_eq!(usage.total_tokens(), 107);
        let apart = r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,"completion_tokens_details":{"reasoning_tokens":94}}"#;
        let usage: Usage = serde_json::from_str::<WireUsage>(apart).unwrap().into();
        assert_eq!(usage.output_tokens, Some(103), "what was reasoned is paid for");
    }
}
