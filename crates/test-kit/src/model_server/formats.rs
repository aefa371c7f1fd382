//! A turn in each of the wire formats, streamed or whole.

use serde_json::{Value, json};

mod gemini;
mod responses;

use super::Recorded;
use crate::script::{ScriptedBlock, ScriptedCall, Turn};

/// Characters in a piece of text or arguments unless the turn says otherwise.
const PIECE_CHARS: usize = 7;

pub(super) struct Answer {
    pub(super) content_type: &'static str,
    /// Sent one after the other.
    pub(super) pieces: Vec<Vec<u8>>,
}

/// Whether a format is spoken at this path.
pub(super) fn is_model_path(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let ends = ["/v1/chat/completions", "/v1/messages", "/api/chat", "/v1/responses", gemini::WHOLE, gemini::STREAM];
    ends.iter().any(|end| path.ends_with(end))
}

/// The answer to a model call; `None` if no format has this path.
pub(super) fn answer(turn: &Turn, request: &Recorded) -> Option<Answer> {
    let path = request.path.split('?').next().unwrap_or_default();
    let streamed = request.body["stream"].as_bool().unwrap_or(path.ends_with("/api/chat"));
    let (content_type, pieces) = match (path, streamed) {
        (path, true) if path.ends_with("/v1/chat/completions") => ("text/event-stream", openai_stream(turn, request)),
        (path, false) if path.ends_with("/v1/chat/completions") => {
            ("application/json", vec![openai_whole(turn, request)])
        }
        (path, true) if path.ends_with("/v1/messages") => ("text/event-stream", anthropic_stream(turn, request)),
        (path, false) if path.ends_with("/v1/messages") => ("application/json", vec![anthropic_whole(turn, request)]),
        (path, true) if path.ends_with("/v1/responses") => ("text/event-stream", responses::stream(turn, request)),
        (path, false) if path.ends_with("/v1/responses") => ("application/json", vec![responses::whole(turn, request)]),
        (path, _) if path.ends_with(gemini::STREAM) => ("text/event-stream", gemini::stream(turn, request)),
        (path, _) if path.ends_with(gemini::WHOLE) => ("application/json", vec![gemini::whole(turn, request)]),
        (path, true) if path.ends_with("/api/chat") => ("application/x-ndjson", ollama_stream(turn, request)),
        (path, false) if path.ends_with("/api/chat") => ("application/json", vec![ollama_whole(turn, request)]),
        _ => return None,
    };
    let pieces = turn.raw.clone().map_or(pieces, |raw| vec![raw]);
    let pieces = pieces.into_iter().map(String::into_bytes).collect();
    Some(Answer { content_type, pieces: turn.raw_bytes.clone().map_or(pieces, |bytes| vec![bytes]) })
}

/// The answer to a request for the models there are.
pub(super) fn listing(request: &Recorded, models: &[String]) -> Option<String> {
    let path = request.path.split('?').next().unwrap_or_default();
    // Gemini's own client asks under `/v1` too; its key tells it apart.
    let is_gemini = request.header("x-goog-api-key").is_some() || path.ends_with("/v1beta/models");
    let listing = if path.ends_with("/v1/models") && !is_gemini {
        let data: Vec<Value> = models.iter().map(|id| json!({"id": id, "object": "model", "type": "model"})).collect();
        json!({"object": "list", "data": data, "has_more": false})
    } else if path.ends_with("/models") && is_gemini {
        let answers = json!(["generateContent", "countTokens"]);
        let one = |id: &String| json!({"name": format!("models/{id}"), "supportedGenerationMethods": answers});
        let mut models: Vec<Value> = models.iter().map(one).collect();
        models.push(json!({"name": "models/embeds-only", "supportedGenerationMethods": ["embedContent"]}));
        json!({"models": models})
    } else if path.ends_with("/api/tags") {
        let models: Vec<Value> = models.iter().map(|name| json!({"name": name, "model": name})).collect();
        json!({"models": models})
    } else if path.ends_with("/api/version") {
        json!({"version": "0.0.0"})
    } else {
        return None;
    };
    Some(listing.to_string())
}

fn openai_stream(turn: &Turn, request: &Recorded) -> Vec<String> {
    let chunk = |delta: Value, finish: Option<&str>| {
        let choices = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        event(&json!({"id": "c1", "object": "chat.completion.chunk", "model": model(request), "choices": choices}))
    };
    let mut pieces = vec![chunk(json!({"role": "assistant", "content": ""}), None)];
    let mut index = 0;
    for block in turn.blocks() {
        match block {
            ScriptedBlock::Text(text) => {
                pieces.extend(cut(&text, turn).map(|piece| chunk(json!({"content": piece}), None)));
            }
            ScriptedBlock::Call(call) => {
                let function = json!({"name": wire_name(&call.name, request), "arguments": ""});
                let start =
                    json!({"index": index, "id": id(&call, request, index), "type": "function", "function": function});
                pieces.push(chunk(json!({"tool_calls": [start]}), None));
                for piece in cut(&call.arguments_text(), turn) {
                    let delta = json!({"index": index, "function": {"arguments": piece}});
                    pieces.push(chunk(json!({"tool_calls": [delta]}), None));
                }
                index += 1;
            }
        }
    }
    pieces.push(chunk(json!({}), Some(openai_stop(turn))));
    let wants_usage = request.body["stream_options"]["include_usage"].as_bool().unwrap_or(false);
    if wants_usage && let Some(usage) = openai_usage(turn) {
        pieces.push(event(&json!({"id": "c1", "object": "chat.completion.chunk", "choices": [], "usage": usage})));
    }
    pieces.push("data: [DONE]\n\n".to_owned());
    pieces
}

fn openai_whole(turn: &Turn, request: &Recorded) -> String {
    let calls: Vec<Value> = calls(turn)
        .enumerate()
        .map(|(index, call)| {
            let function = json!({"name": wire_name(&call.name, request), "arguments": call.arguments_text()});
            json!({"id": id(&call, request, index), "type": "function", "function": function})
        })
        .collect();
    let mut message = json!({"role": "assistant", "content": text(turn)});
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    let choice = json!({"index": 0, "message": message, "finish_reason": openai_stop(turn)});
    json!({"id": "c1", "object": "chat.completion", "model": model(request), "choices": [choice], "usage": openai_usage(turn)})
        .to_string()
}

fn openai_stop(turn: &Turn) -> &str {
    match turn.stop_on_wire() {
        "end_turn" => "stop",
        "tool_use" => "tool_calls",
        "max_tokens" => "length",
        "refusal" => "content_filter",
        other => other,
    }
}

fn openai_usage(turn: &Turn) -> Option<Value> {
    let usage = turn.usage_on_wire()?;
    let prompt = usage.input + usage.cache_read + usage.cache_write;
    Some(json!({
        "prompt_tokens": prompt,
        "completion_tokens": usage.output,
        "total_tokens": prompt + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write},
    }))
}

fn anthropic_stream(turn: &Turn, request: &Recorded) -> Vec<String> {
    let named = |data: Value| format!("event: {}\n{}", data["type"].as_str().unwrap_or_default(), event(&data));
    let mut message =
        json!({"id": "m1", "type": "message", "role": "assistant", "model": model(request), "content": []});
    if let Some(usage) = turn.usage_on_wire() {
        message["usage"] = json!({
            "input_tokens": usage.input,
            "cache_read_input_tokens": usage.cache_read,
            "cache_creation_input_tokens": usage.cache_write,
            "output_tokens": 1,
        });
    }
    let mut pieces = vec![named(json!({"type": "message_start", "message": message})), named(json!({"type": "ping"}))];
    let mut calls = 0;
    let first = usize::from(turn.thought.is_some());
    if let Some(signature) = &turn.thought {
        let delta = |delta: Value| named(json!({"type": "content_block_delta", "index": 0, "delta": delta}));
        let block = json!({"type": "thinking", "thinking": "", "signature": ""});
        pieces.push(named(json!({"type": "content_block_start", "index": 0, "content_block": block})));
        pieces.push(delta(json!({"type": "thinking_delta", "thinking": "I weigh "})));
        pieces.push(delta(json!({"type": "thinking_delta", "thinking": "it."})));
        pieces.push(delta(json!({"type": "signature_delta", "signature": signature})));
        pieces.push(named(json!({"type": "content_block_stop", "index": 0})));
    }
    for (index, block) in turn.blocks().into_iter().enumerate() {
        let index = index + first;
        let (start, deltas): (Value, Vec<Value>) = match block {
            ScriptedBlock::Text(text) => (
                json!({"type": "text", "text": ""}),
                cut(&text, turn).map(|piece| json!({"type": "text_delta", "text": piece})).collect(),
            ),
            ScriptedBlock::Call(call) => {
                calls += 1;
                let name = wire_name(&call.name, request);
                (
                    json!({"type": "tool_use", "id": id(&call, request, calls - 1), "name": name, "input": {}}),
                    cut(&call.arguments_text(), turn)
                        .map(|piece| json!({"type": "input_json_delta", "partial_json": piece}))
                        .collect(),
                )
            }
        };
        pieces.push(named(json!({"type": "content_block_start", "index": index, "content_block": start})));
        pieces.extend(
            deltas
                .into_iter()
                .map(|delta| named(json!({"type": "content_block_delta", "index": index, "delta": delta}))),
        );
        pieces.push(named(json!({"type": "content_block_stop", "index": index})));
    }
    let mut last =
        json!({"type": "message_delta", "delta": {"stop_reason": turn.stop_on_wire(), "stop_sequence": null}});
    if let Some(usage) = turn.usage_on_wire() {
        last["usage"] = json!({"output_tokens": usage.output});
    }
    pieces.push(named(last));
    pieces.push(named(json!({"type": "message_stop"})));
    pieces
}

fn anthropic_whole(turn: &Turn, request: &Recorded) -> String {
    let mut calls = 0;
    let thought = turn
        .thought
        .iter()
        .map(|signature| json!({"type": "thinking", "thinking": "I weigh it.", "signature": signature}));
    let blocks = turn
        .blocks()
        .into_iter()
        .map(|block| match block {
            ScriptedBlock::Text(text) => json!({"type": "text", "text": text}),
            ScriptedBlock::Call(call) => {
                calls += 1;
                let input: Value = serde_json::from_str(&call.arguments_text()).unwrap_or(json!({}));
                json!({"type": "tool_use", "id": id(&call, request, calls - 1), "name": wire_name(&call.name, request), "input": input})
            }
        });
    let content: Vec<Value> = thought.chain(blocks).collect();
    let usage = turn.usage_on_wire().map(|usage| {
        json!({
            "input_tokens": usage.input,
            "cache_read_input_tokens": usage.cache_read,
            "cache_creation_input_tokens": usage.cache_write,
            "output_tokens": usage.output,
        })
    });
    json!({
        "id": "m1", "type": "message", "role": "assistant", "model": model(request), "content": content,
        "stop_reason": turn.stop_on_wire(), "stop_sequence": null, "usage": usage,
    })
    .to_string()
}

fn ollama_stream(turn: &Turn, request: &Recorded) -> Vec<String> {
    let line = |message: Value| format!("{}\n", json!({"model": model(request), "message": message, "done": false}));
    let mut pieces = Vec::new();
    for block in turn.blocks() {
        match block {
            ScriptedBlock::Text(text) => {
                pieces.extend(cut(&text, turn).map(|piece| line(json!({"role": "assistant", "content": piece}))));
            }
            ScriptedBlock::Call(call) => {
                pieces.push(line(
                    json!({"role": "assistant", "content": "", "tool_calls": [ollama_call(&call, request)]}),
                ));
            }
        }
    }
    pieces.push(format!("{}\n", ollama_end(turn, request, json!({"role": "assistant", "content": ""}))));
    pieces
}

fn ollama_whole(turn: &Turn, request: &Recorded) -> String {
    let calls: Vec<Value> = calls(turn).map(|call| ollama_call(&call, request)).collect();
    let mut message = json!({"role": "assistant", "content": text(turn)});
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    ollama_end(turn, request, message).to_string()
}

fn ollama_call(call: &ScriptedCall, request: &Recorded) -> Value {
    let text = call.arguments_text();
    // What is no JSON is sent as a string: the format has no other place for it.
    let arguments: Value =
        serde_json::from_str(&text).unwrap_or(if text.is_empty() { json!({}) } else { Value::String(text) });
    let mut wire = json!({"function": {"name": wire_name(&call.name, request), "arguments": arguments}});
    if let Some(id) = &call.id {
        wire["id"] = json!(id);
    }
    wire
}

fn ollama_end(turn: &Turn, request: &Recorded, message: Value) -> Value {
    let reason = if turn.stop_on_wire() == "max_tokens" { "length" } else { "stop" };
    let mut end = json!({"model": model(request), "message": message, "done": true, "done_reason": reason});
    if let Some(usage) = turn.usage_on_wire() {
        end["prompt_eval_count"] = json!(usage.input);
        end["eval_count"] = json!(usage.output);
    }
    end
}

fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

fn model(request: &Recorded) -> &Value {
    &request.body["model"]
}

fn calls(turn: &Turn) -> impl Iterator<Item = ScriptedCall> {
    turn.blocks().into_iter().filter_map(|block| match block {
        ScriptedBlock::Call(call) => Some(call),
        ScriptedBlock::Text(_) => None,
    })
}

fn text(turn: &Turn) -> Option<String> {
    let texts: Vec<String> = turn
        .blocks()
        .into_iter()
        .filter_map(|block| match block {
            ScriptedBlock::Text(text) => Some(text),
            ScriptedBlock::Call(_) => None,
        })
        .collect();
    (!texts.is_empty()).then(|| texts.concat())
}

/// An id no other call of the conversation has.
fn id(call: &ScriptedCall, request: &Recorded, index: usize) -> String {
    let messages = request.body["messages"].as_array().or(request.body["input"].as_array()).map_or(0, Vec::len);
    call.id.clone().unwrap_or_else(|| format!("toolu_{messages}_{index}"))
}

/// The offered tool that has the same letters and digits: clients change only what stands between.
fn wire_name(name: &str, request: &Recorded) -> String {
    let letters = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    let tools = request.body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let declared = tools.iter().filter_map(|tool| tool["functionDeclarations"].as_array()).flatten();
    tools
        .iter()
        .chain(declared)
        .filter_map(|tool| tool["name"].as_str().or_else(|| tool["function"]["name"].as_str()))
        .find(|wire| letters(wire) == letters(name))
        .unwrap_or(name)
        .to_owned()
}

fn cut<'a>(text: &'a str, turn: &Turn) -> impl Iterator<Item = String> + use<'a> {
    let size = turn.piece_chars.unwrap_or(PIECE_CHARS).max(1);
    let chars: Vec<char> = text.chars().collect();
    let count = chars.len().div_ceil(size);
    (0..count).map(move |index| chars[index * size..((index + 1) * size).min(chars.len())].iter().collect())
}
