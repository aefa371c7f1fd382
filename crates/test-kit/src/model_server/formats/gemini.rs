//! Gemini's `generateContent`, whole or as server-sent events.

use serde_json::{Value, json};

use super::{cut, event, wire_name};
use crate::{
    model_server::Recorded,
    script::{ScriptedBlock, ScriptedCall, Turn},
};

pub(super) const WHOLE: &str = ":generateContent";
pub(super) const STREAM: &str = ":streamGenerateContent";

pub(super) fn stream(turn: &Turn, request: &Recorded) -> Vec<String> {
    let chunk = |parts: Vec<Value>| json!({"candidates": [candidate(parts)], "modelVersion": "scripted"});
    let mut pieces = Vec::new();
    let mut signature = turn.thought.clone();
    for block in turn.blocks() {
        match block {
            ScriptedBlock::Text(text) => {
                pieces.extend(cut(&text, turn).map(|piece| event(&chunk(vec![json!({"text": piece})]))));
            }
            ScriptedBlock::Call(scripted) => {
                pieces.push(event(&chunk(vec![call(&scripted, request, signature.take())])));
            }
        }
    }
    // Without a call it comes with the end, on a part with nothing else in it.
    let last = signature.map(|signature| json!({"text": "", "thoughtSignature": signature}));
    pieces.push(event(&ended(turn, last.into_iter().collect())));
    pieces
}

pub(super) fn whole(turn: &Turn, request: &Recorded) -> String {
    let mut signature = turn.thought.clone();
    let parts = turn.blocks().into_iter().map(|block| match block {
        ScriptedBlock::Text(text) => json!({"text": text}),
        ScriptedBlock::Call(scripted) => call(&scripted, request, signature.take()),
    });
    ended(turn, parts.collect()).to_string()
}

fn candidate(parts: Vec<Value>) -> Value {
    json!({"content": {"role": "model", "parts": parts}, "index": 0})
}

fn ended(turn: &Turn, parts: Vec<Value>) -> Value {
    let mut candidate = candidate(parts);
    candidate["finishReason"] = json!(match turn.stop_on_wire() {
        "end_turn" | "tool_use" => "STOP",
        "max_tokens" => "MAX_TOKENS",
        "refusal" => "SAFETY",
        other => other,
    });
    let mut whole = json!({"candidates": [candidate], "modelVersion": "scripted", "responseId": "r1"});
    if let Some(usage) = turn.usage_on_wire() {
        let prompt = usage.input + usage.cache_read + usage.cache_write;
        whole["usageMetadata"] = json!({
            "promptTokenCount": prompt,
            "candidatesTokenCount": usage.output,
            "cachedContentTokenCount": usage.cache_read,
            "totalTokenCount": prompt + usage.output,
        });
    }
    whole
}

fn call(call: &ScriptedCall, request: &Recorded, signature: Option<String>) -> Value {
    let text = call.arguments_text();
    // What is no JSON is sent as a string: the format has no other place for it.
    let arguments: Value =
        serde_json::from_str(&text).unwrap_or(if text.is_empty() { json!({}) } else { Value::String(text) });
    let mut function = json!({"name": wire_name(&call.name, request), "args": arguments});
    if let Some(id) = &call.id {
        function["id"] = json!(id);
    }
    let mut part = json!({"functionCall": function});
    if let Some(signature) = signature {
        part["thoughtSignature"] = json!(signature);
    }
    part
}
