//! OpenAI Responses, streaming and stateless: nothing is stored there (`store: false`), so what the model reasoned
//! comes back encrypted and is sent again with the calls it led to.

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
    openai, quirks,
    registry::Provider,
    turns::{self, Part, Turn},
};

const KIND: ProviderKind = ProviderKind::OpenAiResponses;

pub(crate) async fn attempt(provider: Provider, request: ModelRequest, sink: Sink) -> Result<Ending, ModelError> {
    let body = serde_json::to_vec(&render(&request)?).map_err(|error| http::bad_request(error.to_string()))?;
    let call = provider.post("/v1/responses", body);
    let response = http::send(&*provider.outbound, KIND, &request.model.model, call).await?;
    let mut lines = Lines::new(response.body);
    let answer = Answer::new(sink, Offered::new(&request.tools), request.messages.len());
    let mut reading = Reading { answer, refused: false };
    while let Some(event) = lines::next_sse(&mut lines).await? {
        if let Some((said, usage)) = reading.event(&event.data).await? {
            lines.finish().await;
            let said = if reading.refused { StopReason::Refusal } else { said };
            return Ok((reading.answer.finish(said).await?, usage));
        }
    }
    Err(http::protocol("openai ended its answer without saying that it was complete", lines.head()))
}

struct Reading {
    answer: Answer,
    refused: bool,
}

impl Reading {
    /// How the answer ends, once it does.
    async fn event(&mut self, data: &str) -> Result<Option<Ending>, ModelError> {
        let mut event: WireEvent = serde_json::from_str(data)
            .map_err(|error| http::protocol(&format!("openai sent an event that cannot be read: {error}"), data))?;
        let key = event.output_index.unwrap_or_default();
        match event.kind.as_deref() {
            Some("response.output_text.delta") => self.answer.text(&event.delta.unwrap_or_default()).await,
            Some("response.refusal.delta") => {
                self.refused = true;
                self.answer.text(&event.delta.unwrap_or_default()).await;
            }
            Some("response.function_call_arguments.delta") => {
                self.answer.call_delta(key, &event.delta.unwrap_or_default()).await?;
            }
            Some("response.output_item.added") => self.item_added(key, event.item, data).await?,
            Some("response.output_item.done") => self.item_done(key, event.item, data).await?,
            Some("response.completed") => {
                let usage = self.usage(event.response).await;
                return Ok(Some((StopReason::EndTurn, usage)));
            }
            Some("response.incomplete") => {
                let why = event.response.as_ref().and_then(|response| response.incomplete_details.as_ref());
                let said = match why.and_then(|why| why.reason.as_deref()) {
                    Some("max_output_tokens") => StopReason::MaxTokens,
                    Some("content_filter") => StopReason::Refusal,
                    _ => return Err(http::protocol("openai left its answer incomplete without saying why", data)),
                };
                return Ok(Some((said, self.usage(event.response).await)));
            }
            Some("response.failed") => {
                let error = event.response.as_mut().and_then(|response| response.error.take()).unwrap_or_default();
                self.usage(event.response).await;
                return Err(stream_error(error, data));
            }
            // The error stands in the event itself, or below `error` where a proxy wrote it.
            Some("error") => {
                let own = WireError { code: event.code, kind: None, message: event.message };
                return Err(stream_error(event.error.unwrap_or(own), data));
            }
            None => match event.error {
                Some(error) => return Err(stream_error(error, data)),
                None => return Err(http::protocol("openai sent something that is no event", data)),
            },
            Some(_) => {}
        }
        Ok(None)
    }

    async fn usage(&self, response: Option<WireResponse>) -> Usage {
        let counted = usage(response);
        if counted != Usage::default() {
            self.answer.counted(&counted).await;
        }
        counted
    }

    async fn item_added(&mut self, key: u64, item: Option<Value>, data: &str) -> Result<(), ModelError> {
        match read_item(item, data)?.0 {
            WireItem::FunctionCall { call_id, name, .. } => self.answer.start_call(key, &call_id, &name).await,
            WireItem::Message | WireItem::Reasoning { .. } | WireItem::Other => self.answer.end_text().await,
        }
    }

    async fn item_done(&mut self, key: u64, item: Option<Value>, data: &str) -> Result<(), ModelError> {
        match read_item(item, data)? {
            // One that was cut off: why is said at the end of the answer.
            (WireItem::FunctionCall { status: Some(status), .. }, _) if status == "incomplete" => Ok(()),
            (WireItem::FunctionCall { call_id, name, arguments, .. }, _) => {
                if !self.answer.knows_call(&call_id) {
                    self.answer.start_call(key, &call_id, &name).await?;
                }
                if !self.answer.has_arguments(key) && self.answer.open_call_id(key).is_some() {
                    self.answer.call_delta(key, &arguments).await?;
                }
                self.answer.close_call(key).await
            }
            // Without the encrypted form there is nothing the API could read again.
            (WireItem::Reasoning { encrypted_content: Some(sealed) }, whole) if !sealed.is_empty() => {
                self.answer.thought(whole).await
            }
            _ => self.answer.end_text().await,
        }
    }
}

/// An item, and the whole of it as JSON text.
fn read_item(item: Option<Value>, data: &str) -> Result<(WireItem, String), ModelError> {
    let item = item.unwrap_or(Value::Null);
    let whole = item.to_string();
    match serde_json::from_value(item) {
        Ok(read) => Ok((read, whole)),
        Err(error) => Err(http::protocol(&format!("openai sent an item that cannot be read: {error}"), data)),
    }
}

fn stream_error(error: WireError, data: &str) -> ModelError {
    let message = error.message.as_deref().unwrap_or("no reason given");
    http::from_stream_error(KIND, &error.name(), message, data)
}

fn usage(response: Option<WireResponse>) -> Usage {
    let Some(wire) = response.and_then(|response| response.usage) else { return Usage::default() };
    let cache_read_tokens = wire.input_tokens_details.as_ref().and_then(|details| details.cached_tokens);
    let cache_write_tokens = wire.input_tokens_details.and_then(|details| details.cache_write_tokens);
    // The wire counts cached tokens among the others; we count each token once.
    let cached = cache_read_tokens.unwrap_or(0).saturating_add(cache_write_tokens.unwrap_or(0));
    Usage {
        input_tokens: wire.input_tokens.map(|tokens| tokens.saturating_sub(cached)),
        output_tokens: wire.output_tokens,
        cache_read_tokens,
        cache_write_tokens,
    }
}

fn render(request: &ModelRequest) -> Result<WireRequest<'_>, ModelError> {
    let mut input = Vec::new();
    let message = |role, content| WireInput::Message { role, content };
    for turn in turns::turns(&request.messages, &request.model) {
        match turn {
            Turn::User { text } => input.push(message("user", text)),
            Turn::Assistant(parts) => {
                for part in turns::without_last_thoughts(parts) {
                    input.push(match part {
                        Part::Text(text) => message("assistant", text),
                        Part::Call(call) => WireInput::FunctionCall {
                            call_id: call.id,
                            name: names::to_wire(&call.name),
                            arguments: call.arguments,
                        },
                        Part::Thought(json) => {
                            WireInput::Reasoning(RawValue::from_string(json).map_err(|error| {
                                http::bad_request(format!("a recorded thought is not JSON: {error}"))
                            })?)
                        }
                    });
                }
            }
            Turn::Results(results) => input.extend(results.into_iter().map(|result| WireInput::FunctionCallOutput {
                call_id: result.id,
                output: openai::result_text(result.text, result.is_error),
            })),
        }
    }
    let tools = request.tools.iter().map(|tool| {
        let parameters = serde_json::from_str(&tool.schema)
            .map_err(|error| http::bad_request(format!("the schema of {} is not JSON: {error}", tool.name)))?;
        let name = names::to_wire(&tool.name);
        Ok(WireTool { kind: "function", name, description: &tool.description, parameters, strict: false })
    });
    Ok(WireRequest {
        model: &request.model.model,
        instructions: Some(&*request.system).filter(|text| !text.trim().is_empty()),
        input,
        tools: tools.collect::<Result<_, ModelError>>()?,
        stream: true,
        store: false,
        include: if quirks::openai_reasons(&request.model.model) { &["reasoning.encrypted_content"] } else { &[] },
        max_output_tokens: request.output_tokens_max,
    })
}

#[derive(Serialize)]
struct WireRequest<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<&'a str>,
    input: Vec<WireInput>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    stream: bool,
    store: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    include: &'static [&'static str],
    max_output_tokens: u32,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireInput {
    Message {
        role: &'static str,
        content: String,
    },
    FunctionCall {
        call_id: String,
        name: String,
        arguments: String,
    },
    FunctionCallOutput {
        call_id: String,
        output: String,
    },
    /// Exactly as it came.
    #[serde(untagged)]
    Reasoning(Box<RawValue>),
}

#[derive(Serialize)]
struct WireTool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    description: &'a str,
    parameters: &'a RawValue,
    /// Strict schemas may have no optional fields; ours have.
    strict: bool,
}

/// All events in one shape: which fields there are follows from `type`.
#[derive(Deserialize)]
struct WireEvent {
    #[serde(rename = "type")]
    kind: Option<String>,
    output_index: Option<u64>,
    delta: Option<String>,
    item: Option<Value>,
    response: Option<WireResponse>,
    error: Option<WireError>,
    code: Option<Value>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireItem {
    Message,
    FunctionCall {
        #[serde(default)]
        call_id: String,
        name: String,
        #[serde(default)]
        arguments: String,
        status: Option<String>,
    },
    Reasoning {
        encrypted_content: Option<String>,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct WireResponse {
    usage: Option<WireUsage>,
    error: Option<WireError>,
    incomplete_details: Option<WireIncomplete>,
}

#[derive(Deserialize)]
struct WireIncomplete {
    reason: Option<String>,
}

#[derive(Deserialize)]
struct WireUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    input_tokens_details: Option<WireInputDetails>,
}

#[derive(Deserialize)]
struct WireInputDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
struct WireError {
    code: Option<Value>,
    #[serde(rename = "type")]
    kind: Option<String>,
    message: Option<String>,
}

impl WireError {
    /// The code (a word or a number) is more exact than the type where both are given.
    fn name(&self) -> String {
        match &self.code {
            Some(Value::String(code)) => code.clone(),
            Some(Value::Number(code)) => code.to_string(),
            _ => self.kind.clone().unwrap_or_default(),
        }
    }
}
