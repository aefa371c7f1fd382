//! The two wire formats that the measured programs speak: OpenAI's chat completions and responses.

use serde_json::{Value, json};

/// Tools that run a shell command, under the names that programs give them.
const SHELL_TOOLS: [&str; 6] = ["shell-execute", "bash", "developer__shell", "exec_command", "shell_command", "shell"];

/// A call of the tool that runs a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    id: String,
    name: String,
    arguments: String,
}

/// How many results of calls a request carries.
pub fn results(body: &Value) -> usize {
    let chat = list(&body["messages"]).filter(|message| message["role"] == "tool");
    let responses = list(&body["input"]).filter(|item| item["type"] == "function_call_output");
    chat.count() + responses.count()
}

/// A call of the shell tool among those offered, with all that its schema requires.
pub fn shell_call(body: &Value, index: usize, command: &str) -> Result<Call, String> {
    let tools: Vec<&Value> =
        list(&body["tools"]).map(|tool| if tool["function"].is_object() { &tool["function"] } else { tool }).collect();
    let find = |name: &&str| tools.iter().find(|tool| tool["name"] == **name);
    let Some(tool) = SHELL_TOOLS.iter().find_map(find) else {
        let names: Vec<&str> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
        return Err(format!("no tool that runs a command is offered, only: {}", names.join(", ")));
    };
    let schema = &tool["parameters"];
    let mut arguments = json!({});
    for name in list(&schema["required"]).filter_map(Value::as_str) {
        arguments[name] = match schema["properties"][name]["type"].as_str() {
            Some("integer" | "number") => json!(10_000),
            Some("boolean") => json!(false),
            _ => json!("bench"),
        };
    }
    let key = if schema["properties"]["cmd"].is_object() { "cmd" } else { "command" };
    let is_list = schema["properties"][key]["type"] == "array";
    arguments[key] = if is_list { json!(["bash", "-c", command]) } else { json!(command) };
    let name = tool["name"].as_str().unwrap_or_default().to_owned();
    Ok(Call { id: format!("call_{index}"), name, arguments: arguments.to_string() })
}

/// Type and body of an answer: the call, or a last word.
pub fn answer(path: &str, request: &Value, call: Option<Call>) -> (&'static str, String) {
    let is_streamed = request["stream"] == true;
    let is_responses = path.split('?').next().is_some_and(|path| path.ends_with("/responses"));
    let body = match (is_responses, is_streamed) {
        (true, true) => stream(&responses(call), true),
        (true, false) => responses(call).last().map(|event| event["response"].to_string()).unwrap_or_default(),
        (false, true) => stream(&chat_chunks(call), false) + "data: [DONE]\n\n",
        (false, false) => chat_whole(call).to_string(),
    };
    (if is_streamed { "text/event-stream" } else { "application/json" }, body)
}

pub fn listing() -> String {
    json!({"object": "list", "data": [{"id": "scripted", "object": "model", "owned_by": "bench"}]}).to_string()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn stream(events: &[Value], named: bool) -> String {
    let line = |event: &Value| match event["type"].as_str().filter(|_| named) {
        Some(name) => format!("event: {name}\ndata: {event}\n\n"),
        None => format!("data: {event}\n\n"),
    };
    events.iter().map(line).collect()
}

fn chat_call(call: &Call) -> Value {
    let function = json!({"name": call.name, "arguments": call.arguments});
    json!([{"index": 0, "id": call.id, "type": "function", "function": function}])
}

fn chat_chunks(call: Option<Call>) -> Vec<Value> {
    let head = |choices: Value| json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted", "choices": choices});
    let (delta, stop) = match call {
        Some(call) => (json!({"role": "assistant", "content": null, "tool_calls": chat_call(&call)}), "tool_calls"),
        None => (json!({"role": "assistant", "content": "Done."}), "stop"),
    };
    let mut last = head(json!([]));
    last["usage"] = json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110});
    vec![
        head(json!([{"index": 0, "delta": delta, "finish_reason": null}])),
        head(json!([{"index": 0, "delta": {}, "finish_reason": stop}])),
        last,
    ]
}

fn chat_whole(call: Option<Call>) -> Value {
    let (message, stop) = match call {
        Some(call) => (json!({"role": "assistant", "content": null, "tool_calls": chat_call(&call)}), "tool_calls"),
        None => (json!({"role": "assistant", "content": "Done."}), "stop"),
    };
    json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "scripted",
        "choices": [{"index": 0, "message": message, "finish_reason": stop}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    })
}

fn responses(call: Option<Call>) -> Vec<Value> {
    let item = match call {
        Some(call) => json!({
            "type": "function_call", "id": format!("fc_{}", call.id), "call_id": call.id, "name": call.name,
            "arguments": call.arguments, "status": "completed",
        }),
        None => json!({
            "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "Done.", "annotations": []}],
        }),
    };
    let usage = json!({
        "input_tokens": 100, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 110,
    });
    let response = |status: &str, output: Value| json!({"id": "resp_1", "object": "response", "created_at": 1, "status": status, "model": "scripted", "output": output});
    let mut completed = response("completed", json!([item]));
    completed["usage"] = usage;
    vec![
        json!({"type": "response.created", "sequence_number": 0, "response": response("in_progress", json!([]))}),
        json!({"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": item}),
        json!({"type": "response.output_item.done", "sequence_number": 2, "output_index": 0, "item": item}),
        json!({"type": "response.completed", "sequence_number": 3, "response": completed}),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(name: &str, schema: Value) -> Value {
        json!({"tools": [{"type": "function", "name": "other"}, {"type": "function", "function": {"name": name, "parameters": schema}}]})
    }

    #[test]
    fn a_command_fits_the_schema_it_is_offered_with() {
        let text = offered(
            "bash",
            json!({"properties": {"command": {"type": "string"}, "description": {"type": "string"}}, "required": ["command", "description"]}),
        );
        let call = shell_call(&text, 3, "echo 1").unwrap();
        assert_eq!(call.arguments, r#"{"command":"echo 1","description":"bench"}"#);
        let words = offered("shell", json!({"properties": {"command": {"type": "array"}}}));
        assert_eq!(shell_call(&words, 0, "echo 1").unwrap().arguments, r#"{"command":["bash","-c","echo 1"]}"#);
        let short = offered("exec_command", json!({"properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}));
        assert_eq!(shell_call(&short, 0, "echo 1").unwrap().arguments, r#"{"cmd":"echo 1"}"#);
    }

    #[test]
    fn who_offers_no_shell_is_told_so() {
        let error = shell_call(&offered("paint", json!({})), 0, "echo").unwrap_err();
        assert!(error.contains("other, paint"), "{error}");
    }

    #[test]
    fn results_are_counted_in_both_formats() {
        assert_eq!(results(&json!({"messages": [{"role": "user"}, {"role": "tool"}, {"role": "tool"}]})), 2);
        assert_eq!(results(&json!({"input": [{"type": "message"}, {"type": "function_call_output"}]})), 1);
    }

    #[test]
    fn a_last_word_stops() {
        let (kind, body) = answer("/v1/chat/completions", &json!({"stream": true}), None);
        assert_eq!(kind, "text/event-stream");
        assert!(body.contains("\"stop\"") && body.ends_with("[DONE]\n\n"), "{body}");
        let (_, body) = answer("/v1/responses", &json!({"stream": true}), None);
        assert!(body.contains("event: response.completed"), "{body}");
    }
}
