//! OpenAI Responses.

use serde_json::{Value, json};

use super::{cut, event, id, model, wire_name};
use crate::{
    model_server::Recorded,
    script::{ScriptedBlock, Turn},
};

pub(super) fn stream(turn: &Turn, request: &Recorded) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut number = 0;
    let mut say = |mut data: Value| {
        data["sequence_number"] = json!(number);
        number += 1;
        let name = data["type"].as_str().unwrap_or_default().to_owned();
        pieces.push(format!("event: {name}\n{}", event(&data)));
    };
    let begun = response(request, "in_progress", Vec::new());
    say(json!({"type": "response.created", "response": begun}));
    say(json!({"type": "response.in_progress", "response": begun}));
    let items = items(turn, request);
    for (index, item) in items.iter().enumerate() {
        let mut empty = item.clone();
        let at = |kind: &str| json!({"type": kind, "output_index": index, "item_id": item["id"]});
        let with = |kind: &str, name: &str, value: Value| {
            let mut data = at(kind);
            data[name] = value;
            data
        };
        match item["type"].as_str() {
            Some("message") => {
                empty["content"] = json!([]);
                say(with("response.output_item.added", "item", empty));
                let part = &item["content"][0];
                let text = part["text"].as_str().unwrap_or_default();
                let in_part = |mut data: Value| {
                    data["content_index"] = json!(0);
                    data
                };
                let blank = json!({"type": "output_text", "text": "", "annotations": []});
                say(in_part(with("response.content_part.added", "part", blank)));
                for piece in cut(text, turn) {
                    let mut delta = in_part(with("response.output_text.delta", "delta", json!(piece)));
                    delta["logprobs"] = json!([]);
                    say(delta);
                }
                let mut done = in_part(with("response.output_text.done", "text", json!(text)));
                done["logprobs"] = json!([]);
                say(done);
                say(in_part(with("response.content_part.done", "part", part.clone())));
            }
            Some("function_call") => {
                empty["arguments"] = json!("");
                say(with("response.output_item.added", "item", empty));
                let arguments = item["arguments"].as_str().unwrap_or_default();
                for piece in cut(arguments, turn) {
                    say(with("response.function_call_arguments.delta", "delta", json!(piece)));
                }
                let mut done = with("response.function_call_arguments.done", "arguments", json!(arguments));
                done["name"] = item["name"].clone();
                say(done);
            }
            _ => {
                empty["encrypted_content"] = json!("");
                say(with("response.output_item.added", "item", empty));
            }
        }
        say(with("response.output_item.done", "item", item.clone()));
    }
    let (kind, whole) = ended(turn, request, items);
    say(json!({"type": kind, "response": whole}));
    pieces
}

pub(super) fn whole(turn: &Turn, request: &Recorded) -> String {
    ended(turn, request, items(turn, request)).1.to_string()
}

fn ended(turn: &Turn, request: &Recorded, items: Vec<Value>) -> (&'static str, Value) {
    let (kind, status, reason) = match turn.stop_on_wire() {
        "max_tokens" => ("response.incomplete", "incomplete", Some("max_output_tokens")),
        "refusal" => ("response.incomplete", "incomplete", Some("content_filter")),
        _ => ("response.completed", "completed", None),
    };
    let mut whole = response(request, status, items);
    if let Some(reason) = reason {
        whole["incomplete_details"] = json!({"reason": reason});
    }
    if let Some(usage) = turn.usage_on_wire() {
        let input = usage.input + usage.cache_read + usage.cache_write;
        whole["usage"] = json!({
            "input_tokens": input,
            "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input + usage.output,
        });
    }
    (kind, whole)
}

fn items(turn: &Turn, request: &Recorded) -> Vec<Value> {
    let thought = turn
        .thought
        .iter()
        .map(|sealed| json!({"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": sealed}));
    let mut calls = 0;
    let blocks = turn.blocks().into_iter().enumerate().map(|(index, block)| match block {
        ScriptedBlock::Text(text) => {
            let part = json!({"type": "output_text", "text": text, "annotations": []});
            let id = format!("msg_{index}");
            json!({"id": id, "type": "message", "status": "completed", "role": "assistant", "content": [part]})
        }
        ScriptedBlock::Call(call) => {
            calls += 1;
            json!({
                "id": format!("fc_{index}"),
                "type": "function_call",
                "status": "completed",
                "call_id": id(&call, request, calls - 1),
                "name": wire_name(&call.name, request),
                "arguments": call.arguments_text(),
            })
        }
    });
    thought.chain(blocks).collect()
}

fn response(request: &Recorded, status: &str, output: Vec<Value>) -> Value {
    json!({
        "id": "resp_1", "object": "response", "created_at": 1, "status": status, "error": null,
        "incomplete_details": null, "instructions": null, "model": model(request), "output": output,
        "parallel_tool_calls": true, "tool_choice": "auto", "tools": [], "metadata": {}, "usage": null,
        "temperature": 1.0, "top_p": 1.0,
    })
}
