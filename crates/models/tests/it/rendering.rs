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

/// The conversation as this format calls it.
fn conversation_of(kind: ProviderKind, body: &Value) -> &Value {
    match kind {
        ProviderKind::OpenAiResponses => &body["input"],
        ProviderKind::Gemini => &body["contents"],
        _ => &body["messages"],
    }
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
async fn openai_responses() {
    let request = sent(ProviderKind::OpenAiResponses, conversation()).await;
    assert_eq!(request.path, "/v1/responses");
    assert_eq!(request.header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
    let body = &request.body;
    assert_eq!((&body["instructions"], &body["max_output_tokens"]), (&json!("You are a test."), &json!(512)));
    assert_eq!((&body["store"], &body["stream"]), (&json!(false), &json!(true)), "nothing is kept there");
    assert_eq!((&body["tools"][0]["name"], &body["tools"][0]["strict"]), (&json!("file-write"), &json!(false)));
    let message = |role: &str, text: &str| json!({"type": "message", "role": role, "content": text});
    let call = |id: &str, name: &str, arguments: &str| json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments});
    let output = |id: &str, text: &str| json!({"type": "function_call_output", "call_id": id, "output": text});
    assert_eq!(
        body["input"],
        json!([
            message("user", "go"),
            message("assistant", "Let me see. "),
            call("id1_0", "file-write", r#"{"path":"a"}"#),
            call("id1_1", "shell-execute", "{}"),
            output("id1_0", "first"),
            output("id1_1", "Error: second"),
            message("user", "and also"),
            message("assistant", "Half a sente"),
            call("id2_0", "plain_name", "{}"),
            output("id2_0", "Error: This call was not run: the answer was interrupted before it could be."),
        ])
    );
}

#[tokio::test]
async fn gemini() {
    let request = sent(ProviderKind::Gemini, conversation()).await;
    assert_eq!(request.path, "/v1beta/models/scripted:streamGenerateContent?alt=sse");
    assert_eq!(request.header("x-goog-api-key"), Some(SECRET));
    let body = &request.body;
    assert_eq!(body["systemInstruction"], json!({"parts": [{"text": "You are a test."}]}));
    assert_eq!(body["generationConfig"], json!({"maxOutputTokens": 512}));
    let function = &body["tools"][0]["functionDeclarations"][0];
    assert_eq!(
        (&function["name"], &function["parametersJsonSchema"]["type"]),
        (&json!("file-write"), &json!("object"))
    );
    let roles: Vec<&str> =
        body["contents"].as_array().unwrap().iter().map(|content| content["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "model", "user", "user", "model", "user"]);
    let parts = &body["contents"][1]["parts"];
    assert_eq!(parts[0], json!({"text": "Let me see. "}));
    assert_eq!(parts[1]["functionCall"], json!({"id": "id1_0", "name": "file-write", "args": {"path": "a"}}));
    let results = &body["contents"][2]["parts"];
    assert_eq!(
        results[1]["functionResponse"],
        json!({"id": "id1_1", "name": "shell-execute", "response": {"error": "second"}})
    );
}

/// A name of a model is part of the path there: it must not lead elsewhere.
#[tokio::test]
async fn a_model_of_gemini_is_no_path() {
    for name in ["../files", "x/../../v1/keys", "x?key=1", "x#", "..", "x%2e%2e"] {
        let server = ModelServer::with_turns(vec![Turn::text("no")]).await;
        let said = ask(&registry(ProviderKind::Gemini, &server.base_url()), request(&format!("gemini/{name}"))).await;
        assert_eq!(said.error().class, homarus_contract::model::ModelErrorClass::BadRequest, "{name}");
        assert!(server.requests().is_empty(), "{name}");
    }
}

#[tokio::test]
async fn ollama() {
    let request = sent(ProviderKind::Ollama, conversation()).await;
    assert_eq!(request.path, "/api/chat");
    let body = &request.body;
    assert_eq!(body["options"], json!({"num_predict": 512, "num_ctx": 16384}));
    // Nothing of the conversation is left out in silence.
    assert_eq!((&body["truncate"], &body["shift"]), (&json!(false), &json!(false)));
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
        let conversation = conversation_of(kind, &request.body);
        assert!(conversation.to_string().contains("I was about t"), "{kind}");
        let last = conversation.as_array().unwrap().last().unwrap().clone();
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
        let second = conversation_of(kind, &server.model_calls()[1].body).to_string();
        assert!(second.contains("written") && second.contains("file-write"), "{kind}: {second}");
        // These two match results by name and order where they gave no id.
        assert!(
            matches!(kind, ProviderKind::Ollama | ProviderKind::Gemini) || second.matches(&id).count() == 2,
            "{kind}: {second}"
        );
    }
}
