//! OpenAI's Chat Completions on one side, the worker's requests and replies on the other.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::worker::{Done, Failure, Reply};

/// Tokens of an answer when the client says nothing of them.
const OUTPUT_TOKENS_DEFAULT: u64 = 4_096;

/// The worker's request for a client's; an error says what is wrong with it.
pub fn to_worker(body: &Value) -> Result<Value, String> {
    let mut system: Vec<String> = Vec::new();
    let mut messages: Vec<Value> = Vec::new();
    // The ids of calls as the worker wants them, by those the client sends.
    let mut calls: BTreeMap<String, String> = BTreeMap::new();
    for message in body["messages"].as_array().ok_or("`messages` is not a list")? {
        match message["role"].as_str().unwrap_or_default() {
            "system" | "developer" => system.push(text(&message["content"])?),
            "user" => messages.push(json!({"role": "user", "text": text(&message["content"])?})),
            "assistant" => {
                let mut blocks = Vec::new();
                let said = text(&message["content"])?;
                if !said.is_empty() {
                    blocks.push(json!({"type": "text", "text": said}));
                }
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    let id = call["id"].as_str().unwrap_or_default();
                    let own = format!("c{}.0", calls.len() + 1);
                    calls.insert(id.to_owned(), own.clone());
                    let function = &call["function"];
                    blocks.push(json!({
                        "type": "tool_call", "call": own, "provider_id": id,
                        "name": function["name"].as_str().unwrap_or_default(),
                        "arguments": function["arguments"].as_str().unwrap_or("{}"),
                    }));
                }
                messages.push(json!({"role": "assistant", "blocks": blocks}));
            }
            "tool" => {
                let id = message["tool_call_id"].as_str().unwrap_or_default();
                let call = calls.get(id).ok_or_else(|| format!("no call has the id `{id}`"))?;
                messages.push(
                    json!({"role": "tool_result", "call": call, "text": text(&message["content"])?, "is_error": false}),
                );
            }
            other => return Err(format!("there is no role `{other}`")),
        }
    }
    let asked = body["max_completion_tokens"].as_u64().or_else(|| body["max_tokens"].as_u64());
    Ok(json!({
        "system": system.join("\n\n"), "tools": tools(body)?, "messages": messages,
        "output_tokens_max": asked.unwrap_or(OUTPUT_TOKENS_DEFAULT).min(u64::from(u32::MAX)),
    }))
}

fn tools(body: &Value) -> Result<Vec<Value>, String> {
    if body["tool_choice"] == "none" {
        return Ok(Vec::new());
    }
    let tool = |tool: &Value| {
        let function = &tool["function"];
        let name = function["name"].as_str().ok_or("a tool has no name")?;
        let schema = match &function["parameters"] {
            Value::Null => json!({"type": "object", "properties": {}}),
            schema => schema.clone(),
        };
        let description = function["description"].as_str().unwrap_or_default();
        Ok(json!({"name": name, "description": description, "schema": schema.to_string()}))
    };
    body["tools"].as_array().into_iter().flatten().map(tool).collect()
}

/// The text of a content: itself, or of its parts.
fn text(content: &Value) -> Result<String, String> {
    match content {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let part = |part: &Value| {
                part["text"].as_str().map(str::to_owned).ok_or_else(|| "only text can be read".to_owned())
            };
            Ok(parts.iter().map(part).collect::<Result<Vec<String>, String>>()?.join("\n"))
        }
        _ => Err("a content is neither text nor a list of parts".to_owned()),
    }
}

/// An answer as it grows.
#[derive(Debug)]
pub struct Answer {
    id: String,
    model: String,
    text: String,
    calls: BTreeMap<u32, Call>,
    begun: bool,
}

#[derive(Debug, Default)]
struct Call {
    name: String,
    arguments: String,
}

impl Answer {
    pub fn new(id: String, model: String) -> Self {
        Self { id, model, text: String::new(), calls: BTreeMap::new(), begun: false }
    }

    /// Takes a reply, and gives the events of the stream it leads to.
    pub fn take(&mut self, reply: &Reply) -> String {
        let delta = match reply {
            Reply::Text { delta, .. } => {
                self.text.push_str(delta);
                json!({"content": delta})
            }
            Reply::CallStarted { index, name, .. } => self.start(*index, name),
            Reply::CallDelta { index, json, .. } => self.add(*index, json),
            Reply::Call { index, name, arguments, .. } => {
                let known = self.calls.contains_key(index);
                let first = if known {
                    String::new()
                } else {
                    let delta = self.start(*index, name);
                    self.event(delta)
                };
                let rest = match self.calls.get(index) {
                    Some(call) if call.arguments.is_empty() => {
                        let delta = self.add(*index, arguments);
                        self.event(delta)
                    }
                    _ => String::new(),
                };
                return first + &rest;
            }
            _ => return String::new(),
        };
        self.event(delta)
    }

    /// The last events of the stream.
    pub fn end(&mut self, done: &Done) -> String {
        let last = self.chunk(json!([{"index": 0, "delta": {}, "finish_reason": self.finish_reason(done)}]));
        let mut counted = self.chunk(json!([]));
        counted["usage"] = usage(done);
        let begin = if self.begun { String::new() } else { self.event(json!({"content": ""})) };
        format!("{begin}data: {last}\n\ndata: {counted}\n\ndata: [DONE]\n\n")
    }

    /// The answer in one piece, for a client that wants no stream.
    pub fn whole(&self, done: &Done) -> Value {
        let mut message = json!({"role": "assistant", "content": self.text});
        if !self.calls.is_empty() {
            let calls: Vec<Value> = self.calls.iter().map(|(index, call)| self.call(*index, call)).collect();
            message["tool_calls"] = calls.into();
        }
        json!({
            "id": self.id, "object": "chat.completion", "created": 1, "model": self.model, "usage": usage(done),
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish_reason(done)}],
        })
    }

    fn start(&mut self, index: u32, name: &str) -> Value {
        let call = Call { name: name.to_owned(), arguments: String::new() };
        let mut shown = self.call(index, &call);
        shown["index"] = json!(index);
        self.calls.insert(index, call);
        json!({"tool_calls": [shown]})
    }

    fn add(&mut self, index: u32, part: &str) -> Value {
        self.calls.entry(index).or_default().arguments.push_str(part);
        json!({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
    }

    fn call(&self, index: u32, call: &Call) -> Value {
        let function = json!({"name": call.name, "arguments": call.arguments});
        json!({"id": format!("call_{}_{index}", self.id), "type": "function", "function": function})
    }

    fn event(&mut self, mut delta: Value) -> String {
        if !self.begun {
            delta["role"] = json!("assistant");
            self.begun = true;
        }
        format!("data: {}\n\n", self.chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}])))
    }

    fn chunk(&self, choices: Value) -> Value {
        json!({"id": self.id, "object": "chat.completion.chunk", "created": 1, "model": self.model, "choices": choices})
    }

    fn finish_reason(&self, done: &Done) -> &'static str {
        match done.stop.as_str() {
            "tool_use" => "tool_calls",
            "max_tokens" | "interrupted" => "length",
            _ if !self.calls.is_empty() => "tool_calls",
            _ => "stop",
        }
    }
}

fn usage(done: &Done) -> Value {
    let prompt = done.input_tokens + done.cached_tokens;
    json!({
        "prompt_tokens": prompt, "completion_tokens": done.output_tokens, "total_tokens": prompt + done.output_tokens,
        "prompt_tokens_details": {"cached_tokens": done.cached_tokens},
    })
}

/// Status and body for a request that was not answered.
pub fn failure(failure: &Failure) -> (&'static str, Value) {
    let (status, code, message) = match failure {
        Failure::Refused { class, message } if class == "context_overflow" => {
            ("400 Bad Request", "context_length_exceeded", message)
        }
        Failure::Refused { class, message } if class == "bad_request" => ("400 Bad Request", "bad_request", message),
        Failure::Refused { message, .. } | Failure::Broken(message) => {
            ("500 Internal Server Error", "server_error", message)
        }
    };
    let kind = if code == "server_error" { "server_error" } else { "invalid_request_error" };
    (status, json!({"error": {"message": message, "type": kind, "code": code}}))
}

pub fn listing(model: &str) -> Value {
    json!({"object": "list", "data": [{"id": model, "object": "model", "created": 1, "owned_by": "evals"}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(stop: &str) -> Done {
        Done { stop: stop.into(), input_tokens: 7, cached_tokens: 3, output_tokens: 2 }
    }

    #[test]
    fn a_conversation_becomes_the_workers() {
        let body = json!({
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "go"}, {"type": "text", "text": "on"}]},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "x9", "type": "function", "function": {"name": "bash", "arguments": "{\"a\":1}"}}]},
                {"role": "tool", "tool_call_id": "x9", "content": "out"},
            ],
            "tools": [{"type": "function", "function": {"name": "bash", "description": "d", "parameters": {"type": "object"}}}],
            "max_tokens": 99,
        });
        let request = to_worker(&body).unwrap();
        assert_eq!(request["system"], "be brief");
        assert_eq!(request["messages"][0]["text"], "go\non");
        let call = &request["messages"][1]["blocks"][0];
        assert_eq!((call["type"].as_str(), call["name"].as_str()), (Some("tool_call"), Some("bash")));
        assert_eq!(request["messages"][2]["call"], call["call"]);
        assert_eq!(request["tools"][0], json!({"name": "bash", "description": "d", "schema": "{\"type\":\"object\"}"}));
        assert_eq!(request["output_tokens_max"], 99);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let refused = |messages: Value| to_worker(&json!({"messages": messages})).unwrap_err();
        assert!(refused(json!("x")).contains("not a list"));
        assert!(refused(json!([{"role": "tool", "tool_call_id": "y", "content": ""}])).contains("`y`"));
        assert!(refused(json!([{"role": "king", "content": ""}])).contains("`king`"));
        assert!(refused(json!([{"role": "user", "content": [{"type": "image_url"}]}])).contains("only text"));
    }

    fn events(stream: &str) -> Vec<Value> {
        let lines = stream.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|line| *line != "[DONE]");
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_call_is_streamed_piece_by_piece() {
        let mut answer = Answer::new("r1".into(), "m".into());
        let mut stream = answer.take(&Reply::Text { id: 1, delta: "I look.".into() });
        stream += &answer.take(&Reply::CallStarted { id: 1, index: 0, name: "bash".into() });
        stream += &answer.take(&Reply::CallDelta { id: 1, index: 0, json: "{\"a\"".into() });
        stream += &answer.take(&Reply::CallDelta { id: 1, index: 0, json: ":1}".into() });
        let arguments = "{\"a\":1}";
        stream += &answer.take(&Reply::Call { id: 1, index: 0, name: "bash".into(), arguments: arguments.into() });
        stream += &answer.end(&done("tool_use"));
        assert!(stream.ends_with("data: [DONE]\n\n"));
        let events = events(&stream);
        let deltas: Vec<&Value> = events.iter().map(|event| &event["choices"][0]["delta"]).collect();
        assert_eq!((deltas[0]["role"].as_str(), deltas[0]["content"].as_str()), (Some("assistant"), Some("I look.")));
        assert_eq!(deltas[1]["tool_calls"][0]["function"]["name"], "bash");
        let joined: String =
            deltas[2..].iter().filter_map(|delta| delta["tool_calls"][0]["function"]["arguments"].as_str()).collect();
        assert_eq!(joined, arguments, "the whole call at the end is not told twice");
        assert_eq!(events[4]["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(events[5]["usage"]["prompt_tokens"], 10);
        assert_eq!(events[5]["usage"]["prompt_tokens_details"]["cached_tokens"], 3);
    }

    #[test]
    fn an_answer_in_one_piece() {
        let mut answer = Answer::new("r1".into(), "m".into());
        answer.take(&Reply::Text { id: 1, delta: "Done.".into() });
        let whole = answer.whole(&done("end_turn"));
        assert_eq!(whole["choices"][0]["message"], json!({"role": "assistant", "content": "Done."}));
        assert_eq!(whole["choices"][0]["finish_reason"], "stop");
        answer.take(&Reply::Call { id: 1, index: 0, name: "bash".into(), arguments: "{}".into() });
        let whole = answer.whole(&done("tool_use"));
        assert_eq!(whole["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], "{}");
        assert_eq!(whole["usage"]["completion_tokens"], 2);
    }

    #[test]
    fn an_empty_answer_is_an_answer() {
        let stream = Answer::new("r1".into(), "m".into()).end(&done("max_tokens"));
        let events = events(&stream);
        assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
        assert_eq!(events[1]["choices"][0]["finish_reason"], "length");
    }

    #[test]
    fn a_prompt_that_does_not_fit_has_its_own_code() {
        let overflow = Failure::Refused { class: "context_overflow".into(), message: "too long".into() };
        let (status, body) = failure(&overflow);
        assert!(status.starts_with("400"));
        assert_eq!(body["error"]["code"], "context_length_exceeded");
        assert!(failure(&Failure::Broken("gone".into())).0.starts_with("500"));
    }
}
