//! What is sent: headers, tools, and conversations regular and not.

use homarus_contract::{
    ids::CallId,
    message::{Block, Message, ToolCall},
};
use homarus_models::ProviderKind;
use homarus_test_kit::{ModelServer, Recorded, Turn};
use serde_json::{Value, json};

use crate::support::{KINDS, SECRET, ask, model_of, registry, request, request_saying};

fn user(text: &str) -> Message {
    Message::User { text: text.to_owned() }
}

fn text(text: &str) -> Block {
    Block::Text { text: text.to_owned() }
}

fn call(step: u32, index: u32, name: &str, arguments: &str) -> Block {
    Block::ToolCall(ToolCall {
        call: CallId::new(step, index),
        provider_id: format!("id{step}_{index}"),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    })
}

fn result(step: u32, index: u32, text: &str, is_error: bool) -> Message {
    Message::ToolResult { call: CallId::new(step, index), text: text.to_owned(), is_error }
}

/// Two calls answered, more text, and a step that was interrupted between two calls.
fn conversation() -> Vec<Message> {
    vec![
        user("go"),
        Message::Assistant {
            blocks: vec![
                text("Let me see. "),
                call(1, 0, "file.write", r#"{"path":"a"}"#),
                call(1, 1, "shell.execute", "{}"),
            ],
        },
        result(1, 1, "second", true),
        result(1, 0, "first", false),
        user("and also"),
        Message::Assistant { blocks: vec![text("Half a sente"), call(2, 0, "plain_name", "{}")] },
    ]
}

async fn sent(kind: ProviderKind, messages: Vec<Message>) -> Recorded {
    let server = ModelServer::with_turns(vec![Turn::text("ok")]).await;
    ask(&registry(kind, &server.base_url()), request_saying(&model_of(kind), messages)).await.ok();
    server.model_calls().remove(0)
}

#[tokio::test]
async fn anthropic() {
    let request = sent(ProviderKind::Anthropic, conversation()).await;
    assert_eq!(request.path, "/v1/messages");
    assert_eq!((request.header("x-api-key"), request.header("anthropic-version")), (Some(SECRET), Some("2023-06-01")));
    let body = &request.body;
    assert_eq!((&body["model"], &body["max_tokens"], &body["stream"]), (&json!("scripted"), &json!(512), &json!(true)));
    let cache = json!({"type": "ephemeral"});
    assert_eq!(body["system"], json!([{"type": "text", "text": "You are a test.", "cache_control": cache}]));
    assert_eq!(body["tools"][0]["name"], "file-write");
    assert_eq!(body["tools"][0]["input_schema"]["type"], "object");
    assert_eq!((&body["tools"][0]["cache_control"], &body["tools"][2]["cache_control"]), (&Value::Null, &cache));
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": [{"type": "text", "text": "go"}]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "id1_0", "name": "file-write", "input": {"path": "a"}},
                {"type": "tool_use", "id": "id1_1", "name": "shell-execute", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "id1_0", "content": "first"},
                {"type": "tool_result", "tool_use_id": "id1_1", "content": "second", "is_error": true},
                {"type": "text", "text": "and also"},
            ]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "Half a sente"},
                {"type": "tool_use", "id": "id2_0", "name": "plain_name", "input": {}},
            ]},
            {"role": "user", "content": [{
                "type": "tool_result",
                "tool_use_id": "id2_0",
                "content": "This call was not run: the answer was interrupted before it could be.",
                "is_error": true,
                "cache_control": cache,
            }]},
        ])
    );
}

#[tokio::test]
async fn openai() {
    let request = sent(ProviderKind::OpenAi, conversation()).await;
    assert_eq!(request.path, "/v1/chat/completions");
    assert_eq!(request.header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
    let body = &request.body;
    assert_eq!((&body["max_tokens"], &body["stream_options"]["include_usage"]), (&json!(512), &json!(true)));
    assert_eq!(body["tools"][1]["function"]["name"], "shell-execute");
    let function = |name: &str, arguments: &str| json!({"name": name, "arguments": arguments});
    assert_eq!(
        body["messages"],
        json!([
            {"role": "system", "content": "You are a test."},
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": "Let me see. ", "tool_calls": [
                {"id": "id1_0", "type": "function", "function": function("file-write", r#"{"path":"a"}"#)},
                {"id": "id1_1", "type": "function", "function": function("shell-execute", "{}")},
            ]},
            {"role": "tool", "tool_call_id": "id1_0", "content": "first"},
            {"role": "tool", "tool_call_id": "id1_1", "content": "Error: second"},
            {"role": "user", "content": "and also"},
            {"role": "assistant", "content": "Half a sente", "tool_calls": [
                {"id": "id2_0", "type": "function", "function": function("plain_name", "{}")},
            ]},
            {"role": "tool", "tool_call_id": "id2_0", "content": "Error: This call was not run: the answer was interrupted before it could be."},
        ])
    );
}

#[tokio::test]
async fn ollama() {
    let request = sent(ProviderKind::Ollama, conversation()).await;
    assert_eq!(request.path, "/api/chat");
    let body = &request.body;
    assert_eq!(body["options"], json!({"num_predict": 512, "num_ctx": 16384}));
    assert_eq!(
        body["messages"][2]["tool_calls"][0]["function"],
        json!({"name": "file-write", "arguments": {"path": "a"}})
    );
    assert_eq!(body["messages"][3], json!({"role": "tool", "tool_name": "file-write", "content": "first"}));
    assert_eq!(body["messages"].as_array().unwrap().len(), 8);
}

#[tokio::test]
async fn interrupted_text_is_shown_and_gone_on_from() {
    let messages = vec![user("go"), Message::Assistant { blocks: vec![text("I was about t")] }];
    for kind in KINDS {
        let request = sent(kind, messages.clone()).await;
        let all = request.body["messages"].to_string();
        assert!(all.contains("I was about t"), "{kind}");
        let last = request.body["messages"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["role"], "user", "{kind}");
        assert!(last.to_string().contains("Go on from there"), "{kind}");
    }
}

#[tokio::test]
async fn nothing_empty_is_sent_to_anthropic() {
    let messages = vec![user("go"), Message::Assistant { blocks: vec![text(" ")] }, user("  "), user("more")];
    let request = sent(ProviderKind::Anthropic, messages).await;
    assert_eq!(request.body["messages"].as_array().unwrap().len(), 1);
    assert_eq!(request.body["messages"][0]["content"][1]["text"], "more");
}

#[tokio::test]
async fn a_call_with_its_result_goes_round() {
    for kind in KINDS {
        let server =
            ModelServer::with_turns(vec![Turn::call("file.write", json!({"path": "a"})), Turn::text("done")]).await;
        let registry = registry(kind, &server.base_url());
        let said = ask(&registry, request(&model_of(kind))).await;
        let (id, (name, arguments)) = (said.call_ids()[0].to_owned(), said.calls()[0]);
        let made = ToolCall {
            call: CallId::new(1, 0),
            provider_id: id.clone(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        };
        let next = vec![
            user("go"),
            Message::Assistant { blocks: vec![Block::ToolCall(made)] },
            result(1, 0, "written", false),
        ];
        assert_eq!(ask(&registry, request_saying(&model_of(kind), next)).await.texts(), ["done"], "{kind}");
        let second = server.model_calls()[1].body["messages"].to_string();
        assert!(second.contains("written") && second.contains("file-write"), "{kind}: {second}");
        assert!(kind == ProviderKind::Ollama || second.matches(&id).count() == 2, "{kind}: {second}");
    }
}
