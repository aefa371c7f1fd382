//! OpenAI Chat Completions, streaming, as OpenAI and the many compatible servers speak it.

use homarus_contract::{
    message::{StopReason, Usage},
    model::{ModelError, ModelRequest},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    answer::Answer,
    attempt::{Ending, Sink},
    base_url::ProviderKind,
    http,
    lines::{self, Lines},
    names::{self, Offered},
    registry::Provider,
    turns::{self, Turn},
};

const KIND: ProviderKind = ProviderKind::OpenAi;

pub(crate) async fn attempt(provider: Provider, request: ModelRequest, sink: Sink) -> Result<Ending, ModelError> {
    let body = serde_json::to_vec(&render(&request, &provider.options.base_url)?)
        .map_err(|error| http::bad_request(error.to_string()))?;
    let call = provider.post("/v1/chat/completions", body);
    let response = http::send(&*provider.outbound, KIND, &request.model.model, call).await?;
    let mut lines = Lines::new(response.body);
    let answer = Answer::new(sink, Offered::new(&request.tools), request.messages.len());
    let mut reading = Reading { answer, usage: Usage::default(), stop: None, refused: false, last_key: 0 };
    loop {
        let event = match lines::next_sse(&mut lines).await {
            Ok(Some(event)) => event,
            Ok(None) => break,
            // All was said but `[DONE]`: a connection that breaks now takes nothing away.
            Err(_) if reading.stop.is_some() => break,
            Err(error) => return Err(error),
        };
        if event.data.trim() == "[DONE]" {
            lines.finish().await;
            break;
        }
        reading.chunk(&event.data).await?;
    }
    let Some(said) = reading.stop else {
        return Err(http::protocol("the server ended its answer without saying that it was complete", lines.head()));
    };
    let said = if reading.refused { StopReason::Refusal } else { said };
    let stop = reading.answer.finish(said).await?;
    Ok((stop, reading.usage))
}

struct Reading {
    answer: Answer,
    usage: Usage,
    stop: Option<StopReason>,
    refused: bool,
    /// The call that deltas without an index belong to.
    last_key: u64,
}

impl Reading {
    async fn chunk(&mut self, data: &str) -> Result<(), ModelError> {
        let chunk: WireChunk = serde_json::from_str(data)
            .map_err(|error| http::protocol(&format!("the server sent a chunk that cannot be read: {error}"), data))?;
        if let Some(error) = chunk.error {
            return Err(http::from_stream_error(KIND, &error.kind(), error.message(), data));
        }
        if let Some(usage) = chunk.usage {
            self.usage = usage.into();
        }
        // One choice was asked for; others would be answers to nobody.
        let Some(choice) = chunk.choices.into_iter().flatten().find(|choice| choice.index == 0) else { return Ok(()) };
        if let Some(delta) = choice.delta {
            if let Some(text) = delta.content {
                self.answer.text(&text).await;
            }
            if let Some(text) = delta.refusal.filter(|text| !text.is_empty()) {
                self.refused = true;
                self.answer.text(&text).await;
            }
            for call in delta.tool_calls.into_iter().flatten() {
                self.call(call).await?;
            }
        }
        if let Some(reason) = choice.finish_reason {
            // How compatible servers say that they broke, with a status of 200.
            if matches!(reason.as_str(), "error" | "abort" | "insufficient_system_resource") {
                let message = format!("it ended with {reason}");
                return Err(http::from_stream_error(KIND, "", &message, data));
            }
            self.stop = Some(stop_reason(&reason));
        }
        Ok(())
    }

    async fn call(&mut self, call: WireCallDelta) -> Result<(), ModelError> {
        let id = call.id.unwrap_or_default();
        let function = call.function.unwrap_or_default();
        let name = function.name.unwrap_or_default();
        let key = call.index.unwrap_or(self.last_key);
        let says_nothing = function.arguments.as_ref().is_none_or(|raw| matches!(raw.get(), "\"\"" | "null"));
        if says_nothing && self.answer.knows_call(&id) {
            return Ok(());
        }
        let begins = match self.answer.open_call_id(key) {
            // Some servers give every call the index 0: a new id is a new call then.
            Some(open) => !id.is_empty() && !name.is_empty() && id != open,
            None => !name.is_empty(),
        };
        if begins {
            self.answer.close_call(key).await?;
            self.answer.start_call(key, &id, &name).await?;
        }
        self.last_key = key;
        match function.arguments {
            None => Ok(()),
            // An object instead of the text of one: another habit of compatible servers.
            Some(raw) => match serde_json::from_str::<String>(raw.get()) {
                Ok(text) => self.answer.call_delta(key, &text).await,
                Err(_) if raw.get() == "null" => Ok(()),
                Err(_) => self.answer.call_delta(key, raw.get()).await,
            },
        }
    }
}

fn stop_reason(text: &str) -> StopReason {
    match text {
        "tool_calls" | "function_call" => StopReason::ToolUse,
        "length" => StopReason::MaxTokens,
        "content_filter" => StopReason::Refusal,
        _ => StopReason::EndTurn,
    }
}

fn render<'a>(request: &'a ModelRequest, base_url: &str) -> Result<WireRequest<'a>, ModelError> {
    let mut messages = Vec::new();
    if !request.system.trim().is_empty() {
        messages.push(WireMessage::System { content: request.system.to_string() });
    }
    for turn in turns::turns(&request.messages, &request.model) {
        match turn {
            Turn::User { text } => messages.push(WireMessage::User { content: text }),
            Turn::Assistant(parts) => {
                let (text, calls) = turns::texts_and_calls(parts);
                let tool_calls = calls.into_iter().map(|call| WireCall {
                    id: call.id,
                    kind: "function",
                    function: WireFunctionCall { name: names::to_wire(&call.name), arguments: call.arguments },
                });
                let content = (!text.is_empty()).then(|| text.join("\n\n"));
                messages.push(WireMessage::Assistant { content, tool_calls: tool_calls.collect() });
            }
            Turn::Results(results) => {
                for result in results {
                    messages.push(WireMessage::Tool {
                        tool_call_id: result.id,
                        content: result_text(result.text, result.is_error),
                    });
                }
            }
        }
    }
    // OpenAI's newer models refuse `max_tokens`; many compatible servers know only that.
    let is_openai = base_url.starts_with(ProviderKind::OpenAi.default_base_url());
    Ok(WireRequest {
        model: &request.model.model,
        messages,
        tools: tools(request)?,
        stream: true,
        stream_options: StreamOptions { include_usage: true },
        max_completion_tokens: is_openai.then_some(request.output_tokens_max),
        max_tokens: (!is_openai).then_some(request.output_tokens_max),
    })
}

/// This format has no mark for a failed call, so the text says it.
pub(crate) fn result_text(text: String, is_error: bool) -> String {
    let says_so = text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("error"));
    if is_error && !says_so { format!("Error: {text}") } else { text }
}

pub(crate) fn tools(request: &ModelRequest) -> Result<Vec<WireTool<'_>>, ModelError> {
    let tools = request.tools.iter().map(|tool| {
        let parameters = serde_json::from_str(&tool.schema)
            .map_err(|error| http::bad_request(format!("the schema of {} is not JSON: {error}", tool.name)))?;
        let function = WireFunction { name: names::to_wire(&tool.name), description: &tool.description, parameters };
        Ok(WireTool { kind: "function", function })
    });
    tools.collect()
}

#[derive(Serialize)]
struct WireRequest<'a> {
    model: &'a str,
    messages: Vec<WireMessage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    stream: bool,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "snake_case")]
enum WireMessage {
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
    },
    Tool {
        tool_call_id: String,
        content: String,
    },
}

#[derive(Serialize)]
struct WireCall {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: WireFunctionCall,
}

#[derive(Serialize)]
struct WireFunctionCall {
    name: String,
    arguments: String,
}

#[derive(Serialize)]
pub(crate) struct WireTool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: WireFunction<'a>,
}

#[derive(Serialize)]
struct WireFunction<'a> {
    name: String,
    description: &'a str,
    parameters: &'a RawValue,
}

#[derive(Deserialize)]
struct WireChunk {
    /// Some servers send `null` with the last usage.
    #[serde(default)]
    choices: Option<Vec<WireChoice>>,
    usage: Option<WireUsage>,
    error: Option<WireError>,
}

#[derive(Deserialize)]
struct WireChoice {
    #[serde(default)]
    index: u32,
    delta: Option<WireDelta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct WireDelta {
    content: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<WireCallDelta>>,
}

#[derive(Deserialize)]
struct WireCallDelta {
    index: Option<u64>,
    id: Option<String>,
    function: Option<WireFunctionDelta>,
}

#[derive(Deserialize, Default)]
struct WireFunctionDelta {
    name: Option<String>,
    arguments: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct WireUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<WirePromptDetails>,
}

#[derive(Deserialize)]
struct WirePromptDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

impl From<WireUsage> for Usage {
    /// The wire counts cached tokens among the prompt's; we count each token once.
    fn from(wire: WireUsage) -> Usage {
        let details = wire.prompt_tokens_details;
        let cache_read_tokens = details.as_ref().and_then(|details| details.cached_tokens);
        let cache_write_tokens = details.as_ref().and_then(|details| details.cache_write_tokens);
        let cached = cache_read_tokens.unwrap_or(0).saturating_add(cache_write_tokens.unwrap_or(0));
        Usage {
            input_tokens: wire.prompt_tokens.map(|tokens| tokens.saturating_sub(cached)),
            output_tokens: wire.completion_tokens,
            cache_read_tokens,
            cache_write_tokens,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WireError {
    Text(String),
    Object {
        message: Option<String>,
        #[serde(rename = "type")]
        kind: Option<String>,
        code: Option<Value>,
    },
}

impl WireError {
    fn message(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Object { message, .. } => message.as_deref().unwrap_or("no reason given"),
        }
    }

    /// The code (a word or a number) is more exact than the type where both are given.
    fn kind(&self) -> String {
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
    use std::sync::Arc;

    use homarus_contract::model::ModelRequest;

    use super::*;

    #[test]
    fn openai_itself_is_asked_with_its_own_field() {
        let request = ModelRequest {
            model: "openai/gpt-5-mini".parse().unwrap(),
            system: Arc::from(""),
            tools: Arc::from([]),
            messages: Vec::new(),
            output_tokens_max: 7,
        };
        for (base_url, field) in
            [("https://api.openai.com", "max_completion_tokens"), ("http://127.0.0.1:8080", "max_tokens")]
        {
            let json = serde_json::to_value(render(&request, base_url).unwrap()).unwrap();
            assert_eq!(json[field], 7, "{base_url}");
        }
    }

    #[test]
    fn each_token_is_counted_once() {
        let wire = r#"{"prompt_tokens":100,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":60,"cache_write_tokens":10}}"#;
        let usage: Usage = serde_json::from_str::<WireUsage>(wire).unwrap().into();
        assert_eq!(usage.input_tokens, Some(30));
        assert_eq!(usage.total_tokens(), 107);
    }
}
