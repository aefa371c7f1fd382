//! Ollama's own chat format: one JSON object a line.

use homarus_contract::{
    message::{StopReason, Usage},
    model::{ModelError, ModelRequest},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    answer::Answer,
    attempt::{Ending, Sink},
    base_url::ProviderKind,
    http,
    lines::Lines,
    names::{self, Offered},
    openai::{self, WireTool},
    registry::Provider,
    turns::{self, Turn},
};

const KIND: ProviderKind = ProviderKind::Ollama;

/// `context_tokens` is asked for explicitly: Ollama's own default is small. And a prompt that is longer is to be refused: unless
/// it is told otherwise, Ollama silently leaves out what stands at its beginning, the task first of all.
pub(crate) async fn attempt(
    provider: Provider,
    request: ModelRequest,
    context_tokens: u32,
    sink: Sink,
) -> Result<Ending, ModelError> {
    let body =
        serde_json::to_vec(&render(&request, context_tokens)?).map_err(|error| http::bad_request(error.to_string()))?;
    let response =
        http::send(&*provider.outbound, KIND, &request.model.model, provider.post("/api/chat", body)).await?;
    let mut lines = Lines::new(response.body);
    let mut answer = Answer::new(sink, Offered::new(&request.tools), request.messages.len());
    let mut calls = 0;
    while let Some(line) = lines.next().await? {
        if line.trim().is_empty() {
            continue;
        }
        let chunk: WireChunk = serde_json::from_str(&line)
            .map_err(|error| http::protocol(&format!("ollama sent a line that cannot be read: {error}"), &line))?;
        if let Some(error) = chunk.error {
            return Err(http::from_stream_error(KIND, "", &error, &line));
        }
        if let Some(message) = chunk.message {
            answer.text(&message.content.unwrap_or_default()).await;
            for call in message.tool_calls.into_iter().flatten() {
                answer.start_call(calls, &call.id.unwrap_or_default(), &call.function.name).await?;
                let arguments = call.function.arguments.map(|raw| raw.get().to_owned()).unwrap_or_default();
                answer.call_delta(calls, &arguments).await?;
                answer.close_call(calls).await?;
                calls += 1;
            }
        }
        if chunk.done {
            lines.finish().await;
            let stop = match chunk.done_reason.as_deref() {
                Some("length") => StopReason::MaxTokens,
                _ => StopReason::EndTurn,
            };
            let usage = Usage {
                input_tokens: chunk.prompt_eval_count,
                output_tokens: chunk.eval_count,
                cache_read_tokens: None,
                cache_write_tokens: None,
            };
            answer.counted(&usage).await;
            return Ok((answer.finish(stop).await?, usage));
        }
    }
    Err(http::protocol("ollama ended its answer without saying that it was complete", lines.head()))
}

fn render(request: &ModelRequest, context_tokens: u32) -> Result<WireRequest<'_>, ModelError> {
    let mut messages = Vec::new();
    if !request.system.trim().is_empty() {
        messages.push(WireMessage::System { content: request.system.to_string() });
    }
    for turn in turns::turns(&request.messages, &request.model) {
        match turn {
            Turn::User { text } => messages.push(WireMessage::User { content: text }),
            Turn::Assistant(parts) => {
                let (text, calls) = turns::texts_and_calls(parts);
                let mut tool_calls = Vec::new();
                for call in calls {
                    let arguments = RawValue::from_string(call.arguments).map_err(|error| {
                        http::bad_request(format!("a recorded call of {} is not JSON: {error}", call.name))
                    })?;
                    tool_calls.push(WireCall {
                        function: WireFunctionCall { name: names::to_wire(&call.name), arguments: Some(arguments) },
                        id: None,
                    });
                }
                messages.push(WireMessage::Assistant { content: text.join("\n\n"), tool_calls });
            }
            Turn::Results(results) => {
                for result in results {
                    let content = openai::result_text(result.text, result.is_error);
                    messages.push(WireMessage::Tool { tool_name: names::to_wire(&result.name), content });
                }
            }
        }
    }
    Ok(WireRequest {
        model: &request.model.model,
        messages,
        tools: openai::tools(request)?,
        stream: true,
        truncate: false,
        shift: false,
        options: WireOptions { num_predict: request.output_tokens_max, num_ctx: context_tokens },
    })
}

#[derive(Serialize)]
struct WireRequest<'a> {
    model: &'a str,
    messages: Vec<WireMessage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    stream: bool,
    /// Whether messages may be left out to make the prompt fit.
    truncate: bool,
    /// Whether the beginning may be forgotten to go on beyond the context.
    shift: bool,
    options: WireOptions,
}

#[derive(Serialize)]
struct WireOptions {
    num_predict: u32,
    num_ctx: u32,
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
        content: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<WireCall>,
    },
    Tool {
        tool_name: String,
        content: String,
    },
}

#[derive(Serialize, Deserialize)]
struct WireCall {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    function: WireFunctionCall,
}

#[derive(Serialize, Deserialize)]
struct WireFunctionCall {
    name: String,
    arguments: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct WireChunk {
    message: Option<WireAnswer>,
    #[serde(default)]
    done: bool,
    done_reason: Option<String>,
    prompt_eval_count: Option<u64>,
    eval_count: Option<u64>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct WireAnswer {
    content: Option<String>,
    tool_calls: Option<Vec<WireCall>>,
}
