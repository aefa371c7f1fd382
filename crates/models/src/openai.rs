//! OpenAI Chat Completions, streaming, as OpenAI and the many compatible servers speak it.

use homarus_contract::{
    message::{StopReason, Usage},
    model::{ModelError, ModelRequest},
};

pub(crate) use self::wire::WireTool;
use self::wire::{
    StreamOptions, WireCall, WireCallDelta, WireChunk, WireFunction, WireFunctionCall, WireMessage, WireRequest,
};
use crate::{
    answer::Answer,
    attempt::{Ending, Sink},
    base_url::ProviderKind,
    http,
    lines::{self, Lines},
    names::{self, Offered},
    reasoning::Reasoning,
    registry::Provider,
    turns::{self, Turn},
};

mod wire;

const KIND: ProviderKind = ProviderKind::OpenAi;

pub(crate) async fn attempt(provider: Provider, request: ModelRequest, sink: Sink) -> Result<Ending, ModelError> {
    let body = serde_json::to_vec(&render(&request, &provider.options.base_url)?)
        .map_err(|error| http::bad_request(error.to_string()))?;
    let call = provider.post("/v1/chat/completions", body);
    let response = http::send(&*provider.outbound, KIND, &request.model.model, call).await?;
    let mut lines = Lines::new(response.body);
    let answer = Answer::new(sink, Offered::new(&request.tools), request.messages.len());
    let mut reading = Reading {
        answer,
        usage: Usage::default(),
        stop: None,
        refused: false,
        last_key: 0,
        reasoning: Reasoning::default(),
        has_begun: false,
    };
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
    reading.end_reasoning().await?;
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
    /// What has come of it since it was last handed on.
    reasoning: Reasoning,
    /// There was text, or a call.
    has_begun: bool,
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
            self.answer.counted(&self.usage).await;
        }
        // One choice was asked for; others would be answers to nobody.
        let Some(choice) = chunk.choices.into_iter().flatten().find(|choice| choice.index == 0) else { return Ok(()) };
        if let Some(delta) = choice.delta {
            self.reasoning.take_in(delta.reasoning_content, delta.reasoning_details);
            if let Some(text) = delta.content.filter(|text| !text.is_empty()) {
                self.text(&text).await?;
            }
            if let Some(text) = delta.refusal.filter(|text| !text.is_empty()) {
                self.refused = true;
                self.text(&text).await?;
            }
            for call in delta.tool_calls.into_iter().flatten() {
                self.call(call).await?;
            }
        }
        // Some servers say with every chunk that there is no reason yet.
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
            // How compatible servers say that they broke, with a status of 200.
            if matches!(reason.as_str(), "error" | "abort" | "insufficient_system_resource") {
                let message = format!("it ended with {reason}");
                return Err(http::from_stream_error(KIND, "", &message, data));
            }
            self.stop = Some(stop_reason(&reason, data)?);
        }
        Ok(())
    }

    /// Once the text has begun it is not cut in two by what is reasoned beside it.
    async fn text(&mut self, text: &str) -> Result<(), ModelError> {
        if !self.has_begun {
            self.end_reasoning().await?;
        }
        self.has_begun = true;
        self.answer.text(text).await;
        Ok(())
    }

    async fn end_reasoning(&mut self) -> Result<(), ModelError> {
        match self.reasoning.take() {
            Some(json) => self.answer.thought(json).await,
            None => Ok(()),
        }
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
            self.end_reasoning().await?;
            self.has_begun = true;
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

/// OpenAI's words, and those that compatible servers pass on of the models behind them.
fn stop_reason(text: &str, data: &str) -> Result<StopReason, ModelError> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "stop" | "end_turn" | "stop_sequence" | "eos" | "eos_token" | "complete" => StopReason::EndTurn,
        "tool_calls" | "tool_call" | "tool_use" | "function_call" => StopReason::ToolUse,
        "length" | "max_tokens" | "max_length" | "model_length" => StopReason::MaxTokens,
        "content_filter" | "refusal" | "safety" => StopReason::Refusal,
        _ => return Err(http::protocol(&format!("the server ended its answer with {text:?}"), data)),
    })
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
                let reasoning = Reasoning::of(&parts);
                let (text, calls) = turns::texts_and_calls(parts);
                let tool_calls = calls.into_iter().map(|call| WireCall {
                    id: call.id,
                    kind: "function",
                    function: WireFunctionCall { name: names::to_wire(&call.name), arguments: call.arguments },
                });
                let content = (!text.is_empty()).then(|| text.join("\n\n"));
                messages.push(WireMessage::Assistant { content, tool_calls: tool_calls.collect(), reasoning });
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
}
