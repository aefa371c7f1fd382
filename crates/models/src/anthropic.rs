//! Anthropic Messages, streaming.

use std::borrow::Cow;

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
    lines::{self, Lines, SseEvent},
    names::{self, Offered},
    registry::Provider,
    turns::{self, Part, Turn},
};

pub(crate) const VERSION_HEADER: (&str, &str) = ("anthropic-version", "2023-06-01");
const KIND: ProviderKind = ProviderKind::Anthropic;

pub(crate) async fn attempt(provider: Provider, request: ModelRequest, sink: Sink) -> Result<Ending, ModelError> {
    let body = serde_json::to_vec(&render(&request)?).map_err(|error| http::bad_request(error.to_string()))?;
    let response =
        http::send(&*provider.outbound, KIND, &request.model.model, provider.post("/v1/messages", body)).await?;
    let mut lines = Lines::new(response.body);
    let offered = Offered::new(&request.tools);
    let mut reading = Reading {
        answer: Answer::new(sink, offered, request.messages.len()),
        usage: Usage::default(),
        stop: None,
        whole_input: None,
        thinking: None,
    };
    while let Some(event) = lines::next_sse(&mut lines).await? {
        if reading.event(&event).await? {
            lines.finish().await;
            let Some(said) = reading.stop else {
                return Err(http::protocol("anthropic ended its answer without saying why", lines.head()));
            };
            let stop = reading.answer.finish(said).await?;
            return Ok((stop, reading.usage));
        }
    }
    Err(http::protocol("anthropic ended its answer without saying that it was complete", lines.head()))
}

struct Reading {
    answer: Answer,
    usage: Usage,
    stop: Option<StopReason>,
    /// Arguments given whole at the start of a block, used if no pieces follow.
    whole_input: Option<String>,
    thinking: Option<Thinking>,
}

/// A block of thinking, as it is sent back.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Thinking {
    Thinking { thinking: String, signature: String },
    RedactedThinking { data: String },
}

impl Reading {
    /// True when the answer is complete.
    async fn event(&mut self, event: &SseEvent) -> Result<bool, ModelError> {
        let event: WireEvent = serde_json::from_str(&event.data).map_err(|error| {
            http::protocol(&format!("anthropic sent an event that cannot be read: {error}"), &event.data)
        })?;
        match event {
            WireEvent::MessageStart { message } => self.usage(message.usage).await,
            WireEvent::ContentBlockStart { index, content_block } => self.block_start(index, content_block).await?,
            WireEvent::ContentBlockDelta { index, delta } => match delta {
                WireDelta::TextDelta { text } => self.answer.text(&text).await,
                WireDelta::InputJsonDelta { partial_json } => self.answer.call_delta(index, &partial_json).await?,
                WireDelta::ThinkingDelta { thinking: piece } => {
                    if let Some(Thinking::Thinking { thinking, .. }) = &mut self.thinking {
                        thinking.push_str(&piece);
                    }
                }
                WireDelta::SignatureDelta { signature: piece } => {
                    if let Some(Thinking::Thinking { signature, .. }) = &mut self.thinking {
                        signature.push_str(&piece);
                    }
                }
                WireDelta::Other => {}
            },
            WireEvent::ContentBlockStop { index } => {
                if let Some(input) = self.whole_input.take()
                    && !self.answer.has_arguments(index)
                {
                    self.answer.call_delta(index, &input).await?;
                }
                // A call is not closed by this: one that the limit on tokens cut off ends in the same way, and why the answer
                // ended is said later. One whose arguments are a whole object is done already.
                self.answer.end_text().await?;
                self.end_thinking().await?;
            }
            WireEvent::MessageDelta { delta, usage } => {
                self.usage(usage).await;
                if let Some(reason) = delta.stop_reason {
                    self.stop = Some(stop_reason(&reason)?);
                }
            }
            WireEvent::MessageStop => return Ok(true),
            WireEvent::Error { error } => {
                return Err(http::from_stream_error(KIND, &error.kind, &error.message, &error.message));
            }
            WireEvent::Other => {}
        }
        Ok(false)
    }

    async fn block_start(&mut self, index: u64, block: WireBlock) -> Result<(), ModelError> {
        self.answer.close_all().await?;
        match block {
            WireBlock::Text { text } => self.answer.text(&text).await,
            WireBlock::ToolUse { id, name, input } => {
                self.answer.start_call(index, &id, &name).await?;
                self.whole_input = input.map(|input| input.to_string()).filter(|input| input.trim() != "{}");
            }
            WireBlock::Thinking { thinking, signature } => {
                self.thinking = Some(Thinking::Thinking { thinking, signature });
            }
            WireBlock::RedactedThinking { data } => self.thinking = Some(Thinking::RedactedThinking { data }),
            // What the provider's own tools do.
            WireBlock::Other => {}
        }
        Ok(())
    }

    /// Keeps a block of thinking that can be sent back: the API takes none without its signature.
    async fn end_thinking(&mut self) -> Result<(), ModelError> {
        let Some(thinking) = self.thinking.take() else { return Ok(()) };
        if matches!(&thinking, Thinking::Thinking { signature, .. } if signature.is_empty()) {
            return Ok(());
        }
        let json = serde_json::to_string(&thinking)
            .map_err(|error| http::protocol(&format!("anthropic sent a thought that cannot be kept: {error}"), ""))?;
        self.answer.thought(json).await
    }

    /// Later figures replace earlier ones: they are running totals.
    async fn usage(&mut self, wire: Option<WireUsage>) {
        let Some(wire) = wire else { return };
        self.usage.input_tokens = wire.input_tokens.or(self.usage.input_tokens);
        self.usage.output_tokens = wire.output_tokens.or(self.usage.output_tokens);
        self.usage.cache_read_tokens = wire.cache_read_input_tokens.or(self.usage.cache_read_tokens);
        self.usage.cache_write_tokens = wire.cache_creation_input_tokens.or(self.usage.cache_write_tokens);
        self.answer.counted(&self.usage).await;
    }
}

fn stop_reason(text: &str) -> Result<StopReason, ModelError> {
    Ok(match text {
        // `pause_turn` asks to go on with tools of the provider's own, of which we offer none.
        "end_turn" | "stop_sequence" | "pause_turn" => StopReason::EndTurn,
        "tool_use" => StopReason::ToolUse,
        "max_tokens" | "model_context_window_exceeded" => StopReason::MaxTokens,
        "refusal" => StopReason::Refusal,
        other => return Err(http::protocol("anthropic ended its answer for a reason nobody has heard of", other)),
    })
}

fn render(request: &ModelRequest) -> Result<WireRequest<'_>, ModelError> {
    let mut messages: Vec<WireMessage> = Vec::new();
    let mut push = |role: &'static str, content: Vec<WireContent>| {
        if content.is_empty() {
            return;
        }
        match messages.last_mut() {
            Some(last) if last.role == role => last.content.extend(content),
            _ => messages.push(WireMessage { role, content }),
        }
    };
    for turn in turns::turns(&request.messages, &request.model) {
        match turn {
            Turn::User { text } if text.trim().is_empty() => {}
            Turn::User { text } => push("user", vec![WireContent::Text { text, cache_control: None }]),
            Turn::Assistant(parts) => {
                let mut parts = turns::without_last_thoughts(parts);
                // What was signed goes back as it came. What other providers said may stand in any order; here
                // text comes before calls.
                if !parts.iter().any(|part| matches!(part, Part::Thought(_))) {
                    parts.sort_by_key(|part| matches!(part, Part::Call(_)));
                }
                push("assistant", parts.into_iter().map(said).collect::<Result<_, _>>()?);
            }
            Turn::Results(results) => {
                let content = results.into_iter().map(|result| WireContent::ToolResult {
                    tool_use_id: result.id,
                    content: result.text,
                    is_error: result.is_error,
                    cache_control: None,
                });
                push("user", content.collect());
            }
        }
    }
    if let Some(last) = messages.last_mut().and_then(|message| message.content.last_mut()) {
        last.mark_for_cache();
    }
    Ok(WireRequest {
        model: &request.model.model,
        max_tokens: request.output_tokens_max,
        stream: true,
        system: system(&request.system),
        tools: tools(request)?,
        messages,
    })
}

/// A part of an answer of the past.
fn said(part: Part) -> Result<WireContent, ModelError> {
    let raw = |json: String, what: &dyn std::fmt::Display| {
        RawValue::from_string(json)
            .map_err(|error| http::bad_request(format!("a recorded {what} is not JSON: {error}")))
    };
    Ok(match part {
        // The API refuses an assistant text that ends in white space where it is last.
        Part::Text(text) => WireContent::Text { text: text.trim_end().to_owned(), cache_control: None },
        Part::Call(call) => WireContent::ToolUse {
            input: raw(call.arguments, &format!("call of {}", call.name))?,
            id: call.id,
            name: names::to_wire(&call.name),
        },
        Part::Thought(json) => WireContent::Thought(raw(json, &"thought")?),
    })
}

fn system(text: &str) -> Vec<WireContent> {
    match text.trim().is_empty() {
        true => Vec::new(),
        false => vec![WireContent::Text { text: text.to_owned(), cache_control: Some(EPHEMERAL) }],
    }
}

fn tools(request: &ModelRequest) -> Result<Vec<WireTool<'_>>, ModelError> {
    let last = request.tools.len().saturating_sub(1);
    let tools = request.tools.iter().enumerate().map(|(index, tool)| {
        let input_schema = serde_json::from_str(&tool.schema)
            .map_err(|error| http::bad_request(format!("the schema of {} is not JSON: {error}", tool.name)))?;
        Ok(WireTool {
            name: names::to_wire(&tool.name),
            description: Cow::Borrowed(&tool.description),
            input_schema,
            cache_control: (index == last).then_some(EPHEMERAL),
        })
    });
    tools.collect()
}

/// Marks where a prompt prefix may be cached. Four marks are allowed; three are used: after the
/// tools, after the system prompt, and after the last message.
const EPHEMERAL: CacheControl = CacheControl { kind: "ephemeral" };

#[derive(Serialize)]
struct WireRequest<'a> {
    model: &'a str,
    max_tokens: u32,
    stream: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<WireContent>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    messages: Vec<WireMessage>,
}

#[derive(Serialize)]
struct WireMessage {
    role: &'static str,
    content: Vec<WireContent>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireContent {
    Text {
        text: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
    ToolUse {
        id: String,
        name: String,
        input: Box<RawValue>,
    },
    ToolResult {
        tool_use_id: String,
        content: String,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<CacheControl>,
    },
    /// A signed block, exactly as it came.
    #[serde(untagged)]
    Thought(Box<RawValue>),
}

impl WireContent {
    fn mark_for_cache(&mut self) {
        match self {
            Self::Text { cache_control, .. } | Self::ToolResult { cache_control, .. } => {
                *cache_control = Some(EPHEMERAL)
            }
            Self::ToolUse { .. } | Self::Thought(_) => {}
        }
    }
}

#[derive(Serialize, Clone, Copy)]
struct CacheControl {
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct WireTool<'a> {
    name: String,
    description: Cow<'a, str>,
    input_schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireEvent {
    MessageStart {
        message: WireStart,
    },
    ContentBlockStart {
        index: u64,
        content_block: WireBlock,
    },
    ContentBlockDelta {
        index: u64,
        delta: WireDelta,
    },
    ContentBlockStop {
        index: u64,
    },
    MessageDelta {
        delta: WireMessageDelta,
        usage: Option<WireUsage>,
    },
    MessageStop,
    Error {
        error: WireError,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct WireStart {
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireBlock {
    Text {
        #[serde(default)]
        text: String,
    },
    ToolUse {
        #[serde(default)]
        id: String,
        name: String,
        /// Not raw text: that cannot be read inside a tagged value.
        input: Option<Value>,
    },
    Thinking {
        #[serde(default)]
        thinking: String,
        #[serde(default)]
        signature: String,
    },
    RedactedThinking {
        data: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireDelta {
    TextDelta {
        text: String,
    },
    InputJsonDelta {
        partial_json: String,
    },
    ThinkingDelta {
        thinking: String,
    },
    SignatureDelta {
        signature: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct WireMessageDelta {
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct WireUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct WireError {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    message: String,
}
