//! Gemini's own format: `streamGenerateContent` as server-sent events, with functions and thought signatures.
//!
//! A signature seals what the model thought before a part of its answer, most of all before a call. It is kept as a
//! thought and put back on the part that follows; newer models refuse calls that have lost theirs.

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
    quirks,
    registry::Provider,
    turns::{self, Call, Part, Turn},
};

const KIND: ProviderKind = ProviderKind::Gemini;
/// Stands for a signature on a call another model made; the API knows it and does not look for one then.
const OF_ANOTHER_MODEL: &str = "skip_thought_signature_validator";
/// Ids of calls that begin so are ours, or OpenAI's; this API matches by name and order where there is none.
const FOREIGN_ID: &str = "call_";

pub(crate) async fn attempt(provider: Provider, request: ModelRequest, sink: Sink) -> Result<Ending, ModelError> {
    let model = &request.model.model;
    if !model.split('/').all(is_plain) {
        return Err(http::bad_request(format!("{model:?} cannot be the name of a model of Gemini")));
    }
    let body = serde_json::to_vec(&render(&request)?).map_err(|error| http::bad_request(error.to_string()))?;
    let path = format!("/v1beta/{}:streamGenerateContent?alt=sse", resource(model));
    let response = http::send(&*provider.outbound, KIND, model, provider.post(&path, body)).await?;
    let mut lines = Lines::new(response.body);
    let answer = Answer::new(sink, Offered::new(&request.tools), request.messages.len());
    let mut reading = Reading { answer, usage: Usage::default(), stop: None, calls: 0 };
    loop {
        match lines::next_sse(&mut lines).await {
            Ok(Some(event)) => reading.chunk(&event.data).await?,
            Ok(None) => break,
            // All was said: a connection that breaks now takes nothing away.
            Err(_) if reading.stop.is_some() => break,
            Err(error) => return Err(error),
        }
    }
    let Some(said) = reading.stop else {
        return Err(http::protocol("gemini ended its answer without saying that it was complete", lines.head()));
    };
    Ok((reading.answer.finish(said).await?, reading.usage))
}

/// Nothing that could lead to another path.
fn is_plain(segment: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !segment.is_empty() && segment.chars().all(plain) && segment.chars().any(|c| c != '.')
}

/// `models/NAME`, unless the name says what it is (`tunedModels/NAME`).
fn resource(model: &str) -> String {
    if model.contains('/') { model.to_owned() } else { format!("models/{model}") }
}

struct Reading {
    answer: Answer,
    usage: Usage,
    stop: Option<StopReason>,
    calls: u64,
}

impl Reading {
    async fn chunk(&mut self, data: &str) -> Result<(), ModelError> {
        let chunk: WireChunk = serde_json::from_str(data)
            .map_err(|error| http::protocol(&format!("gemini sent a chunk that cannot be read: {error}"), data))?;
        if let Some(error) = chunk.error {
            let name = error.code.map(|code| code.to_string()).or(error.status).unwrap_or_default();
            return Err(http::from_stream_error(KIND, &name, &error.message.unwrap_or_default(), data));
        }
        if let Some(wire) = chunk.usage {
            self.usage = wire.into();
            self.answer.counted(&self.usage).await;
        }
        if chunk.feedback.is_some_and(|feedback| feedback.block_reason.is_some()) {
            self.stop = Some(StopReason::Refusal);
        }
        // One candidate was asked for; others would be answers to nobody.
        let candidate = chunk.candidates.into_iter().flatten().find(|candidate| candidate.index == 0);
        let Some(candidate) = candidate else { return Ok(()) };
        for part in candidate.content.and_then(|content| content.parts).unwrap_or_default() {
            self.part(part).await?;
        }
        if let Some(reason) = candidate.finish_reason {
            self.stop = Some(stop_reason(&reason, data)?);
        }
        Ok(())
    }

    async fn part(&mut self, part: WirePart) -> Result<(), ModelError> {
        let signature = part.thought_signature.filter(|signature| !signature.is_empty());
        // Summaries of thoughts are for people; only what is sealed goes back.
        if let Some(text) = part.text.filter(|_| !part.thought) {
            self.answer.text(&text).await;
        }
        if let Some(signature) = signature {
            let sealed = serde_json::to_string(&Sealed { thought_signature: signature }).map_err(|error| {
                http::protocol(&format!("gemini sent a signature that cannot be kept: {error}"), "")
            })?;
            self.answer.thought(sealed).await?;
        }
        if let Some(call) = part.function_call {
            let key = self.calls;
            self.calls += 1;
            self.answer.start_call(key, &call.id.unwrap_or_default(), &call.name).await?;
            let arguments = call.args.map(|args| args.to_string()).unwrap_or_default();
            self.answer.call_delta(key, &arguments).await?;
            self.answer.close_call(key).await?;
        }
        Ok(())
    }
}

fn stop_reason(text: &str, data: &str) -> Result<StopReason, ModelError> {
    Ok(match text {
        "STOP" => StopReason::EndTurn,
        "MAX_TOKENS" => StopReason::MaxTokens,
        "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "LANGUAGE" | "IMAGE_SAFETY" => {
            StopReason::Refusal
        }
        other => return Err(http::protocol(&format!("gemini ended its answer with {other}"), data)),
    })
}

fn render(request: &ModelRequest) -> Result<WireRequest, ModelError> {
    let mut contents = Vec::new();
    for turn in turns::turns(&request.messages, &request.model) {
        let (role, parts) = match turn {
            Turn::User { text } => ("user", vec![WireOut::Text { text, thought_signature: None }]),
            Turn::Assistant(parts) => {
                let parts = turns::without_last_thoughts(parts);
                ("model", said(parts, quirks::gemini_wants_signatures(&request.model.model))?)
            }
            Turn::Results(results) => {
                let parts = results.into_iter().map(|result| WireOut::FunctionResponse {
                    function_response: WireResult {
                        id: own_id(result.id),
                        name: names::to_wire(&result.name),
                        response: match result.is_error {
                            true => WireOutcome::Error(result.text),
                            false => WireOutcome::Output(result.text),
                        },
                    },
                });
                ("user", parts.collect())
            }
        };
        contents.push(WireContent { role, parts });
    }
    let functions = request.tools.iter().map(|tool| {
        let schema = RawValue::from_string(tool.schema.clone())
            .map_err(|error| http::bad_request(format!("the schema of {} is not JSON: {error}", tool.name)))?;
        let (name, description) = (names::to_wire(&tool.name), tool.description.clone());
        Ok(WireFunction { name, description, parameters_json_schema: schema })
    });
    let functions: Vec<WireFunction> = functions.collect::<Result<_, ModelError>>()?;
    let system = request.system.trim();
    Ok(WireRequest {
        system_instruction: (!system.is_empty()).then(|| WireSystem {
            parts: [WireOut::Text { text: request.system.to_string(), thought_signature: None }],
        }),
        contents,
        tools: if functions.is_empty() { Vec::new() } else { vec![WireTools { function_declarations: functions }] },
        generation_config: WireGeneration { max_output_tokens: request.output_tokens_max },
    })
}

/// An answer of the past, each signature on the part it came with.
fn said(parts: Vec<Part>, wants_signatures: bool) -> Result<Vec<WireOut>, ModelError> {
    let mut wire = Vec::new();
    let mut signature = None;
    let mut has_call = false;
    for part in parts {
        if !matches!(part, Part::Call(_)) {
            // One that came with the end of a text: a part of its own, since the text was joined.
            let alone =
                signature.take().map(|sealed| WireOut::Text { text: String::new(), thought_signature: Some(sealed) });
            wire.extend(alone);
        }
        match part {
            Part::Text(text) => wire.push(WireOut::Text { text, thought_signature: None }),
            Part::Thought(json) => {
                let sealed: Sealed = serde_json::from_str(&json)
                    .map_err(|error| http::bad_request(format!("a recorded thought is no signature: {error}")))?;
                signature = Some(sealed.thought_signature);
            }
            Part::Call(Call { id, name, arguments }) => {
                let args = RawValue::from_string(arguments)
                    .map_err(|error| http::bad_request(format!("a recorded call of {name} is not JSON: {error}")))?;
                // Only the first call of an answer has one.
                let mark = (wants_signatures && !has_call).then(|| OF_ANOTHER_MODEL.to_owned());
                has_call = true;
                let call = WireCallOut { id: own_id(id), name: names::to_wire(&name), args };
                wire.push(WireOut::FunctionCall { function_call: call, thought_signature: signature.take().or(mark) });
            }
        }
    }
    Ok(wire)
}

fn own_id(id: String) -> Option<String> {
    Some(id).filter(|id| !id.starts_with(FOREIGN_ID))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<WireSystem>,
    contents: Vec<WireContent>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTools>,
    generation_config: WireGeneration,
}

#[derive(Serialize)]
struct WireSystem {
    parts: [WireOut; 1],
}

#[derive(Serialize)]
struct WireContent {
    role: &'static str,
    parts: Vec<WireOut>,
}

#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum WireOut {
    Text {
        text: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        thought_signature: Option<String>,
    },
    FunctionCall {
        function_call: WireCallOut,
        #[serde(skip_serializing_if = "Option::is_none")]
        thought_signature: Option<String>,
    },
    FunctionResponse {
        function_response: WireResult,
    },
}

#[derive(Serialize)]
struct WireCallOut {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    name: String,
    args: Box<RawValue>,
}

#[derive(Serialize)]
struct WireResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    name: String,
    response: WireOutcome,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum WireOutcome {
    Output(String),
    Error(String),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireTools {
    function_declarations: Vec<WireFunction>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireFunction {
    name: String,
    description: String,
    parameters_json_schema: Box<RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireGeneration {
    max_output_tokens: u32,
}

/// How a signature is kept.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sealed {
    thought_signature: String,
}

#[derive(Deserialize)]
struct WireChunk {
    candidates: Option<Vec<WireCandidate>>,
    #[serde(rename = "usageMetadata")]
    usage: Option<WireUsage>,
    #[serde(rename = "promptFeedback")]
    feedback: Option<WireFeedback>,
    error: Option<WireError>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireFeedback {
    block_reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireCandidate {
    #[serde(default)]
    index: u32,
    content: Option<WireParts>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct WireParts {
    parts: Option<Vec<WirePart>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePart {
    text: Option<String>,
    #[serde(default)]
    thought: bool,
    thought_signature: Option<String>,
    function_call: Option<WireCall>,
}

#[derive(Deserialize)]
struct WireCall {
    id: Option<String>,
    name: String,
    args: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireUsage {
    prompt_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
}

impl From<WireUsage> for Usage {
    /// The wire counts cached tokens among the prompt's, and thoughts apart from the answer's.
    fn from(wire: WireUsage) -> Usage {
        let cached = wire.cached_content_token_count;
        let output = [wire.candidates_token_count, wire.thoughts_token_count];
        Usage {
            input_tokens: wire.prompt_token_count.map(|tokens| tokens.saturating_sub(cached.unwrap_or(0))),
            output_tokens: output.into_iter().flatten().reduce(u64::saturating_add),
            cache_read_tokens: cached,
            cache_write_tokens: None,
        }
    }
}

#[derive(Deserialize)]
struct WireError {
    code: Option<u16>,
    status: Option<String>,
    message: Option<String>,
}
